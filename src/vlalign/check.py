"""What of a workspace is damaged, missing, stale or foreign, and which command mends it.

Every file that a step has written is compared, as a whole, with the record of that step.
"""

import base64
import binascii
import contextlib
import json
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vlalign.errors import VlalignError
from vlalign.files import is_whole_archive, json_text, read_json
from vlalign.previous import EVALUATION, RUN
from vlalign.records import Stamp, read_record, stamp

Kind = Literal["damaged", "missing", "stale", "unreadable", "foreign"]
# What else may lie in a folder of data: marks of what was done, and what the next run of a step goes on from.
BESIDE = frozenset({"manifest.json", "shards.json", ".fetched.json", ".lock", "packing.jsonl", "resources.json"})
# Of the inputs of a run, those that are no data.
WEIGHTS = frozenset({"pretrained", "image_weights", "text_weights"})
AGAIN = "run the workflow again"
# The records of what is made of all runs, below `results`, and of tables of models alone.
SUMMARIES = ("metrics.json", "precision.csv.json", "figures/illustrations.json", "report.html.json", "suites.json")


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be. remedy: commands, or what else is to be done."""

    kind: Kind
    path: Path
    reason: str
    remedy: str


def check_workspace(root: Path, *, advance: Callable[[int], None] = lambda count: None) -> Iterator[Finding]:
    """All findings below a folder that the workflow has written. advance: told the bytes of each file that was read."""
    for path in dangling_links(root):
        yield Finding("missing", path, f"is a link to {os.readlink(path)}, which is gone", _remove([path]))
    manifests: dict[Path, str] = {}
    for path in sorted((root / "data").glob("**/manifest.json")):
        if not path.is_file():
            yield Finding("damaged", path, "is no file", _remove([path]))
            continue
        manifests[path] = stamp(path)["sha256"]
        yield from _guarded(path, _folder(path, advance))
        yield from _guarded(path, _stale_annotations(path, root))
    for path in sorted((root / "results").glob("runs/*/seed-*")):
        yield from _guarded(path / RUN, _run(path, set(manifests.values()), advance))
        yield from _guarded(path / "metrics" / EVALUATION, _of_run(path, root, advance))
        yield from _cards(path, root, advance)
    for path in sorted((root / "results").glob("models/*")):
        # A model may have been measured on cards alone.
        if (path / "metrics").exists():
            yield from _guarded(path / "metrics" / EVALUATION, _evaluation(path / "metrics", root, advance))
        yield from _cards(path, root, advance)
    yield from _guarded(root / "results", _summaries(root, advance))
    yield from _guarded(root / "checkpoints", _checkpoints(root, advance))
    yield from _guarded(root / ".snakemake", _snakemake(root))


def _guarded(path: Path, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings; a record of another shape than this program writes is one itself."""
    try:
        yield from findings
    except PermissionError as error:
        yield _unreadable(Path(error.filename or path), error)
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError, VlalignError) as error:
        yield Finding(
            "damaged", path, f"is not as this program writes it ({type(error).__name__}: {error})", _remove([path])
        )


def _unreadable(path: Path, error: OSError) -> Finding:
    """Nothing is known of what may not be read, so nothing is to be deleted."""
    return Finding("unreadable", path, f"cannot be read ({error.strerror})", "change its permissions, and check again")


def bytes_to_check(root: Path) -> int:
    """About how many bytes `check_workspace` reads, for a progress bar."""
    folders = (root / name for name in ("data", "results", "checkpoints"))
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files)


def dangling_links(root: Path) -> list[Path]:
    """Links below what the workflow writes whose targets are gone, as after a checkout from a damaged cache."""
    folders = [root / name for name in ("data", "results", ".snakemake/metadata")]
    found = [Path(folder, name) for top in folders for folder, _, names in os.walk(top) for name in names]
    found += [root / name for name in ("metrics.json", "focus.json", "focus.csv")]
    return [path for path in found if path.is_symlink() and not path.exists()]


