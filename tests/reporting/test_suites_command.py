"""`vlalign suites`: from what was measured to tables, and what `vlalign check` says of them."""

import json
from pathlib import Path

import pytest
import yaml
from fake_results import write_cell, write_tree
from typer.testing import CliRunner

from vlalign import cli
from vlalign.check import check_workspace
from vlalign.reporting.exports import FORMATS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path):
    """A model with numbers for one of two cards, whose data are not there."""
    cards = tmp_path / "cards"
    (cards / "suites").mkdir(parents=True)
    for name in ("birds", "cars"):
        card = {"title": name.title(), "tasks": ["zeroshot"], "homepage": "https://example.org"}
        card["sources"] = {"test": {"source": "folder", "folder": name}}
        (cards / f"{name}.yaml").write_text(yaml.safe_dump(card))
    suite = {"title": "Mine", "task": "zeroshot", "metrics": ["accuracy"], "cards": ["birds", "cars"]}
    suite |= {"published": {"Theirs": {"birds": 40.0}}, "source": "A paper"}
    (cards / "suites/mine.yaml").write_text(yaml.safe_dump(suite))
    write_cell(tmp_path / "results/models/theirs", "birds", {"accuracy": 50.0})
    (tmp_path / "data").mkdir()
    (tmp_path / "files/birds/robin").mkdir(parents=True)
    return tmp_path


def run(place, *options, **content):
    told = {
        "root": str(place),
        "evaluation": {"cards": [str(place / "cards")], "suites": ["mine"], "files": str(place / "files")},
        "models": {"theirs": {"hub": "someone/theirs", "trained_on": "birds alone"}},
        "report": {"published": {"theirs": "Theirs"}},
        **content,
    }
    (place / "overlay.yaml").write_text(yaml.safe_dump(told))
    command = ["suites", "--params", ROOT / "params.yaml", "--params", place / "overlay.yaml", *options]
    return CliRunner().invoke(cli.app, list(map(str, command)))


def test_tables_are_shown_and_written(place):
    result = run(place)
    assert result.exit_code == 0, result.output
    folder = place / "results/suites"
    assert {path.name for path in folder.iterdir()} == {f"mine{suffix}" for suffix in FORMATS}
    rows = json.loads((folder / "mine.json").read_text())["rows"]
    assert [(row["card"], row["value"], row["difference"]) for row in rows] == [
        ("birds", 50.0, 10.0),
        ("cars", None, None),
        ("mean", None, None),
    ]
    assert f"{place}/files/cars" in rows[1]["missing"]
    assert "https://example.org" in rows[1]["missing"]
    printed = " ".join(result.output.split())
    assert "theirs was trained on birds alone." in printed
    assert "Cars is missing: " in printed


def test_runs_that_are_named_stand_beside_the_models(place):
    folder = write_tree(place, arms=("clip",), seeds=(0,), taus=())[0]
    for name in ("birds", "cars"):
        write_cell(folder, name, {"accuracy": 70.0})
    (place / "files/cars/fiat").mkdir(parents=True)
    result = run(place, "--run", folder, "--output", place / "own/tables")
    assert result.exit_code == 0, result.output
    rows = json.loads((place / "own/tables/mine.json").read_text())["rows"]
    found = {(row["model"], row["card"]): row["value"] for row in rows}
    assert (found["clip", "mean"], found["theirs", "birds"], found["theirs", "mean"]) == (70.0, 50.0, None)


@pytest.mark.parametrize("change", [{"evaluation": {"suites": []}}, {"models": {}, "report": {}}])
def test_where_there_is_nothing_to_show_it_is_said(place, change):
    assert "name `evaluation.suites`, and `models` or --run" in str(run(place, **change).exception)


def test_an_output_that_is_a_file_is_named(place):
    told = str(run(place, "--output", place / "overlay.yaml").exception)
    assert told == f"{place}/overlay.yaml cannot be made, since {place}/overlay.yaml is no folder; give another path"


def findings(place):
    found = check_workspace(place)
    return {(one.kind, one.path.relative_to(place / "results").as_posix()) for one in found}


def test_what_was_written_is_checked(place):
    run(place)
    assert findings(place) == set(), "a model need not have been measured on the dataset too"
    table = place / "results/suites/mine.csv"
    before = table.read_text()
    table.write_text(before.replace("50.0", "90.0"))
    assert findings(place) == {("damaged", "suites/mine.csv")}
    table.unlink()
    assert findings(place) == {("missing", "suites/mine.csv")}
    table.write_text(before)
    (place / "results/suites/other.csv").touch()
    assert findings(place) == {("foreign", "suites/other.csv")}
    (place / "results/suites/other.csv").unlink()
    (place / "results/suites.json").unlink()
    assert ("missing", "suites.json") in findings(place)
