"""What a second attack broke: each of these failed before it was mended."""

import io
import json
import os
import shutil
import tarfile

import pytest
from workspace import ANNOTATIONS, DATA, RUN

from vlalign import models, redact
from vlalign.annotate.regions.annotation import annotate_split
from vlalign.check import check_workspace
from vlalign.cli import main
from vlalign.data.packing.image_lists import expand_braces
from vlalign.data.shards.tar import groups
from vlalign.data.sources.folder import FolderSource
from vlalign.data.sources.shards import ShardsSource
from vlalign.errors import VlalignError
from vlalign.evaluation.hard_negatives import read_category
from vlalign.evaluation.metrics import Measurement, write_metrics
from vlalign.params import RegionsParams
from vlalign.previous import forget, set_aside, take_back
from vlalign.records import read_record, write_record
from vlalign.training.checkpoint import Checkpoints
from vlalign.training.processes import Processes


def header(size, *, kind=b"0"):
    """A tar header with a size in base 256, which may be negative."""
    block = bytearray(tarfile.TarInfo("n.png").tobuf(tarfile.USTAR_FORMAT))
    block[124:136], block[156:157], block[148:156] = size.to_bytes(12, "big", signed=True), kind, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("size", [-512, -1536])
@pytest.mark.parametrize("kind", [b"0", b"S"])
def test_a_negative_size_in_a_tar_is_no_loop(tmp_path, size, kind):
    good = tarfile.TarInfo("g.txt")
    good.size = 5
    content = good.tobuf(tarfile.USTAR_FORMAT) + b"a dog" + bytes(507) + header(size, kind=kind) + bytes(1024)
    (tmp_path / "0.tar").write_bytes(content)
    with pytest.raises(VlalignError, match="not a readable tar file"):
        list(groups(tmp_path / "0.tar"))


@pytest.mark.parametrize("name", ["size", "GNU.sparse.realsize"])
def test_a_negative_size_in_an_extended_header_is_no_loop(tmp_path, name):
    with tarfile.open(tmp_path / "0.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("n.png")
        info.pax_headers = {name: "-512", "GNU.sparse.major": "0", "GNU.sparse.map": ""}
        tar.addfile(info, io.BytesIO())
    with pytest.raises(VlalignError, match="not a readable tar file"):
        list(groups(tmp_path / "0.tar"))


@pytest.mark.parametrize("pattern", ["{0..999999999999}.tar", "{a,b}" * 40, "{0..99999}{0..99999}.tar"])
def test_braces_that_stand_for_too_much_are_refused(pattern):
    with pytest.raises(VlalignError, match="stand for more than"):
        next(expand_braces(pattern, key="shards"))
    assert list(expand_braces("{0..2}{a,b}", key="shards")) == ["0a", "0b", "1a", "1b", "2a", "2b"]


@pytest.mark.parametrize(
    "text",
    [
        "https:/u:SEKRETpw@h/x.png?token=SEKRETtok",
        "see https://u:SEKRETpw@h/a",
        "GET /x&X-Amz-Signature=SEKRETsig",
        "Authorization: Bearer SEKRETbearer",
        "Authorization: Basic SEKRETbasic",
        "https://u:" + "x" * 5000 + "SEKRETpw@h/a",
        r"https:\/\/u:SEKRETpw@h\/a",
        "/x.tar;token=SEKRETtok",
    ],
)
def test_secrets_in_other_spellings_are_hidden(text):
    assert "SEKRET" not in redact.redacted(text)


@pytest.mark.parametrize("piece", ["://", ":/", "://a@", "?a=", "&sig=", "@", "bearer "])
def test_long_messages_do_not_hang(piece):
    """Every length takes its time, but no multiple of it: this is a megabyte."""
    assert "SEKRET" not in redact.redacted(piece * (2**20 // len(piece)) + " https://u:SEKRET@h/x")


def test_ordinary_words_stay():
    text = "basic segmentation of a:b and c/d, see http://h/a.html (50 % of 3 ? 4 : 5) you@example.org"
    assert redact.redacted(text) == text


def test_messages_cannot_write_to_a_terminal():
    assert redact.plain("a\x1b[31mred\x1b]0;pwn\x07\nb") == "a\\x1b[31mred\\x1b]0;pwn\\x07\nb"


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (FolderSource, {"source": "folder", "folder": "https://u:p@h/x"}),
        (FolderSource, {"source": "folder", "folder": "/data/{x}"}),
        (ShardsSource, {"source": "shards", "shards": ["https://u:p@h/x.tar"]}),
    ],
)
def test_paths_are_no_addresses_and_have_no_braces(kind, given):
    with pytest.raises(ValueError, match=r"address|pattern"):
        kind.model_validate(given)


@pytest.mark.parametrize(
    "content", [[], "x", None, {"1": "x"}, {"1": None}, {"1": {"filename": 3, "caption": "a", "negative_caption": "b"}}]
)
def test_hard_negatives_of_another_shape_are_one_message(tmp_path, content):
    path = tmp_path / "swap.json"
    path.write_text(json.dumps(content))
    with pytest.raises(VlalignError, match=r"swap\.json"):
        read_category(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("preprocess_cfg", {"mean": "xyz"}), ("vlalign", {"pooling": "evil"}), ("vlalign", {"pooling": []})],
)
def test_a_model_that_asks_for_what_is_not_known_is_refused(workspace, key, value):
    run = workspace / RUN
    config = json.loads((run / "open_clip_config.json").read_text())
    (run / "open_clip_config.json").write_text(json.dumps({**config, key: value}))
    (run / "run.json").unlink()
    with pytest.raises(VlalignError, match=r"open_clip_config\.json does not describe towers"):
        models.load(run)


