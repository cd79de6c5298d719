"""Pictures from text embeddings, with real pipelines of diffusers at tiny sizes."""

import io
import itertools
import json
import logging
import shutil

import numpy as np
import pytest
import tiny_decoders
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from vlalign import models
from vlalign.errors import VlalignError
from vlalign.evaluation.features import encode_texts
from vlalign.generation import pictures
from vlalign.generation.decoders import Decoder, find_decoder, load_decoder
from vlalign.generation.pictures import Captions, Generator, examples, generate, read_generated, seed_of
from vlalign.params import DecoderParams
from vlalign.records import check_file, read_record


def params(root, kind, **changes):
    size = {"size": 16} if kind == "kandinsky" else {}
    return DecoderParams(kind=kind, model=str(root / "decoders" / kind), steps=2, guidance=3.0, **size, **changes)


def decoder_of(root, kind, **changes):
    spec = params(root, kind, **changes)
    return load_decoder(find_decoder(spec)[0], spec)


def generator(place, kind="stable-unclip", count=10):
    return Generator(place.encoder, decoder_of(place.root, kind), Captions(place.split, count), name="adapted")


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content))).astype(int)


@pytest.mark.parametrize("kind", tiny_decoders.KINDS)
def test_a_picture_depends_on_its_caption_and_key_and_not_on_its_batch(generating, tmp_path, kind):
    found = {}
    for size in (4, 3):
        generate(generator(generating, kind), tmp_path / f"{size}", made_of={}, batch_size=size)
        found[size] = list(read_generated(tmp_path / f"{size}"))
    assert [row["key"] for row in found[4]] == [sample.key for sample in Captions(generating.split, 10).samples()]
    for one, other in zip(found[4], found[3], strict=True):
        assert np.abs(pixels(one["image"]) - pixels(other["image"])).max() <= 1, "no more than rounding"
    different = {row["image"] for row in found[4]}
    assert len(different) == 10
    assert all(pixels(image).std() > 5 for image in different)


@pytest.mark.parametrize("kind", tiny_decoders.KINDS)
def test_the_embedding_drives_the_picture(generating, kind):
    decoder = decoder_of(generating.root, kind)
    ways_ND = torch.eye(tiny_decoders.WIDTH)[:2] * 20
    one, other = decoder.decode(ways_ND, blank_D=torch.zeros(tiny_decoders.WIDTH), seeds=[7, 7])
    (again,) = decoder.decode(ways_ND[:1], blank_D=torch.zeros(tiny_decoders.WIDTH), seeds=[7])
    assert np.abs(np.asarray(one).astype(int) - np.asarray(again)).max() <= 1
    assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).max() > 1


@pytest.mark.parametrize("kind", tiny_decoders.KINDS)
def test_pictures_that_are_not_finite_are_refused(generating, kind):
    decoder = decoder_of(generating.root, kind)
    given = {"blank_D": torch.zeros(tiny_decoders.WIDTH), "seeds": [7]}
    with pytest.raises(VlalignError, match="embeddings of captions or pictures are not finite"):
        decoder.decode(torch.full((1, tiny_decoders.WIDTH), torch.nan), **given)
    last = {"stable-unclip": "vae", "kandinsky": "movq", "karlo": "super_res_last"}[kind]
    for value in getattr(decoder.pipeline, last).parameters():
        value.data.fill_(torch.nan)
    with pytest.raises(VlalignError, match=r"generation\.decoder\.model: .* gives pictures that are not finite"):
        decoder.decode(torch.ones(1, tiny_decoders.WIDTH), **given)


def test_embeddings_reach_the_decoder_at_the_scale_of_its_image_encoder(generating, monkeypatch):
    seen = []
    monkeypatch.setattr(Decoder, "decode", lambda self, x, **_: seen.append(x) or [Image.new("RGB", (8, 8))] * len(x))
    generation = generator(generating)
    list(generation.rows(8, 10, seed=0, batch_size=2))
    samples = list(generation.captions.samples())
    theirs_ND = generation.decoder.embed([Image.open(io.BytesIO(sample.image)).convert("RGB") for sample in samples])
    assert generation.scale == pytest.approx(theirs_ND.norm(dim=-1).mean().item(), rel=0.02)
    units_ND = encode_texts(generating.encoder, [sample.captions[0] for sample in samples[8:]])
    torch.testing.assert_close(seen[0], units_ND * generation.scale)


