"""New terms, aggregators, sources and segmenters through the workflow: what one file adds reaches the report, and only
what names it is made.
"""

import csv
import json

import pytest
from documentation import block
from own_files import pictures
from repository import new_repository
from test_segmenter import PLUGIN as SEGMENTER

from vlalign.annotate.regions.annotation import RegionFile

pytestmark = pytest.mark.slow

TERM, AGGREGATOR = block("docs/loss.md", "class Sigmoid("), block("docs/loss.md", "class Power(")
SOURCE = block("docs/source.md", "class LinesSource(")
IMAGES = 24


def test_a_term_and_an_aggregator(finished_copy):
    repository = finished_copy
    package = repository.root / "src" / "vlalign"
    (package / "training/terms/sigmoid.py").write_text(TERM)
    (package / "objectives/aggregators/power.py").write_text(AGGREGATOR)
    assert repository.plan() == set(), "no run names them"
    arms = {
        "sigmoid": {"objective": {"contrastive": 0, "sigmoid": 1.0}},
        "power": {"objective": {"powerset": {"weight": 2.0, "aggregator": "power", "power": 3.0}}},
    }
    repository.set_params({"runs": {"arms": ["clip", "powerclip", *arms]}, "arms": arms})
    made = {f"{rule} run={arm}, seed=0" for rule in ("pretrain", "evaluate") for arm in arms}
    assert repository.plan() == {*made, "collect", "focus", "illustrate", "report"}
    repository.run("snakemake", "--cores", "2", "all")
    runs = repository.root / "results" / "runs"
    with open(runs / "sigmoid/seed-0/history.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[-1]["sigmoid"]) < float(rows[0]["sigmoid"])
    assert "1 × sigmoid" in (runs / "sigmoid/seed-0/README.md").read_text()
    assert "PowerCLIP (power)" in (runs / "power/seed-0/README.md").read_text()
    with open(repository.root / "results/tables/arms.csv") as stream:
        assert {row["run"] for row in csv.DictReader(stream)} == {"clip", "powerclip", *arms}
    page = (repository.root / "results/report.html").read_text()
    assert all(f">{arm}<" in page for arm in arms)
    assert "Sigmoid loss" in page, "a panel of the figure of the training"
    assert repository.plan() == set()


@pytest.mark.exhaustive
def test_a_source_and_a_segmenter(tmp_path):
    repository = new_repository(tmp_path / "project")
    package = repository.root / "src" / "vlalign"
    (package / "data/sources/lines.py").write_text(SOURCE)
    (package / "annotate/regions/segmenters/tiles.py").write_text(SEGMENTER)
    pictures(repository.root / "mine", *(f"{number}.png" for number in range(IMAGES)))
    rows = [{"path": f"{number}.png", "texts": [f"a dog above {number} cats"]} for number in range(IMAGES)]
    (repository.root / "mine/pictures.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    source = {"source": "lines", "file": "mine/pictures.jsonl"}
    repository.set_params(
        {
            "runs": {"arms": ["powerclip"], "ablations": []},
            "train": {"steps": 4},
            "dataset": "mine",
            "datasets": {"mine": {"train": source, "validation": source, "test": source}},
            "annotate": {"regions": {"segments": {"segmenter": "tiles", "rows": 2, "min_area": 0.005}}},
        }
    )
    repository.run("snakemake", "--cores", "2", "all")
    regions = RegionFile(repository.root / "data/annotations/mine/regions/train/000000.arrow")
    assert (len(regions), len(regions[0].masks())) == (IMAGES, 4)
    page = (repository.root / "results/report.html").read_text()
    assert "mine/pictures.jsonl" in page, "where the data came from"
    assert f"{IMAGES} images of test also in train" in page
    segmenter = package / "annotate/regions/segmenters/tiles.py"
    segmenter.write_text(SEGMENTER.replace("np.ones(len(tiles))", "np.full(len(tiles), 2.0)"))
    planned = {job.split()[0] for job in repository.plan()}
    assert {"regions", "pretrain", "evaluate", "report"} <= planned
    assert not planned & {"pack", "find_shards", "verify", "parser", "phrases"}
