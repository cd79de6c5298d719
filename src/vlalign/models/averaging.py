"""The average pooling of a run in open_clip: its text tower with one more layer, which averages.

open_clip's own text towers choose one token, whatever their config says. But a causal layer whose queries and keys are
zero attends to all tokens so far alike, and at the end of a text that is the mean of its real tokens. Three things
stand in the way of an equal embedding, and are arranged so that they do no harm:

- A layer adds to what the token was. LayerScale makes the mean so large that in single precision nothing else is left,
  and the final norm takes the factor away again.
- The final norm takes away the mean over channels, and with it a part of the vector. The tower becomes one head wider,
  where the vector is turned to channels whose sum is zero; the projection turns it back.
- The norms of all layers see the wider vector. What is written to the residual stream is centred over channels, which
  a norm takes away in any case; then channels that stay zero change a norm by a known factor.

Suffixes: W channels of the tower, V channels of the wider one, D embedding, H hidden channels.
"""

import copy
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, TextTransformer
from torch import Tensor, nn

from vlalign.errors import VlalignError
from vlalign.models.towers import DualEncoder

SCALE = 2.0**24
State = dict[str, Tensor]


def averaging(encoder: DualEncoder) -> DualEncoder:
    """An encoder with the same embeddings whose text tower pools as open_clip does, its layer that averages included.

    Its word tokens are others. Half precision suffices under autocast, which leaves the factors of LayerScale as they
    are, but not for the weights.
    Raises VlalignError for a text tower that sees what follows a token, or is not made of open_clip's plain layers.
    """
    text = encoder.clip.text
    _check(text, encoder.tokenizer)
    config = copy.deepcopy(encoder.config)
    config["text_cfg"] |= _wider(text)
    clip = open_clip.CustomTextCLIP(**{key: value for key, value in config.items() if key != "custom_text"})
    others = {name: value for name, value in encoder.clip.state_dict().items() if not name.startswith("text.")}
    clip.load_state_dict(others | {f"text.{name}": value for name, value in _state(text).items()})
    found = DualEncoder(clip, encoder.tokenizer, config=config, pooling="default").eval()
    found.set_preprocessing(encoder.preprocess)
    return found


def _check(text: Any, tokenizer: Any) -> None:
    """Raises VlalignError for towers in which a layer cannot average the real tokens, or that are made otherwise."""
    plain = isinstance(text, TextTransformer) and text.cls_emb is None and text.pool_type == "argmax"
    plain = plain and isinstance(tokenizer, open_clip.SimpleTokenizer)
    if not plain or text.attn_mask is None:
        raise VlalignError(
            "average pooling has no equal in open_clip for this text tower: it must be one of open_clip's own, with a "
            "causal mask, CLIP's tokenizer and no class token"
        )
    layers = all(isinstance(block, ResidualAttentionBlock) for block in text.transformer.resblocks)
    norms = text.ln_final.weight is not None and text.ln_final.bias is not None
    if not layers or not norms or isinstance(text.text_projection, nn.Linear):
        raise VlalignError(
            "average pooling has no equal in open_clip for this text tower: its layers are custom ones, or its norms "
            "lack weights, or its projection has a bias"
        )


def _wider(text: TextTransformer) -> dict[str, Any]:
    """What changes in the config."""
    wide = text.width + text.width // text.heads
    return {
        "width": wide,
        "heads": text.heads + 1,
        "layers": text.transformer.layers + 1,
        "ls_init_value": 1.0,
        "norm_kwargs": {"eps": text.ln_final.eps * text.width / wide},
        "proj_type": "linear",
    }


@torch.no_grad()
def _state(text: TextTransformer) -> State:
    """The weights of the wider tower, without `text.`."""
    wide = text.width + text.width // text.heads
    basis_VW = _basis(text.width, wide)
    state = {
        "token_embedding.weight": _widened(_centred(text.token_embedding.weight), wide),
        "positional_embedding": _widened(_centred(text.positional_embedding), wide),
        "ln_final.weight": torch.ones(wide),
        "ln_final.bias": torch.zeros(wide),
    }
    blocks = [_block(block, text.width, wide) for block in text.transformer.resblocks]
    blocks.append(_averaging_block(text, basis_VW, hidden=len(blocks[0]["mlp.c_fc.bias"])))
    for number, block in enumerate(blocks):
        state |= {f"transformer.resblocks.{number}.{name}": value for name, value in block.items()}
    projection_WD = torch.eye(text.width) if text.text_projection is None else text.text_projection
    return state | {"text_projection": basis_VW @ projection_WD}


