"""From each kind of source to the list of shards."""

import json

import numpy as np
import pytest
from fetching import hub_source

from vlalign.data.samples import Sample, encode_png
from vlalign.data.shards.manifest import verify_split
from vlalign.data.shards.obtain import bring
from vlalign.data.shards.split import read_split
from vlalign.data.shards.tar import write_shard
from vlalign.data.sources.folder import FolderSource
from vlalign.data.sources.img2dataset import Img2datasetSource
from vlalign.data.sources.shards import ShardsSource
from vlalign.data.sources.table import TableSource
from vlalign.params import VerifyParams
from vlalign.records import read_record

PICTURE = encode_png(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))


def shard(path, *keys):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_shard(path, [Sample(key, PICTURE, (f"a {key}",), label=0) for key in keys])
    return path


def keys(directory, **options):
    verify_split(directory, VerifyParams(), needs=("image",), **options)
    return [sample.key for sample in read_split(directory)]


def test_local_shards_are_read_where_they_lie(tmp_path):
    shard(tmp_path / "mine/a.tar", "dog")
    shard(tmp_path / "mine/b.tar", "cat")
    bring(ShardsSource(source="shards", shards=("mine/{a,b}.tar",)), tmp_path / "out", base=tmp_path)
    assert keys(tmp_path / "out") == ["dog", "cat"]
    assert not list((tmp_path / "out").glob("*.tar"))


def test_img2dataset_says_how_many_samples_there_are(tmp_path):
    shard(tmp_path / "mine/00000.tar", "dog", "cat")
    (tmp_path / "mine/00000_stats.json").write_text(json.dumps({"successes": 2}))
    bring(Img2datasetSource(source="img2dataset", folder="mine"), tmp_path / "out", base=tmp_path)
    assert read_record(tmp_path / "out/shards.json")["shards"][0]["expected"] == 2
    assert keys(tmp_path / "out") == ["dog", "cat"]


def test_tables_are_packed_from_where_the_params_lie(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.png").write_bytes(PICTURE)
    (tmp_path / "mine/captions.csv").write_text("image,caption\na.png,a dog\n,nothing\n")
    bring(TableSource(source="table", table="mine/captions.csv"), tmp_path / "out", base=tmp_path)
    listed = read_record(tmp_path / "out/shards.json")
    assert [entry["count"] for entry in listed["noted"].values()] == [1], "a row without an image is of no part"
    assert listed["skipped"] == {}
    assert keys(tmp_path / "out") == ["000000000"]


def test_the_hub_s_shards_come_with_their_classes(hub, tmp_path):
    files = {"train/0.tar": shard(tmp_path / "0.tar", "dog").read_bytes(), "classnames.txt": b"dog\n"}
    hub.commit(files, small=["classnames.txt"])
    bring(hub_source(), tmp_path / "out")
    assert keys(tmp_path / "out") == ["dog"]
    assert (tmp_path / "out/classnames.txt").read_text() == "dog\n"


@pytest.mark.parametrize("kind", ["shards", "hub", "table"])
def test_classes_of_an_earlier_source_do_not_stay(hub, tmp_path, kind):
    (tmp_path / "pets/dog").mkdir(parents=True)
    (tmp_path / "pets/dog/a.png").write_bytes(PICTURE)
    bring(FolderSource(source="folder", folder="pets"), tmp_path / "out", base=tmp_path)
    assert (tmp_path / "out/classnames.txt").read_text() == "dog\n"
    (tmp_path / "captions.csv").write_text("image,caption\npets/dog/a.png,a dog\n")
    hub.commit({"train/0.tar": shard(tmp_path / "hub/0.tar", "dog").read_bytes()})
    source = {
        "shards": ShardsSource(source="shards", shards=("hub/0.tar",)),
        "hub": hub_source(),
        "table": TableSource(source="table", table="captions.csv"),
    }[kind]
    bring(source, tmp_path / "out", base=tmp_path if kind != "hub" else tmp_path.parent)
    assert not list((tmp_path / "out").glob("*.txt"))


def test_classes_beside_or_above_local_shards_are_found(tmp_path):
    shard(tmp_path / "set/test/0.tar", "dog")
    (tmp_path / "set/classnames.txt").write_text("dog\n")
    (tmp_path / "set/test/zeroshot_classification_templates.txt").write_text("a {c}\n")
    bring(ShardsSource(source="shards", shards=(str(tmp_path / "set/test/*.tar"),)), tmp_path / "out")
    assert (tmp_path / "out/classnames.txt").read_text() == "dog\n"
    assert (tmp_path / "out/zeroshot_classification_templates.txt").read_text() == "a {c}\n"
