"""Whether the files and folders that a dataset's sources name are there, before anything runs."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from vlalign.data.listing import existing_folder
from vlalign.data.local import local_shards
from vlalign.data.table_rows import read_rows
from vlalign.errors import VlalignError
from vlalign.params import Params, SplitsParams
from vlalign.params.sources import (
    CocoSource,
    FolderSource,
    Img2datasetSource,
    KarpathySource,
    ShardsSource,
    TableSource,
)


def check_sources(params: Params) -> None:
    """Look for what the dataset in use names on this disk; relative paths count from the working directory.

    Raises VlalignError that names the key of everything missing: files, folders, shards, columns of tables.
    """
    if not isinstance(params.data, SplitsParams):
        return
    mistakes = [mistake for key, source in _given(params.data) for mistake in _missing(key, source)]
    if mistakes:
        lines = (f"datasets.{params.dataset}.{mistake}" for mistake in mistakes)
        raise VlalignError("the data are not all there:\n" + "\n".join(lines))


def _given(data: SplitsParams) -> Iterator[tuple[str, Any]]:
    """Every source that is given, with its key."""
    for group, part in (("", data), ("zeroshot.", data.zeroshot), ("unpaired.", data.unpaired)):
        for name in ("train", "validation", "test", "images", "captions"):
            if source := getattr(part, name, None):
                yield f"{group}{name}", source


def _missing(key: str, source: Any) -> Iterator[str]:
    for name, look in _lookups(source).items():
        try:
            look()
        except VlalignError as error:
            yield f"{key}.{name}: {error}"
        except OSError as error:
            yield f"{key}.{name}: {error}; correct it"


def _lookups(source: Any) -> dict[str, Callable[[], object]]:
    """What is looked for, by the key that names it."""
    if isinstance(source, TableSource):
        folder = {"images": partial(existing_folder, source.images, key="images")} if source.images else {}
        return {"table": partial(_check_table, source), **folder}
    if isinstance(source, KarpathySource | CocoSource):
        return {
            "annotations": partial(_check_file, source.annotations),
            "images": partial(existing_folder, source.images, key="images"),
        }
    if isinstance(source, FolderSource):
        return {"folder": partial(existing_folder, source.folder, key="folder")}
    if isinstance(source, Img2datasetSource):
        return {"folder": partial(local_shards, source)}
    return {"shards": partial(local_shards, source)} if isinstance(source, ShardsSource) else {}


def _check_table(source: TableSource) -> None:
    """Its columns, and what else its first rows show."""
    columns = dict.fromkeys((source.image_column, *source.caption_columns, *source.where))
    next(read_rows(Path(source.table), tuple(columns)), None)


def _check_file(name: str) -> None:
    if not Path(name).is_file():
        raise VlalignError(f"{name} is not a file; correct `annotations` of the source")
