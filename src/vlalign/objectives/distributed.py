"""Losses over a batch that is spread over processes, as distributed data parallelism spreads it.

Every process calls a loss with its own pairs and gets the loss of the whole batch; its gradient is that of its share
times the number of processes, so that the mean over processes, which DDP takes, is the gradient of the whole. Processes
may hold different numbers of pairs: they tell each other how many before they send any, for which the host waits for
the device. `Shares` says how many beforehand, and nothing is waited for.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Shares(NamedTuple):
    """A group whose processes know how many rows each of them holds; counts: by rank."""

    processes: dist.ProcessGroup
    counts: tuple[int, ...]


Group = dist.ProcessGroup | Shares | None


def plain(group: Group) -> dist.ProcessGroup | None:
    """The group as torch knows it, for rows of which it is not known beforehand how many each process holds."""
    return group.processes if isinstance(group, Shares) else group


def world(group: Group) -> int:
    """Processes of the group; 1 without one."""
    return 1 if group is None else dist.get_world_size(plain(group))


def gather(x: Tensor, group: Group) -> Tensor:
    """The rows of all processes, in the order of their ranks; the gradient of every process's use comes back."""
    return x if group is None else _Gather.apply(x, group)


def gather_plainly(x: Tensor, group: Group) -> Tensor:
    """`gather` without a gradient."""
    return x if group is None else torch.cat(_rows_of_all(x.detach(), group))


def own_rows(count: int, group: Group, device: torch.device) -> slice:
    """Where this process's `count` rows lie among those of all."""
    if group is None:
        return slice(0, count)
    start = sum(_counts(count, group, device)[: dist.get_rank(plain(group))])
    return slice(start, start + count)


def total(x: Tensor, group: Group) -> Tensor:
    """Sum over the processes; the gradient of every process's use comes back."""
    return x if group is None else _Total.apply(x, group)


def total_plainly(x: Tensor, group: Group, *, largest: bool = False) -> Tensor:
    """Sum (or maximum) over the processes, without a gradient."""
    if group is None:
        return x
    x = x.detach().clone()
    dist.all_reduce(x, dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM, plain(group))
    return x


def shared(part: Tensor, group: Group) -> Tensor:
    """The loss of the whole batch, from this process's part of the sum; see the module for its gradient."""
    if group is None:
        return part
    whole = total_plainly(part, group)
    # The value of the whole, the gradient of the part.
    return whole + world(group) * (part - part.detach())


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        parts = _rows_of_all(x, group)
        start = sum(len(part) for part in parts[: dist.get_rank(plain(group))])
        ctx.group, ctx.own = group, slice(start, start + len(x))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return total_plainly(gradients[0].contiguous(), ctx.group)[ctx.own], None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return total_plainly(x, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return total_plainly(gradients[0].contiguous(), ctx.group), None


def _counts(count: int, group: Group, device: torch.device) -> Sequence[int]:
    if isinstance(group, Shares):
        share = group.counts[dist.get_rank(group.processes)]
        if count != share:
            raise ValueError(f"{count} rows, but the shares of the group say {share}; give the plain group for others")
        return group.counts
    counts = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(world(group))]
    dist.all_gather(counts, torch.tensor([count], device=device), group)
    return [int(one) for one in counts]


def _rows_of_all(x: Tensor, group: Group) -> list[Tensor]:
    """Padded to the longest, since all processes must send alike."""
    counts = _counts(len(x), group, x.device)
    # NCCL and gloo know no bool in every operation.
    sent = x.new_zeros(max(counts), *x.shape[1:], dtype=torch.uint8 if x.dtype == torch.bool else x.dtype)
    sent[: len(x)] = x
    received = [torch.empty_like(sent) for _ in counts]
    dist.all_gather(received, sent, plain(group))
    return [part[:count].to(x.dtype) for part, count in zip(received, counts, strict=True)]
