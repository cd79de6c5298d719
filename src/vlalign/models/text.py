"""Word tokens in the joint space, from open_clip's and Hugging Face's text towers, and their tokenizers.

Suffixes: C captions, L tokens, D embedding, W channels of the tower.
"""

from collections.abc import Callable
from typing import Any

import open_clip
import torch
from open_clip.hf_model import ClsPooler, HFTextEncoder
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from vlalign.errors import VlalignError
from vlalign.models.vision import project

Tokenizer = Any  # open_clip's have no type in common
# Token ids C L -> what the tower pools C D, tokens C L D, which of them are real C L.
TextTower = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def text_tower(text: nn.Module, tokenizer: Tokenizer) -> TextTower:
    """How a tower is read; raises VlalignError for a kind that is not known."""
    if isinstance(text, HFTextEncoder):
        return lambda ids: _hugging_face(text, ids)
    if isinstance(text, TextTransformer):
        text.output_tokens = True
        return lambda ids: _transformer(text, tokenizer, ids)
    raise VlalignError(f"model.tower: text towers of kind {type(text).__name__} are not read here")


def make_tokenizer(config: dict[str, Any], context_length: int) -> Tokenizer:
    """The tokenizer that a `text_cfg` asks for; raises VlalignError when it cannot be found."""
    name, arguments = config.get("hf_tokenizer_name"), config.get("tokenizer_kwargs") or {}
    if not name:
        return open_clip.SimpleTokenizer(context_length=context_length, **arguments)
    if config.get("tokenizer_mode"):
        arguments = {**arguments, "tokenizer_mode": config["tokenizer_mode"]}
    try:
        return open_clip.tokenizer.HFTokenizer(name, context_length=context_length, **arguments)
    except (OSError, ValueError) as error:
        raise VlalignError(
            f"model.tower: the tokenizer '{name}' cannot be loaded ({str(error).splitlines()[0]}); "
            "check text_cfg.hf_tokenizer_name and the connection"
        ) from None


def _transformer(text: TextTransformer, tokenizer: Tokenizer, ids_CL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    pooled_CD, tokens_CLW = text(ids_CL)
    if text.cls_emb is not None:
        # Its own pooling normalises the class token alone.
        tokens_CLW = text.ln_final(tokens_CLW)
    if isinstance(tokenizer, open_clip.SimpleTokenizer):
        # The end has the highest id, and is the last that is real.
        places = torch.arange(ids_CL.shape[1], device=ids_CL.device)
        mask_CL = places <= ids_CL.argmax(1, keepdim=True)
    else:
        mask_CL = ids_CL != text.pad_id
    return pooled_CD, project(tokens_CLW, text.text_projection), mask_CL


def _hugging_face(text: HFTextEncoder, ids_CL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mask_CL = ids_CL != text.config.pad_token_id
    found = text.transformer(input_ids=ids_CL, attention_mask=mask_CL.long())
    pooled_CD = text.proj(text.pooler(found, mask_CL.long()))
    tokens_CLW = found.last_hidden_state
    if isinstance(text.pooler, ClsPooler) and getattr(found, "pooler_output", None) is not None:
        # BERT's pooler takes the first token of a sequence: here every token is one.
        tokens_CLW = text.transformer.pooler(tokens_CLW.flatten(0, 1)[:, None]).view_as(tokens_CLW)
    return pooled_CD, text.proj(tokens_CLW), mask_CL
