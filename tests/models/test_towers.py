import json
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F

from vlalign import models
from vlalign.errors import VlalignError
from vlalign.models.towers import tower_config

CONFIG = json.loads((Path(__file__).parents[2] / "config" / "towers" / "test.json").read_text())
CAPTIONS = ["a dog", "two red cats above a green house", " ".join(["dog"] * 60), ""]


def encoder(*, pooling="average", seed=0, config=CONFIG):
    torch.manual_seed(seed)
    return models.create(config, pooling=pooling).eval()


def pictures(count=3):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def features(model):
    tokens = model.tokenizer(CAPTIONS)
    return (*model.encode_image(pictures()), *model.encode_text(tokens))


@pytest.mark.parametrize("pooling", ["average", "default"])
def test_save_and_load_are_exact(tmp_path, pooling):
    model = encoder(pooling=pooling)
    models.save(model, tmp_path)
    torch.manual_seed(99)
    loaded = models.load(tmp_path)
    assert not loaded.training
    assert loaded.pooling == pooling
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(features(model), features(loaded), strict=True))
    assert loaded.logit_scale == model.logit_scale


def test_the_same_weights_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        models.save(encoder(), tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("pooling", ["average", "default"])
def test_open_clip_loads_what_is_saved(tmp_path, pooling):
    ours = encoder(pooling=pooling)
    models.save(ours, tmp_path)
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    with torch.no_grad():
        expected = theirs.eval().encode_image(pictures(), normalize=True)
        assert torch.allclose(ours.encode_image(pictures()).embedding_ID, expected, atol=1e-5)
        tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(CAPTIONS)
        assert torch.equal(tokens, ours.tokenizer(CAPTIONS))
        if pooling == "default":
            expected = theirs.encode_text(tokens, normalize=True)
            assert torch.allclose(ours.encode_text(tokens).embedding_CD, expected, atol=1e-5)
    assert tuple(preprocess.transforms[-1].mean) == tuple(ours.preprocess["mean"])


def test_average_pooling_is_the_mean_of_the_projected_real_tokens():
    model = encoder()
    tokens = model.tokenizer(CAPTIONS)
    with torch.no_grad():
        image, text = model(pictures(), tokens)
        embedded, attn_mask = model.clip.text._embeds(tokens)
        hidden = model.clip.text.ln_final(model.clip.text.transformer(embedded, attn_mask=attn_mask))
    for row, ids in enumerate(tokens.tolist()):
        end = ids.index(model.tokenizer.eot_token_id)
        assert text.mask_CL[row].tolist() == [place <= end for place in range(len(ids))]
        projected = [hidden[row, place] @ model.clip.text.text_projection for place in range(end + 1)]
        mean = sum(projected) / len(projected)
        assert torch.allclose(text.embedding_CD[row], mean / mean.norm(), atol=1e-6)
        assert torch.allclose(text.tokens_CLD[row, end], projected[end], atol=1e-6)
    mean = image.patches_IVD.mean(1)
    assert torch.allclose(image.embedding_ID, mean / mean.norm(dim=1, keepdim=True), atol=1e-6)


def test_what_stands_in_the_padding_changes_no_embedding():
    model = encoder()
    tokens = model.tokenizer(["a dog"])
    other = torch.where(tokens == 0, 5, tokens)
    assert not torch.equal(tokens, other)
    with torch.no_grad():
        assert torch.equal(model.encode_text(tokens).embedding_CD, model.encode_text(other).embedding_CD)


def test_features_have_the_shapes_that_they_say():
    model = encoder()
    embedding_ID, patches_IVD, embedding_CD, tokens_CLD, mask_CL = features(model)
    width = CONFIG["embed_dim"]
    assert (model.image_size, model.grid) == (32, (4, 4))
    assert embedding_ID.shape == (3, width)
    assert patches_IVD.shape == (3, 16, width)
    assert embedding_CD.shape == (len(CAPTIONS), width)
    assert tokens_CLD.shape == (len(CAPTIONS), model.context_length, width)
    assert mask_CL.shape == (len(CAPTIONS), model.context_length)
    for embedding in (embedding_ID, embedding_CD):
        assert torch.allclose(embedding.norm(dim=1), torch.ones(len(embedding)), atol=1e-6)


def test_patches_keep_their_places():
    """Without position embeddings and blocks a patch token sees its own patch alone."""
    model = encoder()
    with torch.no_grad():
        model.clip.visual.transformer.resblocks = torch.nn.ModuleList()
        picture = pictures(1)
        changed = picture.clone()
        changed[:, :, 8:16, 24:32] += 1
        moved = (model.encode_image(picture).patches_IVD - model.encode_image(changed).patches_IVD).abs().sum(-1)[0]
    assert moved.nonzero()[:, 0].tolist() == [1 * 4 + 3]


def test_the_config_of_a_name_is_open_clips():
    assert tower_config("ViT-B-16") == open_clip.get_model_config("ViT-B-16")
    assert tower_config(CONFIG) == CONFIG


def test_creating_leaves_the_config_as_it_was():
    before = json.dumps(CONFIG)
    encoder()
    assert json.dumps(CONFIG) == before


def test_an_unknown_name_is_an_error():
    with pytest.raises(VlalignError, match=r"model\.tower: 'ViT-Absent' is not an open_clip model"):
        tower_config("ViT-Absent")


@pytest.mark.parametrize("key", ["text_cfg", "vision_cfg", "embed_dim"])
def test_a_config_that_lacks_a_part_is_an_error(key):
    with pytest.raises(VlalignError, match=rf"model\.tower lacks {key}"):
        tower_config({name: value for name, value in CONFIG.items() if name != key})


@pytest.mark.parametrize("name", ["model.safetensors", "open_clip_config.json"])
def test_a_missing_file_of_a_run_is_named(tmp_path, name):
    models.save(encoder(), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(VlalignError, match=name):
        models.load(tmp_path)


def test_embeddings_do_not_depend_on_the_rest_of_the_batch():
    model = encoder()
    with torch.no_grad():
        alone = model.encode_image(pictures()[:1]).embedding_ID
        together = model.encode_image(pictures()).embedding_ID[:1]
    assert F.cosine_similarity(alone, together).item() == pytest.approx(1, abs=1e-6)
