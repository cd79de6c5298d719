"""Every family of towers that open_clip can make, small and random."""

import copy
import json
from pathlib import Path

import open_clip
import pytest
import tiny_transformers
import torch
from annotated_scenes import write_annotated
from open_clip.tokenizer import HFTokenizer

from vlalign import models
from vlalign.errors import VlalignError
from vlalign.models.text import real_tokens
from vlalign.params import ModelParams, RunParams
from vlalign.training.data.inputs import Inputs
from vlalign.training.loop import Trainer

CONFIG = json.loads((Path(__file__).parents[2] / "config" / "towers" / "test.json").read_text())
CAPTIONS = ["a dog", "two red cats above a green house", ""]
WIDTH = 64
VIT = CONFIG["vision_cfg"]


def timm(name, size, **options):
    return {"timm_model_name": name, "timm_model_pretrained": False, "image_size": size, **options}


VISION = {
    "vit, class token": {**VIT, "pool_type": "tok"},
    "vit, average": {**VIT, "pool_type": "avg"},
    "vit, norm after pooling": {**VIT, "pool_type": "tok", "final_ln_after_pool": True},
    "vit, attention": {**VIT, "attentional_pool": True, "attn_pooler_queries": 3, "attn_pooler_heads": 2},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8},
    "timm vit, class token": timm("test_vit", 160, timm_pool="token"),
    "timm vit, average, mlp": timm("test_vit", 160, timm_pool="avg", timm_proj="mlp"),
    "timm vit, attention": timm("test_vit", 160, timm_pool="map", timm_proj="none"),
    "timm convnext": timm("test_convnext", 160, timm_pool="avg"),
    "timm resnet, attention": timm("resnet10t", 64, timm_pool="rot_attn", timm_proj=""),
    "timm swin": timm("swin_tiny_patch4_window7_224", 224, timm_pool="avg"),
}
TEXT = {
    "transformer": CONFIG["text_cfg"],
    "transformer, class token": {**CONFIG["text_cfg"], "embed_cls": True},
    "transformer, without causal mask": {**CONFIG["text_cfg"], "no_causal_mask": True, "proj_bias": True},
    "bert, average": {"hf_pooler_type": "mean_pooler", "hf_proj_type": "linear"},
    "bert, class token": {"hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"},
    "bert, mlp": {"hf_pooler_type": "mean_pooler", "hf_proj_type": "mlp"},
    "roberta": {"hf_pooler_type": "mean_pooler", "hf_proj_type": "linear"},
}
FAMILIES = [
    *((name, "transformer") for name in VISION),
    *(("vit, average", name) for name in TEXT if name != "transformer"),
]


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("bert", "roberta")}
    names = {kind: tiny_transformers.write(folder, kind) for kind, folder in folders.items()}

    def make(vision, text):
        text_cfg = dict(TEXT[text])
        kind = text.split(",")[0]
        if kind in names:
            text_cfg |= {"hf_model_name": names[kind], "hf_tokenizer_name": names[kind], "hf_model_pretrained": False}
            text_cfg |= {"context_length": 16, "tokenizer_kwargs": {"clean": "lower"}}
        return {"embed_dim": WIDTH, "vision_cfg": VISION[vision], "text_cfg": text_cfg}

    return make


