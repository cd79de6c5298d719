"""Files appear under their final name complete or not at all."""

import contextlib
import json
import os
import secrets
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlalign.errors import VlalignError


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which takes its name if the block ends without an error, or is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Its permissions are those that the umask leaves: tempfile would keep others from reading it.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_tensors(path: str | Path) -> Iterator[Path]:
    """`atomic_write` for safetensors, which puts a file of its own in the place of ours, for its owner alone."""
    with atomic_write(path) as temporary:
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)


def is_whole_archive(path: Path) -> bool:
    """Whether a zip file, such as torch writes, has the content that its checksums say; OSError if it is unreadable."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except OSError:
        raise
    except Exception:  # damaged archives fail in many ways
        return False


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


REMEDY = "delete it and run the workflow again"


def read_json(path: str | Path, *, remedy: str = REMEDY) -> Any:
    """Raises VlalignError for a file that is missing, unreadable, or not strict JSON (NaN, a key that stands twice)."""
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise VlalignError(f"{path} is no file; {remedy}")
        text = Path(path).read_text(encoding="utf-8")
        return json.loads(text, object_pairs_hook=without_doubles, parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise VlalignError(f"{path} does not exist; the rule that makes it has not run") from None
    except OSError as error:
        raise VlalignError(f"{path} cannot be read ({error.strerror or error}); mend that and run again") from None
    except (ValueError, RecursionError) as error:
        told = {UnicodeDecodeError: "it is not text in UTF-8", RecursionError: "it is nested too deeply"}
        raise VlalignError(f"{path} is not valid JSON ({told.get(type(error), error)}); {remedy}") from None


def read_object(path: str | Path, *, remedy: str = REMEDY) -> dict[str, Any]:
    """`read_json` of a record: raises VlalignError also when the file holds a list or a single value."""
    value = read_json(path, remedy=remedy)
    if not isinstance(value, dict):
        raise VlalignError(f"{path} holds no JSON object, but a {type(value).__name__}; {remedy}")
    return value


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json.loads: an object; raises ValueError for a key that stands there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f"the key {twice!r} stands there twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
