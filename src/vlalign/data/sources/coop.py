"""The fixed splits of CoOp."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from vlalign.data.packing.annotation_files import AnnotatedSource, read_annotations
from vlalign.data.packing.class_lists import class_files, distinct_classes
from vlalign.data.packing.image_lists import Listed, Listing, existing_folder, normal_path
from vlalign.data.skipped import Skips
from vlalign.errors import VlalignError
from vlalign.params.base import PathText

SPLITS = ("train", "val", "test")
TEMPLATES = ("a photo of a {c}.",)


class CoopSource(AnnotatedSource):
    """One split of CoOp's split_zhou_*.json with its folder of pictures, which are of classes."""

    source: Literal["coop"]
    annotations: PathText = Field(description="Path of split_zhou_*.json")
    split: Literal["train", "val", "test"]

    def listing(self, skips: Skips) -> Listing:
        """The images of the split in the file's order, with their classes; raises VlalignError for one that is named
        twice.
        """
        folder, images = existing_folder(self.images, key="images"), dict[str, Listed]()
        for path, label, _ in self._rows(self.split):
            if (name := normal_path(path)) in images:
                raise VlalignError(f"{self.annotations} names {name} twice in {self.split!r}; take the original file")
            images[name] = Listed(name, folder / name, label=label, folder=folder)
        return Listing(len(images), images.values())

    def files(self) -> Mapping[str, str]:
        """See PackedSource: the classes of all three splits, without underscores, as CoOp's prompts have them."""
        names: dict[int, str] = {}
        for _, label, name in self._rows(*SPLITS):
            if names.setdefault(label, name) != name:
                raise VlalignError(f"{self.annotations}: class {label} is {names[label]!r} and {name!r}; correct it")
        if lost := set(range(max(names, default=0) + 1)) - set(names):
            raise VlalignError(f"{self.annotations} has no images of class {min(lost)}; take the original file")
        return class_files(distinct_classes([names[label] for label in sorted(names)], self.annotations), TEMPLATES)

    def lacks(self, need: Literal["captions", "classes"]) -> str:
        """See Source."""
        return "the splits of CoOp have classes, and no captions" if need == "captions" else ""

    def _rows(self, *splits: str) -> Iterator[tuple[str, int, str]]:
        content = read_annotations(self.annotations, *SPLITS)
        for split in splits:
            for number, row in enumerate(content[split]):
                if not _is_row(row):
                    raise VlalignError(
                        f"{self.annotations}: {split}.{number} is {row!r:.100}, not [path, label, class name]; take "
                        "the original file"
                    )
                yield row[0], row[1], row[2]


def _is_row(row: Any) -> bool:
    kinds = (str, int, str)
    return isinstance(row, list) and [type(value) for value in row] == list(kinds) and row[1] >= 0 and bool(row[0])
