"""A folder of photographs and a table of captions, from nothing to a report, as the README shows it."""

import re

import pytest
import yaml
from repository import new_repository

from vlalign.records import read_record

SMALL = {
    "runs": {"arms": ["powerclip"]},
    "annotate": {"parser": {"trees": 50, "epochs": 1}},
    "model": {"tower": "config/towers/test.json"},
    "train": {"steps": 4, "batch_size": 8},
    "report": {"precision": {"regions": [2], "pairs": 4}},
}
PICTURES = ("similarity", "retrieval-examples-captions", "retrieval-examples-pictures")


@pytest.mark.slow
def test_from_files_to_a_report(tmp_path):
    repository = new_repository(tmp_path / "project")
    (repository.root / "small.yaml").write_text(yaml.safe_dump(SMALL))
    printed = repository.run("python", "examples/photographs.py", "photographs")
    overlays = ["config/photographs.yaml", "small.yaml"]
    repository.run("snakemake", "--cores", "2", "--configfile", *overlays, "--", "all")
    root = repository.root / "photographs-run"
    manifests = {
        split: read_record(root / "data/photographs" / split / "manifest.json")
        for split in ("train", "validation", "test")
    }
    samples = {split: manifest["samples"] for split, manifest in manifests.items()}
    assert f"{sum(samples.values())} photographs, " in printed
    assert samples["train"] > samples["test"] > samples["validation"] > 5
    assert not any(manifest["skipped"] for manifest in manifests.values())
    drawn = {path.stem: path for path in (root / "results/figures").glob("*.svg")}
    assert not {"grounding", "confusions", "differing-sets", "hard-negatives"} & set(drawn), (
        "nobody has marked phrases, classes or pairs"
    )
    pictures = {name: re.findall(r"<image ", drawn[name].read_text()) for name in PICTURES}
    # Of up to four photographs: itself and two to four heat maps. For four captions: five photographs.
    assert 3 <= len(pictures["similarity"]) <= 4 * 5
    assert len(pictures["retrieval-examples-pictures"]) == 4 * 5
    assert sum(drawn[name].stat().st_size for name in PICTURES) < 5 * 2**20
    # Numbers stand on the regions that were found, in every heat map; each has a white edge.
    heat_maps = len(pictures["similarity"]) - 1
    assert drawn["similarity"].read_text().count("stroke: #ffffff; stroke-width: 2.2") >= heat_maps
    report = (root / "results/report.html").read_text()
    assert "What the phrases see" in report
    assert "Nobody has marked what the phrases mean" in report
    assert "Pictures that are found for a caption" in report
    assert "photographs/captions.csv" in report, "where the data came from"
    assert repository.changes() == ["?? small.yaml"]
    # A caption that changes: the table is packed again, and what depends on it.
    table = repository.root / "photographs" / "captions.csv"
    table.write_text(table.read_text().replace("cat", "animal"))
    command = ["snakemake", "--dry-run", "--cores", "1", "--configfile", *overlays, "--", "all"]
    assert repository.run(*command).count("rule pack:") >= 3
