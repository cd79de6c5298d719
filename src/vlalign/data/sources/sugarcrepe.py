"""SugarCrepe and what has its form."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vlalign.data.packing.annotation_files import read_own_json
from vlalign.data.packing.hard_negatives import HardNegative, PicturesSource, read_fields
from vlalign.data.packing.image_lists import normal_path
from vlalign.errors import VlalignError
from vlalign.params.base import PathText
from vlalign.params.sources import Names

SUGARCREPE = ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")


class SugarcrepeSource(PicturesSource):
    """SugarCrepe's seven JSON files with COCO's val2017, or hard negatives of your own in its form."""

    source: Literal["sugarcrepe"]
    annotations: PathText = Field(description="Folder of the JSON files")
    names: Names = Field(default=SUGARCREPE, description="Of the categories: those of the files, without .json")

    def inputs(self) -> tuple[str, ...]:
        """See Source."""
        return tuple(str(Path(self.annotations, f"{name}.json")) for name in self.names)

    def categories(self) -> Mapping[str, Mapping[str, HardNegative]]:
        """See HardNegativesSource."""
        return {name: _category(Path(path)) for name, path in zip(self.names, self.inputs(), strict=True)}


def _category(path: Path) -> dict[str, HardNegative]:
    rows = read_own_json(path, key="annotations")
    if not isinstance(rows, dict) or not rows:
        raise VlalignError(f"{path} holds no object with items; take the original file")
    return {name: _item(path, name, row) for name, row in rows.items()}


def _item(path: Path, name: str, row: Any) -> HardNegative:
    picture, caption, other = read_fields(path, name, row, "filename", "caption", "negative_caption")
    second = None
    if row.get("negative_filename") is not None:
        second = normal_path(read_fields(path, name, row, "negative_filename")[0])
    return HardNegative(normal_path(picture), caption, other, second)
