"""Files appear under their final name complete or not at all."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlalign.errors import VlalignError


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it to `path` when the block ends without an error, remove it
    otherwise.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    temporary.chmod(0o644)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporary(directory: Path) -> None:
    """Remove what `atomic_write` left below `directory` in processes that were killed; none may be writing there."""
    for path in directory.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def check_writable(directory: Path) -> None:
    """Raises VlalignError naming what is in the way of files in this folder, which need not exist yet."""
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise VlalignError(f"{directory} cannot be made, since {existing} is no folder; give another path")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise VlalignError(f"{existing} cannot be written to; change its permissions or give another path")


def write_text(path: str | Path, text: str) -> None:
    """Write `text` in UTF-8."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(value: Any) -> str:
    """Sorted, indented JSON; NaN and infinities are errors, since other readers refuse them."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: str | Path, value: Any) -> None:
    """Write `json_text`."""
    write_text(path, json_text(value))


def read_json(path: str | Path) -> Any:
    """Raises VlalignError naming the file when it is missing or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VlalignError(f"{path} does not exist; the rule that makes it has not run") from None
    except json.JSONDecodeError as error:
        raise VlalignError(f"{path} is not valid JSON ({error}); delete it and run the workflow again") from None
