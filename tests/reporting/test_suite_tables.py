"""The tables of suites, from numbers that are written by hand."""

import json
import statistics
from pathlib import Path

import pytest
from fake_results import write_cell

from vlalign.errors import VlalignError
from vlalign.params.cards import Suite
from vlalign.records import read_record, write_record
from vlalign.reporting.cells import MISSING
from vlalign.reporting.suites import Subject, suite_means, suite_table

CARDS = ("birds", "cars", "fish")
PUBLISHED = {"Theirs": {"birds": 40.0, "mean": 50.0}, "Others": {"cars": 12.5}}


def card(name, task="zeroshot", **keys):
    kinds = {"zeroshot": {"source": "folder", "folder": name}, "composition": {"source": "aro", "folder": name}}
    kinds["modality"] = {"source": "folder", "folder": name, "labels": "captions"}
    return {"name": name, "title": name.title(), "tasks": [task], "sources": {"test": kinds[task]}, **keys}


def suite(**keys):
    told = {"name": "mine", "title": "Mine", "task": "zeroshot", "metrics": ["accuracy"], "published": PUBLISHED}
    told |= {"source": "A paper", "setting": "Their setting.", "cards": [card(name) for name in CARDS]}
    return Suite.model_validate(told | keys)


@pytest.fixture
def model(tmp_path):
    """A model with a number for each card."""
    for name, value in zip(CARDS, (10.0, 20.25, 60.0), strict=True):
        write_cell(tmp_path / "model", name, {"accuracy": value})
    return Subject("model", (tmp_path / "model",), trained_on="ten pictures")


def shown(table):
    """{column: {row: cell}} as it is read, whatever lies on its side."""
    return {
        column: {row.name: " ".join(filter(None, (row.cells[place].text, row.cells[place].note))) for row in table.rows}
        for place, column in enumerate(table.header[1:])
    }


def test_published_numbers_and_the_differences_are_right(model):
    columns = shown(suite_table(suite(), [Subject(**{**vars(model), "published": "Theirs"})]))
    assert list(columns) == ["model", "Theirs, published", "difference to Theirs", "Others, published", "chance"]
    assert columns["model"] == {
        "Birds": "10.0 [1.0, 99.0]",
        "Cars": "20.2 [1.0, 99.0]",
        "Fish": "60.0 [1.0, 99.0]",
        "mean": "30.1",
    }
    assert columns["Theirs, published"] == {"Birds": "40.0", "Cars": MISSING, "Fish": MISSING, "mean": "50.0"}
    assert columns["difference to Theirs"] == {"Birds": "−30.0", "Cars": MISSING, "Fish": MISSING, "mean": "−19.9"}
    assert columns["Others, published"] == {"Birds": MISSING, "Cars": "12.5", "Fish": MISSING, "mean": MISSING}
    assert columns["chance"] == dict.fromkeys(("Birds", "Cars", "Fish", "mean"), "25.0")


def test_records_are_unrounded_and_have_what_numbers_depend_on(model):
    records = suite_table(suite(), [Subject(**{**vars(model), "published": "Theirs"})]).records
    by_card = {record["card"]: record for record in records}
    assert {name: record["value"] for name, record in by_card.items()} == {
        "birds": 10.0,
        "cars": 20.25,
        "fish": 60.0,
        "mean": pytest.approx((10 + 20.25 + 60) / 3),
    }
    assert (by_card["birds"]["published"], by_card["birds"]["difference"]) == (40.0, -30.0)
    assert by_card["mean"]["difference"] == pytest.approx((10 + 20.25 + 60) / 3 - 50)
    assert by_card["cars"].items() >= {"n": 4, "chance": 25.0, "low": 1.0, "high": 99.0, "published": None}.items()
    assert by_card["cars"].items() >= {"weights": "w", "precision": "fp32", "card_digest": "digest of cars"}.items()
    assert {record["trained_on"] for record in records} == {"ten pictures"}


def test_the_caption_says_what_a_model_has_seen(model):
    text = suite_table(suite(), [model]).caption
    assert "model was trained on ten pictures." in text
    assert "Published numbers: A paper. Their setting." in text
    assert "Normalised prompts, mean over templates" in text
    assert "Published numbers" not in suite_table(suite(source="", setting=""), [model]).caption


def test_a_record_without_the_file_of_its_task_is_named(model):
    path = model.folders[0] / "benchmarks/zeroshot/cars/evaluation.json"
    write_record(path, {**read_record(path), "files": {}})
    with pytest.raises(VlalignError, match=r"evaluation\.json names no zeroshot\.json; delete .*/cars and evaluate"):
        suite_table(suite(), [model])


