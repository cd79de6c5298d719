"""A user's table of images and captions: rows of the same image are joined."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlalign.data.packing.image_lists import Listed, Listing, captions_of, existing_folder, normal_path
from vlalign.data.packing.table_rows import ROWS, read_rows
from vlalign.data.skipped import Skips
from vlalign.errors import VlalignError

if TYPE_CHECKING:
    from vlalign.data.sources.table import TableSource

IMAGE = "image"
CAPTIONS = pa.large_list(pa.large_string())


def list_table(source: "TableSource", skips: Skips) -> Listing:
    """The images of a table in the order in which they first occur, each with the captions of all its rows.

    Held in memory: paths and captions of all rows that are taken, as Arrow holds them, which is some three times a CSV
    file's size while rows are put together; as Python objects, 65,536 rows at a time.
    """
    path = Path(source.table)
    folder = existing_folder(source.images, key="images") if source.images else path.parent
    rows = _read(path, source, skips)
    names = rows[IMAGE].combine_chunks().dictionary_encode()
    # The normal form of a path has no double slash.
    if pc.any(pc.match_substring_regex(names.dictionary, r"^\w+:/")).as_py():
        raise VlalignError(
            f"{path} holds addresses in column {source.image_column!r}; fetch the images with img2dataset and give its "
            "folder as `source: img2dataset`"
        )
    captions = rows.drop_columns(IMAGE).combine_chunks()
    images = (
        Listed(name, folder / name, captions_of(cells))
        for name, cells in _joined(names.dictionary, names.indices.to_numpy(), captions)
    )
    return Listing(len(names.dictionary), images)


def _joined(names: pa.Array, codes: np.ndarray, captions: pa.Table) -> Iterator[tuple[str, Iterator[str | None]]]:
    """Each name with the caption cells of its rows; codes: index of each row's name."""
    order = np.argsort(codes, kind="stable")
    parts = (order[start : start + ROWS] for start in range(0, len(order), ROWS))
    rows = itertools.chain.from_iterable(_python_rows(names, codes, captions, part) for part in parts)
    for name, group in itertools.groupby(rows, key=lambda row: row[0]):
        yield name, (caption for _, *cells in group for cell in cells for caption in _as_list(cell))


def _python_rows(names: pa.Array, codes: np.ndarray, captions: pa.Table, part: np.ndarray) -> Iterator[tuple[Any, ...]]:
    columns = [column.to_pylist() for column in captions.take(part).columns]
    return zip(names.take(codes[part]).to_pylist(), *columns, strict=True)


def _as_list(cell: str | list[str | None] | None) -> list[str | None]:
    return cell if isinstance(cell, list) else [cell]


def _read(path: Path, source: "TableSource", skips: Skips) -> pa.Table:
    """The rows that `where` takes and that name an image: column "image", and the captions as text or as lists."""
    batches, before = [], 0
    for batch in read_rows(path, source.columns):
        numbers = np.arange(before + 1, before + 1 + len(batch))
        before += len(batch)
        cells = _text(path, batch, source.image_column).to_pylist()
        names = pa.array([normal_path(cell or "") for cell in cells], pa.large_string())
        taken, named = pa.repeat(True, len(batch)), pc.not_equal(names, "")
        for column, value in source.where.items():
            taken = pc.and_(taken, pc.fill_null(pc.equal(_text(path, batch, column), value), False))
        for number in numbers[pc.and_not(taken, named).to_numpy(zero_copy_only=False)]:
            skips.add("row without an image", f"row {number}")
        chosen = pc.and_(taken, named)
        captions = [_captions(path, batch, column, source, numbers) for column in source.caption_columns]
        fields = [IMAGE, *(f"captions {index}" for index in range(len(captions)))]
        batches.append(pa.record_batch([names, *captions], names=fields).filter(chosen))
    if not any(map(len, batches)):
        raise VlalignError(_why_no_rows(path, source))
    return pa.Table.from_batches(batches)


def _text(path: Path, batch: pa.RecordBatch, column: str) -> pa.Array:
    try:
        return batch[column].cast(pa.large_string())
    except pa.ArrowException:
        raise _not_text(path, column, batch[column].type) from None


def _captions(path: Path, batch: pa.RecordBatch, column: str, source: "TableSource", numbers: np.ndarray) -> pa.Array:
    kind = batch[column].type
    # Numbers could be cast to text, but are no captions.
    inner, texts = getattr(kind, "value_type", kind), ("string", "large_string", "string_view", "null")
    if not any(getattr(pa.types, f"is_{name}")(inner) for name in texts):
        raise _not_text(path, column, kind)
    if pa.types.is_nested(kind):
        return batch[column].cast(CAPTIONS)
    cells = _text(path, batch, column)
    if source.caption_cells == "text":
        return cells
    lists = (_json_list(path, column, cell, number) for cell, number in zip(cells.to_pylist(), numbers, strict=True))
    return pa.array(lists, CAPTIONS)


def _not_text(path: Path, column: str, kind: pa.DataType) -> VlalignError:
    return VlalignError(
        f"column {column!r} of {path} holds {kind}, not text; name another column in the source, or write text there"
    )


def _json_list(path: Path, column: str, cell: str | None, row: int) -> tuple[str, ...]:
    try:
        value = json.loads(cell) if cell else []
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise VlalignError(
            f"{path}, row {row}: column {column!r} holds no JSON list of captions ({(cell or '')[:200]!r}); correct "
            "it, or set `caption_cells: text`"
        )
    return captions_of(value)


def _why_no_rows(path: Path, source: "TableSource") -> str:
    if not source.where:
        return f"{path} has no row that names an image; fill it, or correct `table` and `image_column` of the source"
    batch = next(read_rows(path, tuple(source.where)), None)
    if batch is None:
        return f"{path} has no rows; fill it, or correct `table` of the source"
    found = (
        f"{column!r} begins with {', '.join(map(repr, pc.unique(batch[column])[:5].to_pylist()))}"
        for column in source.where
    )
    return f"{path} has no row with {source.where} and an image; correct `where` of the source: {'; '.join(found)}"