def _folder(path: Path, advance: Callable[[int], None]) -> Iterator[Finding]:
    """A manifest, the files that it names, and files that it does not name."""
    # The workflow starts with this module, and pyarrow takes its time.
    from vlalign.data.shards.split import place_of

    folder, own = path.parent, _remove([path])
    try:
        content = read_record(path)
        named = list(_named(content, folder))
    except (VlalignError, KeyError, TypeError, AttributeError, ValueError) as error:
        yield Finding("damaged", path, f"cannot be read ({error})", own)
        return
    if None not in (content.get("place"), place_of(folder)) and content["place"] != place_of(folder):
        yield Finding("damaged", folder, f"holds the split {content['place']}: folders were moved", "move them back")
    for file, expected, remedy in named:
        yield from _compare(file, expected, remedy or own, advance)
    known = {os.path.realpath(file) for file, _, _ in named}
    nested = {other.parent for other in folder.glob("*/**/manifest.json")}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        mark = name in BESIDE or name.startswith("parts/") or name.endswith(".part")
        inside = any(parent in nested for parent in file.parents)
        if file.is_file() and not inside and os.path.realpath(file) not in known and not mark:
            yield _foreign(file, path)


def _foreign(file: Path, record: Path) -> Finding:
    remedy = f"{shlex.join(['rm', str(file)])}, unless you need it"
    return Finding("foreign", file, f"is not named in {record}", remedy)


def _named(content: Mapping[str, Any], folder: Path) -> Iterator[tuple[Path, Stamp, str]]:
    """The files that a manifest names, with what mends each if that is more than making the manifest again."""
    manifest = folder / "manifest.json"
    for name, expected in content.get("files", {}).items():
        yield Path(os.path.normpath(folder / name)), expected, ""
    for shard in content.get("shards", ()):
        if Path(shard["name"]).name != shard["name"]:
            raise ValueError(f"the shard {shard['name']!r} lies elsewhere")
        file = folder / shard.get("path", shard["name"])
        made_of = [manifest, *([folder / "shards.json"] if (folder / "shards.json").exists() else [])]
        remedy = _remove(made_of if "path" in shard else [file, *made_of])
        if "path" in shard:
            remedy = f"bring back the file; or, to take it as it is now, {remedy}"
        yield file, shard, remedy
        if "index" in shard:
            index = folder / "index" / Path(shard["name"]).with_suffix(".arrow").name
            yield index, shard["index"], _remove([index, manifest])


def _remove(paths: Iterable[Path]) -> str:
    return f"{shlex.join(['rm', '-f', *map(str, paths)])}, then {AGAIN}"


def _compare(file: Path, expected: Stamp, remedy: str, advance: Callable[[int], None]) -> Iterator[Finding]:
    if not file.is_file():
        if file.exists():
            yield Finding("damaged", file, "is no file", remedy)
        elif not file.is_symlink():  # that was told already
            yield Finding("missing", file, "is not there", remedy)
        return
    try:
        found = stamp(file)
    except PermissionError as error:
        yield _unreadable(file, error)
        return
    advance(found["bytes"])
    if found["sha256"] != expected["sha256"]:
        yield Finding("damaged", file, "is not the file that was written", remedy)


def _stale_annotations(path: Path, root: Path) -> Iterator[Finding]:
    """Phrases, regions and features that were made of another split, or of another state of it."""
    places = path.relative_to(root / "data").parts
    if places[0] in ("annotations", "features") and (made_of := read_record(path).get("split")) is not None:
        split = root.joinpath("data", places[1], *places[3:])
        if not split.is_file() or stamp(split)["sha256"] != made_of:
            yield Finding("stale", path, f"was not made from what {split} describes", _remove([path]))


def _run(folder: Path, manifests: set[str], advance: Callable[[int], None]) -> Iterator[Finding]:
    path = folder / RUN
    remedy = _remove([path])
    try:
        record = read_record(path)
    except VlalignError as error:
        yield Finding("damaged" if path.exists() else "missing", path, f"({error})", remedy)
        return
    for name, expected in record.get("files", {}).items():
        yield from _compare(folder / name, expected, remedy, advance)
    own = f"{record['run']}/seed-{record['seed']}"
    if own != f"{folder.parent.name}/{folder.name}":
        yield Finding("damaged", folder, f"holds {own}: folders were moved", "move them back")
    used = {name: digest for name, digest in record.get("inputs", {}).items() if name not in WEIGHTS}
    if (start := used.pop("start", None)) is not None:
        file = folder.parents[1] / str(record["params"]["model"].get("start")) / folder.name / "model.safetensors"
        if not file.is_file() or stamp(file)["sha256"] != start:
            yield Finding("stale", folder, f"was started from other weights than those of {file}", AGAIN)
    if others := sorted(name for name, digest in used.items() if digest not in manifests):
        yield Finding("stale", folder, f"was trained on other data than there are now ({', '.join(others)})", AGAIN)
    known = {*record["files"], RUN, "README.md"}
    for file in sorted(file for file in folder.iterdir() if file.is_file() and file.name not in known):
        yield _foreign(file, path)


