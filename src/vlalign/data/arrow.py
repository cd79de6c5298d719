"""Uncompressed Arrow files of one batch of rows, mapped into memory: only the rows that are read take room."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from vlalign.errors import VlalignError
from vlalign.files import atomic_write

# Where a file says what it was made from, so that it can tell whether it is current.
INPUTS = b"vlalign.inputs"


def write_batch(path: Path, batch: pa.RecordBatch) -> None:
    """Write rows; what is to be said about the file stands in the metadata of their schema."""
    with atomic_write(path) as temporary, pa.ipc.new_file(str(temporary), batch.schema) as writer:
        writer.write_batch(batch)


def read_batch(path: Path, *, manifest: Path) -> pa.RecordBatch:
    """The rows of a file, which stays closed; raises VlalignError when it cannot be read.

    manifest: what vouches for the file, and is to be deleted so that it is made again.
    """
    try:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).get_batch(0)
    except (OSError, pa.ArrowInvalid) as error:
        raise VlalignError(f"{path} cannot be read ({error}); delete {manifest} and run the workflow again") from None


def read_metadata(path: Path) -> dict[bytes, bytes]:
    """What a file's schema says about it; empty for a file that is missing, broken or another's."""
    try:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).schema.metadata or {}
    except (OSError, pa.ArrowInvalid):
        return {}


def row_of(keys: pa.StringArray, key: str, *, likely: int) -> int | None:
    """The row of a key, which is likely to be this one; None where there is none."""
    if likely < len(keys) and keys[likely].as_py() == key:
        return likely
    row = pc.index(keys, key).as_py()
    return None if row < 0 else row
