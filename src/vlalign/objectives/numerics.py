"""The arithmetic of the objectives: fp32, or fp64 for fp64 input, whatever autocast says. And their masks.

In bf16, with three digits, the logarithms in a divergence cancel to anything (`tests/objectives/test_divergence.py`).
"""

import torch
from torch import Tensor


def precise(x: Tensor) -> Tensor:
    """In fp32, or as it is in fp64."""
    return x if x.dtype == torch.float64 else x.float()


def without_autocast(x: Tensor) -> torch.autocast:
    """A context in which autocast is off on the device of x."""
    return torch.autocast(x.device.type, enabled=False)


def precise_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the more precise of their types, and in fp32 at least."""
    x, y = precise(x), precise(y)
    dtype = torch.promote_types(x.dtype, y.dtype)
    return x.to(dtype), y.to(dtype)


def check_dimensions(**arguments: Tensor) -> None:
    """Raises ValueError naming the first argument that has not 3 dimensions, and its shape."""
    for name, x in arguments.items():
        if x.ndim != 3:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; it must have 3 dimensions")


def mismatch(rule: str, **pair: Tensor) -> ValueError:
    """The error of two arguments whose shapes do not fit each other."""
    (name, x), (other, y) = pair.items()
    return ValueError(f"{name} has shape {tuple(x.shape)}, {other} {tuple(y.shape)}: {rule}")


def check_shapes(x_ND: Tensor, y_MD: Tensor) -> None:
    """Raises ValueError naming two samples of points whose shapes do not fit each other."""
    if x_ND.ndim != 2 or y_MD.ndim != 2 or x_ND.shape[1] != y_MD.shape[1]:
        raise mismatch("2 dimensions, and D must agree", x_ND=x_ND, y_MD=y_MD)


def check_counts(least: int, **samples: Tensor) -> None:
    """Raises ValueError naming the first sample with fewer points than these, and its shape."""
    for name, points in samples.items():
        if len(points) < least:
            raise ValueError(f"{name} has shape {tuple(points.shape)}: too few points")


def check_tile(tile: int | None) -> None:
    """Raises ValueError."""
    if tile is not None and tile < 1:
        raise ValueError(f"tile is {tile}; it must be at least 1")


def refuse_second_order(name: str) -> None:
    """Called in a backward pass whose own gradient is not known: silence would leave it out."""
    if torch.is_grad_enabled():
        raise RuntimeError(f"{name} cannot be differentiated twice: leave out create_graph=True")


def checked_mask(mask: Tensor | None, x: Tensor, name: str) -> Tensor:
    """Which vectors of x are real, of the shape of its first two dimensions; all of them where no mask is given.

    Raises ValueError naming the argument and its shape.
    """
    shape = x.shape[:2]
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=x.device)
    if mask.shape != shape or mask.dtype != torch.bool:
        raise ValueError(f"{name} has shape {tuple(mask.shape)} and dtype {mask.dtype}; expected bool {tuple(shape)}")
    return mask
