"""What an attack did to the files that people bring and keep: each row failed before it was mended."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from annotated_scenes import PARAMS, write_pairs
from own_files import picture, table_source, write_csv
from PIL import EpsImagePlugin
from workspace import DATA, REPORT, RUN

from vlalign import models
from vlalign.data.packing.entries import entries
from vlalign.data.samples import Sample, decode_image, encode_png
from vlalign.data.scenes.dataset import split_samples
from vlalign.data.shards.index import index_path
from vlalign.data.shards.manifest import verify_split
from vlalign.data.shards.obtain import bring
from vlalign.data.shards.split import Split, read_manifest, read_split
from vlalign.data.shards.tar import write_shard
from vlalign.data.skipped import Skips
from vlalign.data.sources.folder import FolderSource
from vlalign.data.sources.shards import ShardsSource
from vlalign.errors import VlalignError
from vlalign.models.export import push
from vlalign.params import VerifyParams
from vlalign.records import write_record
from vlalign.reporting.report import write_report
from vlalign.training.checkpoint import Checkpoints

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n0 0 moveto showpage\n%%EOF\n"


def test_a_picture_is_never_handed_to_another_program(tmp_path, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    with pytest.raises(VlalignError, match="cannot be decoded"):
        decode_image(POSTSCRIPT)
    good = Sample("good", encode_png(np.full((9, 9, 3), 7, np.uint8)), ("a dog",))
    write_shard(tmp_path / "0.tar", [Sample("bad", POSTSCRIPT, ("a dog",)), good])
    write_record(tmp_path / "shards.json", {"shards": [{"name": "0.tar"}], "source": {}})
    verify_split(tmp_path, VerifyParams(max_bad_share=1), needs=["image"])
    assert read_manifest(tmp_path)["skipped"] == {"image of no known format": {"count": 1, "first": ["bad"]}}


def other_captions(path):
    """Other bytes in a file of equal size."""
    content = path.read_bytes()
    assert content.count(b" the ") + content.count(b" a ") > 3
    path.write_bytes(content.replace(b" a ", b" b ").replace(b" the ", b" xyz "))


@pytest.mark.parametrize("ahead", [-1e6, 0, 1e6, 1e9])
def test_a_verification_without_its_manifest_hashes_anew(tmp_path, ahead):
    write_pairs(tmp_path, split_samples("train", 5, PARAMS))
    shard = tmp_path / "000000.tar"
    write_record(tmp_path / "shards.json", {"shards": [{"name": shard.name}], "source": {}})
    before = [sample.captions for sample in read_split(tmp_path)]
    other_captions(shard)
    index = index_path(tmp_path, shard.name)
    moment = index.stat().st_mtime + ahead
    os.utime(index, (moment, moment))
    (tmp_path / "manifest.json").unlink()
    verify_split(tmp_path, VerifyParams(), needs=["image", "captions"])
    assert [sample.captions for sample in read_split(tmp_path)] != before
    assert read_manifest(tmp_path)["shards"][0]["sha256"] != ""


def test_an_index_from_the_future_vouches_for_nothing(tmp_path):
    """The manifest is there still, but the clock cannot tell what was touched after what."""
    write_pairs(tmp_path, split_samples("train", 5, PARAMS))
    shard = tmp_path / "000000.tar"
    write_record(tmp_path / "shards.json", {"shards": [{"name": shard.name}], "source": {}})
    other_captions(shard)
    index = index_path(tmp_path, shard.name)
    os.utime(index, (index.stat().st_mtime + 1e6,) * 2)
    verify_split(tmp_path, VerifyParams(), needs=["image", "captions"])
    assert any(" b " in caption or " xyz " in caption for s in read_split(tmp_path) for caption in s.captions)


def test_shards_of_equal_size_that_were_swapped_are_noticed(workspace):
    train = workspace / DATA / "train"
    [shard] = train.glob("*.tar")
    content = bytearray(shard.read_bytes())
    size = len(content) // 1024 * 512
    shard.write_bytes(content[size:] + content[:size])
    known = Split(train)
    with pytest.raises(VlalignError, match=r"sample '000000000' is not as it was verified.*vlalign check"):
        known.open(0).image(0)


def test_weights_of_another_run_are_refused(workspace):
    other = models.load(workspace / RUN)
    for parameter in other.parameters():
        parameter.data += 1
    models.save(other, workspace / "other")
    shutil.copy(workspace / "other/model.safetensors", workspace / RUN)
    with pytest.raises(VlalignError, match=r"model\.safetensors is not the file that .*run\.json describes"):
        models.load(workspace / RUN)
    assert models.load(workspace / "other"), "a folder that is no run has nothing to compare with"


def test_an_activation_that_was_flipped_in_a_run_is_refused(workspace):
    path = workspace / RUN / "open_clip_config.json"
    path.write_text(path.read_text().replace('"embed_dim"', '"quick_gelu": true, "embed_dim"'))
    with pytest.raises(VlalignError, match=r"open_clip_config\.json is not the file"):
        models.load(workspace / RUN)


@pytest.fixture
def secret(tmp_path):
    """A picture and a text that lie outside of a folder of data."""
    picture(tmp_path / "private/me.png")
    (tmp_path / "private/key").write_text("a private key\n")
    return tmp_path / "private"


def test_links_in_a_table_that_leave_the_folder_are_skipped(tmp_path, secret):
    picture(tmp_path / "data/a.png", seed=1)
    (tmp_path / "data/b.png").symlink_to(secret / "me.png")
    (tmp_path / "data/c.png").symlink_to("a.png")
    (tmp_path / "data/out").symlink_to(secret)
    rows = [(name, "dog") for name in ("a.png", "b.png", "c.png", "out/me.png")]
    skips = Skips()
    found = [entry.name for entry in entries(table_source(write_csv(tmp_path / "data/t.csv", rows)), skips)]
    assert found == ["a.png", "c.png"]
    assert skips.as_dict() == {"link that leads out of the folder": {"count": 2, "first": ["b.png", "out/me.png"]}}


def test_a_folder_under_dvc_keeps_its_pictures(tmp_path):
    """`dvc add` turns pictures into links to the repository's cache."""
    cached = picture(tmp_path / ".dvc/cache/files/md5/ab/cd.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.png").symlink_to(cached)
    source = table_source(write_csv(tmp_path / "data/t.csv", [("a.png", "dog")]))
    assert [entry.name for entry in entries(source, Skips())] == ["a.png"]


