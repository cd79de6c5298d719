"""The arithmetic of the objectives: fp32, or fp64 for fp64 input, whatever autocast says. And their masks.

In bf16 a divergence of 0.015 (256 points in 64 dimensions, σ = 1) comes out as 0.125.
"""

import torch
from torch import Tensor


def precise(x: Tensor) -> Tensor:
    """In fp32, or as it is in fp64."""
    return x if x.dtype == torch.float64 else x.float()


def without_autocast(x: Tensor) -> torch.autocast:
    """A context in which autocast is off on the device of x."""
    return torch.autocast(x.device.type, enabled=False)


def checked_mask(mask: Tensor | None, x: Tensor, name: str) -> Tensor:
    """Which vectors of x are real, of the shape of its first two dimensions; all of them where no mask is given.

    Raises ValueError naming the argument and its shape.
    """
    if mask is None:
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    if mask.shape != x.shape[:2] or mask.dtype != torch.bool:
        raise ValueError(
            f"{name} has shape {tuple(mask.shape)} and dtype {mask.dtype}; expected bool {tuple(x.shape[:2])}"
        )
    return mask
