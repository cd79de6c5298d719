"""Shards that lie on this disk already, as a list of paths."""

import glob
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from vlalign.data.listing import existing_folder, expand_braces
from vlalign.errors import VlalignError
from vlalign.files import read_json
from vlalign.params.sources import Img2datasetSource, ShardsSource

STATS = "_stats.json"


def local_shards(source: ShardsSource | Img2datasetSource) -> list[Path]:
    """The shards of a source: patterns in their order, what a wildcard finds in natural order (2 before 10).

    Raises VlalignError when there are none, when one is missing or not whole, and when two have the same name.
    """
    paths = _img2dataset(source.folder) if isinstance(source, Img2datasetSource) else _expanded(source.shards)
    # Annotations and indices of a shard bear its name.
    counts = Counter(path.name for path in paths)
    if twice := [path for path in paths if counts[path.name] > 1]:
        raise VlalignError(
            f"{twice[0]} and {next(path for path in twice[1:] if path.name == twice[0].name)} have the same name; "
            "rename one, or correct `shards` of the source"
        )
    return paths


def img2dataset_samples(shard: Path) -> int:
    """How many samples img2dataset has put into a shard, as the shard's statistics say."""
    path = _stats(shard)
    try:
        return int(read_json(path)["successes"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise VlalignError(
            f"{path} has no count `successes`; delete it and let img2dataset make the shard again"
        ) from None


def _expanded(patterns: Iterable[str]) -> list[Path]:
    expanded = [name for pattern in patterns for name in expand_braces(pattern, key="shards", escape=False)]
    paths = list(dict.fromkeys(path for name in expanded for path in _found(name)))
    _check_texts(paths)
    if missing := [path for path in paths if not path.is_file()]:
        raise VlalignError(
            f"{len(missing)} of {len(paths)} shards are missing, first {', '.join(map(str, missing[:3]))}; correct "
            "`shards` of the source or bring them there"
        )
    return paths


def _check_texts(paths: Iterable[Path]) -> None:
    """Records are text: a name that is none could not be written there."""
    for path in paths:
        if not str(path).isprintable():
            raise VlalignError(f"the name {str(path)!a} is no text in UTF-8, or has control characters; rename it")


def _found(name: str) -> list[Path]:
    """The file of that name, or what the wildcards in it find."""
    if not glob.has_magic(name) or Path(name).exists():
        return [Path(name)]
    found = sorted(map(Path, glob.glob(name, recursive=True)), key=_natural)
    if not found:
        raise VlalignError(f"{name} finds no shard; correct `shards` of the source")
    return found


def _natural(path: Path) -> list[tuple[int, str]]:
    """Key of an order in which 2 comes before 10; leading zeros decide where numbers are equal."""
    parts = re.findall(r"\d+|\D+", str(path))
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]


def _img2dataset(name: str) -> list[Path]:
    folder = existing_folder(name, key="folder")
    paths = sorted(folder.glob("*.tar"), key=_natural)
    if not paths:
        raise VlalignError(
            f"{folder} has no .tar files; run img2dataset with output_format=webdataset, or correct `folder` of the "
            "source (its output_format=files is read as `source: folder` with `labels: captions`)"
        )
    _check_texts(paths)
    whole = {path.name.removesuffix(STATS) for path in folder.glob(f"*{STATS}")}
    # img2dataset writes the statistics of a shard last, and removes _tmp when all shards are there.
    if unfinished := [path.name for path in paths if path.stem not in whole]:
        raise _unfinished(folder, f"{len(unfinished)} shards without {STATS}: {', '.join(unfinished[:10])}")
    if (folder / "_tmp").is_dir():
        raise _unfinished(folder, "a folder _tmp, as while img2dataset runs and after it was killed")
    if lost := sorted(whole.difference(path.stem for path in paths)):
        raise VlalignError(
            f"{folder} has {len(lost)} files *{STATS} without their shards, first {lost[0]}{STATS}; bring the shards "
            "back, or delete these files and run the same img2dataset command again"
        )
    return paths


def _unfinished(folder: Path, sign: str) -> VlalignError:
    return VlalignError(
        f"{folder} is not finished, since it has {sign}; let img2dataset finish: the same command goes on where it "
        "stopped. To take what there is, move those away"
    )


def _stats(shard: Path) -> Path:
    return shard.with_name(f"{shard.stem}{STATS}")
