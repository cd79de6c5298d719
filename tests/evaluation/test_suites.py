"""Every suite that is shipped, on its data sets in miniature: from the published files to the tables."""

import csv
import json
from pathlib import Path

import miniatures
import numpy as np
import pytest
import yaml
from doubles import MODELS, double_models
from fetching import point_at
from hub_server import HubServer
from typer.testing import CliRunner

from vlalign import cli
from vlalign.data.shards.split import read_manifest
from vlalign.evaluation import shot_adapters
from vlalign.evaluation.benchmark import known_benchmarks
from vlalign.evaluation.few_shots import LEARNERS
from vlalign.evaluation.metrics import read_folder, read_items
from vlalign.params import digest
from vlalign.params.cards import CARD, SUITE, known, read_card, read_suite

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "config" / "benchmarks"
CARDS = {name: read_card(name, [SHIPPED]) for name in known(CARD, [SHIPPED])}
SUITES = {name: read_suite(name, [SHIPPED]) for name in known(SUITE, [SHIPPED])}
CELLS = sorted({(suite.task, card.name) for suite in SUITES.values() for card in suite.cards})
# Of so many items guessing must be right, and wrong, that the bootstrap says something.
ENOUGH = 5


class Measured:
    """All models on all suites, by one command."""

    def __init__(self, folder, counts, given):
        self.folder, self.counts, self.given = folder, counts, given

    def cell(self, model, task, card):
        return self.folder / "out" / model / "benchmarks" / task / card

    def rows(self, model, suite):
        """The rows of the suite's cards that are of everything."""
        for card in suite.cards:
            _, found = read_folder(self.cell(model, suite.task, card.name))
            yield from (row for row in found[suite.task].rows if row.stratum == "all")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suites")
    models = {name: {"tower": "config/towers/test.json", "seed": seed} for seed, name in enumerate(MODELS)}
    evaluation = {
        "cards": ["config/benchmarks", str(folder / "cards")],
        "params": {"few_shot": {"shots": [16], "seeds": [1], "learners": list(LEARNERS)}},
    }
    (folder / "overlay.yaml").write_text(yaml.safe_dump({"models": models, "evaluation": evaluation}))
    command = ["evaluate", "--params", ROOT / "params.yaml", "--params", folder / "overlay.yaml"]
    command += [part for name in MODELS for part in ("--model", name)]
    command += [part for name in SUITES for part in ("--suite", name)]
    command += [part for name in ("data", "files") for part in (f"--{name}", folder / name)]
    with HubServer() as hub, pytest.MonkeyPatch.context() as patch:
        point_at(hub, patch)
        counts = {name: miniatures.publish(card, folder / "files", hub) for name, card in CARDS.items()}
        miniatures.write_cards(folder / "cards", {name: {"counts": found} for name, found in counts.items()}, SHIPPED)
        given = double_models(patch)
        patch.setattr(shot_adapters, "STEPS", (5,))
        result = CliRunner().invoke(cli.app, [*map(str, command), "--output", str(folder / "out")])
    assert result.exit_code == 0, result.output
    return Measured(folder, counts, given)


def test_every_cell_says_what_it_is(measured):
    found = {path.relative_to(measured.folder / "out").parts for path in measured.folder.glob("out/*/benchmarks/*/*")}
    assert found == {(model, "benchmarks", *cell) for model in MODELS for cell in CELLS}
    assert {name: card.counts.model_dump(exclude_none=True).keys() for name, card in CARDS.items()} == {
        name: counts.keys() for name, counts in measured.counts.items()
    }, "every count that a card has is compared"
    weights = {name: set() for name in MODELS}
    for model in MODELS:
        for task, name in CELLS:
            told, _ = read_folder(measured.cell(model, task, name))
            card = read_card(name, [SHIPPED, measured.folder / "cards"])
            assert told["counts"].items() >= measured.counts[name].items()
            assert (told["card"], told["task"], told["card_digest"]) == (name, task, digest(card.measured()))
            assert told["protocol"] == known_benchmarks()[task].protocol != ""
            assert told["precision"] == "fp32"
            weights[model].add(told["weights"])
    assert [len(found) for found in weights.values()] == [1, 1, 1]
    assert len(set.union(*weights.values())) == 3


def test_what_a_column_shows_has_its_interval_and_chance(measured):
    """But for distances, which are means of nothing."""
    columns = 0
    for suite in SUITES.values():
        for _, card, metric in suite.columns() if suite.chance_level else ():
            for model in MODELS:
                group, _, name = metric.rpartition("/")
                cell = measured.cell(model, suite.task, card.name)
                rows = read_folder(cell)[1][suite.task].rows
                [row] = [row for row in rows if (row.group, row.metric, row.stratum) == (group or "all", name, "all")]
                assert row.low <= row.value <= row.high
                assert 0 < row.chance < 100
                scores = read_items(cell)[row.place].scores_N
                assert row.value == pytest.approx(100 * scores.mean())
                columns += 1
    assert columns == 3 * sum(len(suite.columns()) for suite in SUITES.values() if suite.chance_level) > 3 * 50


def test_every_picture_is_encoded_once_for_each_model(measured):
    """Whatever the suites and tasks that ask for it."""
    manifests = {path.read_bytes(): path.parent for path in measured.folder.glob("data/*/**/manifest.json")}
    pictures = sum(read_manifest(folder)["samples"] for folder in manifests.values())
    assert {measured.given[model, "image"] for model in MODELS} == {pictures}
    asked = [(task, card) for task, card in CELLS if task in ("linear-probe", "modality")]
    assert len(asked) == 6, "their pictures are those of other cells too"


