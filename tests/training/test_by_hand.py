"""`vlalign pretrain` as a person types it."""

import json
import logging
from pathlib import Path

import pytest
from training_runs import TOWER
from typer.testing import CliRunner

from vlalign import cli
from vlalign.cli.options import given
from vlalign.cli.pretrain import run_named
from vlalign.errors import VlalignError
from vlalign.records import read_record

PROJECT = Path(__file__).parents[2]
PARAMS = {
    "focus": "powerclip",
    "runs": {"arms": ["clip", "powerclip"], "seeds": [0], "ablations": ["short"]},
    "arms": {"clip": {}, "powerclip": {"objective": {"powerset": {"weight": 1.0}}, "train": {"steps": 3}}},
    "model": {"tower": TOWER},
    "train": {"steps": 2, "batch_size": 8},
    "ablations": [{"name": "short", "arm": "clip", "param": "train.steps", "values": [1]}],
    "report": {"control": "clip"},
}


@pytest.fixture
def root(tmp_path, inputs, monkeypatch):
    """A workspace with its data where the workflow has them, below the `root` of an overlay."""
    (tmp_path / "params.yaml").write_text(json.dumps(PARAMS))
    (tmp_path / "own.yaml").write_text("root: own\n")
    links = {
        "scenes/train": inputs.split,
        "scenes/validation": inputs.split,
        "annotations/scenes/phrases/train": inputs.phrases,
        "annotations/scenes/regions/train": inputs.regions,
    }
    for name, folder in links.items():
        (tmp_path / "own" / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / "data" / name).symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "own"


def pretrain(*options):
    command = ["pretrain", "--params", "params.yaml", "--params", "own.yaml", *options]
    return CliRunner().invoke(cli.app, command, catch_exceptions=True)


def test_a_run_finds_its_data_and_its_place(root):
    result = pretrain("--run", "powerclip", "--seed", "4")
    assert result.exit_code == 0, result.exception
    record = read_record(root / "results/runs/powerclip/seed-4/run.json")
    assert (record["run"], record["seed"], record["params"]["train"]["steps"]) == ("powerclip", 4, 3)
    assert set(record["inputs"]) == {"split", "phrases", "regions"}
    assert record["validation"] is not None
    assert (root / "checkpoints/powerclip/seed-4/lock").exists()


def test_a_changed_run_has_a_place_of_its_own(root, caplog):
    caplog.set_level(logging.INFO)
    assert pretrain("--run", "powerclip").exit_code == 0
    before = (root / "results/runs/powerclip/seed-0/run.json").read_bytes()
    result = pretrain("--run", "powerclip", "train.steps=5", "objective.powerset.tau=0.1")
    assert result.exit_code == 0, result.exception
    [folder] = (root / "runs").iterdir()
    assert folder.name.startswith("powerclip-")
    assert f"{folder.name} seed 0 goes to {(folder / 'seed-0').relative_to(root.parent)}" in caplog.text
    record = read_record(folder / "seed-0" / "run.json")
    assert record["run"] == folder.name
    assert record["params"]["train"]["steps"] == 5, "it wins over what the arm itself changes"
    assert record["params"]["objective"]["powerset"]["tau"] == 0.1
    assert (root / "results/runs/powerclip/seed-0/run.json").read_bytes() == before
    assert pretrain("--run", "short-1", "train.steps=2", "--output", "out").exit_code == 0
    record = read_record(root.parent / "out" / "run.json")
    assert (record["params"]["train"]["steps"], record["arm"], record["ablation"]) == (2, "clip", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--run", "powerclap"], "--run 'powerclap' is no run of these params; nearest: powerclip, "),
        (["--run", "clip", "train.stepz=5"], "train.stepz: unknown key; nearest: steps"),
        (["--run", "clip", "train.steps"], "'train.steps' changes no param"),
        (["--run", "clip", "--digest", "0"], "the params of `pretrain` are no longer those"),
        (["--run", "clip", "--data", "."], "train/manifest.json does not exist; make the data first"),
    ],
)
def test_a_mistake_is_one_message_and_trains_nothing(root, options, message):
    result = pretrain(*options)
    assert isinstance(result.exception, VlalignError)
    assert message in str(result.exception)
    assert not (root / "results").exists()
    assert not (root / "runs").exists()


@pytest.mark.parametrize(
    "change", [["train.steps=2"], ["--params", "train.steps=2"]], ids=["argument", "among the files"]
)
def test_changed_params_replace_no_result_of_the_workflow(root, change):
    result = pretrain("--run", "powerclip", *change, "--output", "own/results/runs/powerclip/seed-0")
    assert isinstance(result.exception, VlalignError)
    assert "is the workflow's; with params or data of your own, give another --output" in str(result.exception)
    assert not (root / "results").exists()


def test_a_param_among_the_files_is_like_an_overlay_and_gives_the_run_a_folder_of_its_own(root):
    laid_over = "train={steps: 2, batch_size: 4}"
    assert pretrain("--run", "powerclip", "--params", laid_over).exit_code == 0
    assert not (root / "results").exists()
    [folder] = (root / "runs").glob("powerclip-*/seed-0")
    train = read_record(folder / "run.json")["params"]["train"]
    assert (train["steps"], train["batch_size"]) == (3, 4), "what the arm itself says wins over files"


def test_what_is_changed_of_one_run_leaves_the_run_that_it_starts_from_as_it_is():
    told = given([str(PROJECT / "params.yaml")], ["model.adapters.hidden=8"], of_run=True)
    assert run_named(told, "clip-nce").params.model.adapters.hidden == 8
    assert told.params.all_runs["clip"].params.model.adapters is None
    assert told.params.all_runs["clip-nce"].params.model.adapters.hidden == 128