def test_an_error_that_nobody_foresaw_is_one_message(monkeypatch, capsys):
    monkeypatch.setattr("vlalign.cli.app", lambda: {}["x"])
    with pytest.raises(SystemExit) as stop:
        main()
    told = capsys.readouterr().err
    assert stop.value.code == 1
    assert "KeyError: 'x' (test_second_attack.py, line" in told
    assert "VLALIGN_TRACEBACK=1" in told
    assert "Traceback" not in told


def test_nothing_is_removed_where_nothing_can_be_set_aside(workspace):
    shutil.rmtree(workspace / "checkpoints")
    (workspace / "checkpoints").write_text("in the way")
    with pytest.raises(VlalignError, match="cannot be given a second name"):
        set_aside(workspace / "results", workspace / "checkpoints/previous")


def test_what_was_set_aside_is_not_forgotten_through_a_link(workspace):
    results, previous = workspace / "results", workspace / "checkpoints/previous"
    before = sorted(results.rglob("*"))
    previous.symlink_to(results)
    forget(results, previous)
    previous.unlink()
    previous.mkdir()
    (previous / "tables").symlink_to(results / "tables")
    forget(results, previous)
    assert sorted(results.rglob("*")) == before


def test_a_forged_record_brings_nothing_back_elsewhere(workspace, tmp_path):
    slot = tmp_path / "a/b/slot"
    slot.mkdir(parents=True)
    (tmp_path / "evil").write_text("evil")
    write_record(slot / "run.json", {"files": {"../../../evil": {"bytes": 4, "sha256": "0"}}})
    assert not take_back(slot, workspace / "x" / "y", record="run.json")


def test_metrics_replace_no_files_of_others(workspace):
    run = workspace / RUN
    before = set(os.listdir(run))
    write_metrics(run, {"retrieval": Measurement()}, {}, measured={})
    assert before <= set(os.listdir(run))
    write_metrics(run, {"zeroshot": Measurement()}, {}, measured={})
    assert "retrieval.json" not in os.listdir(run)


def test_annotations_take_no_splits_place(workspace):
    test = workspace / DATA / "test"
    manifest = read_record(test / "manifest.json")
    with pytest.raises(VlalignError, match="holds a split of data"):
        annotate_split(test, test, RegionsParams())
    assert read_record(test / "manifest.json") == manifest


def test_annotations_are_made_of_no_moved_split(workspace):
    (workspace / DATA / "test").rename(workspace / "away")
    (workspace / DATA / "validation").rename(workspace / DATA / "test")
    with pytest.raises(VlalignError, match="folders were moved"):
        annotate_split(workspace / DATA / "test", workspace / ANNOTATIONS / "regions/test", RegionsParams())


def test_a_pipe_among_checkpoints_is_passed_over(workspace):
    folder = workspace / "checkpoints/powerclip/seed-0"
    os.mkfifo(folder / "step-00000009.pt")
    assert Checkpoints(folder, identity={})._paths() == sorted(folder.glob("step-00000003.pt"))
    assert not [found for found in check_workspace(workspace) if found.kind == "damaged"]


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_lock_that_is_none_is_told_and_nothing_is_written_through_it(tmp_path, kind):
    target = tmp_path / "precious.txt"
    target.write_text("precious")
    if kind == "link":
        (tmp_path / "lock").symlink_to(target)
    else:
        os.mkfifo(tmp_path / "lock")
    with pytest.raises(VlalignError, match="lock"), Checkpoints(tmp_path, identity={}).lock(Processes()):
        pass
    assert target.read_text() == "precious"


def test_a_link_to_a_folder_is_no_file(workspace):
    model = workspace / RUN / "model.safetensors"
    model.unlink()
    model.symlink_to(workspace / "data")
    [found] = [found for found in check_workspace(workspace) if found.path == model]
    assert (found.kind, found.reason) == ("damaged", "is no file")


def test_what_may_not_be_read_is_not_to_be_deleted(workspace, monkeypatch):
    model = workspace / RUN / "model.safetensors"

    def stamp(path):
        if path == model:
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    from vlalign import check as module

    original = module.stamp
    monkeypatch.setattr(module, "stamp", stamp)
    [found] = [found for found in check_workspace(workspace) if found.path == model]
    assert found.kind == "unreadable"
    assert "rm " not in found.remedy
