"""From shards to a usable split: an index of each, and the manifest, on which everything downstream depends."""

import itertools
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vlalign.console import progress
from vlalign.data.samples import Sample
from vlalign.data.shards.index import index_path, open_index
from vlalign.data.shards.split import part_of, place_of
from vlalign.data.shards.tar import batched, write_shard
from vlalign.data.shards.verify import verify_shard
from vlalign.data.skipped import NAMED, Skips
from vlalign.errors import VlalignError
from vlalign.files import remove_temporary, write_json, write_text
from vlalign.params import VerifyParams
from vlalign.params.data import CLASS_FILES
from vlalign.records import read_record, stamp, stamps, write_record

PER_SHARD = ("name", "path", "bytes", "sha256", "samples", "captions", "most_captions", "limits")


def write_split(
    directory: str | Path,
    samples: Iterable[Sample],
    *,
    source: dict[str, Any],
    shard_size: int = 2000,
    shard_name: str = "{:06d}.tar",
    needs: Collection[str] = ("image",),
    files: Callable[[], Mapping[str, str]] = dict,
) -> None:
    """Write `samples` as shards of at most `shard_size`, verify them, and then the manifest that vouches for them;
    equal samples give equal bytes.

    files: asked for further files of the split, text by name, when all samples have been made.
    """
    directory = Path(directory)
    shards = []
    for index, batch in enumerate(batched(samples, shard_size)):
        shards.append({"name": shard_name.format(index)})
        write_shard(directory / shards[-1]["name"], batch)
    verify_shards(directory, shards, VerifyParams(), needs=needs)
    texts = files()
    for name, text in texts.items():
        write_text(directory / name, text)
    write_manifest(directory, shards, source=source, params=VerifyParams(), needs=needs, files=texts)


def verify_split(directory: Path, params: VerifyParams, *, needs: Collection[str], part: str | None = None) -> None:
    """Verify the shards that `shards.json` in the folder lists, then write the manifest.

    Args:
        needs: which of "image", "captions" and "label" a sample must have.
        part: "K-of-N" verifies every N-th shard from the K-th on and writes `parts/K-of-N.json` in place of the
            manifest; shards that were verified as they are now are passed over.

    Raises VlalignError when a shard cannot be read to its end, or too many samples are bad.
    """
    listed = read_record(directory / "shards.json")
    _check_names(directory, listed["shards"])
    verify_shards(directory, part_of(listed["shards"], part), params, needs=needs)
    if part is not None:
        write_json(directory / "parts" / f"{part}.json", {"shards": len(part_of(listed["shards"], part))})
        return
    told = {"source": listed["source"], "before": {key: listed.get(key, {}) for key in ("skipped", "noted")}}
    files = {*listed.get("files", ()), *(name for name in CLASS_FILES if (directory / name).is_file())}
    if lost := sorted(name for name in files if not (directory / name).is_file()):
        raise VlalignError(
            f"{directory / lost[0]} is named in {directory}/shards.json but missing; delete that and run the workflow "
            "again"
        )
    write_manifest(directory, listed["shards"], params=params, needs=needs, least=1, files=files, **told)


def _check_names(directory: Path, shards: Sequence[dict[str, Any]]) -> None:
    """Indices and annotations bear the names of their shards."""
    seen: dict[str, str] = {}
    for shard in shards:
        other = seen.setdefault(Path(shard["name"]).stem, shard["name"])
        if other is not shard["name"]:
            raise VlalignError(f"{other} and {shard['name']} of {directory} share a name; rename one")


def verify_shards(
    directory: Path, shards: Sequence[dict[str, Any]], params: VerifyParams, *, needs: Collection[str]
) -> None:
    """Make the index of every shard that has none for its present content; see `verify_shard`."""
    with progress("verifying shards", total=len(shards)) as advance:
        for shard in shards:
            verify_shard(directory, shard, params, needs=needs)
            advance(1)