def test_links_in_a_folder_that_leave_it_are_skipped(tmp_path, secret):
    picture(tmp_path / "data/dog/a.png")
    (tmp_path / "data/dog/b.png").symlink_to(secret / "me.png")
    (tmp_path / "data/dog/more").symlink_to(secret)
    skips = Skips()
    listing = FolderSource(source="folder", folder=str(tmp_path / "data")).listing(skips)
    assert [image.name for image in listing.images] == ["dog/a.png"]
    assert skips.as_dict()["link that leads out of the folder"]["count"] == 2


def test_captions_under_a_link_that_leaves_the_folder_are_skipped(tmp_path, secret):
    picture(tmp_path / "data/a.png")
    (tmp_path / "data/a.txt").symlink_to(secret / "key")
    skips = Skips()
    source = FolderSource(source="folder", folder=str(tmp_path / "data"), labels="captions")
    assert list(source.listing(skips).images) == []
    assert "captions under a link that leads out of the folder" in skips.as_dict()


def test_class_lists_under_a_link_are_not_copied(tmp_path, secret):
    (tmp_path / "shards").mkdir()
    write_shard(tmp_path / "shards/0.tar", [Sample("a", encode_png(np.zeros((9, 9, 3), np.uint8)), label=0)])
    (tmp_path / "shards/classnames.txt").symlink_to(secret / "key")
    with pytest.raises(VlalignError, match=r"classnames\.txt is a link that leads out of its folder"):
        bring(ShardsSource(source="shards", shards=(str(tmp_path / "shards/0.tar"),)), tmp_path / "out")
    assert not (tmp_path / "out/classnames.txt").exists()


