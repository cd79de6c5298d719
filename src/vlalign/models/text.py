"""Word tokens in the joint space, from open_clip's and Hugging Face's text towers, and their tokenizers.

Suffixes: C captions, L tokens, D embedding, W channels of the tower.
"""

from typing import Any

import open_clip
import torch
from open_clip.hf_model import ClsPooler, HFTextEncoder
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn

from vlalign.errors import VlalignError
from vlalign.foreign import check_tokenizer_options, no_foreign_code
from vlalign.models.vision import project

Tokenizer = Any  # open_clip's have no type in common


def check_text_tower(text: nn.Module) -> None:
    """Raises VlalignError for a tower whose tokens `read_text` cannot find."""
    if not isinstance(text, HFTextEncoder | TextTransformer):
        raise VlalignError(f"model.tower: text towers of kind {type(text).__name__} are not read here")


def read_text(text: nn.Module, ids_CL: Tensor) -> tuple[Tensor, Tensor]:
    """What the tower pools, C D, and its tokens, C L D."""
    return _hugging_face(text, ids_CL) if isinstance(text, HFTextEncoder) else _transformer(text, ids_CL)


def real_tokens(tokenizer: Tokenizer, ids_CL: Tensor) -> Tensor:
    """Which ids are no padding, C L: start and end are real."""
    places_L = torch.arange(ids_CL.shape[1], device=ids_CL.device)
    if isinstance(tokenizer, open_clip.SimpleTokenizer):
        # The end has the highest id, and is the last that is real.
        return places_L <= ids_CL.argmax(1, keepdim=True)
    plain = tokenizer.tokenizer
    real_CL = ids_CL != plain.pad_token_id
    if plain.pad_token_id == plain.eos_token_id:
        # The first of them is the end.
        real_CL = places_L <= real_CL.sum(1, keepdim=True)
    return real_CL


def make_tokenizer(config: dict[str, Any], context_length: int) -> Tokenizer:
    """The tokenizer that a `text_cfg` asks for; raises VlalignError when it cannot be found."""
    name = config.get("hf_tokenizer_name")
    arguments = check_tokenizer_options(config.get("tokenizer_kwargs") or {}, source="model.tower")
    try:
        if not name:
            return open_clip.SimpleTokenizer(context_length=context_length, **arguments)
        if config.get("tokenizer_mode"):
            arguments = {**arguments, "tokenizer_mode": config["tokenizer_mode"]}
        arguments = {**arguments, "context_length": context_length, "trust_remote_code": False}
        with no_foreign_code():
            return open_clip.tokenizer.HFTokenizer(name, **arguments)
    except Exception as error:  # transformers raises whatever a folder's files make it stumble over
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise VlalignError(
            f"model.tower: the tokenizer '{name or 'of open_clip'}' cannot be loaded ({reason}); "
            "check text_cfg.hf_tokenizer_name, text_cfg.tokenizer_kwargs and the connection"
        ) from None


def _transformer(text: TextTransformer, ids_CL: Tensor) -> tuple[Tensor, Tensor]:
    x_CLW, attn_mask = text._embeds(ids_CL)
    x_CLW = text.ln_final(text.transformer(x_CLW, attn_mask=attn_mask))
    if text.cls_emb is not None:
        pooled_CW, x_CLW = x_CLW[:, -1], x_CLW[:, :-1]
    else:
        pooled_CW = text_global_pool(x_CLW, ids_CL, text.pool_type, eos_token_id=getattr(text, "eos_id", None))
    return project(pooled_CW, text.text_projection), project(x_CLW, text.text_projection)


def _hugging_face(text: HFTextEncoder, ids_CL: Tensor) -> tuple[Tensor, Tensor]:
    attended_CL = (ids_CL != text.config.pad_token_id).long()
    found = text.transformer(input_ids=ids_CL, attention_mask=attended_CL)
    pooled_CD = text.proj(text.pooler(found, attended_CL))
    tokens_CLW = found.last_hidden_state
    if isinstance(text.pooler, ClsPooler) and getattr(found, "pooler_output", None) is not None:
        # BERT's pooler takes the first token of a sequence: here every token is one.
        tokens_CLW = text.transformer.pooler(tokens_CLW.flatten(0, 1)[:, None]).view_as(tokens_CLW)
    return pooled_CD, text.proj(tokens_CLW)
