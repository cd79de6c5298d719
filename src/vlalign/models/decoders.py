"""Language models of the Llama family as text towers: open_clip's own class asks every model for a pooling layer, which
these have not, and does not know their channels.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from open_clip import hf_model
from open_clip.tokenizer import HFTokenizer

from vlalign.errors import VlalignError

# As `open_clip.hf_configs` tells of other families.
FAMILIES = {
    "llama": {
        "config_names": {
            "context_length": "max_position_embeddings",
            "vocab_size": "vocab_size",
            "width": "hidden_size",
            "heads": "num_attention_heads",
            "layers": "num_hidden_layers",
            "layer_attr": "layers",
            "token_embeddings_attr": "embed_tokens",
        },
        "pooler": "mean_pooler",
    }
}


@contextlib.contextmanager
def known_decoders() -> Iterator[None]:
    """Within the block open_clip's text towers may be of these families, in fp32 whatever their weights are kept in."""
    if hf_model.transformers is None:
        yield
        return
    with (
        mock.patch.dict(hf_model.arch_dict, FAMILIES),
        mock.patch.object(hf_model, "AutoModel", _Model),
    ):
        yield


class _Model:
    """In the place of transformers' AutoModel."""

    @staticmethod
    def from_config(config: Any, **arguments: Any) -> Any:
        from transformers import AutoModel

        return AutoModel.from_config(config, **_fitting(config, arguments))

    @staticmethod
    def from_pretrained(name: str, **arguments: Any) -> Any:
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.from_pretrained(name)
        return AutoModel.from_pretrained(name, **_fitting(config, arguments))


def _fitting(config: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    if config.model_type not in FAMILIES:
        return arguments
    return {key: value for key, value in arguments.items() if key != "add_pooling_layer"} | {"dtype": torch.float32}


def settle_padding(text: torch.nn.Module, tokenizer: Any) -> None:
    """Let a text tower of transformers know its tokenizer's padding, where its own config names none.

    Raises VlalignError where the tokenizer has none either, or one that the tower has no embedding of.
    """
    if not isinstance(text, hf_model.HFTextEncoder) or not isinstance(tokenizer, HFTokenizer):
        return
    padding = tokenizer.tokenizer.pad_token_id
    if padding is None or padding >= text.config.vocab_size:
        problem = "has no token for padding" if padding is None else "has a padding token that the tower does not know"
        raise VlalignError(
            f"model.tower: the tokenizer {problem}; name one of its tokens that no text has as "
            "text_cfg.tokenizer_kwargs.pad_token"
        )
    if text.config.pad_token_id is None:
        text.config.pad_token_id = padding
