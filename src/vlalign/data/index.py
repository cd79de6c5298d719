"""The index of a shard: where each of its good samples lies, with captions and label, in a file of its own.

An index is an Arrow file that is mapped into memory and of which only the rows that are read take room, so that any
sample of any number of shards is one read away.
"""

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
from vlalign.errors import VlalignError

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
        # Eight bytes of the hash of the image's content.
        "digest": pa.int64(),
        "captions": pa.list_(pa.string()),
        "label": pa.int32(),
    }
)
REPORT = b"vlalign.report"


def index_path(split: Path, shard: str) -> Path:
    """Where the index of a shard lies."""
    return split / "index" / Path(shard).with_suffix(".arrow").name


def write_index(path: Path, rows: Sequence[dict[str, Any]], report: dict[str, Any]) -> None:
    """Write rows with the fields of SCHEMA, and in the file's metadata what is to be said about the shard."""
    schema = SCHEMA.with_metadata({REPORT: json.dumps(report)})
    write_batch(path, pa.RecordBatch.from_pylist(list(rows), schema=schema))


def open_index(path: Path) -> tuple[pa.RecordBatch, dict[str, Any]]:
    """Rows, mapped into memory, and the report; raises VlalignError naming the file when it cannot be read."""
    manifest = path.parent.parent / "manifest.json"
    rows = read_batch(path, manifest=manifest)
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

    Raises VlalignError when the shard or its index is missing, or the shard has another size than the manifest says.
    """

    def __init__(self, split: Path, shard: dict[str, Any]) -> None:
        self.path = shard_path(split, shard)
        self.rows, _ = open_index(index_path(split, shard["name"]))
        self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115  # for as long as this object lives

    def __len__(self) -> int:
        return self.rows.num_rows

    def field(self, name: str, row: int) -> Any:
        """One field of a row, as a Python value."""
        return self.rows.column(name)[row].as_py()

    def image(self, row: int) -> bytes:
        """The image's bytes; none where the sample has no image."""
        offset = self.field("offset", row)
        return b"" if offset < 0 else self._read(offset, self.field("size", row))

    def sample(self, row: int) -> Sample:
        """All of a sample."""
        files = self._members(self.field("start", row), self.field("length", row))
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

    def _members(self, start: int, length: int) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        with tarfile.open(fileobj=io.BytesIO(self._read(start, length)), mode="r:") as tar:
            for member in tar:
                stream = tar.extractfile(member)
                if stream is not None:
                    found.setdefault(Path(member.name).name.partition(".")[2].lower(), stream.read())
        return found

    def _read(self, offset: int, size: int) -> bytes:
        # Several threads and forked processes share the file: none of them moves its position.
        content = os.pread(self._file.fileno(), size, offset)
        if len(content) < size:
            raise VlalignError(f"{self.path} ends before the sample at byte {offset}; it was changed while it was read")
        return content


def captions_of(split: Path, shard: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Key and captions of the good samples of one shard, which itself is not opened."""
    rows, _ = open_index(index_path(split, shard["name"]))
    return zip(rows.column("key").to_pylist(), rows.column("captions").to_pylist(), strict=True)


def samples_of(split: Path, shard: dict[str, Any]) -> Iterator[Sample]:
    """All good samples of one shard."""
    file = ShardFile(split, shard)
    yield from map(file.sample, range(len(file)))
