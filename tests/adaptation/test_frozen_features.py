"""What frozen towers give, on disk: it equals what they give at once, and is never that of others."""

import shutil

import pytest
import torch
from frozen_runs import params, write_run
from training_runs import TOWER

from vlalign.adaptation.features import encode_split
from vlalign.data.samples import decode_image
from vlalign.data.shards.split import Split, read_manifest, read_split
from vlalign.errors import VlalignError
from vlalign.models import build
from vlalign.models.adapters import unpacked
from vlalign.models.frozen import identity
from vlalign.models.pictures import fit_for, normalise
from vlalign.records import read_record, write_record
from vlalign.training.data.frozen_rows import FrozenCaptions, FrozenPictures


@pytest.mark.parametrize("kept", ["pooled", "tokens"])
@torch.no_grad()
def test_rows_are_what_the_towers_give_one_by_one(place, kept):
    features = getattr(place, kept).features / "train"
    split, encoder = Split(place.root / "split"), place.encoder
    pictures, captions = FrozenPictures(split, features), FrozenCaptions(split, features)
    for number, sample in enumerate(read_split(place.root / "split")):
        (row,) = pictures(number, "")
        seen = encoder.tower_image(normalise(fit_for(encoder, decode_image(sample.image))[None], encoder))
        found = unpacked(row[None])
        torch.testing.assert_close(found.pooled_NW, seen.pooled_NW)
        assert found.tokens_NLW.shape[1] == (seen.tokens_NLW.shape[1] if kept == "tokens" else 0)
        for index, caption in enumerate(sample.captions):
            (row,) = captions(number * split.most_captions + index, "")
            read, found = encoder.tower_text(encoder.tokenizer([caption])), unpacked(row[None])
            torch.testing.assert_close(found.pooled_NW, read.pooled_NW)
            if kept == "tokens":
                real = int(read.mask_NL.sum())
                assert found.mask_NL.sum() == real
                torch.testing.assert_close(found.tokens_NLW[:, :real], read.tokens_NLW[:, :real])
                assert not found.tokens_NLW[:, real:].any()


def test_what_was_computed_is_kept_and_what_is_missing_is_made(place, tmp_path, monkeypatch):
    features = shutil.copytree(place.pooled.features / "train", tmp_path / "train")
    before = {path.name: path.stat().st_mtime_ns for path in features.glob("*.arrow")}
    lost = sorted(features.glob("*.arrow"))[1]
    content = lost.read_bytes()
    lost.unlink()
    (features / "manifest.json").unlink()
    encode_split(place.root / "split", features, place.encoder, batch_size=7)
    after = {path.name: path.stat().st_mtime_ns for path in features.glob("*.arrow")}
    assert {name for name in after if after[name] != before[name]} == {lost.name}
    assert lost.read_bytes() == content
    assert read_manifest(features) == read_manifest(place.pooled.features / "train")


def test_a_damaged_file_is_made_again(place, tmp_path):
    features = shutil.copytree(place.pooled.features / "train", tmp_path / "train")
    damaged = sorted(features.glob("*.arrow"))[0]
    content = damaged.read_bytes()
    damaged.write_bytes(content[:700] + bytes([content[700] ^ 1]) + content[701:])
    with pytest.raises(VlalignError, match=r"000000\.arrow is not the file that .*manifest\.json describes"):
        FrozenPictures(Split(place.root / "split"), features)(0, "")
    encode_split(place.root / "split", features, place.encoder, batch_size=7)
    assert damaged.read_bytes() == content


def changed_weights(place, tmp_path):
    return build(params().model, start=write_run(tmp_path / "other", seed=1)).eval()


def changed_preprocessing(place, tmp_path):
    encoder = build(params().model, start=place.start).eval()
    encoder.set_preprocessing({"mean": [0.5, 0.5, 0.5]})
    return encoder


def changed_pooling(place, tmp_path):
    model = params().model.model_copy(update={"pooling": "default"})
    return build(model, start=place.start).eval()


def changed_towers(place, tmp_path):
    encoder = build(params().model, start=place.start).eval()
    encoder.config = {**TOWER, "quick_gelu": True}
    return encoder


@pytest.mark.parametrize("change", [changed_weights, changed_preprocessing, changed_pooling, changed_towers])
def test_features_of_other_towers_are_never_kept(place, tmp_path, change):
    features = shutil.copytree(place.pooled.features / "train", tmp_path / "train")
    other = change(place, tmp_path)
    assert identity(other) != identity(place.encoder)
    before = {shard["name"]: shard["inputs"] for shard in read_manifest(features)["shards"]}
    encode_split(place.root / "split", features, other, batch_size=7)
    after = {shard["name"]: shard["inputs"] for shard in read_manifest(features)["shards"]}
    assert all(before[name] != after[name] for name in before)


def test_features_of_other_data_are_never_kept(place, tmp_path):
    split = shutil.copytree(place.root / "split", tmp_path / "split")
    features = shutil.copytree(place.pooled.features / "train", tmp_path / "train")
    manifest = read_record(split / "manifest.json")
    manifest["shards"][0]["limits"] = "others"
    write_record(split / "manifest.json", manifest)
    with pytest.raises(VlalignError, match="features of another split, or of another state"):
        FrozenPictures(Split(split), features)
    before = [shard["inputs"] for shard in read_manifest(features)["shards"]]
    encode_split(split, features, place.encoder, batch_size=7)
    after = [shard["inputs"] for shard in read_manifest(features)["shards"]]
    assert [one != other for one, other in zip(before, after, strict=True)] == [True] + [False] * (len(before) - 1)


def test_parts_together_are_the_whole(place, tmp_path):
    for part in ("0-of-2", "1-of-2"):
        encode_split(place.root / "split", tmp_path / "train", place.encoder, batch_size=7, part=part)
    assert not (tmp_path / "train" / "manifest.json").exists()
    encode_split(place.root / "split", tmp_path / "train", place.encoder, batch_size=7)
    assert read_manifest(tmp_path / "train") == read_manifest(place.pooled.features / "train")
