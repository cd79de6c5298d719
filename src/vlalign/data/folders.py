"""A folder of images: its subfolders are the classes, or each image's captions lie beside it in a .txt file."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from vlalign.data.listing import Listed, Listing, captions_of, existing_folder, is_image, leaves, reading
from vlalign.data.skips import Skips
from vlalign.errors import VlalignError
from vlalign.files import write_text
from vlalign.params.data import CLASS_FILES
from vlalign.params.sources import FolderSource

TEMPLATES = ("a photo of a {c}",)
# Files that lie beside images in such folders, and whose presence is no mistake.
COMPANIONS = (".txt", ".json", ".parquet")

Identities = frozenset[tuple[int, int]]


def list_folder(source: FolderSource, skips: Skips) -> Listing:
    """The images of a folder in the order of their paths; names that begin with a dot are passed over.

    Held in memory: every path. Symbolic links to folders are followed, unless they lead to a folder above them
    or out of the folder.
    Raises VlalignError when there are no images, no classes, or a class without images.
    """
    folder = existing_folder(source.folder, key="folder")
    with reading(folder, key="folder"):
        if source.labels == "classes":
            return _classes(folder, skips)
        names = _image_names(folder, skips)
    if not names:
        raise VlalignError(f"{folder} has no images; correct `folder` of the source")
    return Listing(len(names), _captioned(folder, names, skips))


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


def write_classnames(source: FolderSource, directory: str | Path, *, templates: Sequence[str] = TEMPLATES) -> None:
    """Write `classnames.txt` and `zeroshot_classification_templates.txt` as CLIP_benchmark reads them.

    Class names are the subfolders' with spaces for underscores; in a template, {c} stands for the name.
    Raises VlalignError when a template has no {c}, or two classes read the same.
    """
    folders = class_folders(existing_folder(source.folder, key="folder"))
    names = [" ".join(name.replace("_", " ").split()) for name in folders]
    for folder, name in zip(folders, names, strict=True):
        if names.count(name) > 1:
            raise VlalignError(f"{source.folder}/{folder} reads {name!r}, as another class does; rename one of them")
    if wrong := [template for template in templates if "{c}" not in template]:
        raise VlalignError(f"the template {wrong[0]!r} has no {{c}}, where the class name goes; add it")
    for name, lines in zip(CLASS_FILES, (names, templates), strict=True):
        write_text(Path(directory) / name, "\n".join(lines) + "\n")


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


def _captioned(folder: Path, names: list[str], skips: Skips) -> Iterator[Listed]:
    for name in names:
        path = folder / name
        if leaves(path.with_suffix(".txt"), folder):
            skips.add("captions under a link that leads out of the folder", name)
            continue
        try:
            # A pipe would be waited for.
            if path.with_suffix(".txt").exists() and not path.with_suffix(".txt").is_file():
                raise IsADirectoryError
            text = path.with_suffix(".txt").read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            text = ""
        except OSError:
            skips.add("unreadable captions", name)
            continue
        except UnicodeDecodeError:
            skips.add("captions that are not in UTF-8", name)
            continue
        yield Listed(name, path, captions_of(text.split("\n")))


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