def test_a_killed_generation_goes_on_with_the_same_pictures(generating, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "PER_FILE", 3)
    generate(generator(generating), tmp_path / "whole", made_of={"weights": "a"}, batch_size=2)
    calls, decode = itertools.count(1), Decoder.decode

    def dying(self, *given, **how):
        if next(calls) == 7:
            raise KeyboardInterrupt
        return decode(self, *given, **how)

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "decode", dying)
        with pytest.raises(KeyboardInterrupt):
            generate(generator(generating), tmp_path / "killed", made_of={"weights": "a"}, batch_size=2)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "killed").iterdir()}
    assert 0 < len(before) < 4
    assert "manifest.json" not in before
    generate(generator(generating), tmp_path / "killed", made_of={"weights": "a"}, batch_size=2)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "killed").iterdir()}
    assert {name: after[name] for name in before} == before
    assert read_record(tmp_path / "killed/manifest.json") == read_record(tmp_path / "whole/manifest.json")


def test_pictures_of_other_weights_are_made_again_and_damaged_ones_refused(generating, tmp_path):
    generate(generator(generating, count=4), tmp_path, made_of={"weights": "a"})
    first = (tmp_path / "000000.arrow").stat().st_mtime_ns
    generate(generator(generating, count=4), tmp_path, made_of={"weights": "b"})
    assert (tmp_path / "000000.arrow").stat().st_mtime_ns > first
    (tmp_path / "000000.arrow").write_bytes((tmp_path / "000000.arrow").read_bytes()[:-9])
    with pytest.raises(VlalignError, match=r"000000\.arrow is not the file that .*manifest\.json describes"):
        list(read_generated(tmp_path))


def test_the_first_pictures_come_with_the_real_ones(generating, tmp_path):
    generate(generator(generating), tmp_path, made_of={}, batch_size=3)
    rows = list(read_generated(tmp_path))
    shown = examples(tmp_path)
    assert shown == rows[:8]
    assert all(pixels(row["real"]).shape == (32, 32, 3) and row["of_image"] != row["image"] for row in shown)
    assert [row["real"] for row in rows[8:]] == [None, None]


def test_seeds_are_those_of_keys():
    assert len({seed_of(seed, key) for seed in (0, 1) for key in ("a", "b")}) == 4
    assert all(0 <= seed_of(0, str(number)) < 2**63 for number in range(100))


def test_an_image_tower_that_is_not_the_decoders_is_refused(generating):
    torch.manual_seed(1)
    other = models.create(tiny_decoders.TOWER, pooling="default").eval()
    captions, decoder = Captions(generating.split, 10), decoder_of(generating.root, "karlo")
    with pytest.raises(VlalignError, match=r"of other is not the image encoder of .*karlo: .* cosine of -?0\.\d\d"):
        Generator(other, decoder, captions, name="other")
    wide = models.create({**tiny_decoders.TOWER, "embed_dim": 24}, pooling="default").eval()
    with pytest.raises(VlalignError, match=r"of wide gives 24 numbers, but the decoder .*karlo reads 16"):
        Generator(wide, decoder, captions, name="wide")


def test_where_nobody_can_tell_it_is_said(generating, caplog):
    with caplog.at_level(logging.WARNING):
        generator(generating, "kandinsky")
    assert "only the width was compared" in caplog.text


