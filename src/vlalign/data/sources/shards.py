"""WebDataset shards on this disk."""

import glob
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from vlalign.data.packing.image_lists import check_distinct, check_texts, expand_braces, natural_order
from vlalign.errors import VlalignError
from vlalign.params.sources import InPlaceSource


def _is_no_address(pattern: str) -> str:
    if "://" in pattern:
        raise ValueError("this is an address, and a path on this disk is needed; see `source: urls`")
    return pattern


PathPattern = Annotated[str, AfterValidator(_is_no_address)]


class ShardsSource(InPlaceSource):
    """WebDataset shards on this disk, read where they lie."""

    path_keys: ClassVar = ("shards",)

    source: Literal["shards"]
    shards: Annotated[tuple[PathPattern, ...], Field(min_length=1)] = Field(
        description="Paths with braces and wildcards, such as /data/cc3m/{00000..00331}.tar"
    )

    def shard_paths(self) -> list[Path]:
        """The shards, patterns in their order, what a wildcard finds in natural order (2 before 10).

        Raises VlalignError when there are none, when one is missing, and when two have the same name.
        """
        names = [name for pattern in self.shards for name in expand_braces(pattern, key="shards", escape=False)]
        paths = list(dict.fromkeys(path for name in names for path in _found(name)))
        check_texts(paths)
        if missing := [path for path in paths if not path.is_file()]:
            raise VlalignError(
                f"{len(missing)} of {len(paths)} shards are missing, first {', '.join(map(str, missing[:3]))}; correct "
                "`shards` of the source or bring them there"
            )
        check_distinct(paths)
        return paths

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """See Source."""
        return {"shards": self.shard_paths}


def _found(name: str) -> list[Path]:
    """The file of that name, or what the wildcards in it find."""
    if not glob.has_magic(name) or Path(name).exists():
        return [Path(name)]
    found = sorted(map(Path, glob.glob(name, recursive=True)), key=natural_order)
    if not found:
        raise VlalignError(f"{name} finds no shard; correct `shards` of the source")
    return found
