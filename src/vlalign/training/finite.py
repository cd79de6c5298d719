"""Whether losses and gradients are finite, noticed on the device and read when something is read anyway."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vlalign.errors import VlalignError


class NotFiniteError(VlalignError):
    """A term of the loss or its gradient is NaN or infinite. step: the first such, from 0."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class FiniteWatch:
    """Remembers at which step something first was not finite. The host does not wait for the device until it asks.

    `found` is 1 from that step on. AdamW (fused) takes it as `found_inf` and then changes nothing, so that weights and
    moments stay as they were before that step, however much later somebody looks.
    """

    def __init__(self, device: torch.device) -> None:
        self.found = torch.zeros((), device=device, dtype=torch.float32)
        # By the names of numbers that were seen together: the first bad step of each (-1: none), and its value then.
        self._first: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}

    def see(self, values: Mapping[str, Tensor], step: int) -> None:
        """Look at scalars of a step, by what they are called in a message."""
        # Side by side, since every operation on a number by itself is a launch of its own.
        now = torch.stack([value.detach().float() for value in values.values()])
        first, worst = self._first.get(tuple(values)) or (torch.full_like(now, -1), torch.zeros_like(now))
        bad = ~torch.isfinite(now)
        new = bad & (first < 0)
        self._first[tuple(values)] = torch.where(new, step, first), torch.where(new, now, worst)
        self.found = torch.maximum(self.found, bad.any().to(self.found))

    def check(self) -> None:
        """Raises NotFiniteError for the first step at which something was not finite, and what was seen first there."""
        if not self.found.item():
            return
        seen: list[tuple[int, str, float]] = []
        for names, (steps, values) in self._first.items():
            seen += zip(map(int, steps.tolist()), names, values.tolist(), strict=True)
        step, name, value = min((one for one in seen if one[0] >= 0), key=lambda one: one[0])
        told = f"{name} is {value} at step {step}: lower train.learning_rate or the weight of the term"
        raise NotFiniteError(told, step)
