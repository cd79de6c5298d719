"""Pictures with hard negatives: what every published form of them is brought to, which is that of SugarCrepe."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from vlalign.data.packing.image_lists import Listed, Listing, existing_folder
from vlalign.data.skipped import Skips
from vlalign.errors import VlalignError
from vlalign.files import json_text
from vlalign.params.base import PathText
from vlalign.params.sources import PackedSource, Source


class HardNegative(NamedTuple):
    """A picture with a true and a false caption; `negative_filename` names one of which the false caption is true."""

    filename: str
    caption: str
    negative_caption: str
    negative_filename: str | None = None


class HardNegativesSource(PackedSource):
    """Pictures, and categories of hard negatives that name them."""

    bare: ClassVar = True

    @model_validator(mode="after")
    def _is_whole(self) -> "HardNegativesSource":
        if self.part != (0.0, 1.0):
            raise ValueError("part: hard negatives name pictures of every part, so they are not divided; leave it out")
        return self

    def categories(self) -> Mapping[str, Mapping[str, HardNegative]]:
        """Items by category and by their names there; raises VlalignError naming the file and the item at fault."""
        raise NotImplementedError

    def picture(self, name: str) -> Listed:
        """The picture that items call by this name."""
        raise NotImplementedError

    def files(self) -> Mapping[str, str]:
        """See PackedSource: `<category>.json` as SugarCrepe has it, {id: {filename, caption, negative_caption}}, with
        `negative_filename` where there is such a picture.
        """
        return {
            f"{category}.json": json_text({name: _fields(item) for name, item in items.items()})
            for category, items in self.categories().items()
        }

    def listing(self, skips: Skips) -> Listing:
        """Every picture that an item names, once.

        Raises VlalignError for a picture that is missing: its items could not be measured.
        """
        images: dict[str, Listed] = {}
        for category, items in self.categories().items():
            for name, item in items.items():
                for picture in filter(None, (item.filename, item.negative_filename)):
                    images.setdefault(picture, self.picture(picture))
                    if not images[picture].path.is_file():
                        raise VlalignError(
                            f"{images[picture].path} is missing, which item {name} of {category} names; bring all "
                            f"pictures there, or correct the paths of `source: {self.name}`"
                        )
        return Listing(len(images), images.values())

    def lacks(self, need: Literal["captions", "classes"]) -> str:
        """See Source."""
        return f"`source: {self.name}` has hard negatives alone; name it in a card of the task `composition`"

    def held_out(self, shares: Mapping[Any, float]) -> tuple[dict[str, Source], Source]:
        """See Source; what items name must stay together."""
        return Source.held_out(self, shares)


class PicturesSource(HardNegativesSource):
    """The same with annotations in files of their own and the pictures in a folder."""

    path_keys: ClassVar = ("annotations", "images")

    annotations: PathText
    images: PathText = Field(description="Folder of the pictures")

    def picture(self, name: str) -> Listed:
        """See HardNegativesSource."""
        return Listed(name, Path(self.images, name), folder=Path(self.images))

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """See Source."""
        return {"annotations": self._check_files, "images": lambda: existing_folder(self.images, key="images")}

    def _check_files(self) -> None:
        if lost := [path for path in self.inputs() if not Path(path).is_file()]:
            raise VlalignError(f"{', '.join(lost)} missing; correct `annotations` of the source, or bring it there")


def _fields(item: HardNegative) -> dict[str, str]:
    return {key: value for key, value in item._asdict().items() if value is not None}


def read_fields(path: Path, name: str, row: Any, *keys: str) -> list[str]:
    """Texts of an item of an annotation file; raises VlalignError that names file, item and key."""
    if not isinstance(row, dict):
        raise VlalignError(f"{path}: item {name} is no object; take the original file")
    for key in keys:
        if not isinstance(row.get(key), str):
            problem = f"something else than text under {key!r}" if key in row else f"no {key!r}"
            raise VlalignError(f"{path}: item {name} has {problem}; take the original file")
        if not row[key].strip():
            raise VlalignError(f"{path}: item {name} has an empty text under {key!r}; take the original file")
    return [row[key] for key in keys]