def write_manifest(
    directory: Path,
    shards: Collection[dict[str, Any]],
    *,
    source: dict[str, Any],
    params: VerifyParams,
    needs: Collection[str],
    before: Mapping[str, Any] | None = None,
    least: int = 0,
    files: Iterable[str] = (),
) -> None:
    """Add up the reports of verified shards; written last, the manifest says that the split can be used.

    before: what was "skipped" and "noted" before there were shards. files: names of further files of the folder that
    belong to the split, such as the names of its classes.
    Raises VlalignError when more than `params.max_bad_share` of the samples are skipped, or fewer than `least` remain.
    """
    totals = {name: Skips() for name in ("skipped", "captions_skipped", "noted")}
    for name, counts in (before or {}).items():
        totals[name].merge(counts)
    modes: Counter[str] = Counter()
    entries, indices = [], []
    for shard in shards:
        path = index_path(directory, shard["name"])
        rows, report = open_index(path)
        _check_count(directory, shard, report)
        for name, total in totals.items():
            total.merge(report[name])
        modes.update(report["modes"])
        indices.append(rows)
        entry = {key: value for key, value in (report | shard).items() if key in PER_SHARD}
        entries.append({**entry, "index": stamp(path)})
    samples = sum(entry["samples"] for entry in entries)
    if samples < least:
        raise VlalignError(f"none of the {len(entries)} shards of {directory} has a sample that can be used")
    _refuse_too_many(directory, samples, totals["skipped"], params)
    _remove_stale(directory, shards)
    write_record(
        directory / "manifest.json",
        {
            **({"place": place} if (place := place_of(directory)) else {}),
            "shards": entries,
            "files": stamps(directory, files),
            "samples": samples,
            "captions": sum(entry["captions"] for entry in entries),
            **{name: total.as_dict() for name, total in totals.items()},
            "modes": dict(sorted(modes.items())),
            "repeated_images": _repeated_images(indices),
            "needs": sorted(needs),
            "source": source,
            "verify": params.model_dump(mode="json", exclude={"max_bad_share"}),
        },
    )


def _check_count(directory: Path, shard: dict[str, Any], report: dict[str, Any]) -> None:
    """A shard that lost samples on its way is readable all the same, if its maker did not say how many there are."""
    found = report["samples"] + sum(entry["count"] for entry in report["skipped"].values())
    if found != shard.get("expected", found):
        raise VlalignError(
            f"{directory / shard.get('path', shard['name'])} has {found} samples, but its maker counted "
            f"{shard['expected']}; make or fetch this shard again"
        )


def _refuse_too_many(directory: Path, good: int, skipped: Skips, params: VerifyParams) -> None:
    total = good + skipped.total
    if skipped.total > params.max_bad_share * total:
        limit = f"more than `verify.max_bad_share` of the dataset, {params.max_bad_share:g}; mend the data or raise it"
        # As with published sets, for which no param says so.
        none = "and none may be left out; mend the data"
        raise VlalignError(
            f"{skipped.total} of {total} samples of {directory} cannot be used ({skipped}), "
            f"{limit if params.max_bad_share else none}"
        )


def _remove_stale(directory: Path, shards: Collection[dict[str, Any]]) -> None:
    """Indices of shards that the split no longer has, and of processes that were killed."""
    wanted = {index_path(directory, shard["name"]) for shard in shards}
    for path in set((directory / "index").glob("*.arrow")) - wanted:
        path.unlink()
    remove_temporary(directory / "index")


def _repeated_images(rows: Sequence[pa.RecordBatch]) -> dict[str, Any]:
    """How many images have the very bytes of an earlier one, and the first names; all of them are kept."""
    digests = [batch.column("digest").fill_null(0).to_numpy(zero_copy_only=False) for batch in rows]
    every = np.concatenate([np.zeros(0, np.int64), *digests])
    _, first = np.unique(every, return_index=True)
    again = every != 0
    again[first] = False
    starts = list(itertools.accumulate(map(len, digests), initial=0))
    names = []
    for sample in np.flatnonzero(again)[:NAMED].tolist():
        shard = bisect_right(starts, sample) - 1
        names.append(rows[shard].column("key")[sample - starts[shard]].as_py())
    return {"count": int(again.sum()), "first": names}
