"""The images of a user's own files that can be packed: one entry each, in an order that does not depend on the disk."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from vlalign.data.packing.image_lists import Listed, home_of, is_image, leaves
from vlalign.data.skipped import Skips
from vlalign.errors import VlalignError
from vlalign.params.sources import PackedSource


@dataclass(frozen=True)
class Entry:
    """One image file with its captions, or with its class label.

    name: its path as the source has it, in normal form. changed: size in bytes and time of change in nanoseconds.
    content: what makes the image's bytes, where the file holds others.
    """

    name: str
    path: Path
    captions: tuple[str, ...]
    label: int | None
    changed: tuple[int, int]
    content: Callable[[], bytes] | None = None

    def read(self) -> bytes:
        """The image's bytes; raises OSError when the file cannot be read."""
        return self.content() if self.content else self.path.read_bytes()


def entries(
    source: PackedSource, skips: Skips, *, noted: Skips | None = None, progress: Progress | None = None
) -> Iterator[Entry]:
    """Yield the images of a source's part, each once.

    Counted as skipped: files that are missing, unreadable, no files, of an unsupported suffix, or links that lead out
    of the folder, and images that have neither caption nor label. noted: counts what belongs to no image, and so to no
    part; `skips` if left out.
    progress: a bar that counts all images of the source.
    Raises VlalignError for a source that is not as it should be, and at the end when there was no image.
    """
    total, images = source.listing(skips if noted is None else noted)
    if progress is not None:
        images = progress.track(images, total=total, description="packing")
    found = False
    for image in images:
        if source.part[0] <= place(image.name) < source.part[1] and (entry := _entry(image, skips, bare=source.bare)):
            found = True
            yield entry
    if not found:
        raise nothing_left(source, skips)


def nothing_left(source: PackedSource, skips: Skips) -> VlalignError:
    """Why there is nothing to pack."""
    asked = source.model_dump(mode="json", exclude_defaults=True)
    return VlalignError(
        f"no image is left of the source {asked}; skipped: {skips if skips.total else 'nothing'}. Correct its paths "
        "or its `part`"
    )


def place(name: str) -> float:
    """Where in [0, 1) an image lies: the first 8 bytes of the SHA-256 of its path over 2^64, to 53 bits."""
    # Rounded down: rounding up could reach 1, which lies in no part.
    return (int.from_bytes(hashlib.sha256(name.encode(errors="surrogatepass")).digest()[:8], "big") >> 11) / 2**53


def _entry(image: Listed, skips: Skips, *, bare: bool) -> Entry | None:
    """The entry of an image, or None after the cause was counted; bare: whether it needs no caption and no class."""
    if not is_image(image.name):
        found: os.stat_result | str = "unsupported suffix"
    elif not image.captions and image.label is None and not bare:
        found = "no caption"
    else:
        found = _status(image.path)
        if not isinstance(found, str) and leaves(image.path, home_of(image)):
            found = "link that leads out of the folder"
    if isinstance(found, str):
        skips.add(found, image.name)
        return None
    return Entry(image.name, image.path, image.captions, image.label, (found.st_size, found.st_mtime_ns), image.content)


def _status(path: Path) -> os.stat_result | str:
    """What is known of a file without opening it, or why it cannot be read."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "missing file"
    except OSError:
        return "unreadable file"
    except ValueError:  # a NUL byte, or half a surrogate pair
        return "impossible path"
    if not stat.S_ISREG(status.st_mode):
        return "not a file"
    return status if os.access(path, os.R_OK) else "unreadable file"
