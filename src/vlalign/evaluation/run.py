"""Measure one trained run: every benchmark that its data allow, one JSON file each."""

import contextlib
import logging
from pathlib import Path
from typing import Any

from vlalign import freshness, models
from vlalign.data.shards.split import check_place
from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import (
    AbsentError,
    Benchmark,
    UnmeasurableError,
    headline,
    known_benchmarks,
    manifest_of,
)
from vlalign.evaluation.metrics import Items, Measurement, Place, write_metrics
from vlalign.evaluation.workbench import Workbench
from vlalign.params import EvaluationParams
from vlalign.records import check_record, stamp

logger = logging.getLogger(__name__)


def evaluate(
    run_dir: str | Path,
    *,
    data: str | Path,
    annotations: str | Path | None = None,
    output_dir: str | Path | None = None,
    settings: EvaluationParams | None = None,
) -> dict[str, Measurement]:
    """Run benchmarks on a trained encoder and write `<output_dir>/<benchmark>.json` for each.

    run_dir: folder of a run, as training writes it. data: dataset folder with `<split>`, `zeroshot/<split>`,
    `composition/<split>`. annotations: folder with `phrases/<split>`, which grounding needs. output_dir:
    `<run_dir>/metrics` when None. settings: what is measured, on which split; of benchmarks that it does not name,
    those whose data are absent are logged and left out. Thresholds, centres and classifiers always come from the split
    "validation".

    Returns what came of every benchmark, as written.
    Raises VlalignError for a benchmark asked for by name whose data are absent, and for class lists that do not fit the
    data.
    """
    settings = settings or EvaluationParams()
    data, annotations = Path(data), None if annotations is None else Path(annotations)
    about = subject(Path(run_dir), data=data, annotations=annotations, settings=settings)
    benchmarks = [known_benchmarks()[name](params) for name, params in settings.named().items()]
    dense = any("phrases" in benchmark.needs.split for benchmark in benchmarks)
    bench = Workbench(models.load(run_dir), data, annotations, dense=dense, batch_size=settings.batch_size)
    for benchmark in benchmarks:
        splits = [split for kind, split in benchmark.needs.data(settings.split) if kind == "classes"]
        # Whether data that are absent were asked for is decided when the benchmark is measured.
        with contextlib.suppress(AbsentError):
            if splits:
                bench.check_classes(*splits)
    items: dict[Place, Items] = {}
    found = {one.name: _measure(bench, one, settings, items) for one in benchmarks}
    measured = {name: measurement for name, measurement in found.items() if measurement is not None}
    folder = Path(run_dir) / "metrics" if output_dir is None else Path(output_dir)
    write_metrics(folder, measured, items, measured=about)
    return measured


def subject(run_dir: Path, *, data: Path, annotations: Path | None, settings: EvaluationParams) -> dict[str, Any]:
    """What is measured, on what and by which code: equal subjects have equal scores. Manifests count by SHA-256."""
    known, named = known_benchmarks(), settings.named()
    read = {item for name in named for item in known[name].needs.data(settings.split)}
    manifests = {}
    for kind, split in sorted(read):
        path = manifest_of(kind, split, data=data, annotations=annotations)
        if path is None or not path.is_file():
            continue
        if kind != "phrases":
            # What is damaged must not be taken for what was measured.
            check_place(path.parent, check_record(path))
        manifests[path.parent.as_posix()] = stamp(path)["sha256"]
    return {
        "weights": stamp(models.weights_file(run_dir))["sha256"],
        "data": manifests,
        "split": settings.split,
        "benchmarks": {name: params.model_dump(mode="json") for name, params in named.items()},
        "code": freshness.digest("evaluate", benchmarks=named),
    }


def _measure(
    bench: Workbench, benchmark: Benchmark, settings: EvaluationParams, items: dict[Place, Items]
) -> Measurement | None:
    """What came of one benchmark; None where it was not asked for and has no data. items: where its items go."""
    name, split = benchmark.name, settings.split
    logger.info("%s: measuring on %s", name, split)
    try:
        if reason := benchmark.needs.lacks(split, bench.has):
            raise AbsentError(reason)
        rows = benchmark.rows(bench, split)
    except UnmeasurableError as reason:
        logger.warning("%s is not measured: %s", name, reason)
        return Measurement(not_measured=str(reason))
    except AbsentError as reason:
        if settings.benchmarks is not None:
            raise VlalignError(f"benchmark {name}: {reason}") from None
        logger.warning("%s is left out: %s", name, reason)
        return None
    items |= {row.place: Items(row.items, row.blocks) for row in rows if row.items is not None}
    found = Measurement(rows=[row.model_copy(update={"items": None, "blocks": None}) for row in rows])
    for metric in headline([name]):
        for row in (row for row in found.rows if metric.place == row.place):
            guessed = "" if row.chance is None else f" (chance {row.chance:.{metric.digits}f})"
            logger.info("%s: %s %.*f%s", name, metric.label, metric.digits, row.value, guessed)
    return found
