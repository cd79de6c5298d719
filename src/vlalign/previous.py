"""Finished results stay until their successors are complete.

Snakemake removes the outputs of a step before it runs it. When a workflow starts, everything below `results` gets a
second name in a folder that no rule declares; when it ends well, that folder goes. A step that finds there what it was
asked for takes it back in place of making it again.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from vlalign.errors import VlalignError
from vlalign.files import atomic_write
from vlalign.records import check_file, read_record

PACKAGE = Path(__file__).parent
# The records of a run and of its evaluation, in its folder `metrics`.
RUN, EVALUATION = "run.json", "evaluation.json"


def code_digest(packages: Sequence[str]) -> str:
    """SHA-256 of the source files of parts of this package, so that what other code has made is not taken for this."""
    found = hashlib.sha256()
    for path in sorted(file for name in packages for file in (PACKAGE / name).rglob("*.py")):
        found.update(f"{path.relative_to(PACKAGE)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()


def set_aside(results: Path, previous: Path) -> None:
    """Give every finished file below `results` a second name at the same place below `previous`.

    What a killed step has left unfinished does not replace what is there.
    """
    for folder, _, names in os.walk(results):
        for name in names:
            path = Path(folder, name)
            if _is_finished(path):
                _link(path, previous / path.relative_to(results))


def _is_finished(path: Path) -> bool:
    """Whether the step that wrote a file of a run has come to its end; each writes its record last."""
    run = next((parent for parent in path.parents if parent.name.startswith("seed-")), None)
    if run is None:
        return not path.name.endswith(".tmp")
    measured = path.parent.name == "metrics" or path.name == "README.md"
    return (run / "metrics" / EVALUATION if measured else run / RUN).exists() and not path.name.endswith(".tmp")


def take_back(previous: Path, folder: Path, *, record: str) -> bool:
    """Put the files that a record of `previous` vouches for, and then the record, into `folder`; False when there is
    no such record, or a file is missing or damaged.
    """
    try:
        files = read_record(previous / record)["files"]
        for name, expected in files.items():
            check_file(previous / name, expected, record=previous / record, remedy="")
    except (VlalignError, KeyError):
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
