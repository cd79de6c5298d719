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
        # (step, value) of each watched number; a step of -1: none yet.
        self._first: dict[str, tuple[Tensor, Tensor]] = {}

    def see(self, values: Mapping[str, Tensor], step: int) -> None:
        """Look at scalars of a step, by what they are called in a message."""
        for name, value in values.items():
            value = value.detach().float()
            bad = ~torch.isfinite(value)
            first, worst = self._first.get(name) or (torch.full_like(value, -1), torch.zeros_like(value))
            new = bad & (first < 0)
            self._first[name] = torch.where(new, step, first), torch.where(new, value, worst)
            self.found = torch.maximum(self.found, bad.to(self.found))

    def check(self) -> None:
        """Raises NotFiniteError for the first step at which something was not finite, and what was seen first there."""
        if not self.found.item():
            return
        steps = {name: int(step) for name, (step, _) in self._first.items() if step >= 0}
        name = min(steps, key=lambda key: steps[key])
        raise NotFiniteError(
            f"{name} is {self._first[name][1].item()} at step {steps[name]}: lower train.learning_rate or the weight "
            "of the term",
            steps[name],
        )
