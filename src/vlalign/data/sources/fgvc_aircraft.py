"""FGVC-Aircraft in its published form."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from vlalign.data.packing.class_lists import class_files, distinct_classes
from vlalign.data.packing.image_lists import Listed, Listing, existing_folder, reading
from vlalign.data.skipped import Skips
from vlalign.errors import VlalignError
from vlalign.params.base import PathText
from vlalign.params.sources import PackedSource

VARIANTS = "variants.txt"
TEMPLATES = ("a photo of a {c}, a type of aircraft.",)


class FgvcAircraftSource(PackedSource):
    """One split of FGVC-Aircraft's variants: the folder `data` of its archive."""

    path_keys: ClassVar = ("folder",)

    source: Literal["fgvc-aircraft"]
    folder: PathText = Field(description="Holds variants.txt, images_variant_*.txt and the folder `images`")
    split: Literal["train", "val", "test"]

    def inputs(self) -> tuple[str, ...]:
        """See Source."""
        return tuple(str(Path(self.folder, name)) for name in (VARIANTS, self._list))

    def listing(self, skips: Skips) -> Listing:
        """The images of the split in the file's order, with their classes."""
        labels = {name: label for label, name in enumerate(self._lines(VARIANTS))}
        folder = existing_folder(Path(self.folder, "images"), key="folder")
        images: dict[str, Listed] = {}
        for number, line in enumerate(self._lines(self._list), start=1):
            picture, _, variant = line.partition(" ")
            if variant not in labels or f"{picture}.jpg" in images:
                problem = "a picture for the second time" if variant in labels else f"a class that {VARIANTS} lacks"
                raise VlalignError(f"{self.folder}/{self._list}, line {number}: {line!r} has {problem}; correct it")
            name = f"{picture}.jpg"
            images[name] = Listed(name, folder / name, label=labels[variant], folder=folder)
        return Listing(len(images), images.values())

    def files(self) -> Mapping[str, str]:
        """See PackedSource."""
        return class_files(distinct_classes(self._lines(VARIANTS), f"{self.folder}/{VARIANTS}"), TEMPLATES)

    def lacks(self, need: Literal["captions", "classes"]) -> str:
        """See Source."""
        return "FGVC-Aircraft has classes, and no captions" if need == "captions" else ""

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """See Source."""
        return {"folder": lambda: [self._lines(VARIANTS), self._lines(self._list)]}

    @property
    def _list(self) -> str:
        return f"images_variant_{self.split}.txt"

    def _lines(self, name: str) -> list[str]:
        path = Path(self.folder, name)
        with reading(path, key="folder"):
            return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
