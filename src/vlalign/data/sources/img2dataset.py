"""What img2dataset has downloaded."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from vlalign.data.packing.image_lists import check_texts, existing_folder, natural_order
from vlalign.errors import VlalignError
from vlalign.files import read_json
from vlalign.params.base import PathText
from vlalign.params.sources import InPlaceSource

STATS = "_stats.json"


class Img2datasetSource(InPlaceSource):
    """The output folder of img2dataset with output_format=webdataset, read where it lies."""

    path_keys: ClassVar = ("folder",)

    source: Literal["img2dataset"]
    folder: PathText

    def shard_paths(self) -> list[Path]:
        """The shards in natural order; raises VlalignError when there are none, and when one is not whole."""
        folder = existing_folder(self.folder, key="folder")
        paths = sorted(folder.glob("*.tar"), key=natural_order)
        if not paths:
            raise VlalignError(
                f"{folder} has no .tar files; run img2dataset with output_format=webdataset, or correct `folder` of "
                "the source (its output_format=files is read as `source: folder` with `labels: captions`)"
            )
        check_texts(paths)
        whole = {path.name.removesuffix(STATS) for path in folder.glob(f"*{STATS}")}
        # img2dataset writes the statistics of a shard last, and removes _tmp when all shards are there.
        if unfinished := [path.name for path in paths if path.stem not in whole]:
            raise _unfinished(folder, f"{len(unfinished)} shards without {STATS}: {', '.join(unfinished[:10])}")
        if (folder / "_tmp").is_dir():
            raise _unfinished(folder, "a folder _tmp, as while img2dataset runs and after it was killed")
        if lost := sorted(whole.difference(path.stem for path in paths)):
            raise VlalignError(
                f"{folder} has {len(lost)} files *{STATS} without their shards, first {lost[0]}{STATS}; bring the "
                "shards back, or delete these files and run the same img2dataset command again"
            )
        return paths

    def expected(self, shard: Path) -> int:
        """How many samples img2dataset has put into a shard, as the shard's statistics say."""
        path = shard.with_name(f"{shard.stem}{STATS}")
        try:
            return int(read_json(path)["successes"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise VlalignError(
                f"{path} has no count `successes`; delete it and let img2dataset make the shard again"
            ) from None

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """See Source."""
        return {"folder": self.shard_paths}


def _unfinished(folder: Path, sign: str) -> VlalignError:
    return VlalignError(
        f"{folder} is not finished, since it has {sign}; let img2dataset finish: the same command goes on where it "
        "stopped. To take what there is, move those away"
    )
