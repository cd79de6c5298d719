"""BiVLC."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from vlalign.data.packing.hard_negatives import HardNegative, HardNegativesSource, read_fields
from vlalign.data.packing.image_lists import Listed, Listing, damaged, reading
from vlalign.data.skipped import Skips
from vlalign.errors import VlalignError
from vlalign.params.base import PathText

# Columns of pictures, in the order of an item's captions.
PICTURES = ("image", "negative_image")
CAPTIONS = ("caption", "negative_caption")
KINDS = ("type", "subtype")
# Rows that are held at a time: a row has two pictures.
ROWS = 64


class BivlcSource(HardNegativesSource):
    """BiVLC (imirandam/BiVLC): Parquet files with two pictures and two captions in every row."""

    path_keys: ClassVar = ("tables",)

    source: Literal["bivlc"]
    tables: tuple[PathText, ...] = Field(min_length=1, description="Paths of the Parquet files, in order")
    by_kind: bool = Field(
        default=False, description="A category for each type and subtype, such as swap_obj, and not one of all"
    )

    def inputs(self) -> tuple[str, ...]:
        """See Source."""
        return self.tables

    def categories(self) -> Mapping[str, Mapping[str, HardNegative]]:
        """See HardNegativesSource."""
        found: dict[str, dict[str, HardNegative]] = {}
        for name, path, row in self._rows(*CAPTIONS, *KINDS):
            caption, other, *kind = read_fields(path, name, row, *CAPTIONS, *KINDS)
            first, second = (_picture(name, column) for column in PICTURES)
            items = found.setdefault("_".join(kind) if self.by_kind else self.name, {})
            items[name] = HardNegative(first, caption, other, second)
        return found

    def listing(self, skips: Skips) -> Listing:
        """See PackedSource: both pictures of every row. Raises VlalignError for a row that lacks one."""
        return Listing(sum(2 for _ in self._rows(*KINDS)), self._images())

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """See Source."""
        return {"tables": lambda: [Path(table).stat() for table in self.tables]}

    def _images(self) -> Iterator[Listed]:
        for name, path, row in self._rows(*PICTURES):
            for column in PICTURES:
                content = row[column].get("bytes") if isinstance(row[column], dict) else None
                if not isinstance(content, bytes):
                    raise VlalignError(f"{path}: row {name} has no bytes under {column!r}; take the original file")
                yield Listed(_picture(name, column), path, folder=path.parent, content=partial(bytes, content))

    def _rows(self, *columns: str) -> Iterator[tuple[str, Path, dict[str, Any]]]:
        """The name, the file and these columns of every row; names are running numbers over all files."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        number = 0
        for path in map(Path, self.tables):
            try:
                with reading(path, key="tables"), pq.ParquetFile(path) as table:
                    if lost := [column for column in columns if column not in table.schema_arrow.names]:
                        raise VlalignError(f"{path} has no column {lost[0]!r}; take the original file")
                    for batch in table.iter_batches(ROWS, columns=list(columns)):
                        for row in batch.to_pylist():
                            yield f"{number:06d}", path, row
                            number += 1
            except pa.ArrowException as error:
                raise damaged(path, error, key="tables") from None


def _picture(name: str, column: str) -> str:
    """How a picture is called; published are JPEG files."""
    return f"{name}-{column}.jpg"