@pytest.mark.parametrize("where", ["split", "above", None])
def test_a_split_with_classes_has_its_class_lists(tmp_path, where):
    (tmp_path / "shards").mkdir()
    write_shard(tmp_path / "shards/0.tar", [Sample("a", encode_png(np.zeros((9, 9, 3), np.uint8)), label=0)])
    names = ("classnames.txt", "zeroshot_classification_templates.txt")
    folder = {"split": tmp_path / "shards", "above": tmp_path / "zeroshot"}.get(where)
    for name in names if folder else ():
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("{c}\n")
    source, out = ShardsSource(source="shards", shards=(str(tmp_path / "shards/0.tar"),)), tmp_path / "zeroshot/test"
    if folder is None:
        with pytest.raises(VlalignError, match=r"zeroshot\.test has no classnames\.txt"):
            bring(source, out, classes=True, key="datasets.x.zeroshot.test")
        return
    bring(source, out, classes=True)
    verify_split(out, VerifyParams(), needs=["image", "label"])
    assert sorted(read_manifest(out)["files"]) == sorted(names)


def test_only_what_a_run_names_is_uploaded(workspace, secret, monkeypatch):
    run, sent = workspace / RUN, []
    (run / "notes.txt").symlink_to(secret / "key")
    monkeypatch.setattr("vlalign.models.export.HfApi", lambda: Api(sent))
    push(run, "me/model")
    assert "notes.txt" not in sent
    assert {"open_clip_model.safetensors", "run.json", "README.md", "history.csv"} <= set(sent)
    (run / "model.safetensors").write_bytes(b"other")
    with pytest.raises(VlalignError, match=r"model\.safetensors is not the file"):
        push(run, "me/model")


class Api:
    def __init__(self, sent):
        self.sent = sent

    def create_repo(self, repository, **_):
        return repository

    def create_commit(self, repository, added, **_):
        self.sent += [operation.path_in_repo for operation in added]


def test_files_of_other_names_among_checkpoints_are_left_alone(tmp_path):
    (tmp_path / "step-abc.pt").write_bytes(b"x")
    checkpoints = Checkpoints(tmp_path, identity={})
    assert checkpoints.load() is None
    checkpoints.save({"step": 3})
    assert checkpoints.load()["step"] == 3
    assert (tmp_path / "step-abc.pt").exists()


@pytest.mark.parametrize(
    "config", ["{}", "[]", "3", '{"model_cfg": {}}', '{"model_cfg": {"vision_cfg": {}, "text_cfg": {}}}']
)
def test_a_config_that_is_none_is_named(workspace, config):
    (workspace / RUN / "run.json").unlink()
    (workspace / RUN / "open_clip_config.json").write_text(config)
    with pytest.raises(VlalignError, match=r"open_clip_config\.json"):
        models.load(workspace / RUN)


@pytest.mark.parametrize("name", ["precision.csv", "figures/similarity.svg", "runs/powerclip/seed-0/history.csv"])
def test_a_report_is_not_made_of_damaged_parts(workspace, name):
    results = workspace / "results"
    (results / name).write_bytes((results / name).read_bytes().replace(b"1", b"7", 1))
    (results / "report.html").unlink()
    with pytest.raises(VlalignError, match=rf"{Path(name).name} is not the file"):
        write_report(
            results / "metrics.json",
            [workspace / RUN],
            params=REPORT,
            precision=results / "precision.csv",
            figures=results / "figures",
            tables=results / "tables",
            output=results / "report.html",
        )
    assert not (results / "report.html").exists()
