"""Tables of images and captions."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from vlalign.data.packing.image_lists import Listing, existing_folder
from vlalign.data.skipped import Skips
from vlalign.params.base import PathText
from vlalign.params.sources import Names, PackedSource


def _as_list(value: Any) -> Any:
    """A single name stands for a list of it."""
    return [value] if isinstance(value, str) else value


Columns = Annotated[Names, BeforeValidator(_as_list, json_schema_input_type=str | Names)]


class TableSource(PackedSource):
    """A CSV, TSV or Parquet table with a row for every caption or for every image."""

    path_keys: ClassVar = ("table", "images")
    file_keys: ClassVar = ("table",)

    source: Literal["table"]
    table: PathText = Field(description="Path of the table")
    images: PathText | None = Field(
        default=None, description="Folder that paths in the table start from; the table's own"
    )
    image_column: str = "image"
    caption_columns: Columns = Field(
        default=("caption",), description="One name or several; each column holds a caption, or a list of them"
    )
    caption_cells: Literal["text", "json"] = Field(
        default="text", description="What a cell of text is: one caption, or a JSON list of captions"
    )
    where: dict[str, str] = Field(default={}, description="Column: value of the rows that are taken")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, each once."""
        return tuple(dict.fromkeys((self.image_column, *self.caption_columns, *self.where)))

    def listing(self, skips: Skips) -> Listing:
        """See PackedSource; the images come in the order in which the table first names them."""
        from vlalign.data.packing.tables import list_table

        return list_table(self, skips)

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """See Source; of the table, its columns are looked for, and what else its first rows show."""
        from vlalign.data.packing.table_rows import read_rows

        looks: dict[str, Callable[[], object]] = {
            "table": lambda: next(read_rows(Path(self.table), self.columns), None)
        }
        if (images := self.images) is not None:
            looks["images"] = lambda: existing_folder(images, key="images")
        return looks
