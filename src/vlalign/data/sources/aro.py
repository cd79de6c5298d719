"""Visual Genome Relation and Attribution of ARO."""

import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from vlalign.data.packing.annotation_files import read_own_json
from vlalign.data.packing.hard_negatives import HardNegative, HardNegativesSource, read_fields
from vlalign.data.packing.image_lists import Listed, existing_folder
from vlalign.errors import VlalignError
from vlalign.params.base import PathText

# Category: file, as ARO's authors publish them.
FILES = {"relation": "visual_genome_relation.json", "attribution": "visual_genome_attribution.json"}
BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
SUFFIX = ".webp"


class AroSource(HardNegativesSource):
    """ARO's visual_genome_relation.json and visual_genome_attribution.json, with its pictures cut to their boxes."""

    path_keys: ClassVar = ("folder",)

    source: Literal["aro"]
    folder: PathText = Field(description="Holds the two JSON files, and the folder `images`")

    def inputs(self) -> tuple[str, ...]:
        """See Source."""
        return tuple(str(Path(self.folder, file)) for file in FILES.values())

    def categories(self) -> Mapping[str, Mapping[str, HardNegative]]:
        """See HardNegativesSource; a picture's name holds its box, so that every cutting is an image of its own."""
        return {category: _category(Path(self.folder, file)) for category, file in FILES.items()}

    def picture(self, name: str) -> Listed:
        """See HardNegativesSource."""
        picture, _, box = name.removesuffix(SUFFIX).rpartition("@")
        folder = Path(self.folder, "images")
        x, y, width, height = map(int, box.split(","))
        return Listed(
            name, folder / picture, folder=folder, content=partial(cut, folder / picture, x, y, width, height)
        )

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """See Source."""
        return {"folder": lambda: [Path(file).stat() for file in self.inputs()] + [self._images()]}

    def _images(self) -> Path:
        return existing_folder(Path(self.folder, "images"), key="folder")


def _category(path: Path) -> dict[str, HardNegative]:
    rows = read_own_json(path, key="folder")
    if not isinstance(rows, list) or not rows:
        raise VlalignError(f"{path} holds no list of items; take the original file")
    return {str(number): _item(path, str(number), row) for number, row in enumerate(rows)}


def _item(path: Path, name: str, row: Any) -> HardNegative:
    picture, caption, other = read_fields(path, name, row, "image_path", "true_caption", "false_caption")
    box = [row.get(key) for key in BOX]
    if not all(isinstance(number, int) for number in box) or min(box[2:]) < 1:
        raise VlalignError(
            f"{path}: item {name} has no box of whole numbers in {', '.join(BOX)}; take the original file"
        )
    return HardNegative(f"{picture}@{','.join(map(str, box))}{SUFFIX}", caption, other)


def cut(path: Path, x: int, y: int, width: int, height: int) -> bytes:
    """The part of a picture within a box, without loss, in WebP; raises VlalignError when it cannot be decoded.

    As ARO's loader does it: a camera's orientation turns nothing, and what lies outside of the picture is black.
    """
    from vlalign.data.samples import open_image

    stream = io.BytesIO()
    try:
        picture = open_image(path.read_bytes()).convert("RGB").crop((x, y, x + width, y + height))
        picture.save(stream, "WEBP", lossless=True, quality=0, method=0)
    except Exception as error:  # Pillow's readers raise whatever damaged bytes make them stumble over
        raise VlalignError(f"{path} cannot be cut to its box ({error}); bring the picture again") from None
    return stream.getvalue()
