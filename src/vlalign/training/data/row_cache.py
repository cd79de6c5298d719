"""Rows of tensors that are made from single items, and kept where there is room for them."""

import math
import mmap
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# (item, when) -> its tensors, whose shapes and dtypes are the same for all items. What is drawn depends on `when`.
Make = Callable[[int, str], tuple[Tensor, ...]]


class MadeRows:
    """Rows that are made whenever they are asked for."""

    def __init__(self, make: Make) -> None:
        self.make = make

    def __call__(self, items: Sequence[int], when: str) -> tuple[Tensor, ...]:
        """The tensors of these items, a row for each."""
        if not items:
            return tuple(x.new_empty(0, *x.shape) for x in self.make(0, when))
        made = [self.make(item, when) for item in items]
        return tuple(torch.stack(column) for column in zip(*made, strict=True))


class CachedRows:
    """Rows that are always the same: made when they are first asked for, and kept.

    Forked processes share what is kept; two that make the same row write the same bytes.
    """

    def __init__(self, make: Make, items: int) -> None:
        self.make, self.items = make, items
        self.columns = tuple(_shared(items, *x.shape, dtype=x.dtype) for x in make(0, ""))
        self.made = _shared(items, dtype=torch.bool)

    def __call__(self, items: Sequence[int], when: str) -> tuple[Tensor, ...]:
        """The tensors of these items, a row for each."""
        rows = torch.as_tensor(items, dtype=torch.long)
        for item in rows[~self.made[rows]].unique().tolist():
            for column, value in zip(self.columns, self.make(item, when), strict=True):
                column[item] = value
            self.made[item] = True
        return tuple(column[rows] for column in self.columns)

    def __reduce__(self) -> tuple:
        # Processes that are not forked begin with nothing.
        return CachedRows, (self.make, self.items)


def size_of(make: Make, items: int) -> int:
    """Bytes that the rows of all items take."""
    return items * sum(x.nbytes for x in make(0, ""))


def _shared(*shape: int, dtype: torch.dtype) -> Tensor:
    """Zeros that forked processes share; what was never written takes no memory, nor /dev/shm, small in containers."""
    count = math.prod(shape)
    return torch.frombuffer(mmap.mmap(-1, count * dtype.itemsize), dtype=dtype, count=count).view(shape)
