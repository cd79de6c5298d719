"""What every list of a user's own images shares: names, captions, and files that may not be as they should."""

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from braceexpand import braceexpand

from vlalign.errors import VlalignError

# More shards, or files of shards, than any data set has.
MOST_NAMES = 1_000_000
PACKED_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Listed(NamedTuple):
    """One image as a source names it: its path there, where that lies on this disk, its captions or its class.

    content: what makes its bytes, where they are a part of the file or made of it.
    """

    name: str
    path: Path
    captions: tuple[str, ...] = ()
    label: int | None = None
    # What the file must not lie outside of, where the names come from somebody else.
    folder: Path | None = None
    content: Callable[[], bytes] | None = None


class Listing(NamedTuple):
    """How many images there are, and the images, each once and in an order that does not depend on the disk."""

    total: int
    images: Iterable[Listed]


def expand_braces(pattern: str, *, key: str, escape: bool = True) -> Iterator[str]:
    """The names that a pattern with braces stands for; raises VlalignError, with the key, for more than anybody has."""
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
    """Whether a path, with all links followed, leads out of a folder."""
    # Path.resolve raises on a link that leads to itself.
    target, home = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    # The caches of DVC and of the hub keep a folder's files under links, so they count as parts of it.
    caches = [parent / ".dvc" / "cache" for parent in (home, *home.parents)]
    caches += [parent.with_name("blobs") for parent in (home, *home.parents) if parent.name == "snapshots"]
    return not any(target.is_relative_to(place) for place in (home, *caches))


def home_of(image: Listed) -> Path:
    """The folder that an image must not leave: the one its name counts from, or its own if a table says so."""
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
    # Half a surrogate pair, which JSON can spell, has no bytes in UTF-8.
    texts = (cell.replace("\0", " ").encode(errors="replace").decode() for cell in cells if cell is not None)
    return tuple(line for text in texts if (line := " ".join(text.splitlines()).strip()))


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
    except (ValueError, RecursionError) as error:
        raise damaged(path, error, key=key) from None


def damaged(path: Path, error: Exception, *, key: str) -> VlalignError:
    """What to tell of a file that is not of its kind."""
    return VlalignError(
        f"{path} is damaged or not what its name says ({error}); correct `{key}` of the source or the file"
    )


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Key of an order of paths in which 2 comes before 10; leading zeros decide where numbers are equal."""
    parts = re.findall(r"\d+|\D+", str(path))
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]


def check_texts(paths: Iterable[Path]) -> None:
    """Raises VlalignError for a name that is no text: records, which are, could not hold it."""
    for path in paths:
        if not str(path).isprintable():
            raise VlalignError(f"the name {str(path)!a} is no text in UTF-8, or has control characters; rename it")


def check_distinct(paths: Iterable[Path]) -> None:
    """Raises VlalignError for two shards of one name, which their annotations and indices bear."""
    first: dict[str, Path] = {}
    for path in paths:
        if path.name in first:
            raise VlalignError(
                f"{first[path.name]} and {path} have the same name; rename one, or correct `shards` of the source"
            )
        first[path.name] = path
