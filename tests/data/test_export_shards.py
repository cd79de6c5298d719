"""Exported shards, read by the code of the programs that they are for."""

import functools
import io
import json
import os
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
import webdataset
from clip_benchmark.datasets.builder import build_dataset
from open_clip_train import data as trainer
from PIL import Image
from training_runs import TOWER
from typer.testing import CliRunner

from vlalign import cli
from vlalign.data.samples import Sample, decode_image, encode_png
from vlalign.data.shards.export import export_shards
from vlalign.data.shards.manifest import write_split
from vlalign.data.shards.tar import groups
from vlalign.errors import VlalignError

NO_GPU = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
NOISE = np.random.default_rng(0).integers(0, 256, (9, 40, 56, 3), dtype=np.uint8)
CAPTIONS = [("one dog",), ("two dogs", "a pair of dogs"), ("a\u2028line", "b", "c"), ("x",), ("y",), ("z", "w")]


def stored(array, form, **options):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, form, **options)
    return stream.getvalue()


def turned(array):
    """As a camera on its side writes it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return stored(array, "JPEG", exif=exif)


def samples():
    images = [(encode_png(NOISE[0]), "png"), (stored(NOISE[1], "JPEG"), "jpg"), (stored(NOISE[2], "WEBP"), "webp")]
    images += [(turned(NOISE[3]), "jpg"), (stored(NOISE[4], "BMP"), "bmp")]
    images += [(stored((NOISE[5, ..., 0].astype(np.uint16) << 8), "PNG"), "png")]
    for number, ((image, suffix), captions) in enumerate(zip(images, CAPTIONS, strict=True)):
        instances = encode_png(np.ones((40, 56), np.uint8))
        yield Sample(f"k{number}", image, captions, meta={"stratum": "odd"}, suffix=suffix, instances=instances)


@pytest.fixture
def split(tmp_path):
    write_split(tmp_path / "data" / "test", samples(), source={}, needs=("image", "captions"))
    return tmp_path / "data" / "test"


@pytest.fixture
def labelled(tmp_path):
    names = {"classnames.txt": "cat\ndog\n", "zeroshot_classification_templates.txt": "a {c}\nthe {c}\n"}
    found = [Sample(f"z{k}", encode_png(NOISE[k]), label=k % 2) for k in range(5)]
    write_split(tmp_path / "data/zeroshot/test", found, source={}, needs=("image", "label"), files=lambda: names)
    return tmp_path / "data/zeroshot/test"


def benchmark_reads(output, split="test"):
    return build_dataset("wds/mine", root=str(output), transform=np.asarray, split=split, task="zeroshot_retrieval")


def test_clip_benchmark_sees_the_pictures_and_captions_that_are_measured_here(split, tmp_path):
    sizes = export_shards(split, tmp_path / "out", shard_size=4)
    assert sizes == {"0.tar": 4, "1.tar": 2}
    found = list(benchmark_reads(tmp_path / "out"))
    # Where Python ends lines, the third would have one more.
    assert [texts for _, texts in found] == [[one.replace("\u2028", " ") for one in own] for own in CAPTIONS]
    for (array, _), sample in zip(found, samples(), strict=True):
        ours = np.asarray(decode_image(sample.image))
        assert np.array_equal(np.asarray(Image.fromarray(array).convert("RGB")), ours)


def test_what_both_programs_read_keeps_its_bytes(split, tmp_path):
    export_shards(split, tmp_path / "out")
    path = tmp_path / "out/test/0.tar"
    content, found = path.read_bytes(), list(groups(path))
    originals = list(samples())
    suffixes = [next(iter(set(group.files) - {"json", "txt"})) for group in found]
    assert suffixes == ["png", "jpg", "webp", "png", "png", "png"]
    for group, sample in list(zip(found, originals, strict=True))[:3]:
        start, size = group.files[sample.suffix]
        assert content[start : start + size] == sample.image


def test_a_split_with_classes_is_read_with_their_names(labelled, tmp_path):
    export_shards(labelled, tmp_path / "out", captions="each")
    found = build_dataset("wds/mine", root=str(tmp_path / "out"), transform=np.asarray, split="test")
    assert (found.classes, found.templates) == (["cat", "dog"], ["a {c}", "the {c}"])
    assert [label for _, label in found] == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("captions", ["first", "each"])
def test_open_clips_trainer_reads_one_caption_a_sample(split, tmp_path, captions, monkeypatch):
    # See docs/data.md: webdataset 1.0 marks the ends of shards, which open_clip_train 3.3 does not expect.
    monkeypatch.setattr(trainer, "tar_file_expander", functools.partial(trainer.tar_file_expander, eof_value=None))
    export_shards(split, tmp_path / "out", captions=captions, shard_size=4)
    chosen = [own if captions == "each" else own[:1] for own in CAPTIONS]
    expected = [caption.replace("\u2028", " ") for own in chosen for caption in own]
    shards = len(list((tmp_path / "out/test").glob("*.tar")))
    arguments = {"train_data": f"{tmp_path}/out/test/{{0..{shards - 1}}}.tar", "train_num_samples": None, "seed": 0}
    arguments |= {"batch_size": 1, "workers": 0, "world_size": 1, "train_data_upsampling_factors": None}
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    info = trainer.get_wds_dataset(Namespace(**arguments), lambda picture: torch.zeros(1), True, tokenizer=tokenizer)
    assert info.dataloader.num_samples == len(expected)
    read = sorted(tokens[0].tolist() for _, tokens in info.dataloader)
    assert read == sorted(tokenizer(expected).tolist())


def test_other_captions_are_not_lost(split, tmp_path):
    export_shards(split, tmp_path / "out", captions="each")
    found = list(webdataset.WebDataset(f"{tmp_path}/out/test/0.tar", shardshuffle=False).decode())
    assert [one["__key__"] for one in found][:3] == ["k0-0", "k1-0", "k1-1"]
    assert found[2]["txt"] == "a pair of dogs"
    assert found[2]["json"] == {"captions": ["two dogs", "a pair of dogs"], "stratum": "odd"}


@pytest.mark.slow
def test_the_trainer_itself_trains_on_what_the_command_writes(split, tmp_path):
    output = tmp_path / "out"
    options = ["--split", "test", "--data", str(split.parent), "--output", str(output), "--captions", "first"]
    result = CliRunner().invoke(cli.app, ["export-shards", *options, "--shard-size", "3"])
    assert result.exit_code == 0, result.output
    assert "6 samples in 2 shards" in result.output
    assert f"--dataset_root {output} --split test --task zeroshot_retrieval" in result.output
    shards = f"{output}/test/{{0..1}}.tar"
    assert f"--train-data '{shards}'" in result.output
    (tmp_path / "mine.json").write_text(json.dumps(TOWER))
    code = (
        "import functools, sys, open_clip, open_clip_train.data as data; "
        f"open_clip.add_model_config({str(tmp_path / 'mine.json')!r}); "
        "data.tar_file_expander = functools.partial(data.tar_file_expander, eof_value=None); "
        "from open_clip_train.main import main; main(sys.argv[1:])"
    )
    told = ["--train-data", shards, "--dataset-type", "webdataset", "--model", "mine", "--device", "cpu"]
    told += ["--precision", "fp32", "--epochs", "1", "--batch-size", "3", "--workers", "0", "--name", "a"]
    command = [sys.executable, "-c", code, *told, "--logs", str(tmp_path / "logs")]
    done = subprocess.run(command, capture_output=True, text=True, env=NO_GPU, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    checkpoint = torch.load(tmp_path / "logs/a/checkpoints/epoch_1.pt", weights_only=True)
    assert checkpoint["epoch"] == 1


def test_a_second_export_replaces_the_first(split, tmp_path):
    export_shards(split, tmp_path / "out", captions="each", shard_size=2)
    export_shards(split, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out/test").glob("*.tar")] == ["0.tar"]
    assert (tmp_path / "out/test/nshards.txt").read_text() == "1\n"
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    export_shards(split, tmp_path / "out")
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_an_export_that_is_cut_short_is_no_split(split, tmp_path, monkeypatch):
    export_shards(split, tmp_path / "out")
    monkeypatch.setattr("vlalign.data.shards.export.write_shard", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        export_shards(split, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="nshards"):
        benchmark_reads(tmp_path / "out")


def test_what_cannot_be_exported_is_named(split, labelled, tmp_path):
    with pytest.raises(VlalignError, match=r"data/tset is no split that was verified: .*; correct --split or --data"):
        export_shards(tmp_path / "data/tset", tmp_path / "out")
    with pytest.raises(VlalignError, match=r"data/test is a split of the workflow; give another --output"):
        export_shards(split, split.parent)
    export_shards(split, tmp_path / "out")
    with pytest.raises(VlalignError, match=r"dataset_type\.txt says retrieval, and this split is for classification"):
        export_shards(labelled, tmp_path / "out")
    bare = [replace(sample, captions=()) for sample in samples()]
    write_split(tmp_path / "bare", bare, source={}, needs=("image",))
    with pytest.raises(VlalignError, match="bare has samples without captions and classes; there is nothing to export"):
        export_shards(tmp_path / "bare", tmp_path / "other")
    unnamed = [Sample("z", encode_png(NOISE[0]), label=0)]
    write_split(tmp_path / "unnamed", unnamed, source={}, needs=("image", "label"))
    with pytest.raises(VlalignError, match=r"unnamed/manifest\.json names no classnames\.txt"):
        export_shards(tmp_path / "unnamed", tmp_path / "other")
