"""What of a shard can be used: every sample is opened once, and what is wrong is counted by cause and named."""

import os
import re
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, UnidentifiedImageError

from vlalign.data.samples import IMAGE_SUFFIXES, SIDEWAYS, open_image, orientation, read_meta
from vlalign.data.shards.index import index_path, open_index, short_digest, write_index
from vlalign.data.shards.tar import Group, groups
from vlalign.data.skipped import Skips
from vlalign.errors import VlalignError
from vlalign.params import VerifyParams, digest
from vlalign.records import stamp

# Raised whenever equal shards would give another index, so that indices of an older version are made again.
VERSION = 3
# What no writing has: control characters but the tab, and what XML, and so a figure, cannot hold.
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\ufffe\uffff]")
# Modes whose numbers have no range that could be told black and white by.
WITHOUT_RANGE = ("I", "F")


class BadSampleError(Exception):
    """Why a sample or a caption is left out."""


def verify_shard(split: Path, shard: dict[str, Any], params: VerifyParams, *, needs: Collection[str]) -> None:
    """Write the index of one shard with its good samples and the report on all of them.

    Args:
        split: folder of the split.
        shard: `name`, and `path` if it lies elsewhere.
        needs: which of "image", "captions" and "label" a sample must have.

    Raises VlalignError when the tar file cannot be read to its end; a bad sample is counted.
    """
    path = split / shard.get("path", shard["name"])
    target = index_path(split, shard["name"])
    limits = digest([VERSION, params.model_dump(mode="json", exclude={"max_bad_share"}), sorted(needs)])
    made_from = {"limits": limits, "place": shard.get("path", shard["name"])}
    if _is_current(target, path, made_from, vouched=(split / "manifest.json").is_file()):
        return
    check = ShardCheck(params, needs)
    try:
        with open(path, "rb") as stream:
            for group in groups(path):
                check.add(group, stream)
        found = stamp(path)
        if shard.get("sha256", found["sha256"]) != found["sha256"]:
            raise VlalignError(f"{path} is not the file that was brought here, by its SHA-256; fetch or pack it again")
        write_index(target, check.rows, {**found, **check.report(), **made_from})
    except OSError as error:
        raise VlalignError(f"{path} cannot be verified ({error}); mend that, or make the shard again") from None


def _is_current(index: Path, path: Path, made_from: dict[str, str], *, vouched: bool) -> bool:
    """Whether this is the index of the file as it is now. The file is hashed, unless a manifest still vouches for both
    and the file was not touched since its index was made.

    A copy may keep the time of change of its content, but not that of its entry in the file system.
    """
    try:
        report = open_index(index)[1]
        same = made_from.items() <= report.items() and report["bytes"] == path.stat().st_size
        made, touched = index.stat().st_mtime_ns, path.stat().st_ctime_ns
        untouched = vouched and touched <= made <= time.time_ns()
        return same and (untouched or stamp(path)["sha256"] == report["sha256"])
    except (VlalignError, OSError):
        return False