def pictures(model, count=2):
    shape = (count, 3, model.image_size, model.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def build(config, pooling="average"):
    torch.manual_seed(0)
    return models.create(config, pooling=pooling).eval()


@pytest.mark.parametrize("pooling", ["average", "default"])
@pytest.mark.parametrize(("vision", "text"), FAMILIES, ids=lambda name: name)
def test_a_family_has_tokens_in_the_joint_space_and_open_clip_loads_it(family, tmp_path, vision, text, pooling):
    model = build(family(vision, text), pooling)
    with torch.no_grad():
        image, caption = model(pictures(model), model.tokenizer(CAPTIONS))
    rows, columns = model.grid
    assert image.patches_IVD.shape == (2, rows * columns, WIDTH)
    assert caption.tokens_CLD.shape == (3, model.context_length, WIDTH)
    assert caption.mask_CL.any(1).all()
    assert caption.mask_CL.sum() < caption.mask_CL.numel()

    models.save(model, tmp_path)
    same = json.loads((tmp_path / "open_clip_config.json").read_text())["vlalign"]["same_in_open_clip"]
    if pooling == "default":
        assert same == {"image": True, "text": True}
    theirs, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    theirs.eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(CAPTIONS)
    assert torch.equal(tokens, model.tokenizer(CAPTIONS))
    with torch.no_grad():
        found = {
            "image": (theirs.encode_image(pictures(model), normalize=True), image.embedding_ID),
            "text": (theirs.encode_text(tokens, normalize=True), caption.embedding_CD),
        }
        again, _ = models.load(tmp_path)(pictures(model), tokens)
    for name, (theirs_ND, ours_ND) in found.items():
        assert torch.allclose(theirs_ND, ours_ND, atol=1e-5) == same[name]
    assert torch.equal(again.embedding_ID, image.embedding_ID)


def last_features(visual, images):
    """What the head of a tower is given, as it is given."""
    if hasattr(visual, "trunk"):
        return visual.trunk.forward_features(images)
    if hasattr(visual, "attnpool"):
        return visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(images)))))
    return visual.transformer(visual._embeds(images))


def head(visual, features):
    if hasattr(visual, "trunk"):
        return visual.head(visual.trunk.forward_head(features))
    if hasattr(visual, "attnpool"):
        return visual.attnpool(features)
    return visual._pool(features)[0] @ visual.proj


def everywhere(visual, features, place):
    """Features of the same shape that are those of one patch in all places, class tokens included."""
    if features.ndim == 3:
        prefix = visual.trunk.num_prefix_tokens if hasattr(visual, "trunk") else 1
        return features[:, prefix + place][:, None].expand_as(features)
    if getattr(getattr(visual, "trunk", None), "output_fmt", "NCHW") == "NHWC":
        return features.flatten(1, 2)[:, place][:, None, None].expand_as(features)
    return features.flatten(2)[:, :, place][..., None, None].expand_as(features)


@pytest.mark.parametrize("vision", VISION)
def test_a_patch_token_is_what_the_towers_head_makes_of_that_patch_alone(family, vision):
    model = build(family(vision, "transformer"))
    visual = model.clip.visual
    if vision == "resnet":
        visual.attnpool.positional_embedding.data.zero_()
    with torch.no_grad():
        patches_IVD = model.encode_image(pictures(model)).patches_IVD
        features = last_features(visual, pictures(model))
        for place in (0, 1, patches_IVD.shape[1] - 1):
            alone = head(visual, everywhere(visual, features, place).contiguous())
            assert torch.allclose(patches_IVD[:, place], alone, atol=1e-4 * alone.abs().max())
    assert patches_IVD.var(1).sum() > 0


@pytest.mark.parametrize("text", TEXT)
def test_only_a_bidirectional_tower_without_a_mask_sees_the_padding(family, text):
    model = build(family("vit, average", text))
    ids = model.tokenizer(["a dog"])
    with torch.no_grad():
        found = model.encode_text(ids)
        real = int(found.mask_CL.sum())
        assert found.mask_CL[0, :real].all()
        if "transformer" in text:
            # Other ids in the padding, lower than that of the end.
            tokens = model.encode_text(ids.where(found.mask_CL, 5)).tokens_CLD
        else:
            tokens = model.encode_text(ids[:, : real + 2]).tokens_CLD
    seen = not torch.allclose(found.tokens_CLD[:, :real], tokens[:, :real], atol=1e-5)
    assert seen == (text == "transformer, without causal mask")


def test_where_the_end_stands_for_padding_its_first_place_is_real(tmp_path):
    plain = tiny_transformers.byte_level()
    plain.pad_token = plain.eos_token
    plain.save_pretrained(tmp_path)
    tokenizer = HFTokenizer(str(tmp_path), context_length=16)
    ids = tokenizer(["a dog", ""])
    assert real_tokens(tokenizer, ids).sum(1).tolist() == [len(plain("a dog").input_ids), len(plain("").input_ids)]


