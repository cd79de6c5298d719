"""Names of classes and templates of prompts, as CLIP_benchmark has them in two files."""

from collections.abc import Sequence

from vlalign.errors import VlalignError
from vlalign.params.data import CLASS_FILES


def class_files(names: Sequence[str], templates: Sequence[str]) -> dict[str, str]:
    """The text of each file by its name: one entry in a line, that of class k in line k + 1."""
    return {file: "\n".join(lines) + "\n" for file, lines in zip(CLASS_FILES, (names, templates), strict=True)}


def distinct_classes(names: Sequence[str], place: str) -> list[str]:
    """The names of classes as prompts have them, with spaces for underscores.

    place: where they stand, for messages. Raises VlalignError when two read the same, or one reads nothing.
    """
    read = [" ".join(name.replace("_", " ").split()) for name in names]
    for name, text in zip(names, read, strict=True):
        if not text or read.count(text) > 1:
            problem = "as another class does; rename one of them" if text else "which says nothing; rename it"
            raise VlalignError(f"{place}: the class {name!r} reads {text!r}, {problem}")
    return read
