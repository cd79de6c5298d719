"""Files of weights: which one a folder has, and how it gets into towers without running anything of it."""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.factory import load_state_dict
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from open_clip.transformer import TextTransformer, VisionTransformer
from safetensors import safe_open
from torch import Tensor, nn

from vlalign.errors import VlalignError
from vlalign.models.packaged import PREFIX, packaged, packaged_folder
from vlalign.records import stamp

WEIGHTS = "model.safetensors"
# In the order in which open_clip takes them.
NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    WEIGHTS,
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
# Of BERT and its kin: what a tower without their pooler does not have.
POOLER = ("pooler.", "embeddings.position_ids")
LISTED = 5
PICKLED = (".bin", ".pt", ".pth")
SUFFIXES = (".safetensors", *PICKLED)


def weights_file(directory: Path) -> Path:
    """The weights in a folder of a model; raises VlalignError when there are none, or several of unknown names."""
    files = [path.name for path in directory.iterdir() if path.is_file()] if directory.is_dir() else []
    name = weights_among(files, place=str(directory))
    if name is None:
        raise VlalignError(
            f"{directory / WEIGHTS} does not exist, nor another file of weights ({', '.join(SUFFIXES)}); train the run "
            "first, or give the folder that has them"
        )
    return directory / name


def weights_among(names: Collection[str], *, place: str) -> str | None:
    """The file of weights among the files of a place; None where there is none, VlalignError where nothing decides."""
    for name in NAMES:
        if name in names:
            return name
    found = sorted(name for name in names if Path(name).suffix in SUFFIXES)
    safe = [name for name in found if name.endswith(SUFFIXES[0])]
    if len(safe or found) > 1:
        raise VlalignError(
            f"{place} holds several files of weights ({', '.join(safe or found)}); keep one there, or give that one as "
            "`pretrained` with its `tower`"
        )
    return next(iter(safe or found), None)


def load_weights(clip: open_clip.CustomTextCLIP, path: Path) -> None:
    """Fill towers with safetensors, with a state dict, or with what open_clip's trainer leaves (`epoch_N.pt`).

    Nothing but tensors and plain values is read from a pickle.
    Raises VlalignError when the file is unreadable or of another tower. Positional embeddings of another size or length
    are refused too, where open_clip would resize them without a word.
    """
    if path.suffix not in SUFFIXES:
        raise VlalignError(f"{path} is no file of weights that is read here; those end in {', '.join(SUFFIXES)}")
    try:
        shapes = _shapes(path)
    except Exception as error:  # files that are damaged or of another kind fail in many ways
        raise VlalignError(
            f"{path} cannot be loaded as weights ({_first_line(error)}): it is damaged, or holds more than tensors and "
            "plain values, which would run code; convert it to safetensors where you trust it"
        ) from error
    _check_positions(clip, shapes, path)
    try:
        open_clip.load_checkpoint(clip, str(path), weights_only=True)
    except Exception as error:  # as above
        raise VlalignError(f"{path} cannot be loaded into these towers ({error!r})") from error


def load_image_weights(visual: nn.Module, name: str) -> None:
    """Fill an image tower alone: timm's own keys for its towers, those of open_clip's module for the others.

    name: `package:...`, or a file. A classifier that the tower has not is left out.
    Raises VlalignError when the weights cannot be had, or have other keys or shapes than the tower.
    """
    if not isinstance(visual, TimmModel):
        _fill(visual, name, key="model.image_weights")
        return
    classifiers = visual.trunk.default_cfg.get("classifier") or ()
    names = (classifiers,) if isinstance(classifiers, str) else classifiers
    _fill(visual.trunk, name, key="model.image_weights", left_out=tuple(f"{one}." for one in names))


def load_text_weights(text: nn.Module, name: str) -> None:
    """As `load_image_weights`; of a Hugging Face tower, the keys are those of transformers' model without a head."""
    if isinstance(text, HFTextEncoder):
        _fill(text.transformer, name, key="model.text_weights", left_out=POOLER)
    else:
        _fill(text, name, key="model.text_weights")


def weights_of_part(name: str, *, key: str) -> Path:
    """The file of `package:...`, or the file itself; raises VlalignError when it cannot be had."""
    if name.startswith(PREFIX):
        return packaged_folder(name, key=key) / packaged(name, key=key).weights
    if not Path(name).is_file():
        raise VlalignError(f"{key}: '{name}' is neither a file of weights nor begins with {PREFIX}; correct it")
    return Path(name)


def digest_of_part(name: str, *, key: str) -> str:
    """SHA-256 of `weights_of_part`."""
    return str(stamp(weights_of_part(name, key=key))["sha256"])


def _fill(part: nn.Module, name: str, *, key: str, left_out: tuple[str, ...] = ()) -> None:
    path = weights_of_part(name, key=key)
    rename = packaged(name, key=key).rename if name.startswith(PREFIX) else str
    try:
        given: dict[str, Tensor] = load_state_dict(str(path), weights_only=True)
        found = part.load_state_dict({rename(one): value for one, value in given.items()}, strict=False)
    except Exception as error:  # files that are damaged or of another kind fail in many ways
        raise VlalignError(f"{key}: {path} cannot be loaded into this tower ({error})") from error
    unexpected = [one for one in found.unexpected_keys if not one.startswith(left_out)]
    if found.missing_keys or unexpected:
        raise VlalignError(
            f"{key}: {path} does not fit this tower: it lacks {_listed(found.missing_keys)}, and has "
            f"{_listed(unexpected)}, which the tower has not; choose the tower that the weights are of"
        )


def _listed(keys: list[str]) -> str:
    more = len(keys) - LISTED
    return (", ".join(keys[:LISTED]) or "nothing") + (f" and {more} more" if more > 0 else "")


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor by its name in the towers, without reading the tensors."""
    if path.suffix == SUFFIXES[0]:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    content: Any = torch.load(path, map_location="meta", weights_only=True)
    state = content.get("state_dict", content)
    tensors = {name: tuple(value.shape) for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ValueError("it holds no tensors")
    return {name.removeprefix("module."): shape for name, shape in tensors.items()}


def _check_positions(clip: open_clip.CustomTextCLIP, shapes: dict[str, tuple[int, ...]], path: Path) -> None:
    visual, text = clip.visual, clip.text
    found = shapes.get("visual.positional_embedding")
    if isinstance(visual, VisionTransformer) and found is not None and found[0] != len(visual.positional_embedding):
        # The first one is that of the class token.
        theirs, ours = round(math.sqrt(found[0] - 1)) * visual.patch_size[0], visual.image_size[0]
        raise VlalignError(
            f"{path} is of a tower for pictures of {theirs} pixels, this one takes {ours}: its positional embeddings "
            f"would have to be resized; choose the tower, or vision_cfg.image_size, of {theirs} pixels"
        )
    found = shapes.get("text.positional_embedding", shapes.get("positional_embedding"))
    if isinstance(text, TextTransformer) and found is not None and found[0] != len(text.positional_embedding):
        theirs, ours = found[0] - (text.num_pos - text.context_length), text.context_length
        raise VlalignError(
            f"{path} is of a tower for {theirs} tokens, this one takes {ours}: its positional embeddings would have "
            f"to be resized; choose the tower, or text_cfg.context_length, of {theirs} tokens"
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
