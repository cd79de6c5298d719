"""JSON files that name images and their captions, as COCO and its kin have them."""

import json
from pathlib import Path
from typing import Any

from vlalign.data.listing import reading
from vlalign.errors import VlalignError
from vlalign.files import without_doubles


def read_annotations(path: str, *fields: str) -> dict[str, Any]:
    """A JSON file of annotations; raises VlalignError when it cannot be read or one of the fields is no list there.

    All of it is held in memory: some six times the size of the file.
    """
    with reading(Path(path), key="annotations"):
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=without_doubles)
    for field in fields:
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise VlalignError(
                f"{path} has no list `{field}`, so it is not of the kind that `source` says; correct `annotations`"
            )
    return content


def check_file(name: str) -> None:
    """Raises VlalignError when there is no such file."""
    if not Path(name).is_file():
        raise VlalignError(f"{name} is not a file; correct `annotations` of the source")


def unlike(path: str, kind: str, error: Exception) -> VlalignError:
    """What to tell of a file of annotations that is of another kind than this one."""
    return VlalignError(
        f"{path} is not like {kind} ({type(error).__name__}: {error}); take the original file, or write it as that is"
    )