@pytest.mark.parametrize("name", [name for name, suite in SUITES.items() if suite.chance_level])
def test_a_model_that_knows_nothing_scores_chance(measured, name):
    """Of 95 % intervals a few miss it: small samples are not that exact."""
    rows = [row for row in measured.rows("random", SUITES[name]) if None not in (row.low, row.chance)]
    rows = [row for row in rows if row.n * min(row.chance, 100 - row.chance) / 100 >= ENOUGH]
    assert len(rows) >= 2 * len(SUITES[name].cards)
    assert np.mean([row.low <= row.chance <= row.high for row in rows]) >= 0.85


def test_a_model_that_knows_the_answer_scores_100(measured):
    for suite in SUITES.values():
        rows = [row for row in measured.rows("leaking", suite) if row.chance and row.direction == "higher"]
        found = {(row.benchmark, row.metric, row.group): row.value for row in rows if row.metric != "times_chance"}
        assert suite.name == "gap" or len(rows) >= len(suite.cards)
        assert set(found.values()) <= {100}, found
    gaps = {row.metric: row.value for row in measured.rows("leaking", SUITES["gap"])}
    for metric in ("mean_distance", "cs_divergence", "distribution_distance"):
        assert gaps[metric] == pytest.approx(0, abs=1e-5)
        assert min(row.value for row in measured.rows("random", SUITES["gap"]) if row.metric == metric) > 0.02


SHUFFLED = [
    (suite.name, metric.name)
    for suite in SUITES.values()
    for metric in known_benchmarks()[suite.task].metrics
    if metric.name.endswith("_shuffled")
]


@pytest.mark.parametrize(("name", "metric"), SHUFFLED)
def test_with_shuffled_labels_the_answer_is_worth_nothing(measured, name, metric):
    rows = [row for row in measured.rows("leaking", SUITES[name]) if row.metric == metric]
    assert len(rows) == len(SUITES[name].cards)
    assert np.mean([row.low <= row.chance <= row.high for row in rows]) >= 0.8


@pytest.mark.parametrize("suite", ["composition", "retrieval3", "longcaption", "zeroshot17", "robustness6"])
def test_a_model_that_tells_nothing_apart_scores_0(measured, suite):
    rows = [row for row in measured.rows("constant", SUITES[suite]) if row.chance]
    assert len(rows) >= len(SUITES[suite].columns())
    assert {row.value for row in rows} == {0}


def cells(lines, *, split, end):
    return [[cell.strip() for cell in line.removesuffix(end).removeprefix("|").split(split)] for line in lines]


def read_markdown(measured, name):
    """The header and the rows of a table."""
    lines = (measured.folder / f"out/suite-{name}.md").read_text().splitlines()
    header, _, *rows = cells((line for line in lines if line.startswith("|")), split=" | ", end=" |")
    return header, rows


def read_latex(measured, name):
    text = (measured.folder / f"out/suite-{name}.tex").read_text()
    for code, character in {"$-$": "−", "--": "–", r"$\to$": "→", r"\_": "_"}.items():
        text = text.replace(code, character)
    lines = text.partition("\\midrule")[2].partition("\\bottomrule")[0].strip().splitlines()
    return cells(lines, split=" & ", end=r" \\")


@pytest.mark.parametrize("name", SUITES)
def test_all_formats_of_a_table_have_the_same_numbers(measured, name):
    suite, path = SUITES[name], measured.folder / f"out/suite-{name}.json"
    records = json.loads(path.read_text())["rows"]
    lines = path.with_suffix(".csv").read_text().splitlines()
    for record, row in zip(records, csv.DictReader(lines), strict=True):
        assert row == {key: "" if value is None else str(value) for key, value in record.items()}
    header, rows = read_markdown(measured, name)
    assert header[:4] == ["benchmark", *MODELS]
    assert read_latex(measured, name) == rows

    values = {(record["model"], record["card"], record["metric"]): record for record in records}
    columns = [(card.name, metric) for _, card, metric in suite.columns()]
    columns += [("mean", "mean")] if suite.chance_level else []
    assert len(values) == len(records) == len(MODELS) * len(columns)
    assert len({row[0] for row in rows}) == len(rows) == len(columns), "each is called otherwise"
    digits = 3 if name == "gap" else 1
    for (card, metric), row in zip(columns, rows, strict=True):
        for model, cell in zip(MODELS, row[1:], strict=False):
            record = values[model, card, metric]
            shown = f"{record['value']:.{digits}f}"
            if record["low"] is not None:
                shown += f" [{record['low']:.{digits}f}, {record['high']:.{digits}f}]"
            assert cell == shown.replace("-", "−")
    for model in MODELS if suite.chance_level else ():
        each = [values[model, *column]["value"] for column in columns[:-1]]
        assert values[model, "mean", "mean"]["value"] == pytest.approx(np.mean(each))


@pytest.mark.parametrize("name", [name for name, suite in SUITES.items() if suite.published])
def test_published_numbers_stand_beside(measured, name):
    header, rows = read_markdown(measured, name)
    columns = [column for column, _, _ in SUITES[name].columns()] + ["mean"]
    expected = [*(f"{method}, published" for method in SUITES[name].published), "chance"]
    assert header[4 : 4 + len(expected)] == expected
    for place, numbers in enumerate(SUITES[name].published.values(), start=4):
        shown = {column: row[place] for column, row in zip(columns, rows, strict=True) if row[place] != "–"}
        assert shown == {column: f"{number:.1f}" for column, number in numbers.items()}
