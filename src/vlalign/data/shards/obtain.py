"""From the source of a split to the list of its shards, whatever the source is."""

import os
from pathlib import Path
from typing import Any

from vlalign.data.packing.pack import pack
from vlalign.data.shards.class_files import complete_class_files, copy_class_files, remove_class_files
from vlalign.files import check_writable
from vlalign.params.data import CLASS_FILES
from vlalign.params.sources import FetchedSource, InPlaceSource, PackedSource, Source
from vlalign.records import read_record, write_record


def bring(source: Source, directory: Path, *, base: Path = Path(), key: str = "source", classes: bool = False) -> None:
    """Download, pack or find the shards of a split, and write `shards.json` with their list into its folder.

    base: folder from which relative paths in the source count. key: the source's key in the params, for messages.
    classes: whether the split needs the names of classes and the templates of prompts; the folder above may hold them.
    Raises VlalignError when the source is not as it should be, cannot be reached, or the disk cannot be written to.
    """
    check_writable(directory)
    source = source.located(base)
    if isinstance(source, FetchedSource):
        from vlalign.data.shards.fetch import fetch

        fetch(source, directory, extras=CLASS_FILES, key=key)
        remove_class_files(directory, but=read_record(directory / "shards.json")["extras"])
    elif isinstance(source, PackedSource):
        pack(source, directory)
    elif isinstance(source, InPlaceSource):
        _list_in_place(source, directory)
    if classes:
        complete_class_files(directory, key=key)


def _list_in_place(source: InPlaceSource, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    remove_class_files(directory)
    paths = source.shard_paths()
    shards: list[dict[str, Any]] = []
    for path in paths:
        # Paths that the user gave relative to the project stay so: another clone has its own.
        seen = path if path.is_absolute() else os.path.relpath(path, directory)
        shards.append({"name": path.name, "path": str(seen)})
        if (expected := source.expected(path)) is not None:
            shards[-1]["expected"] = expected
    copy_class_files(paths[0], directory)
    write_record(directory / "shards.json", {"shards": shards, "skipped": {}, "source": source.shown()})