def test_a_decoder_of_another_kind_or_without_safetensors_is_refused(generating, tmp_path):
    with pytest.raises(VlalignError, match=r"cannot be loaded as karlo, diffusers' UnCLIPImageVariationPipeline"):
        load_decoder(generating.root / "decoders" / "stable-unclip", params(generating.root, "karlo"))
    folder = shutil.copytree(generating.root / "decoders" / "kandinsky", tmp_path / "decoders" / "kandinsky")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(VlalignError, match="weights as safetensors"):
        decoder_of(tmp_path, "kandinsky")


@pytest.mark.parametrize("part", ["text_encoder", "image_encoder"])
def test_weights_that_lack_a_parameter_are_refused(generating, tmp_path, part):
    """transformers itself would draw it."""
    shutil.copytree(generating.root / "decoders" / "karlo", tmp_path / "decoders" / "karlo")
    file = tmp_path / "decoders" / "karlo" / part / "model.safetensors"
    weights = load_file(file)
    lost = next(name for name in weights if name.endswith("embeddings.position_embedding.weight"))
    save_file({name: value for name, value in weights.items() if name != lost}, file, metadata={"format": "pt"})
    with pytest.raises(VlalignError, match=rf"{part} lack 1 parameters, such as .*position_embedding.weight; fetch"):
        decoder_of(tmp_path, "karlo")


def test_code_that_comes_with_a_decoder_is_not_run(generating, tmp_path):
    folder = shutil.copytree(generating.root / "decoders" / "kandinsky", tmp_path / "decoders" / "kandinsky")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "unet" / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: ...\n")
    (folder / "model_index.json").write_text(json.dumps({**index, "unet": ["own", "Own"]}))
    with pytest.raises(VlalignError, match="cannot be loaded as kandinsky"):
        decoder_of(tmp_path, "kandinsky")
    assert not (tmp_path / "ran").exists()


def test_the_identity_of_a_decoder_is_its_content(generating, tmp_path):
    copy = shutil.copytree(generating.root / "decoders" / "karlo", tmp_path / "decoders" / "karlo")
    ours, theirs = (params(root, "karlo") for root in (generating.root, tmp_path))
    assert find_decoder(ours)[1] == find_decoder(theirs)[1]
    (copy / "model_index.json").write_text("{}")
    assert find_decoder(ours)[1] != find_decoder(theirs)[1]
    with pytest.raises(VlalignError, match=r"decoder\.model: nowhere is no folder; give one, or a repository"):
        find_decoder(ours.model_copy(update={"model": "nowhere"}))


def test_of_a_repository_only_what_is_read_is_fetched_from_one_commit(generating, hub, monkeypatch):
    folder = generating.root / "decoders" / "kandinsky"
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    others = {"unet/diffusion_pytorch_model.fp16.safetensors": b"x", "unet/diffusion_pytorch_model.bin": b"x"}
    others |= {"unet/own.py": b"x", "prior/model.safetensors": b"x", "README.md": b"x"}
    commit = hub.commit(files | others, repository="someone/kandinsky")
    spec = DecoderParams(kind="kandinsky", model="someone/kandinsky", steps=2, size=16)
    fetched, content = find_decoder(spec)
    assert content == fetched.name == commit
    assert {path.relative_to(fetched).as_posix() for path in fetched.rglob("*") if path.is_file()} == set(files)
    assert load_decoder(fetched, spec).width == tiny_decoders.WIDTH
    hub.commit({**files, "unet/config.json": b"{}"}, repository="someone/kandinsky")
    assert find_decoder(spec.model_copy(update={"revision": commit}))[0] == fetched
    hub.commit({"README.md": b"x"}, repository="someone/nothing")
    with pytest.raises(VlalignError, match=r"has no model_index\.json, so it is no pipeline of diffusers"):
        find_decoder(spec.model_copy(update={"model": "someone/nothing"}))


def test_files_are_vouched_for(generating, tmp_path):
    generate(generator(generating, count=4), tmp_path, made_of={})
    manifest = read_record(tmp_path / "manifest.json")
    for entry in manifest["shards"]:
        check_file(tmp_path / entry["name"], entry, record=tmp_path / "manifest.json", remedy="")
    assert sum(entry["samples"] for entry in manifest["shards"]) == 4