def test_a_copy_has_weights_of_its_own(family):
    model = build(family("vit, average", "transformer"))
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        assert model.encode_image(pictures(model)).patches_IVD.abs().sum() > 0
        assert other.encode_image(pictures(model)).patches_IVD.abs().sum() == 0


@pytest.mark.parametrize("text", ["transformer", "bert, average"])
def test_an_open_clip_model_that_is_read_stays_what_it_was(family, text):
    model = build(family("vit, class token", text), "default")
    tokens = model.tokenizer(CAPTIONS)
    with torch.no_grad():
        image, caption, _ = model.clip(pictures(model), tokens)
        ours = model(pictures(model), tokens)
    assert torch.allclose(image, ours[0].embedding_ID, atol=1e-6)
    assert torch.allclose(caption, ours[1].embedding_CD, atol=1e-6)


def test_activations_of_other_weights_are_refused():
    with pytest.raises(VlalignError, match="quick_gelu True; the tower ViT-B-32-quickgelu"):
        models.build(ModelParams(tower="ViT-B-32", pretrained="openai"))


def test_a_damaged_file_of_weights_is_named(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"nothing")
    with pytest.raises(VlalignError, match=r"weights\.pt does not fit the tower"):
        models.build(ModelParams(tower=CONFIG, pretrained=str(tmp_path / "weights.pt")))


def test_a_part_that_open_clip_cannot_unlock_is_named():
    tower = {**CONFIG, "vision_cfg": VISION["resnet"]}
    with pytest.raises(VlalignError, match="cannot lock a part"):
        models.build(ModelParams(tower=tower, lock_image=True, unlocked_image_groups=1))


TRAINED = [("timm vit, average, mlp", "bert, average"), ("vit, attention", "bert, class token"), ("resnet", "roberta")]


@pytest.mark.parametrize("pooling", ["average", "default"])
@pytest.mark.parametrize(("vision", "text"), TRAINED, ids=lambda name: name)
def test_families_train_with_every_term(family, tmp_path, vision, text, pooling):
    write_annotated(tmp_path, images=12)
    inputs = Inputs(tmp_path / "split", tmp_path / "phrases", tmp_path / "regions")
    params = {
        "model": {"tower": family(vision, text), "pooling": pooling},
        "train": {"steps": 3, "batch_size": 6, "grad_checkpointing": vision != "resnet", "learning_rate": 1e-3},
        "objective": {
            "powerset": {"weight": 1.0, "centre": True, "loss": "cross-entropy"},
            "cs": {"weight": 0.1, "token_weight": 0.1, "sigma": 0.5},
        },
    }
    trainer = Trainer(RunParams.model_validate(params), seed=0, inputs=inputs)
    before = {name: value.clone() for name, value in trainer.encoder.named_parameters()}
    for _ in range(2):
        assert trainer.take_step().total.item() > 0
    still = [name for name, value in trainer.encoder.named_parameters() if torch.equal(value, before[name])]
    # Rows of words that no caption has, and the biases that softmax does not see, may rest; whole towers may not.
    assert len(still) < len(before) / 4, still


