"""The batches of a run, made ahead by other processes while one trains."""

from collections.abc import Callable

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vlalign.training.data.batches import Batch, PairedSet
from vlalign.training.stopping import ignore_signals

# Batches that each worker has ready.
AHEAD = 4


class Steps(Dataset[Batch]):
    """The batch of every step: a pure function of (seed, step), so that it does not matter who makes it, or when."""

    def __init__(self, data: PairedSet, *, seed: int, size: int, share: Callable[[Tensor], Tensor]) -> None:
        self.data, self.seed, self.size, self.share = data, seed, size, share

    def __getitem__(self, step: int) -> Batch:
        return self.data.batch(seed=self.seed, step=step, size=self.size, share=self.share)


def load(steps: Steps, wanted: range, *, workers: int, pinned: bool) -> DataLoader:
    """The batches of the wanted steps, in order.

    Args:
        workers: processes that make them ahead; with 0 each is made when it is asked for.
        pinned: whether they shall lie in page-locked memory.
    """
    return DataLoader(
        steps,
        batch_size=None,
        sampler=wanted,
        num_workers=workers,
        pin_memory=pinned,
        prefetch_factor=AHEAD if workers else None,
        worker_init_fn=ignore_signals,
    )
