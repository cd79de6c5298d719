"""`vlalign check` finds what is wrong with a workspace."""

import os

import pytest
from typer.testing import CliRunner
from workspace import ANNOTATIONS, DATA, RUN, write_workspace

from vlalign.check import check_workspace
from vlalign.cli import app
from vlalign.records import read_record, write_record
from vlalign.reporting.collect import collect_metrics


def findings(root):
    return {(found.kind, found.path.relative_to(root).as_posix()) for found in check_workspace(root)}


def test_a_workspace_as_it_was_written_is_whole(workspace):
    assert findings(workspace) == set()
    result = CliRunner().invoke(app, ["check", str(workspace)])
    assert (result.exit_code, "0 files to mend, 0 foreign" in result.output) == (0, True)


def files(root):
    """Every file that a step has written, but marks of what was done."""
    own = ("lock", "params.yaml")
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file() and path.name not in own)


def test_every_damaged_file_is_found(workspace):
    marks = {DATA / "contact_sheet.png", RUN / "README.md"}
    names = [name for name in files(workspace) if name not in marks]
    assert len(names) > 60
    missed = []
    for name in names:
        content = (workspace / name).read_bytes()
        middle = len(content) // 2
        (workspace / name).write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])
        found = list(check_workspace(workspace))
        if not any(finding.kind in ("damaged", "missing", "stale") and finding.remedy for finding in found):
            missed.append(name)
        (workspace / name).write_bytes(content)
    assert missed == []
    assert findings(workspace) == set()


def test_every_missing_file_is_found(workspace):
    silent = {DATA / "contact_sheet.png", *(name for name in files(workspace) if name.suffix == ".pt")}
    # Without a record there is nothing to compare with: the workflow makes these again.
    silent |= {name for name in files(workspace) if name.name in ("manifest.json", "focus.json")}
    silent |= {path.relative_to(workspace) for path in (workspace / "results").glob("*.json")}
    silent.add(next((workspace / "results/figures").glob("*.json")).relative_to(workspace))
    for name in set(files(workspace)) - silent:
        path = workspace / name
        path.rename(workspace / "away")
        assert any(finding.kind == "missing" for finding in check_workspace(workspace)), name
        (workspace / "away").rename(path)


def test_links_whose_targets_are_gone_are_missing(workspace):
    model = workspace / RUN / "model.safetensors"
    model.unlink()
    model.symlink_to(workspace / "gone")
    assert findings(workspace) == {("missing", f"{RUN}/model.safetensors")}


STRANGERS = (DATA / "train/more.tar", RUN / "notes.txt", RUN / "metrics/mine.json", "data/parser/x.pt")


@pytest.mark.parametrize("name", STRANGERS)
def test_files_that_no_record_names_are_foreign(workspace, name):
    (workspace / name).write_bytes(b"x")
    assert findings(workspace) == {("foreign", str(name))}
    result = CliRunner().invoke(app, ["check", str(workspace)])
    assert (result.exit_code, "0 files to mend, 1 foreign" in result.output) == (0, True)


def test_what_was_made_of_other_data_is_stale(workspace):
    manifest = workspace / DATA / "train/manifest.json"
    write_record(manifest, {**read_record(manifest), "source": {"name": "another"}})
    found = findings(workspace)
    assert ("stale", str(RUN)) in found
    assert ("stale", f"{ANNOTATIONS}/regions/train/manifest.json") in found


def test_a_model_card_may_be_edited(workspace):
    card = workspace / RUN / "README.md"
    card.write_text(card.read_text().replace("license: other", "license: mit"))
    assert findings(workspace) == {("foreign", f"{RUN}/README.md")}
    collect_metrics([workspace / RUN], workspace / "results/metrics.json")


def test_metrics_of_other_weights_are_stale(workspace):
    path = workspace / RUN / "metrics/evaluation.json"
    record = read_record(path)
    write_record(path, {**record, "measured": {**record["measured"], "weights": "0" * 64}})
    assert ("stale", f"{RUN}/metrics") in findings(workspace)


def test_focus_files_of_another_state_are_found(workspace):
    (workspace / "metrics.json").write_text("{}\n")
    assert findings(workspace) == {("damaged", "metrics.json")}


def test_records_of_snakemake_are_read(workspace):
    folder = workspace / ".snakemake/metadata"
    folder.mkdir(parents=True)
    (folder / "cmVzdWx0cy9tZXRyaWNzLmpzb24=").write_text('{"a": 1')
    [finding] = check_workspace(workspace)
    assert (finding.kind, "results/metrics.json" in finding.reason) == ("damaged", True)


def test_what_is_no_workspace_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert "is no workspace" in str(result.exception)


def test_other_names_of_a_workspace_change_nothing(workspace, tmp_path):
    os.rename(workspace, tmp_path / "o'ther name")
    assert findings(tmp_path / "o'ther name") == set()


def test_a_workspace_is_written_alike_twice(written, tmp_path):
    """Otherwise damage could not be told from chance."""
    write_workspace(tmp_path)
    for name in ("model.safetensors", "open_clip_config.json"):
        assert (tmp_path / RUN / name).read_bytes() == (written / RUN / name).read_bytes()