def _cards(folder: Path, root: Path, advance: Callable[[int], None]) -> Iterator[Finding]:
    """What a run or a model got on cards, and for its pictures."""
    for path in sorted([*folder.glob("benchmarks/*/*"), *folder.glob("generation")]):
        yield from _guarded(path / EVALUATION, _evaluation(path, root, advance, trained=folder / RUN))


def _evaluation(
    folder: Path, root: Path, advance: Callable[[int], None], *, trained: Path | None = None
) -> Iterator[Finding]:
    """A folder of metrics; trained: the record of the run that was measured, if it was one."""
    path, remedy = folder / EVALUATION, f"{shlex.join(['rm', '-r', str(folder)])}, then {AGAIN}"
    try:
        record = read_record(path)
    except VlalignError as error:
        yield Finding("damaged" if path.exists() else "missing", path, f"({error})", remedy)
        return
    for name, expected in record.get("files", {}).items():
        yield from _compare(folder / name, expected, remedy, advance)
    measured = record["measured"]
    if trained is not None and trained.is_file():
        with contextlib.suppress(VlalignError, KeyError):  # what is wrong with the run was told of it
            if measured.get("weights") != read_record(trained)["files"]["model.safetensors"]["sha256"]:
                yield Finding("stale", folder, "was measured of other weights than those of the run", remedy)
    for name, digest in measured.get("data", {}).items():
        manifest = root / name / "manifest.json"
        if manifest.is_file() and stamp(manifest)["sha256"] != digest:
            yield Finding("stale", folder, f"was measured on another state of {root / name}", AGAIN)
    known = {path.name, *record["files"]}
    for file in sorted(file for file in folder.iterdir() if file.name not in known):
        yield _foreign(file, path)


def _of_run(folder: Path, root: Path, advance: Callable[[int], None]) -> Iterator[Finding]:
    """The metrics of a run, and the model card that was written with them."""
    path = folder / "metrics" / EVALUATION
    if not path.exists() and not (folder / RUN).exists():
        return
    yield from _evaluation(path.parent, root, advance, trained=folder / RUN)
    try:
        record = read_record(path)
    except VlalignError:
        return
    card = folder / "README.md"
    if "card" in record and not card.is_file():
        yield Finding("missing", card, "is not there", AGAIN)
    elif "card" in record and stamp(card)["sha256"] != record["card"]["sha256"]:
        yield Finding("foreign", card, "was edited since it was written", f"keep it, or {_remove([card])}")


def _summaries(root: Path, advance: Callable[[int], None]) -> Iterator[Finding]:
    """What is made of all runs: collected metrics, precision, figures, tables and the report."""
    results = root / "results"
    for path in (results / name for name in SUMMARIES):
        remedy = _remove([path])
        try:
            content = read_record(path)
        except VlalignError as error:
            # Without anything that it is about, the step has not run.
            if path.exists() or (results / ("suites" if path.name == "suites.json" else "report.html")).exists():
                yield Finding("damaged" if path.exists() else "missing", path, f"({error})", remedy)
            continue
        if path.name == "metrics.json":
            yield from _guarded(path, _collected(path))
            continue
        for name, expected in content["files"].items():
            yield from _compare(path.parent / name, expected, remedy, advance)
        for place, weights in content.get("weights", {}).items():
            with contextlib.suppress(VlalignError, KeyError, TypeError):  # what is wrong with a run was told of it
                if read_record(results / "runs" / place / RUN)["files"]["model.safetensors"]["sha256"] != weights:
                    yield Finding("stale", path, f"is of other weights than {place} has", remedy)
    yield from _focus(root)
    yield from _beside(results)


