"""Files of weights: which one a folder has, and how it gets into towers without running anything of it."""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transformer import TextTransformer, VisionTransformer
from safetensors import safe_open

from vlalign.errors import VlalignError

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
