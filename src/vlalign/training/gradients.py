"""Gradient of a loss over all pairs of a batch, with the activations of a part of it at a time.

Contrastive losses do not add up over parts of a batch. Two passes give the gradient of the whole exactly (Gao et al.,
"Scaling deep contrastive learning batch size under memory limited setup", 2021): features of every part, no graph of
one being kept; the loss on all features, and its gradient with regard to them; then every part again, through whose
graph that gradient is propagated. Dropout and drop path draw the same in both passes.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from vlalign.training.data.batches import Batch
from vlalign.training.objective import Features

Encode = Callable[[Batch], Features]
Loss = Callable[[Features], tuple[Tensor, dict[str, Tensor]]]


def accumulate(
    parts: Sequence[Batch],
    encode: Encode,
    loss: Loss,
    *,
    scaled: Callable[[Tensor], Tensor] = lambda total: total,
    unsynchronised: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> tuple[Tensor, dict[str, Tensor], Features]:
    """Add the gradient of the loss over all parts to the parameters; returns total, terms and features, detached.

    Args:
        parts: of this process's share of the batch.
        encode: features of a part; what depends on other pairs belongs into `loss`.
        scaled: what is differentiated in place of the total (fp16 scales it).
        unsynchronised: in which processes do not average their gradients; entered for all parts but the last.
    """
    if len(parts) == 1:
        features = encode(parts[0])
        total, terms = loss(features)
        scaled(total).backward()
        return total.detach(), detach(terms), detach(features)
    states, encoded = [], []
    for part in parts:
        states.append(RandomState())
        # With a graph that is dropped at once: compiled code without one would draw other random numbers.
        with unsynchronised():
            encoded.append(detach(encode(part)))
    leaves = joined(encoded)
    total, terms = loss(leaves)
    scaled(total).backward()
    starts = dict.fromkeys(leaves, 0)
    for number, (part, state) in enumerate(zip(parts, states, strict=True)):
        last = number == len(parts) - 1
        with contextlib.nullcontext() if last else unsynchronised(), state.restored():
            again = encode(part)
            propagate(again, leaves, starts=starts, scalars=last)
        # A number has no rows.
        starts = {name: starts[name] + (len(values) if values.ndim else 0) for name, values in again.items()}
    return total.detach(), detach(terms), detach(leaves)


def joined(parts: Sequence[Features]) -> Features:
    """Features of all parts, as leaves of a new graph: rows one after the other, numbers once."""
    found = {}
    for name, first in parts[0].items():
        whole = torch.cat([part[name] for part in parts]) if first.ndim else first.clone()
        found[name] = whole.requires_grad_() if whole.is_floating_point() else whole
    return found


def propagate(part: Features, leaves: Features, *, starts: Mapping[str, int], scalars: bool) -> None:
    """Backward through a part's features, with the gradients of its rows of the leaves, and in one part of numbers."""
    outputs, gradients = [], []
    for name, output in part.items():
        leaf, start = leaves[name], starts[name]
        if leaf.grad is None or not output.requires_grad:
            continue
        if output.ndim:
            gradients.append(leaf.grad[start : start + len(output)])
        elif scalars:
            gradients.append(leaf.grad)
        else:
            gradients.append(torch.zeros_like(leaf.grad))
        outputs.append(output)
    torch.autograd.backward(outputs, gradients)


def detach(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without a graph."""
    return {name: value.detach() for name, value in values.items()}


class RandomState:
    """The state of torch's generators when it was made."""

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        self.devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Within it random numbers are drawn as they were from then on; after it the generators are where they were."""
        with torch.random.fork_rng(devices=range(len(self.devices))):
            torch.set_rng_state(self.cpu)
            if self.devices:
                torch.cuda.set_rng_state_all(self.devices)
            yield
