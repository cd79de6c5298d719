"""Whole folders and files that vouch for themselves, but in the place of others."""

import shutil

import pytest
from training_runs import TOWER
from workspace import ANNOTATIONS, DATA, REPORT, RUN

from vlalign.check import check_workspace
from vlalign.errors import VlalignError
from vlalign.evaluation.run import evaluate
from vlalign.params import ModelParams
from vlalign.records import read_record, write_record
from vlalign.reporting.collect import collect
from vlalign.reporting.report import write_report
from vlalign.training.data.inputs import Inputs


def swap(one, other):
    away = one.with_name("away")
    one.rename(away)
    other.rename(one)
    away.rename(other)


def findings(root):
    return {(found.kind, found.path.relative_to(root).as_posix()) for found in check_workspace(root)}


@pytest.mark.parametrize("group", ["zeroshot", "composition", ""])
def test_splits_that_were_swapped_are_not_measured(workspace, group):
    data = workspace / DATA
    swap(data / group / "validation", data / group / "test")
    with pytest.raises(VlalignError, match=r"holds the split .*validation, not .*test: folders were moved"):
        evaluate(workspace / RUN, data=data, annotations=workspace / ANNOTATIONS, output_dir=workspace / "metrics")
    assert not (workspace / "metrics").exists()
    moved = {("damaged", (DATA / group / name).as_posix()) for name in ("validation", "test")}
    assert moved <= findings(workspace)


def test_nothing_is_trained_on_the_split_that_is_measured(workspace):
    data = workspace / DATA
    swap(data / "train", data / "test")
    with pytest.raises(VlalignError, match="holds the split test, not train"):
        Inputs(data / "train").hashes(ModelParams(tower=TOWER))


def test_a_copy_of_a_split_may_have_any_name(workspace):
    shutil.copytree(workspace / DATA / "train", workspace / "mine")
    assert set(Inputs(workspace / "mine").hashes(ModelParams(tower=TOWER))) == {"split"}


def test_runs_that_were_swapped_are_not_collected(workspace):
    other = workspace / "results/runs/clip/seed-0"
    other.parent.mkdir()
    (workspace / RUN).rename(other)
    with pytest.raises(VlalignError, match="holds seed 0 of powerclip: folders were moved"):
        collect([other])
    assert ("damaged", "results/runs/clip/seed-0") in findings(workspace)


def with_other_weights(run):
    """Another state of a run: all of its records fit, its metrics are those of the new weights."""
    record, measured = read_record(run / "run.json"), read_record(run / "metrics/evaluation.json")
    digest = "1" * 64
    record["files"]["model.safetensors"]["sha256"] = measured["measured"]["weights"] = digest
    write_record(run / "run.json", record)
    write_record(run / "metrics/evaluation.json", measured)


@pytest.mark.parametrize("name", ["precision.csv.json", "figures/illustrations.json"])
def test_what_was_made_of_other_weights_is_not_reported(workspace, name):
    results = workspace / "results"
    with_other_weights(workspace / RUN)
    for path in {"precision.csv.json", "figures/illustrations.json"} - {name}:
        write_record(
            results / path, {key: value for key, value in read_record(results / path).items() if key != "weights"}
        )
    with pytest.raises(VlalignError, match=f"{name} is of other weights than powerclip/seed-0"):
        report(results)
    assert ("stale", f"results/{name}") in findings(workspace)


def report(results):
    write_report(
        results / "metrics.json",
        [results.parent / RUN],
        params=REPORT,
        precision=results / "precision.csv",
        figures=results / "figures",
        tables=results / "tables",
        output=results / "report.html",
    )


def test_metrics_of_another_workspace_are_not_reported(workspace):
    path = workspace / "results/metrics.json"
    metrics = read_record(path)
    metrics["rows"][0]["value"] = 99.0
    write_record(path, metrics)
    with pytest.raises(VlalignError, match="was not collected from these runs"):
        report(path.parent)
    assert ("stale", "results/metrics.json") in findings(workspace)


def test_metrics_of_a_run_that_is_gone_are_told(workspace):
    shutil.rmtree(workspace / RUN)
    assert ("missing", f"{RUN}/run.json") in findings(workspace)


@pytest.mark.parametrize("key", ["split", "data"])
def test_runs_that_were_measured_on_different_data_are_not_compared(workspace, key):
    other = workspace / "results/runs/powerclip/seed-1"
    shutil.copytree(workspace / RUN, other)
    write_record(other / "run.json", {**read_record(other / "run.json"), "seed": 1})
    record = read_record(other / "metrics/evaluation.json")
    record["measured"][key] = {"split": "validation", "data": {"data/scenes/test": "0" * 64}}[key]
    write_record(other / "metrics/evaluation.json", record)
    with pytest.raises(VlalignError, match="were not measured on the same data"):
        collect([workspace / RUN, other])


@pytest.mark.parametrize("name", ["results/more.csv", "results/tables/more.csv", "results/figures/more.svg"])
def test_files_beside_the_results_are_foreign(workspace, name):
    (workspace / name).write_text("x")
    assert findings(workspace) == {("foreign", name)}
