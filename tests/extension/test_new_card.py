"""A data set of a known task is one card, one of a new task one card and one module: both reach the report."""

import csv
import json

import miniatures
import pytest
import yaml
from documentation import block
from published_forms import write_pictures

from vlalign.evaluation.benchmark import known_benchmarks
from vlalign.evaluation.metrics import read_folder
from vlalign.params.data import ScenesParams

pytestmark = pytest.mark.slow

PLUGIN = block("docs/benchmark.md", "class MeanRank(")
BIRDS = yaml.safe_load(block("docs/cards.md", "Birds of our garden", language="yaml"))
CLASSES, EACH, PAIRS = 3, 4, 6
VIEWS = {
    "title": "Views",
    "tasks": ["mean-rank"],
    "sources": {"test": {"source": "folder", "folder": "views", "labels": "captions"}},
    "counts": {"images": PAIRS, "captions": PAIRS},
}
RUNS = ("clip", "powerclip", "tau-0.1")


@pytest.fixture(scope="module")
def repository(finished, tmp_path_factory):
    """A clone whose workflow has finished, two data sets, and then two cards and one module."""
    repository = finished.copy(tmp_path_factory.mktemp("card") / "clone")
    draw = miniatures.noise_of("birds")
    names = [f"kind {miniatures.word(label)}" for label in range(CLASSES)]
    pictures = {f"birds/test/{name}/{n}.png": miniatures.picture(n, draw) for name in names for n in range(EACH)}
    pictures |= {f"views/{number}.jpg": miniatures.picture(number, draw) for number in range(PAIRS)}
    write_pictures(repository.root / "published", pictures)
    for number in range(PAIRS):
        (repository.root / f"published/views/{number}.txt").write_text(f"a view of {miniatures.word(number)}\n")
    # What is measured of the dataset anyway: by name, so that a new one does not join by itself.
    measured = [name for name, kind in known_benchmarks().items() if not kind.needs.lacks("test", ScenesParams().has)]
    repository.set_params({"evaluation": {"benchmarks": measured}})
    cards = repository.root / "config/benchmarks"
    birds = BIRDS | {"counts": {"images": CLASSES * EACH, "classes": CLASSES}}
    for name, content in {"birds": birds, "views": VIEWS}.items():
        (cards / f"{name}.yaml").write_text(yaml.safe_dump(content))
    (repository.root / "src/vlalign/evaluation/benchmarks/mean_rank.py").write_text(PLUGIN)
    assert repository.plan() == set(), "no suite names them"
    repository.set_params({"evaluation": {"suites": ["birds", "views"]}})
    return repository


def test_only_they_are_measured(repository):
    places = {"birds": ("zeroshot", "zeroshot/test"), "views": ("mean-rank", "test")}
    expected = {
        f"measure_run run={run}, seed=0, task={task}, card={card}" for run in RUNS for card, (task, _) in places.items()
    }
    for rule in ("card_shards", "card_manifest"):
        expected |= {f"{rule} card={card}, place={place}" for card, (_, place) in places.items()}
    assert repository.plan() == expected | {"focus", "report"}


def test_their_numbers_are_in_the_report(repository):
    repository.run("snakemake", "--cores", "2", "all")
    folder = repository.root / "results/runs/powerclip/seed-0/benchmarks"
    told, found = read_folder(folder / "zeroshot/birds")
    assert told["counts"] == {"images": CLASSES * EACH, "classes": CLASSES}
    [accuracy] = [row for row in found["zeroshot"].rows if row.metric == "accuracy"]
    [rank] = [row for row in read_folder(folder / "mean-rank/views")[1]["mean-rank"].rows if row.metric == "mean_rank"]
    assert (accuracy.chance, rank.chance) == (100 / CLASSES, (PAIRS - 1) / 2 + 1)
    tables = repository.root / "results/tables"
    for card, row in (("birds", accuracy), ("views", rank)):
        with open(tables / f"suite-{card}.csv") as stream:
            values = {line["model"]: line["value"] for line in csv.DictReader(stream) if line["card"] == card}
        assert set(values) == set(RUNS)
        assert float(values["powerclip"]) == row.value
    means = json.loads((repository.root / "metrics.json").read_text())
    assert means["suite-birds"]["birds"] == round(accuracy.value, 4)
    assert means["suite-views"] == {"views": round(rank.value, 4)}, "ranks have no mean over cards"
    page = (repository.root / "results/report.html").read_text()
    assert "Birds of our garden" in page
    assert f"{rank.value:.2f}" in page
    assert "Photographs of one camera." in page, "the remark of the card"


def test_afterwards_there_is_nothing_to_do_and_nothing_to_mend(repository):
    assert repository.plan() == set()
    assert repository.run("vlalign", "check").splitlines()[-1] == ".: 0 files to mend, 0 foreign"
