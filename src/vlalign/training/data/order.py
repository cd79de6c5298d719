"""What is random in a run, as functions of its seed."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


@lru_cache(maxsize=4)
def epoch_order(count: int, seed: int, epoch: int, *, key: str = "order") -> Tensor:
    """A permutation of so many samples, int32; the last few are kept, since no step needs more than three."""
    return torch.randperm(count, generator=generator(seed, key, epoch), dtype=torch.int32)


def generator(*key: object) -> torch.Generator:
    """A random generator that depends on `key` alone."""
    words = np.random.SeedSequence([int.from_bytes(str(part).encode(), "little") for part in key])
    return torch.Generator().manual_seed(int(words.generate_state(1, np.uint64)[0]) >> 1)
