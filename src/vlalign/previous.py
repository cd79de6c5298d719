"""Finished results stay until their successors are complete.

Snakemake removes the outputs of a step before it runs it. When a workflow starts, everything below `results` gets a
second name in a folder that no rule declares; when it ends well, that folder goes. A step that finds there what it was
asked for takes it back in place of making it again.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from vlalign.errors import VlalignError
from vlalign.files import atomic_write
from vlalign.records import check_record, stamp

logger = logging.getLogger(__name__)
# The records of a run and of its evaluation, in its folder `metrics`.
RUN, EVALUATION = "run.json", "evaluation.json"


def set_aside(results: Path, previous: Path) -> None:
    """Give every finished file below `results` a second name below `previous`.

    What belongs to a run or its evaluation goes into a folder that is named after the record that vouches for it, so
    that neither a later state nor a damaged file takes the place of a good one.
    Raises VlalignError when that cannot be done, before anything is removed.
    """
    for path in _files(results):
        try:
            slot = _slot(path)
            target = previous / path.relative_to(results).parent / slot / path.name
            if target.exists() and target.parent.name == slot:
                continue
            _clear_the_way(target, previous)
            _link(path, target)
        except OSError as error:
            raise VlalignError(
                f"{path} cannot be given a second name below {previous} ({error.strerror or error}), without which it "
                "would be lost when its step begins; mend that and run again: nothing was changed"
            ) from None


def forget(results: Path, previous: Path) -> None:
    """Remove what was set aside and has a complete successor; what cannot be removed stays."""
    if previous.is_symlink():
        return
    with contextlib.suppress(OSError, RuntimeError):
        _forget(results, previous)


def _forget(results: Path, previous: Path) -> None:
    for path in _files(results):
        place = previous / path.relative_to(results)
        # A link could lead back to the results themselves.
        if not Path(os.path.realpath(place)).is_relative_to(os.path.realpath(previous)):
            continue
        if not _slot(path):
            place.unlink(missing_ok=True)
        for slot in slots(place.parent, EVALUATION if _is_measured(path) else RUN) if _slot(path) else ():
            shutil.rmtree(slot, ignore_errors=True)
    for folder, _, _ in os.walk(previous, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _files(results: Path) -> Iterator[Path]:
    """The finished files; each step writes its record last."""
    for folder, below, names in os.walk(results, followlinks=True):
        # A link to a folder above would lead round for ever.
        above = {os.path.realpath(parent) for parent in (Path(folder), *Path(folder).parents)}
        below[:] = [name for name in below if os.path.realpath(os.path.join(folder, name)) not in above]
        for path in (Path(folder, name) for name in names if not name.endswith(".tmp")):
            if not (_run_of(path) or _is_measured(path)) or _slot(path):
                yield path


def _is_measured(path: Path) -> bool:
    """Whether a file belongs to an evaluation: of the dataset, or of one task on one card."""
    return path.parent.name == "metrics" or "benchmarks" in path.parts[-4:-3]


def _run_of(path: Path) -> Path | None:
    return next((parent for parent in path.parents if parent.name.startswith("seed-")), None)


def _slot(path: Path) -> str:
    """Named after the record that vouches for a file of a run or an evaluation; empty where there is none."""
    run = _run_of(path)
    if _is_measured(path):
        record = path.parent / EVALUATION
    elif run is not None:
        record = run / RUN
    else:
        return ""
    return stamp(record)["sha256"][:16] if record.is_file() else ""


def _clear_the_way(target: Path, previous: Path) -> None:
    """What stands there and is of another kind is a leftover."""
    for parent in (target, *target.parents):
        if parent == previous.parent:
            return
        if parent.is_dir() if parent == target else parent.exists() and not parent.is_dir():
            shutil.rmtree(parent) if parent.is_dir() else parent.unlink()


def slots(previous: Path, record: str) -> list[Path]:
    """The folders of `previous` that hold a record of this name."""
    return sorted(path.parent for path in previous.glob(f"*/{record}"))


def take_back(previous: Path, folder: Path, *, record: str) -> bool:
    """Put a record of `previous` into `folder`, after its files; False if it, or a file, is missing or damaged."""
    try:
        files = check_record(previous / record)["files"]
    except (VlalignError, OSError):
        return False
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
        return False
    for name in (*files, record):
        _link(previous / name, folder / name)
    return True


def _link(source: Path, target: Path) -> None:
    """A second name, or a copy where the file system has none."""
    with atomic_write(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary, follow_symlinks=False)
        except OSError:
            shutil.copy2(source, temporary)
