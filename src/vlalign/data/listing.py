"""What every list of a user's own images shares: names, captions, and files that may not be as they should."""

import contextlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from braceexpand import braceexpand

from vlalign.errors import VlalignError
from vlalign.files import without_doubles

# More shards, or files of shards, than any data set has.
MOST_NAMES = 1_000_000
PACKED_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Listed(NamedTuple):
    """One image as a source names it: its path there, where that lies on this disk, its captions or its class."""

    name: str
    path: Path
    captions: tuple[str, ...] = ()
    label: int | None = None
    # What the file must not lie outside of, where the names come from somebody else.
    folder: Path | None = None


class Listing(NamedTuple):
    """How many images there are, and the images, each once and in an order that does not depend on the disk."""

    total: int
    images: Iterable[Listed]


def expand_braces(pattern: str, *, key: str, escape: bool = True) -> Iterator[str]:
    """The names that a pattern with braces stands for; raises VlalignError, which names the key, for more than anybody
    has.
    """
    most = math.prod(len(group[1].split(",")) for group in re.finditer(r"\{([^{}]*,[^{}]*)\}", pattern))
    most *= math.prod(abs(int(one[2]) - int(one[1])) + 1 for one in re.finditer(r"\{(-?\d+)\.\.(-?\d+)", pattern))
    if most > MOST_NAMES:
        raise VlalignError(f"{key}: the braces of {pattern[:200]} stand for more than {MOST_NAMES:,} names; correct it")
    try:
        yield from braceexpand(pattern, escape=escape)
    except ValueError:
        raise VlalignError(f"{key}: the braces of {pattern[:200]} do not pair up; correct it") from None


def is_image(name: str) -> bool:
    """Whether the suffix is one of those that are packed."""
    return os.path.splitext(name)[1].lower() in PACKED_SUFFIXES


def leaves(path: Path, folder: Path) -> bool:
    """Whether a path, with all links followed, leads out of a folder; the caches of DVC and of the hub, which keep a
    folder's files under links, count as parts of it.
    """
    # Path.resolve raises on a link that leads to itself.
    target, home = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    return not any(target.is_relative_to(place) for place in (home, *_caches(home)))


def _caches(folder: Path) -> Iterator[Path]:
    for parent in (folder, *folder.parents):
        yield parent / ".dvc" / "cache"
        if parent.name == "snapshots":
            yield parent.with_name("blobs")


def home_of(image: Listed) -> Path:
    """The folder that an image must not lie outside of: the one that its name counts from, or its own one where the
    user's own table names a place elsewhere.
    """
    if image.folder is not None:
        return image.folder
    parts = Path(image.name).parts
    inside = parts[0] not in ("..", "/") and image.path.parts[-len(parts) :] == parts
    return image.path.parents[len(parts) - 1] if inside else image.path.parent


def normal_path(name: str) -> str:
    """The same for every spelling of a path: `./a.jpg` is `a.jpg`; nothing stays nothing."""
    return os.path.normpath(name) if name else ""


def captions_of(cells: Iterable[str | None]) -> tuple[str, ...]:
    """Each on one line, those that hold nothing left out."""
    return tuple(line for cell in cells if cell is not None and (line := _one_line(cell)))


def _one_line(text: str) -> str:
    # Half a surrogate pair, which JSON can spell, has no bytes in UTF-8.
    text = text.replace("\0", " ").encode(errors="replace").decode()
    return " ".join(text.splitlines()).strip()


def existing_folder(path: str | Path, *, key: str) -> Path:
    """`path`; raises VlalignError when it is no folder."""
    if not Path(path).is_dir():
        raise VlalignError(f"{path} is not a folder; correct `{key}` of the source")
    return Path(path)


@contextlib.contextmanager
def reading(path: Path, *, key: str) -> Iterator[None]:
    """What goes wrong with a user's file in the block becomes a VlalignError that names file and key."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise VlalignError(f"{path} cannot be read ({reason}); correct `{key}` of the source or the file") from None
    except UnicodeDecodeError as error:
        raise VlalignError(f"{path} is not in UTF-8 ({error}); save it in UTF-8 and run again") from None
    except (ValueError, RecursionError, pa.ArrowException) as error:
        raise VlalignError(
            f"{path} is damaged or not what its name says ({error}); correct `{key}` of the source or the file"
        ) from None


def read_annotations(path: str, *fields: str) -> dict[str, Any]:
    """A JSON file of annotations; raises VlalignError when it cannot be read or one of the fields is no list there.

    All of it is held in memory: some six times the size of the file.
    """
    with reading(Path(path), key="annotations"):
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=without_doubles)
    for field in fields:
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise VlalignError(
                f"{path} has no list `{field}`, so it is not of the kind that `source` says; correct `annotations`"
            )
    return content
