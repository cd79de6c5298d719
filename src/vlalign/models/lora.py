"""Low-rank changes (LoRA) of the linear maps in a frozen text tower, by peft."""

from typing import Any

from torch import nn

from vlalign.errors import VlalignError
from vlalign.params import LoraParams

# In the names of its parameters, and what it puts into those of the maps that it changes.
TRAINED, WRAPPED = "lora_", ".base_layer"


def add_lora(text: nn.Module, params: LoraParams) -> None:
    """Put a low-rank change beside every linear map of the transformer in a text tower, attention included.

    Raises VlalignError where peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora.layer import MultiheadAttention
    except ImportError as error:
        raise VlalignError(f"model.lora: peft cannot be imported ({error}); install vlalign[language]") from None
    maps = (nn.Linear, nn.MultiheadAttention)
    names = [name for name, part in text.named_modules() if type(part) in maps and name.startswith("transformer")]
    inject_adapter_in_model(LoraConfig(r=params.rank, lora_alpha=params.alpha, target_modules=names), text)
    for part in text.modules():
        if isinstance(part, MultiheadAttention):
            _keep_exact(part)


def _keep_exact(attention: Any) -> None:
    """peft adds the change to the weights for every call, and then subtracts it, which rounds: frozen weights would
    drift.
    """
    attention._restore_weights()
    inner = attention.get_base_layer()
    outer = inner.out_proj.get_base_layer()
    kept = [(inner, "in_proj_weight", inner.in_proj_weight), (outer, "weight", outer.weight)]

    def restore(*_: Any) -> None:
        attention._restore_weights()
        for layer, name, weight in kept:
            layer._parameters[name] = weight

    attention.register_forward_hook(restore)


def merge_lora(text: nn.Module) -> None:
    """Add the changes to the weights for good, and remove what `add_lora` has put in."""
    from peft.tuners.lora.layer import LoraLayer, MultiheadAttention

    found = {name: part for name, part in text.named_modules() if isinstance(part, LoraLayer)}
    for name, part in found.items():
        if any(name.startswith(f"{outer}.") for outer in found):
            # Merged with the one that it lies in.
            continue
        parent, _, last = name.rpartition(".")
        if isinstance(part, MultiheadAttention):
            merged: nn.Module = part.unload_and_optionally_merge_module(
                merge=True, safe_merge=False, adapter_names=None
            )
        else:
            part.merge()
            merged = part.get_base_layer()
        setattr(text.get_submodule(parent), last, merged)
