"""Winoground."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from vlalign.data.packing.hard_negatives import HardNegative, PicturesSource, read_fields
from vlalign.data.packing.image_lists import damaged, reading
from vlalign.params.base import PathText


class WinogroundSource(PicturesSource):
    """Winoground (facebook/winoground): examples.jsonl with its folder of pictures."""

    file_keys: ClassVar = ("annotations",)

    source: Literal["winoground"]
    annotations: PathText = Field(description="Path of examples.jsonl")
    images: PathText = Field(description="Folder of ex_0_img_0.png and the others")

    def categories(self) -> Mapping[str, Mapping[str, HardNegative]]:
        """See HardNegativesSource; every example is one item, whose false caption is true of its other picture."""
        path, found = Path(self.annotations), {}
        keys = ("image_0", "caption_0", "caption_1", "image_1")
        for number, row in _rows(path):
            first, caption, other, second = read_fields(path, f"of line {number}", row, *keys)
            found[str(number)] = HardNegative(f"{first}.png", caption, other, f"{second}.png")
        return {self.name: found}


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """The number and the value of every line."""
    with reading(path, key="annotations"):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise damaged(path, ValueError(f"line {number}: {error}"), key="annotations") from None
