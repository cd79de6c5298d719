"""What is random in a run, as functions of its seed."""

import numpy as np
import torch
from torch import Tensor

# The order of the present epoch by (samples, seed, key): drawing one takes as long as the data are large.
_orders: dict[tuple[int, int, str], tuple[int, Tensor]] = {}


def epoch_order(count: int, seed: int, epoch: int, *, key: str = "order") -> Tensor:
    """A permutation of so many samples, int32; it is kept until that of another epoch is asked for."""
    known = _orders.get((count, seed, key))
    if known is None or known[0] != epoch:
        known = epoch, torch.randperm(count, generator=generator(seed, key, epoch), dtype=torch.int32)
        _orders[count, seed, key] = known
    return known[1]


def generator(*key: object) -> torch.Generator:
    """A random generator that depends on `key` alone."""
    words = np.random.SeedSequence([int.from_bytes(str(part).encode(), "little") for part in key])
    return torch.Generator().manual_seed(int(words.generate_state(1, np.uint64)[0]) >> 1)
