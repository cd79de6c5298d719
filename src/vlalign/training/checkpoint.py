"""Checkpoints for resuming; they live outside every output that the workflow declares, since it deletes those of
failed jobs.
"""

import contextlib
import fcntl
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from vlalign.files import atomic_write

logger = logging.getLogger(__name__)


class Checkpoint:
    """The newest state of one run, in one file that is complete or absent."""

    def __init__(self, directory: str | Path) -> None:
        self.path = Path(directory) / "last.pt"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Wait until no other process trains this run: a child can outlive a killed Snakemake."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_name("lock"), "w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.warning("another process trains this run (lock in %s); waiting for it", self.path.parent)
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def save(self, state: dict[str, Any]) -> None:
        """Replace the file; tensors and plain values only."""
        with atomic_write(self.path) as temporary:
            torch.save(state, temporary)

    def load(self, *, params_hash: str) -> dict[str, Any] | None:
        """The saved state, or None if there is none, it cannot be read, or it belongs to other params."""
        if not self.path.is_file():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # a file that was cut or overwritten fails in many ways
            logger.warning("%s cannot be read (%s); starting again", self.path, error)
            return None
        if state["params_hash"] != params_hash:
            logger.warning("%s belongs to other params or data; starting again", self.path)
            return None
        return state

    def clear(self) -> None:
        """The run is complete: forget its checkpoint."""
        self.path.unlink(missing_ok=True)
