"""Records: JSON files that vouch for themselves, and for the files that were written with them.

A record holds the SHA-256 of its own content, so that a damaged one is noticed, and the stamps of other files: size
and SHA-256, which `check_file` compares before a file is used. Manifests, run.json and evaluation.json are records.
"""

import hashlib
import json
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vlalign.errors import VlalignError
from vlalign.files import REMEDY, read_json, write_json

# No name of a run, a split or a file begins with a dollar sign.
DIGEST = "$sha256"
Stamp = Mapping[str, Any]
# What this process has checked already: (path, what the file system says of it, SHA-256).
_checked: set[tuple[str, tuple[int, ...], str]] = set()


def stamp(path: str | Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of one file."""
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"bytes": Path(path).stat().st_size, "sha256": digest}


def stamps(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The stamps of several files by their path from a folder."""
    return {name: stamp(folder / name) for name in sorted(names)}


def check_file(path: Path, expected: Stamp, *, record: Path, remedy: str) -> None:
    """Compare a file with its stamp, as a whole; once in a process as long as it stays the same file.

    record: what says how the file should be. remedy: what to do, for the message.
    Raises VlalignError when the file is missing or is another one.
    """
    if not isinstance(expected, Mapping) or not {"bytes", "sha256"} <= set(expected):
        raise VlalignError(f"{record} does not say how {path} should be; {remedy}")
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise VlalignError(f"{path} is named in {record} but is no file; {remedy}")
        state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        known = (str(path), state, expected["sha256"])
        if known in _checked:
            return
        same = status.st_size == expected["bytes"] and stamp(path)["sha256"] == expected["sha256"]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VlalignError(f"{path} is named in {record} but cannot be read ({reason}); {remedy}") from None
    if not same:
        raise VlalignError(f"{path} is not the file that {record} describes: it was changed or damaged; {remedy}")
    _checked.add(known)


def write_record(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write `content` with its own SHA-256 under the key "$sha256"."""
    write_json(path, {**content, DIGEST: _digest(content)})


def read_record(path: str | Path, *, remedy: str = REMEDY) -> dict[str, Any]:
    """The content of a record; raises VlalignError when it is missing, damaged, or was changed by hand."""
    content = read_json(path, remedy=remedy)
    if not isinstance(content, dict):
        raise VlalignError(f"{path} is no record: it holds {type(content).__name__}, not an object; {remedy}")
    digest = content.pop(DIGEST, None)
    if digest is None:
        raise VlalignError(f"{path} has no key `{DIGEST}`: another program or an older version wrote it; {remedy}")
    if digest != _digest(content):
        raise VlalignError(f"{path} was changed or damaged after it was written; {remedy}")
    return content


def record_of(path: str | Path) -> Path:
    """Where the record of a step lies whose output is one file, or several of which this is the first."""
    return Path(path).with_name(f"{Path(path).name}.json")


def check_record(path: Path, *, remedy: str = REMEDY) -> dict[str, Any]:
    """The content of a record, after all the files that it names, from its folder on, were compared with it."""
    content = read_record(path, remedy=remedy)
    if not isinstance(content.get("files"), dict):
        raise VlalignError(f"{path} names no files, so it is no record of a step; {remedy}")
    for name, expected in content["files"].items():
        check_file(path.parent / name, expected, record=path, remedy=remedy)
    return content


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
