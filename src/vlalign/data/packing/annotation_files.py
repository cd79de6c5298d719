"""JSON files that name images and their captions, as COCO and its kin have them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from vlalign.data.packing.image_lists import existing_folder, reading
from vlalign.errors import VlalignError
from vlalign.files import without_doubles
from vlalign.params.base import PathText
from vlalign.params.sources import PackedSource


def read_own_json(path: Path, *, key: str) -> Any:
    """What a JSON file of the user's holds; raises VlalignError with the key that names it when it cannot be read."""
    with reading(path, key=key):
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=without_doubles)


def read_annotations(path: str, *fields: str) -> dict[str, Any]:
    """A JSON file of annotations; raises VlalignError when it cannot be read or one of the fields is no list there.

    All of it is held in memory: some six times the size of the file.
    """
    content = read_own_json(Path(path), key="annotations")
    for field in fields:
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise VlalignError(
                f"{path} has no list `{field}`, so it is not of the kind that `source` says; correct `annotations`"
            )
    return content


class AnnotatedSource(PackedSource):
    """Pictures in a folder, and a JSON file that names them with their captions."""

    path_keys: ClassVar = ("annotations", "images")
    file_keys: ClassVar = ("annotations",)

    annotations: PathText = Field(description="Path of the JSON file")
    images: PathText = Field(description="Folder of the pictures")

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """See Source."""
        return {"annotations": self._check_file, "images": lambda: existing_folder(self.images, key="images")}

    def _check_file(self) -> None:
        if not Path(self.annotations).is_file():
            raise VlalignError(f"{self.annotations} is not a file; correct `annotations` of the source")

    def unlike(self, kind: str, error: Exception) -> VlalignError:
        """What to tell of annotations that are of another kind than this one."""
        return VlalignError(
            f"{self.annotations} is not like {kind} ({type(error).__name__}: {error}); take the original file, or "
            "write it as that is"
        )
