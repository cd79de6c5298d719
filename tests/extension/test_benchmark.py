"""A new benchmark is one file: it is measured, and its numbers are wherever those of others are."""

import csv
import json

import pytest
from documentation import block

from vlalign.evaluation.benchmark import known_benchmarks
from vlalign.files import read_json
from vlalign.params.data import ScenesParams
from vlalign.records import read_record

pytestmark = pytest.mark.slow

PLUGIN = block("docs/benchmark.md", "class MeanRank(")
RUN = "results/runs/powerclip/seed-0"


@pytest.fixture(scope="module")
def repository(finished, tmp_path_factory):
    """A clone whose runs are finished, and then one file more that its params name."""
    repository = finished.copy(tmp_path_factory.mktemp("benchmark") / "clone")
    # What is measured anyway: by name, so that a new one does not join by itself.
    measured = [name for name, kind in known_benchmarks().items() if not kind.needs.lacks("test", ScenesParams().has)]
    repository.set_params({"evaluation": {"benchmarks": measured}})
    (repository.root / "src/vlalign/evaluation/benchmarks/mean_rank.py").write_text(PLUGIN)
    assert repository.plan() == set()
    asked = {"benchmarks": ["retrieval", "mean-rank"], "params": {"mean_rank": {"first": 10}}}
    repository.set_params({"evaluation": asked})
    return repository


def test_its_params_are_in_the_schema_and_mistakes_are_named(repository, tmp_path):
    schema = json.loads(repository.run("vlalign", "schema"))["$defs"]
    assert schema["MeanRankParams"]["properties"]["first"]["default"] == 1
    assert "mean_rank" in schema["BenchmarkParams"]["properties"]
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(json.dumps({"evaluation": {"params": {"mean_rank": {"first": 0}}}}))
    result = repository.attempt("vlalign", "validate", "params.yaml", overlay)
    assert result.returncode == 1
    assert "evaluation.params.mean_rank.first: " in result.stdout


def test_it_trains_nothing_and_its_numbers_are_everywhere(repository):
    rules = {job.split()[0] for job in repository.plan()}
    # Figures of what is no longer measured, such as the worst hard negatives, go.
    assert rules == {"evaluate", "collect", "focus", "illustrate", "report"}
    repository.run("snakemake", "--cores", "1", "all")

    rows = read_json(repository.root / RUN / "metrics/mean-rank.json")["rows"]
    [mean] = [row for row in rows if row["metric"] == "mean_rank"]
    assert (mean["n"], mean["chance"], mean["direction"]) == (24, 11.5 + 10, "lower")
    assert mean["value"] >= 10
    collected = read_record(repository.root / "results/metrics.json")["rows"]
    assert {**mean, "run": "powerclip", "seed": 0} in collected
    assert read_json(repository.root / "metrics.json")["mean-rank"] == {"mean_rank": round(mean["value"], 4)}

    with open(repository.root / "results/tables/ranks-of-captions.csv") as stream:
        table = {(row["run"], row["metric"], row["group"]): float(row["mean"]) for row in csv.DictReader(stream)}
    assert table["powerclip", "mean_rank", "all"] == mean["value"]
    assert table["powerclip", "rank_by_captions", "1_captions"] == mean["value"]
    page = (repository.root / "results/report.html").read_text()
    assert page.count("Mean rank of captions") >= 2
    assert '<section id="ranks">' in page
    assert '<th scope="col">1 captions</th>' in page
    card = (repository.root / RUN / "README.md").read_text()
    assert f"| Mean rank of captions | {mean['value']:.2f} | 21.50 |" in card
    assert repository.plan() == set()