def test_gradient_checkpointing_changes_no_gradient(tmp_path):
    write_annotated(tmp_path, images=12)
    inputs = Inputs(tmp_path / "split", tmp_path / "phrases", tmp_path / "regions")
    losses = []
    for recomputed in (False, True):
        params = {
            "model": {"tower": CONFIG},
            "train": {"steps": 4, "batch_size": 6, "grad_checkpointing": recomputed},
            "objective": {"powerset": {"weight": 1.0}},
        }
        trainer = Trainer(RunParams.model_validate(params), seed=0, inputs=inputs)
        assert trainer.encoder.clip.visual.transformer.grad_checkpointing == recomputed
        losses.append([trainer.take_step().total.item() for _ in range(4)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_weights_of_a_file_are_where_a_run_starts(tmp_path):
    models.save(build(CONFIG), tmp_path)
    weights = tmp_path / "model.safetensors"
    torch.manual_seed(7)
    model = models.build(ModelParams(tower=CONFIG, pretrained=str(weights))).eval()
    with torch.no_grad():
        ours, theirs = (x.encode_image(pictures(model)).embedding_ID for x in (model, build(CONFIG)))
    assert torch.equal(ours, theirs)


def test_weights_that_are_nowhere_are_named():
    with pytest.raises(VlalignError, match=r"model\.pretrained: 'laion2c' is neither a file .* laion2b_s34b_b88k"):
        models.build(ModelParams(tower="ViT-B-16", pretrained="laion2c"))


def test_weights_of_another_tower_are_refused(tmp_path):
    models.save(build(CONFIG), tmp_path)
    wider = {**CONFIG, "embed_dim": 24}
    with pytest.raises(VlalignError, match="does not fit the tower"):
        models.build(ModelParams(tower=wider, pretrained=str(tmp_path / "model.safetensors")))


@pytest.mark.parametrize(
    ("params", "image", "text"),
    [({}, True, True), ({"lock_image": True}, False, True), ({"lock_text": True}, True, False)],
)
def test_a_locked_tower_is_not_trained(tmp_path, params, image, text):
    write_annotated(tmp_path, images=12)
    inputs = Inputs(tmp_path / "split", tmp_path / "phrases", tmp_path / "regions")
    run = {
        "model": {"tower": CONFIG, **params},
        "train": {"steps": 4, "batch_size": 6, "accumulate": 2},
        "objective": {"powerset": {"weight": 1.0}},
    }
    trainer = Trainer(RunParams.model_validate(run), seed=0, inputs=inputs)
    clip = trainer.encoder.clip
    parts = {"image": clip.visual, "text": clip.text}
    before = {name: [p.clone() for p in part.parameters()] for name, part in parts.items()}
    trainer.take_step()
    for name, moves in (("image", image), ("text", text)):
        changed = any(not torch.equal(a, b) for a, b in zip(before[name], parts[name].parameters(), strict=True))
        assert changed == moves


def test_the_end_of_a_locked_tower_can_be_trained():
    model = models.build(ModelParams(tower=CONFIG, lock_image=True, unlocked_image_groups=1))
    trained = [name for name, value in model.clip.visual.named_parameters() if value.requires_grad]
    assert trained == ["proj"]


@pytest.mark.parametrize("unlocked", [0, 1])
def test_a_locked_timm_tower_gives_the_same_features_in_every_mode(unlocked):
    """Its layers of batch normalisation hold the activations."""
    tower = {**CONFIG, "vision_cfg": timm("test_efficientnet", 160)}
    features = {}
    for locked in (False, True):
        torch.manual_seed(3)
        params = ModelParams(tower=tower, lock_image=locked, unlocked_image_groups=unlocked if locked else 0)
        model = models.build(params).eval()
        features[locked] = model.encode_image(pictures(model)).patches_IVD
    assert torch.allclose(features[True], features[False], atol=1e-5)
    norms = [part for part in model.clip.visual.trunk.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert bool(norms) == bool(unlocked)
    assert all(value.requires_grad for norm in norms for value in norm.parameters())
    if not unlocked:
        trained = model.train().encode_image(pictures(model)).patches_IVD
        assert torch.allclose(trained, features[False], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_cfg": {**VIT, "patch_dropout": 0.5}}, r"patch_dropout must be 0"),
        ({"vision_cfg": {**VIT, "attentional_pool": "parallel"}}, r"attentional_pool may be true"),
        ({"vision_cfg": timm("vit_tiny_patch16_224", 64)}, r"cannot read pictures of 64 x 64"),
        ({"vision_cfg": timm("no_such_model", 64)}, r"open_clip cannot make these towers"),
        ({"vision_cfg": {**VIT, "depth": 3}}, r"depth"),
        ({"multimodal_cfg": {}}, r"CoCa has a decoder"),
        pytest.param({"text_cfg": {"hf_model_name": "no/such-folder"}}, r"model\.tower", marks=pytest.mark.slow),
    ],
    ids=["dropout", "parallel", "size", "timm name", "key", "decoder", "text name"],
)
def test_towers_that_cannot_be_used_are_named(change, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(VlalignError, match=message):
        models.build(ModelParams(tower={**CONFIG, **change}))
