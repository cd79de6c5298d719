"""`vlalign generate` from a trained run to scores."""

import re
import shutil

import pytest
import yaml
from generating_runs import MODEL, settings
from typer.testing import CliRunner

from vlalign import cli
from vlalign.check import check_workspace
from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import MetricRow
from vlalign.evaluation.metrics import read_folder
from vlalign.generation import scores
from vlalign.generation.pictures import read_generated
from vlalign.params import digest, load, parse, relevant
from vlalign.records import stamp

RUNNER = CliRunner()


def run(*options):
    found = RUNNER.invoke(cli.app, ["generate", "--run", "adapted", *options])
    if found.exception is not None:
        raise found.exception


@pytest.mark.slow
def test_a_run_generates_and_is_scored(generating, monkeypatch):
    monkeypatch.chdir(generating.root)
    changes = {**settings("karlo", judge="clip"), "models": {"clip": {"folder": "results/runs/adapted/seed-0"}}}
    (generating.root / "karlo.yaml").write_text(yaml.safe_dump(changes))
    told = ["--params", "karlo.yaml"]
    run(*told, "--digest", digest(relevant(load("karlo.yaml"), "generate", run="adapted")))
    pictures = generating.root / "data/generated/adapted/seed-0"
    assert len(list(read_generated(pictures))) == 10
    before = (pictures / "000000.arrow").stat().st_mtime_ns
    measured, found = read_folder(generating.run / "generation")
    rows = {(row.metric, row.group): row for row in found["generation"].rows}
    assert set(rows) == {
        (name, group) for name in ("fid_efficientnet_lite0", "clip_score") for group in ("all", "real")
    }
    assert rows["fid_efficientnet_lite0", "all"].value > rows["fid_efficientnet_lite0", "real"].value
    assert -1 <= rows["clip_score", "all"].value <= 1
    assert measured["weights"] == stamp(generating.run / "model.safetensors")["sha256"]
    assert measured["params"]["decoder"]["kind"] == "karlo"
    # Scores of another kind need no other pictures.
    (generating.root / "karlo.yaml").write_text(yaml.safe_dump(settings("karlo")))
    run(*told)
    assert (pictures / "000000.arrow").stat().st_mtime_ns == before
    assert {row.metric for row in read_folder(generating.run / "generation")[1]["generation"].rows} == {
        "fid_efficientnet_lite0"
    }


def test_damaged_pictures_and_scores_are_found(generating, monkeypatch, tmp_path):
    root = shutil.copytree(generating.root, tmp_path / "copy")
    monkeypatch.chdir(root)
    (root / "params.yaml").write_text(yaml.safe_dump(settings("kandinsky")))
    monkeypatch.setattr(scores, "score", lambda *_, **__: [MetricRow(metric="fid_inception", value=1.0)])
    run()
    places = {
        root / "data/generated/adapted/seed-0/000000.arrow",
        root / "results/runs/adapted/seed-0/generation/generation.json",
    }
    assert not {found.path for found in check_workspace(root)} & places
    for place in places:
        place.write_bytes(place.read_bytes() + b" ")
    assert places <= {found.path for found in check_workspace(root) if found.kind == "damaged"}


def test_what_is_changed_by_hand_goes_elsewhere(generating, monkeypatch, tmp_path):
    monkeypatch.chdir(generating.root)
    with pytest.raises(VlalignError, match="give another --output"):
        run("generation.captions=4")
    run("generation.captions=4", "--output", str(tmp_path / "tried"))
    assert len(list(read_generated(tmp_path / "tried" / "pictures"))) == 4


def test_features_that_are_not_there_are_missed_before_any_picture_is_made(generating, monkeypatch, tmp_path):
    monkeypatch.chdir(generating.root)
    with pytest.raises(VlalignError, match=r"generation\.fid: .*nowhere\.pth is no file"):
        run("generation.fid=nowhere.pth", "--output", str(tmp_path / "tried"))
    assert not (tmp_path / "tried" / "pictures").exists()


def test_a_run_that_is_not_named_is_refused(generating, monkeypatch):
    monkeypatch.chdir(generating.root)
    with pytest.raises(VlalignError, match=r"--run adapted is none of `generation\.runs`"):
        run("generation=null")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {**MODEL, "pooling": "average"}}, "generation.runs: adapted averages patches"),
        ({"model": {**MODEL, "adapters": {}}}, "generation.runs: adapted trains or adapts its image tower"),
        ({"generation": {**settings("karlo")["generation"], "runs": ["other"]}}, "generation.runs: 'other' is not one"),
        ({"generation": {**settings("karlo")["generation"], "judge": "me"}}, "generation.judge: 'me' is not one of"),
        (
            {"generation": {"runs": ["adapted"], "decoder": {"kind": "karlo", "model": "a/b", "size": 64}}},
            "size: that of karlo's pictures is fixed",
        ),
    ],
)
def test_params_that_cannot_be_are_refused(changes, message):
    with pytest.raises(VlalignError, match=re.escape(message)):
        parse({**settings("karlo"), **changes})


def test_generation_changes_nothing_of_a_run_and_batches_nothing_of_pictures():
    params = parse(settings("karlo"))
    plain = parse({key: value for key, value in settings("karlo").items() if key != "generation"})
    for step in ("adapt", "features"):
        assert relevant(params, step, run="adapted") == relevant(plain, step, run="adapted")
    other = parse(settings("karlo", batch_size=9))
    assert relevant(params, "generate", run="adapted") == relevant(other, "generate", run="adapted")