@pytest.mark.parametrize("why", ["not measured yet", "no such folder"])
def test_there_is_a_mean_only_where_all_columns_were_measured(model, tmp_path, why):
    [folder] = model.folders
    for path in (folder / "benchmarks/zeroshot/cars").iterdir():
        path.unlink()
    missing = {("model", "cars"): why} if why != "not measured yet" else {}
    write_cell(tmp_path / "other", "cars", {"accuracy": 90.0})
    write_cell(tmp_path / "whole", "cars", {"accuracy": 90.0})
    for name in ("birds", "fish"):
        write_cell(tmp_path / "whole", name, {"accuracy": 30.0})
    subjects = [model, *(Subject(name, (tmp_path / name,)) for name in ("other", "whole"))]
    table = suite_table(suite(), subjects, missing)
    means = {name: column["mean"] for name, column in shown(table).items() if "published" not in name}
    assert means == {"model": MISSING, "other": MISSING, "whole": "50.0", "chance": "25.0"}
    assert shown(table)["model"]["Cars"] == MISSING
    assert f"Cars of model is missing: {why}." in table.caption
    assert "Birds of other is missing: not measured yet." in table.caption


def test_what_lies_there_of_before_is_not_shown_where_there_is_no_number_today(model):
    table = suite_table(suite(), [model], {("model", "fish"): "its count is another"})
    assert shown(table)["model"]["Fish"] == MISSING
    [record] = [record for record in table.records if record["card"] == "fish"]
    assert (record["value"], record["missing"]) == (None, "its count is another")
    assert "Fish is missing: its count is another." in table.caption


def test_seeds_are_averaged_and_the_mean_is_that_of_each_seed(tmp_path):
    seeds = {0: (10.0, 20.0, 60.0), 1: (20.0, 40.0, 60.0)}
    for seed, values in seeds.items():
        for name, value in zip(CARDS, values, strict=True):
            write_cell(tmp_path / f"seed-{seed}", name, {"accuracy": value})
    folders = tuple(tmp_path / f"seed-{seed}" for seed in seeds)
    found = shown(suite_table(suite(), [Subject("run", folders)]))["run"]
    means = [statistics.mean(values) for values in seeds.values()]
    assert found["Birds"] == f"15.0 ± {statistics.stdev((10, 20)):.1f}"
    assert found["mean"] == f"35.0 ± {statistics.stdev(means):.1f}"
    assert suite_means(suite(), folders) == {"birds": 15.0, "cars": 30.0, "fish": 60.0, "mean": 35.0}
    # Of each card one seed is left, but not the same.
    for seed, name in ((0, "birds"), (1, "cars"), (0, "fish")):
        (folders[seed] / "benchmarks/zeroshot" / name / "evaluation.json").unlink()
    found = shown(suite_table(suite(), [Subject("run", folders)]))["run"]
    assert (found["Birds"], found["mean"]) == ("20.0 [1.0, 99.0]", MISSING)
    assert suite_means(suite(), folders) == {"birds": 20.0, "cars": 20.0, "fish": 60.0}


def test_numbers_of_other_weights_do_not_pass_unnoticed(model):
    write_cell(model.folders[0], "fish", {"accuracy": 60.0}, weights="others")
    assert "model was measured with different weights" in suite_table(suite(), [model]).caption
    write_cell(model.folders[0], "fish", {"accuracy": 60.0})
    assert "different weights" not in suite_table(suite(), [model]).caption


def test_columns_are_called_by_what_tells_them_apart(tmp_path):
    metrics = {
        "birds": ["left/accuracy", "right/accuracy"],
        "cars": ["cars/text", "cars/group"],
        "fish": ["fish/accuracy"],
    }
    cards = [card(name, "composition", metrics=found) for name, found in metrics.items()]
    for name, found in metrics.items():
        write_cell(tmp_path, name, dict.fromkeys(found, 50.0), task="composition")
    table = suite_table(
        suite(task="composition", cards=cards, metrics=[], published={}), [Subject("model", (tmp_path,))]
    )
    expected = ["Birds: left", "Birds: right", "Cars: Text score", "Cars: Group score", "Fish", "mean"]
    assert [row.name for row in table.rows] == expected


def test_distances_have_their_digits_and_no_mean(tmp_path):
    told = {"task": "modality", "metrics": ["mean_distance"], "chance_level": False, "published": {}}
    told["cards"] = [card("birds", "modality"), card("cars", "modality")]
    for name in ("birds", "cars"):
        write_cell(tmp_path, name, {"mean_distance": 0.12345}, task="modality", chance=None, bounds=None)
    table = suite_table(suite(**told), [Subject("model", (tmp_path,))])
    assert shown(table) == {"model": {"Birds": "0.123", "Cars": "0.123"}}
    assert suite_means(suite(**told), [tmp_path]) == {"birds": 0.1235, "cars": 0.1235}


def test_a_number_that_was_changed_is_refused(model):
    path = Path(model.folders[0], "benchmarks/zeroshot/fish/zeroshot.json")
    content = json.loads(path.read_text())
    content["rows"][0]["value"] = 99.0
    path.write_text(json.dumps(content))
    with pytest.raises(Exception, match=r"zeroshot\.json is not the file that .*evaluation\.json describes"):
        suite_table(suite(), [model])


def test_where_nothing_was_measured_there_is_no_table(tmp_path):
    subjects = [Subject("model", (tmp_path,))]
    assert suite_table(suite(), subjects).rows == ()
    assert len(suite_table(suite(), subjects, {("model", "fish"): "no such folder"}).rows) == len(CARDS) + 1
