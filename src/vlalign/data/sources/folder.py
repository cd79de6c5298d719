"""Folders of images."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from vlalign.data.packing.class_lists import class_files, distinct_classes
from vlalign.data.packing.image_lists import Listed, Listing, captions_of, existing_folder, is_image, leaves, reading
from vlalign.data.skipped import Skips
from vlalign.errors import VlalignError
from vlalign.params.base import PathText
from vlalign.params.sources import PackedSource

TEMPLATES = ("a photo of a {c}",)
# Files that lie beside images in such folders, and whose presence is no mistake.
COMPANIONS = (".txt", ".json", ".parquet")
Identities = frozenset[tuple[int, int]]


class FolderSource(PackedSource):
    """A folder of images: its subfolders are the classes, or each image's captions lie beside it in a .txt file, or in
    another folder.
    """

    path_keys: ClassVar = ("folder", "captions")

    source: Literal["folder"]
    folder: PathText
    labels: Literal["classes", "captions"] = "classes"
    captions: PathText | None = Field(
        default=None, description="Folder of the .txt files, for `labels: captions`; that of the images if left out"
    )
    lines: Literal["all", "first"] = Field(default="all", description="Which lines of a .txt file are captions")

    @model_validator(mode="after")
    def _captions_are_read(self) -> "FolderSource":
        if self.labels == "classes" and (self.captions is not None or self.lines != "all"):
            raise ValueError("captions, lines: they are for `labels: captions`; set that, or leave them out")
        return self

    def listing(self, skips: Skips) -> Listing:
        """The images of a folder in the order of their paths; names that begin with a dot are passed over.

        Held in memory: every path. Symbolic links to folders are followed, unless they lead to a folder above them
        or out of the folder.
        Raises VlalignError when there are no images, no classes, or a class without images.
        """
        folder = existing_folder(self.folder, key="folder")
        with reading(folder, key="folder"):
            if self.labels == "classes":
                return _classes(folder, skips)
            names = _image_names(folder, skips)
        if not names:
            raise VlalignError(f"{folder} has no images; correct `folder` of the source")
        beside = folder if self.captions is None else existing_folder(self.captions, key="captions")
        most = None if self.lines == "all" else 1
        return Listing(len(names), _captioned(folder, names, skips, beside=beside, most=most))

    def files(self) -> Mapping[str, str]:
        """`classnames.txt` and `zeroshot_classification_templates.txt` as CLIP_benchmark reads them, if it has classes.

        Class names are the subfolders' with spaces for underscores. Raises VlalignError when two classes read the same.
        """
        if self.labels != "classes":
            return {}
        folders = class_folders(existing_folder(self.folder, key="folder"))
        return class_files(distinct_classes(folders, self.folder), TEMPLATES)

    def lacks(self, need: Literal["captions", "classes"]) -> str:
        """See Source."""
        if need == "captions" and self.labels == "classes":
            return (
                "a folder of classes has no captions; set `labels: captions` if they lie beside the images in .txt "
                "files, or give it under `zeroshot`"
            )
        return super().lacks(need) if self.labels == "captions" else ""

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """See Source."""
        named = {key: path for key in self.path_keys if (path := getattr(self, key)) is not None}
        return {key: partial(existing_folder, path, key=key) for key, path in named.items()}


def class_folders(folder: Path) -> list[str]:
    """Names of the subfolders in the order of their labels; raises VlalignError when there are none."""
    with reading(folder, key="folder"):
        names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if unwritable := [name for name in names if not name.isprintable()]:
        raise VlalignError(
            f"{folder} has a class whose name {unwritable[0]!a} is no text in UTF-8, or has control characters; "
            "rename it"
        )
    if not names:
        raise VlalignError(
            f"{folder} has no subfolders, one for each class; correct `folder` of the source, or set "
            "`labels: captions` if captions lie beside the images in .txt files"
        )
    return names


def _classes(folder: Path, skips: Skips) -> Listing:
    classes = class_folders(folder)
    members = [_image_names(folder, skips, inside=f"{name}/", above=frozenset([_identity(folder)])) for name in classes]
    if empty := [name for name, images in zip(classes, members, strict=True) if not images]:
        raise VlalignError(
            f"{folder} has {len(empty)} classes without images, first {folder / empty[0]}; fill or remove them, or "
            "correct `folder` of the source"
        )
    for path in sorted(folder.iterdir()):
        if path.is_file() and is_image(path.name) and not path.name.startswith("."):
            skips.add("in no class's folder", path.name)
    images = (Listed(name, folder / name, label=label) for label, names in enumerate(members) for name in names)
    return Listing(sum(map(len, members)), images)


def _captioned(folder: Path, names: list[str], skips: Skips, *, beside: Path, most: int | None) -> Iterator[Listed]:
    """The images with the captions that lie in the folder `beside`, in the first `most` lines."""
    for name in names:
        path = (beside / name).with_suffix(".txt")
        if leaves(path, beside):
            skips.add("captions under a link that leads out of the folder", name)
            continue
        try:
            # A pipe would be waited for.
            if path.exists() and not path.is_file():
                raise IsADirectoryError
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            text = ""
        except OSError:
            skips.add("unreadable captions", name)
            continue
        except UnicodeDecodeError:
            skips.add("captions that are not in UTF-8", name)
            continue
        yield Listed(name, folder / name, captions_of(text.split("\n")[:most]))


def _image_names(folder: Path, skips: Skips, *, inside: str = "", above: Identities = frozenset()) -> list[str]:
    """Paths from `folder` of the images below its subfolder `inside`; other files but companions are counted."""
    names = []
    for name in _walk(folder, inside, above, skips):
        if is_image(name):
            names.append(name)
        elif not name.lower().endswith(COMPANIONS):
            skips.add("unsupported suffix", name)
    return names


def _walk(folder: Path, inside: str, above: Identities, skips: Skips) -> Iterator[str]:
    """Paths from `folder` of all files below its subfolder `inside`, which ends with a slash."""
    identity = _identity(folder / inside)
    if identity in above:
        return
    try:
        entries = sorted(os.scandir(folder / inside), key=lambda entry: entry.name)
    except OSError:
        skips.add("unreadable folder", inside)
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and leaves(Path(entry.path), folder):
            skips.add("link that leads out of the folder", inside + entry.name)
            continue
        # entry.is_dir() raises on a link that leads to itself.
        if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path)):
            yield from _walk(folder, f"{inside}{entry.name}/", above | {identity}, skips)
        else:
            yield inside + entry.name


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
