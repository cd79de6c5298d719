"""The index of a shard: where each of its good samples lies, with captions and label, in a file of its own.

An index is an Arrow file that is mapped into memory and of which only the rows that are read take room, so that any
sample of any number of shards is one read away.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from vlalign.data.arrow import read_batch, write_batch
from vlalign.data.samples import IMAGE_SUFFIXES, Sample, read_meta
from vlalign.data.shards.tar import BLOCK
from vlalign.errors import VlalignError
from vlalign.records import Stamp

SCHEMA = pa.schema(
    {
        "key": pa.string(),
        # The whole sample, all of its members with their headers.
        "start": pa.int64(),
        "length": pa.int64(),
        # The image's content; -1 where a sample has none.
        "offset": pa.int64(),
        "size": pa.int64(),
        "height": pa.int32(),
        "width": pa.int32(),
        # Eight bytes of the hash of the image's content, and of the whole sample.
        "digest": pa.int64(),
        "check": pa.int64(),
        "captions": pa.list_(pa.string()),
        "label": pa.int32(),
    }
)
REPORT = b"vlalign.report"
# Of a tar's headers (POSIX ustar).
NAME, SIZE, TYPE, PREFIX = slice(0, 100), slice(124, 136), 156, 345


def index_path(split: Path, shard: str) -> Path:
    """Where the index of a shard lies."""
    return split / "index" / Path(shard).with_suffix(".arrow").name


def write_index(path: Path, rows: Sequence[dict[str, Any]], report: dict[str, Any]) -> None:
    """Write rows with the fields of SCHEMA, and in the file's metadata what is to be said about the shard."""
    schema = SCHEMA.with_metadata({REPORT: json.dumps(report)})
    write_batch(path, pa.RecordBatch.from_pylist(list(rows), schema=schema))


def short_digest(content: bytes) -> int:
    """Eight bytes of the hash of some content, by which damage is noticed."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)


def open_index(path: Path, expected: Stamp | None = None) -> tuple[pa.RecordBatch, dict[str, Any]]:
    """Rows, mapped into memory, and the report; raises VlalignError for a file that is damaged or not the expected."""
    manifest = path.parent.parent / "manifest.json"
    rows = read_batch(path, manifest=manifest, expected=expected)
    if REPORT not in (rows.schema.metadata or {}):
        raise VlalignError(f"{path} cannot be read (no index of a shard); delete {manifest} and run the workflow again")
    return rows, json.loads(rows.schema.metadata[REPORT])


def shard_path(split: Path, shard: dict[str, Any]) -> Path:
    """Where a shard lies; raises VlalignError when it is missing there, or has another size than the manifest says."""
    path = split / shard.get("path", shard["name"])
    try:
        found = path.stat().st_size
    except OSError as error:
        raise VlalignError(
            f"{path} is named in {split}/manifest.json but missing ({error.strerror}); delete that manifest and run "
            "the workflow again"
        ) from None
    if found != shard["bytes"]:
        raise VlalignError(
            f"{path} has {found} bytes, its manifest says {shard['bytes']}; delete {split}/manifest.json and run the "
            "workflow again"
        )
    return path


class ShardFile:
    """The good samples of one shard by their row.

    Raises VlalignError when the shard or its index is missing, the shard has another size or the index another content
    than the manifest says, and later for every sample that is not as it was verified.
    """

    def __init__(self, split: Path, shard: dict[str, Any]) -> None:
        self.path = shard_path(split, shard)
        self.rows, _ = open_index(index_path(split, shard["name"]), shard["index"])
        self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115  # for as long as this object lives

    def __len__(self) -> int:
        return self.rows.num_rows

    def field(self, name: str, row: int) -> Any:
        """One field of a row, as a Python value."""
        return self.rows.column(name)[row].as_py()

    def image(self, row: int) -> bytes:
        """The image's bytes; none where the sample has no image."""
        offset = self.field("offset", row)
        return b"" if offset < 0 else self._read(row, offset, self.field("size", row), "digest")

    def sample(self, row: int) -> Sample:
        """All of a sample."""
        files = _members(self._read(row, self.field("start", row), self.field("length", row), "check"))
        suffix = next((suffix for suffix in IMAGE_SUFFIXES if suffix in files), "png")
        return Sample(
            key=self.field("key", row),
            image=files.get(suffix, b""),
            captions=tuple(self.field("captions", row)),
            label=self.field("label", row),
            meta=read_meta(files.get("json", b"")) or {},
            instances=files.get("instances.png"),
            suffix=suffix,
        )

    def _read(self, row: int, offset: int, size: int, digest: str) -> bytes:
        # Several threads and forked processes share the file: none of them moves its position.
        content = os.pread(self._file.fileno(), size, offset)
        if short_digest(content) != self.field(digest, row):
            raise VlalignError(
                f"{self.path}: sample '{self.field('key', row)}' is not as it was verified: the shard was changed or "
                "damaged; `vlalign check` finds what else is, and says what mends it"
            )
        return content


def _members(content: bytes) -> dict[str, bytes]:
    """The files of a sample by suffix. Plain headers are read here: tarfile takes half of the time of an evaluation."""
    found: dict[str, bytes] = {}
    start = 0
    while start < len(content) and content[start]:
        header = content[start : start + BLOCK]
        # Long names, links, sizes that are no octal number: whatever else a tar may have.
        if header[TYPE] not in b"0\0" or header[PREFIX] or header[SIZE.start] & 0x80:
            return _all_members(content)
        size = int(header[SIZE].rstrip(b"\0 ") or b"0", 8)
        name = header[NAME].partition(b"\0")[0].decode(errors="surrogateescape")
        body = content[start + BLOCK : start + BLOCK + size]
        found.setdefault(name.rpartition("/")[2].partition(".")[2].lower(), body)
        start += BLOCK + -(-size // BLOCK) * BLOCK
    return found


def _all_members(content: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        for member in tar:
            stream = tar.extractfile(member)
            if stream is not None:
                found.setdefault(Path(member.name).name.partition(".")[2].lower(), stream.read())
    return found


def captions_of(split: Path, shard: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Key and captions of the good samples of one shard, which itself is not opened."""
    rows, _ = open_index(index_path(split, shard["name"]), shard["index"])
    return zip(rows.column("key").to_pylist(), rows.column("captions").to_pylist(), strict=True)


def samples_of(split: Path, shard: dict[str, Any]) -> Iterator[Sample]:
    """All good samples of one shard."""
    file = ShardFile(split, shard)
    yield from map(file.sample, range(len(file)))
