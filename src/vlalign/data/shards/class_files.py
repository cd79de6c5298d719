"""The names of classes and the templates of prompts beside the shards of a split, as CLIP_benchmark has them."""

import shutil
from collections.abc import Collection
from pathlib import Path

from vlalign.data.packing.image_lists import leaves
from vlalign.errors import VlalignError
from vlalign.files import atomic_write
from vlalign.params.data import CLASS_FILES
from vlalign.records import read_record


def class_file(split: Path, name: str) -> Path:
    """Where the manifest of a split says that one of them lies: in the split's folder, or in the one above.

    Raises VlalignError when it names none: that vouches for nothing.
    """
    named = read_record(split / "manifest.json").get("files", {})
    places = {name: split / name, f"../{name}": split.parent / name}
    path = next((place for key, place in places.items() if key in named and place.is_file()), None)
    if path is None:
        raise VlalignError(
            f"{split}/manifest.json names no {name}; write one entry per line as CLIP_benchmark does, "
            f"into {split}, and verify the split again"
        )
    return path


def complete_class_files(directory: Path, *, key: str) -> None:
    """Copy those that a split lacks from the folder above; raises VlalignError when they are not there either."""
    for name in CLASS_FILES:
        if (directory / name).is_file():
            continue
        if not (directory.parent / name).is_file():
            raise VlalignError(
                f"{key} has no {name}, which zero-shot classification needs: one entry in a line, as CLIP_benchmark "
                f"has it; put it beside the shards, or into {directory.parent}"
            )
        _copy(directory.parent / name, directory / name)


def remove_class_files(directory: Path, *, but: Collection[str] = ()) -> None:
    """Remove those of an earlier source, which would name the classes of this one."""
    for name in set(CLASS_FILES) - set(but):
        (directory / name).unlink(missing_ok=True)


def copy_class_files(shard: Path, directory: Path) -> None:
    """Copy those that lie beside a shard or a folder above it."""
    for name in CLASS_FILES:
        found = next((p for p in (shard.with_name(name), shard.parent.parent / name) if p.is_file()), None)
        if found is not None:
            _copy(found, directory / name)


def _copy(source: Path, target: Path) -> None:
    if leaves(source, source.parent):
        raise VlalignError(
            f"{source} is a link that leads out of its folder, to {source.resolve()}: a copy would be published with "
            "the data; put the file itself there"
        )
    try:
        with atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        raise VlalignError(f"{source} cannot be copied to {target.parent} ({error})") from None
