"""The processes of a run, as torchrun starts them: one for each GPU, or several on CPUs."""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vlalign.objectives.distributed import Group, Shares

# How torchrun tells each process which one it is.
COUNT, LOCAL_RANK = "WORLD_SIZE", "LOCAL_RANK"
# Longer than the slowest step of which rank 0 alone does a part, such as a checkpoint on a network disk.
PATIENCE = timedelta(minutes=30)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Processes:
    """This process among those of its run; alone unless torchrun has started it."""

    rank: int = 0
    count: int = 1
    device: torch.device = CPU
    group: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks to people."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of the rows of a batch; the parts differ by one row at most."""
        return rows.tensor_split(self.count)[self.rank]

    def shares(self, count: int) -> Group:
        """The group for batches of so many rows: nobody has to ask which part of them the others have."""
        if self.group is None:
            return None
        return Shares(self.group, tuple(map(len, torch.arange(count).tensor_split(self.count))))

    def parallel(self, model: nn.Module) -> nn.Module:
        """`model` with gradients averaged over the processes in its backward pass."""
        if self.group is None:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, process_group=self.group, gradient_as_bucket_view=True)

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers, so that all of them do the same."""
        if self.group is None:
            return number
        found = torch.tensor(int(number), device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX, self.group)
        return int(found)


def is_one_of_several() -> bool:
    """Whether torchrun has started this process."""
    return COUNT in os.environ


def neighbours() -> int:
    """How many processes of the run are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def start(count: int, arguments: Sequence[str]) -> NoReturn:
    """Become torchrun with so many processes on this machine, each of which runs `vlalign` with these arguments."""
    # After `--`, torchrun takes no option of ours for an abbreviation of its own.
    # OMP_NUM_THREADS says to torchrun that the number of threads is chosen; every process sets its own.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m", "--", "vlalign"]
    os.execv(sys.executable, [sys.executable, *launcher, *arguments])


@contextlib.contextmanager
def processes() -> Iterator[Processes]:
    """Join the others, if torchrun has started this process (RANK, WORLD_SIZE, LOCAL_RANK)."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get(LOCAL_RANK, "0"))) if cuda else CPU
    if cuda:
        torch.cuda.set_device(device)
        # What cuBLAS needs in order to be deterministic.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if int(os.environ.get(COUNT, "1")) == 1:
        yield Processes(device=device)
        return
    dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), device, dist.group.WORLD)
    finally:
        dist.destroy_process_group()
