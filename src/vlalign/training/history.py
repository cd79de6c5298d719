"""What a run tells while it trains: a row for every logged step, as CSV, in a progress bar and in trackers."""

import contextlib
import csv
import io
import logging
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vlalign.console import console
from vlalign.errors import VlalignError
from vlalign.files import write_text

logger = logging.getLogger(__name__)
Row = dict[str, float]
VALIDATION = ("val_loss", "val_i2t_r1", "val_t2i_r1")
# These differ from run to run; every other column is the same for the same params and seed.
MEASURED = ("pairs_per_second", "data_seconds", "loading_share", "memory_mib")
LAST = ("logit_scale", "grad_norm", *VALIDATION, *MEASURED)


def history_csv(history: Sequence[Row]) -> str:
    """The rows as CSV: step, rate and losses first, in the order in which rows have them."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns_of(history), lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_shown, history))
    return stream.getvalue()


def columns_of(history: Sequence[Row]) -> list[str]:
    """All columns that any row has."""
    seen = list(dict.fromkeys(name for row in history for name in row))
    return [name for name in seen if name not in LAST] + [name for name in LAST if name in seen]


def _shown(row: Row) -> dict[str, str]:
    return {name: f"{value:.6g}" for name, value in row.items()}


class Clock:
    """How fast steps are taken, from one reading to the next; a step by itself is over before the device is."""

    def __init__(self) -> None:
        self._since, self._step, self._loading = time.perf_counter(), 0, 0.0

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """While a batch is waited for."""
        started = time.perf_counter()
        yield
        self._loading += time.perf_counter() - started

    def read(self, step: int, *, pairs: int) -> Row:
        """Pairs in a second, and seconds of loading in a step, since it was last read; pairs: of a step."""
        now, steps = time.perf_counter(), max(1, step - self._step)
        found = {
            "pairs_per_second": steps * pairs / max(1e-9, now - self._since),
            "data_seconds": self._loading / steps,
            "loading_share": self._loading / max(1e-9, now - self._since),
        }
        self._since, self._step, self._loading = now, step, 0.0
        return found


def describe(row: Row, *, terms: Iterable[str]) -> str:
    """Loss with its terms, throughput, the share of the time that was spent on loading, and memory, of one row."""
    shown = ", ".join(f"{name} {row[name]:.3f}" for name in terms if name in row)
    share = 100 * row["loading_share"]
    speed = f"{row['pairs_per_second']:.0f} pairs/s, {share:.0f} % loading, {row['memory_mib'] / 1024:.1f} GiB"
    recall = f"; validation R@1 {row['val_i2t_r1']:.1f}" if "val_i2t_r1" in row else ""
    return f"loss {row['loss']:.3f} ({shown}), {speed}{recall}"


def progress_bar() -> Progress:
    """The bar of one run: step, loss and its terms, throughput, memory, time left."""
    name, terms = TextColumn("{task.description}"), TextColumn("{task.fields[terms]}")
    columns = (name, BarColumn(bar_width=16), MofNCompleteColumn(), terms, TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def peak_memory(device: torch.device) -> float:
    """MiB: on a GPU the most that tensors took, otherwise the most that the process took."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Tracker(Protocol):
    """Where rows go besides history.csv."""

    def log(self, row: Row) -> None:
        """Every number of the row, at its step."""

    def close(self) -> None:
        """No more rows come."""


class HistoryFile:
    """The history as CSV, written as it grows, so that it can be watched."""

    def __init__(self, path: Path, history: Sequence[Row]) -> None:
        self.path, self.rows = path, list(history)
        self.columns = self._write_all()

    def _write_all(self) -> list[str]:
        write_text(self.path, history_csv(self.rows))
        return columns_of(self.rows)

    def log(self, row: Row) -> None:
        """See Tracker. A row with columns that were not seen before has the file written anew."""
        self.rows.append(row)
        try:
            if not set(row) <= set(self.columns):
                self.columns = self._write_all()
                return
            with open(self.path, "a", encoding="utf-8", newline="") as stream:
                csv.DictWriter(stream, self.columns, lineterminator="\n").writerow(_shown(row))
        except OSError as error:  # the checkpoints hold the history too
            logger.warning("%s cannot be written (%s); the run goes on", self.path, error)

    def close(self) -> None:
        """See Tracker."""


class DvcLive:
    """Files that `dvc plots` and the DVC extension of VS Code read."""

    def __init__(self, folder: Path) -> None:
        from dvclive import Live

        self.live = Live(str(folder), save_dvc_exp=False, dvcyaml=None, report=None, monitor_system=False)

    def log(self, row: Row) -> None:
        """See Tracker."""
        self.live.step = int(row["step"])
        for name, value in row.items():
            self.live.log_metric(name, value)
        self.live.make_summary()

    def close(self) -> None:
        """See Tracker."""
        self.live.end()


class TensorBoard:
    """An event file."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def log(self, row: Row) -> None:
        """See Tracker."""
        for name, value in row.items():
            self.writer.add_scalar(name, value, int(row["step"]))
        self.writer.flush()

    def close(self) -> None:
        """See Tracker."""
        self.writer.close()


TRACKERS: dict[str, Callable[[Path], Tracker]] = {"dvclive": DvcLive, "tensorboard": TensorBoard}


def start_trackers(names: Sequence[str], folder: Path | None, history: Sequence[Row]) -> list[Tracker]:
    """Trackers that know the history so far: one that was cut or ran on after the last checkpoint is written anew.

    Raises VlalignError when a package is missing or there is no folder for them.
    """
    if names and folder is None:
        raise VlalignError("runtime.trackers: give the folder that they shall write to (`tracking`)")
    found = []
    for name in names:
        assert folder is not None
        shutil.rmtree(folder / name, ignore_errors=True)
        try:
            found.append(TRACKERS[name](folder / name))
        except ImportError as error:
            told = f"runtime.trackers: {name} cannot be imported ({error}); pip install 'vlalign[tracking]'"
            raise VlalignError(told) from None
        for row in history:
            found[-1].log(row)
    return found
