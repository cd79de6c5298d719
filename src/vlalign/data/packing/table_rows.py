"""Rows of a user's table: CSV, TSV, JSON lines and Parquet are read alike, a batch at a time."""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlalign.data.packing.image_lists import damaged, reading
from vlalign.data.shards.tar import batched
from vlalign.errors import VlalignError

ROWS = 65_536
BLOCK_BYTES = 2**24


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Batches of these columns. What CSV and TSV hold is text, whatever it looks like; a BOM is no part of it.

    Raises VlalignError for a missing or damaged table, a missing column, a row with too many or too few cells, a quote
    that is not closed, and text that is not in UTF-8.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise VlalignError(f"{path} is not of a kind that can be read as a table; give one of {', '.join(READERS)}")
    if path.exists() and not path.is_file():
        raise VlalignError(f"{path} is no file; correct `table` of the source")
    try:
        with reading(path, key="table"):
            for batch in reader(path, columns):
                # Neither pyarrow's JSON reader nor its Parquet reader looks whether text is UTF-8.
                batch.validate(full=True)
                yield batch
    except pa.ArrowException as error:
        raise damaged(path, error, key="table") from None


def _delimited(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    # pyarrow's reader takes a quote that is never closed for a cell that holds the rest of the file.
    dialect = csv.excel_tab if path.suffix.lower() == ".tsv" else csv.excel
    with open(path, encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(stream, dialect, strict=True)
        try:
            header = next(rows, [])
            _check_columns(path, columns, header)
            places = [header.index(column) for column in columns]
            for batch in batched(_full_rows(path, rows, len(header)), ROWS):
                cells = ([row[place] for row in batch] for place in places)
                yield pa.record_batch([pa.array(values, pa.large_string()) for values in cells], names=list(columns))
        except csv.Error as error:
            raise VlalignError(f"{path}, at or before line {rows.line_num}: {_reason(error)}") from None


def _reason(error: csv.Error) -> str:
    """What is wrong with a row; quoting is the cause of all but one of the csv module's errors."""
    if "field limit" in str(error):
        return (
            f"a cell of more than {csv.field_size_limit():,} characters, which is the limit; no caption is so long: "
            "shorten it, or close the quote that makes the following lines a part of it"
        )
    return (
        f"{error}; a cell that holds a quote, a line break or the delimiter must stand in quotes, and the quotes "
        'within it must be doubled ("")'
    )


def _full_rows(path: Path, rows: Any, width: int) -> Iterator[list[str]]:
    for row in rows:
        if len(row) == width:
            yield row
        elif row:
            raise VlalignError(
                f"{path}, line {rows.line_num}: {len(row)} cells, but {width} columns; a cell that holds the delimiter "
                "must stand in quotes"
            )


def _json_lines(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow.json as pj

    blocks = pj.ReadOptions(block_size=BLOCK_BYTES)
    with pj.open_json(path, blocks) as first:
        schema = first.schema
    _check_columns(path, columns, schema.names)
    types = {column: schema.field(column).type for column in columns}
    # The first values of a column may all be empty, or text that reads as a date.
    texts = {column for column, kind in types.items() if pa.types.is_null(kind) or pa.types.is_temporal(kind)}
    wanted = pa.schema(types | dict.fromkeys(texts, pa.string()))
    options = pj.ParseOptions(explicit_schema=wanted, unexpected_field_behavior="ignore")
    with pj.open_json(path, blocks, options) as batches:
        yield from batches


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as table:
        _check_columns(path, columns, table.schema_arrow.names)
        yield from table.iter_batches(ROWS, columns=list(columns))


def _check_columns(path: Path, columns: Sequence[str], existing: Sequence[str]) -> None:
    for column in columns:
        if existing.count(column) != 1:
            count = "no column" if column not in existing else "more than one column"
            raise VlalignError(
                f"{path} has {count} {column!r}; correct `image_column`, `caption_columns` or `where` of the source. "
                f"Its columns: {', '.join(map(repr, existing)) or 'none'}"
            )


READERS: dict[str, Callable[[Path, Sequence[str]], Iterator[pa.RecordBatch]]] = {
    ".csv": _delimited,
    ".tsv": _delimited,
    ".jsonl": _json_lines,
    ".jsonlines": _json_lines,
    ".parquet": _parquet,
}
