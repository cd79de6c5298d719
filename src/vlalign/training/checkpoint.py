"""Checkpoints of one run; they live outside every output that the workflow declares, since it deletes those of failed
jobs.

    lock                              held while a process trains the run
    step-00000300.pt                  the newest ones, to resume from; gone when the run is complete
    kept/<identity>/step-00000200.pt  those that the policy keeps for good, and best.pt
    damaged-step-00000300.pt          one that could not be read
    failed-step-00000217.pt           what a run held when a term or its gradient was not finite
    history.csv                       its history so far; gone when the run is complete, which has its own

Every file holds tensors and plain values only, and is complete or absent.
"""

import contextlib
import fcntl
import json
import logging
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import torch

from vlalign.errors import VlalignError
from vlalign.files import atomic_write, is_whole_archive, remove_temporary
from vlalign.params import RuntimeParams, digest, flat_params
from vlalign.training.processes import Processes

logger = logging.getLogger(__name__)
Identity = Mapping[str, Any]
NAME = "step-{:08d}.pt"


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: of this run and seed alone.
        identity: everything that the weights depend on, as nested plain values; a run is continued only from a
            checkpoint of the same identity.
        policy: which of them are kept.
        code: digest of the code that trains. A run that other code has begun is continued, with a warning, and `codes`
            names both.
    """

    def __init__(
        self, directory: str | Path, *, identity: Identity, policy: RuntimeParams | None = None, code: str = ""
    ) -> None:
        self.directory, self.identity, self.policy = Path(directory), identity, policy or RuntimeParams()
        self.kept = self.directory / "kept" / digest(identity)
        # Of all code that had a part in the weights.
        self.codes = {code}
        self._damaged: set[Path] = set()

    @contextlib.contextmanager
    def lock(self, team: Processes) -> Iterator[None]:
        """Wait until nobody else trains this run, as a child of a killed Snakemake may; the first process holds it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with _open_lock(self.directory / "lock") as stream:
            told = False
            while team.largest(team.is_first and not _is_locked(stream)):
                if team.is_first and not told:
                    logger.warning("another process trains this run (lock in %s); waiting for it", self.directory)
                    told = True
                time.sleep(1)
            if team.is_first:
                remove_temporary(self.directory)
            yield

    def save(self, state: Mapping[str, Any], *, best: bool = False) -> None:
        """Write the checkpoint of `state["step"]`, then drop those that the policy does not keep.

        Raises VlalignError when it cannot be written; the checkpoints before it stay.
        """
        step = state["step"]
        path = self.directory / NAME.format(step)
        self._write(path, {**state, "identity": dict(self.identity), "codes": sorted(self.codes)})
        kept = [path.name] if self.policy.keep_every and step % self.policy.keep_every == 0 else []
        for name in [*kept, *(["best.pt"] if best else [])]:
            self._keep(path, name)
        for other in self._damaged - {path}:
            other.replace(other.with_name(f"damaged-{other.name}"))
        self._damaged.clear()
        for other in self._paths()[self.policy.keep_last :]:
            other.unlink()

    def load(self) -> dict[str, Any] | None:
        """The newest state that can be read, or None if there is none.

        Raises VlalignError, naming what differs, when it belongs to a run with another identity.
        """
        for path in self._paths():
            try:
                if not is_whole_archive(path):
                    raise ValueError("it is cut off or was changed")
                state = torch.load(path, map_location="cpu", weights_only=True)
                theirs, codes = dict(state["identity"]), set(map(str, state.get("codes", self.codes)))
            except (OSError, MemoryError):
                raise  # the file may be whole
            except Exception as error:  # a file that was cut or overwritten fails in many ways
                logger.warning("%s cannot be read (%s); going back to the one before", path, _first_line(error))
                self._damaged.add(path)
                continue
            if found := differences(theirs, self.identity):
                raise VlalignError(
                    f"{path} belongs to a run with other params or data, and would be lost:\n"
                    + "\n".join(found[:8])
                    + f"\nchange them back to continue it, or delete {self.directory} to train anew"
                )
            if codes - self.codes:
                logger.warning(
                    "%s was made by other code; the run goes on from there and is recorded as one of both. To train "
                    "it by this code alone, delete %s",
                    path,
                    self.directory,
                )
            self.codes |= codes
            return state
        return None

    def save_failed(self, state: Mapping[str, Any]) -> Path:
        """Put down the state of a step that cannot be taken, for inspection; nothing resumes from it."""
        path = self.directory / f"failed-{NAME.format(state['step'])}"
        self._write(path, {**state, "identity": dict(self.identity)})
        return path

    def clear(self) -> None:
        """The run is complete: keep what the policy keeps for good."""
        for path in (*self._paths(), *self.directory.glob("failed-*.pt"), self.directory / "history.csv"):
            path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        """Those to resume from, the newest first; other files may lie there."""
        found = (path for path in self.directory.glob("step-*.pt") if path.stem.removeprefix("step-").isdecimal())
        return sorted(filter(Path.is_file, found), key=lambda path: int(path.stem.removeprefix("step-")), reverse=True)

    def _write(self, path: Path, state: Mapping[str, Any]) -> None:
        try:
            with atomic_write(path) as temporary, open(temporary, "wb") as stream:
                torch.save(state, stream)
                stream.flush()
                os.fsync(stream.fileno())
        except (OSError, RuntimeError) as error:  # torch's own writer turns the former into the latter
            raise _unwritable(path, error) from error

    def _keep(self, path: Path, name: str) -> None:
        """Under a second name, without a copy where the file system can do that."""
        try:
            with atomic_write(self.kept / name) as temporary:
                temporary.unlink()
                try:
                    os.link(path, temporary)
                except OSError:
                    shutil.copyfile(path, temporary)
        except OSError as error:
            raise _unwritable(self.kept / name, error) from error


def _open_lock(path: Path) -> TextIO:
    """Neither through a link, whose target would be written to, nor a pipe, which would be waited for."""
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise VlalignError(f"{path} cannot be used as a lock ({error.strerror}); delete it and run again") from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise VlalignError(f"{path} is no file and cannot be used as a lock; delete it and run again")
    return os.fdopen(number, "r+")


def _is_locked(stream: TextIO) -> bool:
    """Whether this process has the lock now."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unwritable(path: Path, error: BaseException) -> VlalignError:
    """With the message of the operating system, where an error was raised while one of its own was handled."""
    while not isinstance(error, OSError) and error.__context__ is not None:
        error = error.__context__
    cause = error.strerror or str(error) if isinstance(error, OSError) else _first_line(error)
    return VlalignError(
        f"{path} cannot be written ({cause}); free or grow the disk and run the same command again: it continues from "
        "the checkpoint before"
    )


def _first_line(error: BaseException) -> str:
    """Its first sentence: torch goes on with advice that is not for users of this program."""
    return (str(error).splitlines() or [""])[0].split(". ")[0] or type(error).__name__


def differences(theirs: Identity, ours: Identity) -> list[str]:
    """`objective.powerset.tau was 0.1, is 0.01` for every value that differs."""
    before, after = flat_params(theirs), flat_params(ours)
    keys = sorted(before.keys() | after.keys())
    pairs = [(key, before.get(key, "absent"), after.get(key, "absent")) for key in keys]
    return [f"  {key} was {old}, is {new}" for key, old, new in pairs if json.dumps(old) != json.dumps(new)]