def _collected(path: Path) -> Iterator[Finding]:
    """Whether the collected metrics are those of the runs that lie there."""
    from vlalign.evaluation.metrics import read_collected
    from vlalign.reporting.collect import collect

    rows = read_collected(path)
    places = dict.fromkeys((row.run, row.seed) for row in rows)
    models = {run: path.parent / "models" / run for run, _ in places}
    models = {run: folder for run, folder in models.items() if folder.is_dir()}
    folders = [path.parent / "runs" / run / f"seed-{seed}" for run, seed in places if run not in models]
    missing = [folder for folder in folders if not (folder / RUN).is_file()]
    for folder in missing:
        yield Finding("missing", folder / RUN, f"is not there, but {path} has metrics of it", AGAIN)
    with contextlib.suppress(VlalignError):  # what is wrong with a run was told of it
        if not missing and collect(folders, list(models.values())) != rows:
            yield Finding("stale", path, "does not hold the metrics of the runs", _remove([path]))


def _beside(results: Path) -> Iterator[Finding]:
    """Files among the results that no step writes."""
    named = {Path(name).name for name in SUMMARIES} | {"precision.csv", ".snakemake_timestamp"}
    for record in ("report.html.json", "suites.json"):
        with contextlib.suppress(VlalignError, KeyError):
            named |= set(read_record(results / record)["files"])
    for file in sorted(results.rglob("*")):
        name = file.relative_to(results).as_posix()
        if (
            file.is_file()
            and not name.startswith(("runs/", "models/"))
            and name not in named
            and file.name not in named
        ):
            yield _foreign(file, results / "report.html.json")


def _focus(root: Path) -> Iterator[Finding]:
    """The files at the root are those of one run."""
    from vlalign.reporting.collect import focus_texts

    if not (root / "focus.json").exists() or not (root / "results" / "metrics.json").exists():
        return
    try:
        run = read_json(root / "focus.json")["run"]
        folder = next(iter(sorted((root / "results" / "runs" / str(run)).glob("seed-*"))))
        texts = focus_texts(root / "results" / "metrics.json", folder)
    except (VlalignError, KeyError, TypeError, StopIteration):
        texts = {"focus.json": "no run's"}
    for name, text in texts.items():
        path = root / name
        if not path.is_file():
            yield Finding("missing", path, "is not there", AGAIN)
        elif _without_suites(path.read_text(encoding="utf-8", errors="replace")) != text:
            yield Finding("damaged", path, "is not what the results give", _remove([path]))


def _without_suites(text: str) -> str:
    """The means over suites are not compared: which suites there are, only the params say."""
    try:
        content = json.loads(text)
    except ValueError:
        return text
    kept = {key: value for key, value in content.items() if not key.startswith("suite-")}
    return text if len(kept) == len(content) else json_text(kept)


def _checkpoints(root: Path, advance: Callable[[int], None]) -> Iterator[Finding]:
    for path in sorted(filter(Path.is_file, (root / "checkpoints").rglob("*.pt"))):
        advance(path.stat().st_size)
        if not is_whole_archive(path):
            remedy = f"{shlex.join(['rm', str(path)])}: the run goes on from the checkpoint before"
            yield Finding("damaged", path, "is cut off or was changed", remedy)


def _snakemake(root: Path) -> Iterator[Finding]:
    """Snakemake's own records, without which it does not see that params have changed."""
    for path in sorted(file for file in (root / ".snakemake" / "metadata").rglob("*") if not file.is_dir()):
        try:
            whole = path.is_file() and isinstance(json.loads(path.read_bytes()), dict)
        except (ValueError, RecursionError):
            whole = False
        if not whole:
            output = _output_of(path.name)
            remedy = _remove([path, *([root / output] if output else [])])
            yield Finding("damaged", path, f"is no record of Snakemake's (of {output or 'an unknown file'})", remedy)
    for path in sorted((root / ".snakemake" / "incomplete").glob("*")):
        if output := _output_of(path.name):
            yield Finding("missing", root / output, "was being made when the workflow was stopped", AGAIN)


def _output_of(name: str) -> str:
    """The output that a record of Snakemake's is about."""
    try:
        return base64.urlsafe_b64decode(name.removeprefix("@")).decode()
    except (binascii.Error, ValueError):
        return ""
