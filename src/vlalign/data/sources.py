"""From the source of a split to the list of its shards, whatever the source is."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, get_args

from vlalign.data.listing import leaves
from vlalign.data.local import img2dataset_samples, local_shards
from vlalign.data.pack import pack
from vlalign.errors import VlalignError
from vlalign.files import atomic_write, check_writable
from vlalign.params import Source
from vlalign.params.data import CLASS_FILES
from vlalign.params.sources import Fetched, Img2datasetSource, Packed, ShardsSource
from vlalign.records import read_record, write_record

# Keys of sources that hold paths.
PATHS = ("table", "images", "folder", "annotations", "shards")


def bring(source: Source, directory: Path, *, base: Path = Path(), key: str = "source", classes: bool = False) -> None:
    """Download, pack or find the shards of a split, and write `shards.json` with their list into its folder.

    base: folder from which relative paths in the source count. key: the source's key in the params, for messages.
    classes: whether the split needs the names of classes and the templates of prompts; the folder above may hold them.
    Raises VlalignError when the source is not as it should be, cannot be reached, or the disk cannot be written to.
    """
    check_writable(directory)
    if isinstance(source, get_args(Fetched)):
        from vlalign.data.download import fetch

        fetch(source, directory, extras=CLASS_FILES, key=key)
        _remove_class_files(directory, but=read_record(directory / "shards.json")["extras"])
    elif isinstance(source, get_args(Packed)):
        pack(_located(source, base), directory)
    else:
        directory.mkdir(parents=True, exist_ok=True)
        _remove_class_files(directory)
        _list(_located(source, base), directory)
    if classes:
        _complete_class_files(directory, key=key)


def _complete_class_files(directory: Path, *, key: str) -> None:
    for name in CLASS_FILES:
        if (directory / name).is_file():
            continue
        if not (directory.parent / name).is_file():
            raise VlalignError(
                f"{key} has no {name}, which zero-shot classification needs: one entry in a line, as CLIP_benchmark "
                f"has it; put it beside the shards, or into {directory.parent}"
            )
        _copy(directory.parent / name, directory / name)


def _remove_class_files(directory: Path, *, but: Collection[str] = ()) -> None:
    """Those of an earlier source must not name the classes of this one."""
    for name in set(CLASS_FILES) - set(but):
        (directory / name).unlink(missing_ok=True)


def _located(source: Any, base: Path) -> Any:
    """The same source with its paths as they are seen from here."""
    if base == Path():
        return source
    paths = {key: getattr(source, key) for key in PATHS if getattr(source, key, None)}
    moved = {key: tuple(str(base / p) for p in v) if key == "shards" else str(base / v) for key, v in paths.items()}
    return source.model_copy(update=moved)


def _list(source: ShardsSource | Img2datasetSource, directory: Path) -> None:
    shards: list[dict[str, Any]] = []
    paths = local_shards(source)
    for path in paths:
        # Paths that the user gave relative to the project stay so: another clone has its own.
        seen = path if path.is_absolute() else Path(os.path.relpath(path, directory))
        shards.append({"name": path.name, "path": str(seen)})
        if isinstance(source, Img2datasetSource):
            shards[-1]["expected"] = img2dataset_samples(path)
    _copy_class_files(paths[0], directory)
    write_record(directory / "shards.json", {"shards": shards, "skipped": {}, "source": source.model_dump(mode="json")})


def _copy_class_files(shard: Path, directory: Path) -> None:
    """Names of classes and templates of prompts, which lie beside the shards or a folder above (CLIP_benchmark)."""
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