def _block(block: ResidualAttentionBlock, width: int, wide: int) -> State:
    """A layer that does the same in the first channels, and nothing in the others."""
    attention, mlp = block.attn, block.mlp
    hidden = int(wide * len(mlp.c_fc.bias) / width)
    scales = [getattr(scale, "gamma", torch.ones(width)) for scale in (block.ls_1, block.ls_2)]
    inner_3WW = attention.in_proj_weight.unflatten(0, (3, width))
    return {
        **_norm("ln_1", block.ln_1, wide),
        **_norm("ln_2", block.ln_2, wide),
        "attn.in_proj_weight": _widened(inner_3WW, wide, wide).flatten(0, 1),
        "attn.in_proj_bias": _widened(attention.in_proj_bias.unflatten(0, (3, width)), wide).flatten(),
        "attn.out_proj.weight": _widened(_centred(attention.out_proj.weight.T * scales[0]).T, wide, wide),
        "attn.out_proj.bias": _widened(_centred(attention.out_proj.bias * scales[0]), wide),
        "mlp.c_fc.weight": _widened(mlp.c_fc.weight, hidden, wide),
        "mlp.c_fc.bias": _widened(mlp.c_fc.bias, hidden),
        "mlp.c_proj.weight": _widened(_centred(mlp.c_proj.weight.T * scales[1]).T, wide, hidden),
        "mlp.c_proj.bias": _widened(_centred(mlp.c_proj.bias * scales[1]), wide),
        "ls_1.gamma": torch.ones(wide),
        "ls_2.gamma": torch.ones(wide),
    }


def _averaging_block(text: TextTransformer, basis_VW: Tensor, *, hidden: int) -> State:
    """The final norm of the narrow tower, the mean of its outputs over all tokens so far, and no second part."""
    wide = len(basis_VW)
    values_3VV = torch.zeros(3, wide, wide)
    values_3VV[2] = torch.eye(wide)
    return {
        **_norm("ln_1", text.ln_final, wide),
        "ln_2.weight": torch.ones(wide),
        "ln_2.bias": torch.zeros(wide),
        "attn.in_proj_weight": values_3VV.flatten(0, 1),
        "attn.in_proj_bias": torch.zeros(3 * wide),
        "attn.out_proj.weight": _widened(basis_VW, wide, wide),
        "attn.out_proj.bias": torch.zeros(wide),
        "mlp.c_fc.weight": torch.zeros(hidden, wide),
        "mlp.c_fc.bias": torch.zeros(hidden),
        "mlp.c_proj.weight": torch.zeros(wide, hidden),
        "mlp.c_proj.bias": torch.zeros(wide),
        "ls_1.gamma": torch.full((wide,), SCALE),
        "ls_2.gamma": torch.zeros(wide),
    }


def _norm(name: str, norm: nn.LayerNorm, wide: int) -> State:
    """The same norm of a vector that has zeros behind it; the config makes `eps` smaller by the factor's square."""
    factor = (len(norm.weight) / wide) ** 0.5
    return {f"{name}.weight": _widened(norm.weight * factor, wide), f"{name}.bias": _widened(norm.bias, wide)}


def _basis(width: int, wide: int) -> Tensor:
    """Orthonormal columns V W, of which each has the sum zero."""
    start_VV = torch.eye(wide, dtype=torch.float64)
    start_VV[:, 0] = 1
    return torch.linalg.qr(start_VV)[0][:, 1 : width + 1].float()


def _centred(rows: Tensor) -> Tensor:
    """Each row without its mean."""
    return (rows.double() - rows.double().mean(-1, keepdim=True)).float()


def _widened(value: Tensor, *sizes: int) -> Tensor:
    """The last dimensions up to these sizes, with zeros."""
    ends = [end for size, old in zip(reversed(sizes), reversed(value.shape), strict=False) for end in (0, size - old)]
    return F.pad(value, ends)
