"""Model folders and configs come from anywhere: nothing in them runs as code, and nobody is asked whether it may."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

from vlalign.errors import VlalignError

# What `tokenizer_kwargs` may hold: options of open_clip's and transformers' tokenizers that only say how text is cut.
TOKENIZER_OPTIONS = frozenset(
    {
        "additional_special_tokens",
        "clean",
        "language",
        "legacy",
        "pad_token",
        "padding_side",
        "reduction_mask",
        "strip_sep_token",
        "tokenizer_mode",
        "truncation_side",
        "use_fast",
    }
)


def refuse_code(config: Any, *, source: str) -> None:
    """Raises VlalignError, which names the source, when a config, at any depth, asks to trust code from elsewhere."""
    if isinstance(config, Mapping):
        if "trust_remote_code" in config:
            raise VlalignError(
                f"{source} asks for `trust_remote_code`, which would run code that came with the model; vlalign never "
                "does: remove that key, or choose a model whose classes transformers has"
            )
        for key in ("attn_implementation", "_attn_implementation"):
            if "/" in str(config.get(key, "")):
                raise VlalignError(f"{source}: {key} names a repository of code, which vlalign never runs; remove it")
        config = config.values()
    elif isinstance(config, str) or not hasattr(config, "__iter__"):
        return
    for value in config:
        refuse_code(value, source=source)


def check_tokenizer_options(options: Any, *, source: str) -> dict[str, Any]:
    """`tokenizer_kwargs` of a text tower; raises VlalignError for one that is not known to be harmless."""
    if not isinstance(options, Mapping):
        raise VlalignError(f"{source}: text_cfg.tokenizer_kwargs is no mapping of options; correct or remove it")
    if unknown := sorted(set(options) - TOKENIZER_OPTIONS):
        raise VlalignError(
            f"{source}: text_cfg.tokenizer_kwargs.{unknown[0]} is none of the options that are passed on "
            f"({', '.join(sorted(TOKENIZER_OPTIONS))}); remove it"
        )
    return dict(options)


@contextlib.contextmanager
def no_foreign_code() -> Iterator[None]:
    """Within the block transformers raises ValueError where it would load a class from a model's own files, or ask."""
    try:
        from transformers import dynamic_module_utils
    except ImportError:
        yield
        return
    refused = ValueError("it needs code that came with the model, which vlalign never runs")
    # 0 seconds to answer: the question is an error at once.
    with (
        mock.patch.object(dynamic_module_utils, "TIME_OUT_REMOTE_CODE", 0),
        mock.patch.object(dynamic_module_utils, "get_class_in_module", side_effect=refused),
    ):
        yield