class ShardCheck:
    """Rows of the index and counts of what was found, sample by sample."""

    def __init__(self, params: VerifyParams, needs: Collection[str]) -> None:
        self.params, self.needs = params, needs
        self.rows: list[dict[str, Any]] = []
        self.skipped, self.captions_skipped, self.noted = Skips(), Skips(), Skips()
        self.modes: Counter[str] = Counter()
        self._keys: set[str] = set()

    def report(self) -> dict[str, Any]:
        """What the manifest says of this shard beside its file's size and hash."""
        return {
            "samples": len(self.rows),
            "captions": sum(len(row["captions"]) for row in self.rows),
            "most_captions": max((len(row["captions"]) for row in self.rows), default=0),
            "skipped": self.skipped.as_dict(),
            "captions_skipped": self.captions_skipped.as_dict(),
            "noted": self.noted.as_dict(),
            "modes": dict(self.modes),
        }

    def add(self, group: Group, stream: Any) -> None:
        """Check a sample whose members are read from `stream`."""
        if not group.files:
            self.noted.add("file that belongs to no sample", _shown(group.key))
            return
        try:
            self.rows.append(self._row(group, stream))
        except BadSampleError as cause:
            self.skipped.add(str(cause), _shown(group.key))

    def _row(self, group: Group, stream: Any) -> dict[str, Any]:
        self._check_key(group.key)
        row = {"key": group.key, "start": group.start, "length": group.end - group.start, "offset": -1, "size": 0}
        stream.seek(group.start)
        row["check"] = short_digest(stream.read(row["length"]))
        row["captions"] = self._captions(group, stream)
        row["label"] = self._label(group, stream)
        if "image" in self.needs:
            row |= self._image(group, stream)
        # A sample is used without its JSON file if that is damaged.
        if "json" in group.files and read_meta(_read(group, "json", stream)) is None:
            self.noted.add("JSON that cannot be read", _shown(group.key))
        return row

    def _image(self, group: Group, stream: Any) -> dict[str, Any]:
        suffix = next((suffix for suffix in IMAGE_SUFFIXES if suffix in group.files), None)
        if suffix is None:
            raise BadSampleError("no image")
        (offset, size), content = group.files[suffix], _read(group, suffix, stream)
        height, width, mode = self._picture(content)
        self.modes[mode] += 1
        return {"offset": offset, "size": size, "digest": short_digest(content), "height": height, "width": width}

    def _check_key(self, key: str) -> None:
        path = PurePosixPath(key)
        if path.is_absolute() or ".." in path.parts or not key.isprintable():
            raise BadSampleError("unsafe name")
        if key in self._keys:
            raise BadSampleError("key that occurred before")
        self._keys.add(key)

    def _captions(self, group: Group, stream: Any) -> list[str]:
        if "txt" not in group.files:
            if "captions" in self.needs:
                raise BadSampleError("no captions")
            return []
        try:
            text = _read(group, "txt", stream).decode()
        except UnicodeDecodeError:
            raise BadSampleError("captions that are not UTF-8") from None
        lines = [line.strip() for line in text.removesuffix("\n").split("\n")]
        causes = [self._refuse(line) for line in lines]
        good = [line for line, cause in zip(lines, causes, strict=True) if cause is None]
        if not good and "captions" in self.needs:
            raise BadSampleError(next(cause for cause in causes if cause))
        for number, cause in enumerate(causes):
            if cause is not None:
                self.captions_skipped.add(cause, f"{_shown(group.key)}#{number}")
        return good

    def _refuse(self, caption: str) -> str | None:
        """Why a caption cannot be used."""
        if not caption:
            return "empty caption"
        if CONTROL.search(caption):
            return "caption with control characters"
        if len(caption) > self.params.max_characters:
            return "caption that is too long"
        return None if any(map(str.isalpha, caption)) else "caption without a letter"

    def _label(self, group: Group, stream: Any) -> int | None:
        if "cls" not in group.files:
            if "label" in self.needs:
                raise BadSampleError("no class")
            return None
        try:
            label = int(_read(group, "cls", stream))
        except ValueError:
            label = -1
        if 0 <= label < 2**31:
            return label
        if "label" in self.needs:
            raise BadSampleError("class that is no number from 0")
        self.noted.add("class that is no number from 0", _shown(group.key))
        return None

    def _picture(self, content: bytes) -> tuple[int, int, str]:
        """Its height, width and mode, after it was decoded as small as its format allows."""
        if not content:
            raise BadSampleError("image of zero bytes")
        try:
            with open_image(content) as image:
                width, height = image.size
                self._check_size(width, height)
                if image.mode in WITHOUT_RANGE:
                    raise BadSampleError("image of a mode without black and white")
                if orientation(image) in SIDEWAYS:
                    width, height = height, width
                mode = image.mode
                image.draft("RGB", (width // 8 + 1, height // 8 + 1))
                image.load()
        except Image.DecompressionBombError:
            raise BadSampleError("image of too many pixels") from None
        except UnidentifiedImageError:
            raise BadSampleError("image of no known format") from None
        except BadSampleError:
            raise
        except Exception:  # Pillow's readers raise whatever damaged bytes make them stumble over
            raise BadSampleError("image that cannot be decoded") from None
        return height, width, mode

    def _check_size(self, width: int, height: int) -> None:
        # Known from the header: nothing was decoded yet.
        if width * height > self.params.max_pixels:
            raise BadSampleError("image of too many pixels")
        if min(width, height) < self.params.min_side:
            raise BadSampleError("image that is too small")
        # Its shorter side becomes the tower's, its longer one as many times that.
        if max(width, height) > self.params.max_ratio * min(width, height):
            raise BadSampleError("image that is too long")


def _read(group: Group, suffix: str, stream: Any) -> bytes:
    offset, size = group.files[suffix]
    stream.seek(offset, os.SEEK_SET)
    return stream.read(size)


def _shown(key: str) -> str:
    """A name as it may stand in a manifest or on a terminal."""
    return key[:200] if key.isprintable() else ascii(key[:200])
