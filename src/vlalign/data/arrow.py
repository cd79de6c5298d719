"""Uncompressed Arrow files of one batch of rows, mapped into memory: only the rows that are read take room.

Every file holds the SHA-256 of its own bytes, so that one that was damaged is neither read nor kept when a step that
was stopped goes on.
"""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from vlalign.errors import VlalignError
from vlalign.files import atomic_write
from vlalign.records import Stamp, check_file

# Where a file says what it was made from, so that it can tell whether it is current.
INPUTS = b"vlalign.inputs"
# Where it says what its bytes are: their SHA-256 with zeros in the place of this value.
DIGEST = b"vlalign.sha256"
ZEROS = b"0" * 64


def write_batch(path: Path, batch: pa.RecordBatch) -> None:
    """Write rows; what is to be said about the file stands in the metadata of their schema."""
    digest = hashlib.sha256(_content(batch, ZEROS)).hexdigest().encode()
    with atomic_write(path) as temporary:
        temporary.write_bytes(_content(batch, digest))


def _content(batch: pa.RecordBatch, digest: bytes) -> pa.Buffer:
    """The bytes of the file; those with another digest of equal length differ in nothing else."""
    schema = batch.schema.with_metadata({**(batch.schema.metadata or {}), DIGEST: digest})
    stream = pa.BufferOutputStream()
    with pa.ipc.new_file(stream, schema) as writer:
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))
    return stream.getvalue()


def read_batch(path: Path, *, manifest: Path, expected: Stamp | None = None) -> pa.RecordBatch:
    """The rows of a file, which stays closed; raises VlalignError when it cannot be read, or was changed or damaged.

    manifest: what vouches for the file, and is to be deleted so that it is made again. expected: the file's size and
    SHA-256 there; left out, the file's own word is taken for what it held.
    """
    remedy = f"delete {manifest} and run the workflow again"
    if expected is not None:
        check_file(path, expected, record=manifest, remedy=remedy)
    elif path.exists() and not is_whole(path):
        raise VlalignError(f"{path} cannot be read (it is damaged, or not of this program); {remedy}")
    try:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).get_batch(0)
    except (OSError, pa.ArrowInvalid) as error:
        raise VlalignError(f"{path} cannot be read ({error}); {remedy}") from None


def is_whole(path: Path) -> bool:
    """Whether a file holds the very bytes that were written."""
    return DIGEST in read_metadata(path)


def read_metadata(path: Path) -> dict[bytes, bytes]:
    """What a file's schema says about it; empty for a file that is missing, damaged or another's."""
    try:
        content = path.read_bytes()
        metadata = pa.ipc.open_file(pa.BufferReader(content)).schema.metadata or {}
    except (OSError, pa.ArrowException, ValueError):
        return {}
    digest = metadata.get(DIGEST, b"")
    found = hashlib.sha256(content.replace(digest, ZEROS)) if len(digest) == len(ZEROS) else None
    return metadata if found is not None and found.hexdigest().encode() == digest else {}


def row_of(keys: pa.StringArray, key: str, *, likely: int) -> int | None:
    """The row of a key, which is likely to be this one; None where there is none."""
    if likely < len(keys) and keys[likely].as_py() == key:
        return likely
    row = pc.index(keys, key).as_py()
    return None if row < 0 else row
