"""Training adapters on what frozen towers give."""

from dataclasses import replace

import pytest
import tiny_transformers
import torch
from frozen_runs import params, write_run
from safetensors.torch import load_file, save_file
from training_runs import TOWER, same

from vlalign import models
from vlalign.analysis.illustrations import shown_runs
from vlalign.errors import VlalignError
from vlalign.evaluation.run import Execution, evaluate
from vlalign.models import build
from vlalign.models.adapters import Adapters
from vlalign.models.lora import TRAINED, WRAPPED
from vlalign.params import AdapterParams, EvaluationParams, LoraParams, Run, RuntimeParams
from vlalign.records import stamps, write_record
from vlalign.training import loop
from vlalign.training.data.batches import PairedSet, encode
from vlalign.training.pretrain import Places, pretrain

UNPAIRED = {"cs": {"weight": 0.5, "captions": "all", "unpaired": {"images": 3, "captions": 5}}}
TOKENS = {"cs": {"weight": 0.5, "token_weight": 0.5}}


def trainer(run, inputs, **how):
    return loop.Trainer(run, seed=0, inputs=inputs, **how)


@pytest.mark.parametrize(("kind", "kept"), [("mlp", "pooled"), ("mlp", "tokens"), ("transformer", "tokens")])
def test_a_batch_of_features_gives_what_pictures_and_captions_give(place, kind, kept):
    """The naive twin goes through the towers again."""
    inputs, encoder = getattr(place, kept), build(params(kind).model, start=place.start).train()
    torch.nn.init.normal_(
        encoder.adapters.image.get_parameter("leave.weight" if kind == "transformer" else "mlp.4.weight")
    )
    naive = PairedSet(inputs.split, encoder).batch(seed=0, step=1, size=8)
    fast = PairedSet(inputs.split, encoder, features=inputs.features / "train").batch(seed=0, step=1, size=8)
    gradients = []
    for batch in (fast, naive):
        encoder.zero_grad()
        image, text = encode(encoder, batch)
        (image.embedding_ID @ text.embedding_CD.T).square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.adapters.parameters()])
        if kept == "tokens":
            seen = image.patches_IVD
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-3)
    if kept == "tokens":
        torch.testing.assert_close(encode(encoder, fast)[0].patches_IVD, seen, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("objective", [{}, UNPAIRED, TOKENS], ids=["pairs", "unpaired", "tokens"])
def test_training_lowers_the_loss_and_leaves_the_towers_as_they_are(place, objective):
    run = params(objective=objective, learning_rate=0.02)
    training = trainer(run, place.tokens if objective is TOKENS else place.pooled)
    before = {name: value.clone() for name, value in training.encoder.clip.state_dict().items()}
    losses = [training.take_step().total.item() for _ in range(8)]
    assert losses[-1] < losses[0]
    counts = {True: 0, False: 0}
    for value in training.encoder.parameters():
        counts[value.requires_grad] += value.numel()
    assert training.parameters() == {"trained": counts[True], "frozen": counts[False]}
    assert counts[True] == 1 + sum(value.numel() for value in training.encoder.adapters.parameters())
    after = training.encoder.clip.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"logit_scale"}
    assert not any(parameter.requires_grad for parameter in training.encoder.clip.visual.parameters())


def lora(**train):
    run = params(learning_rate=0.02, **train)
    return run.model_copy(update={"model": run.model.model_copy(update={"lora": LoraParams(rank=2)})})


@pytest.mark.parametrize("kind", ["open_clip", "bert", "llama"])
def test_low_rank_changes_train_and_leave_every_frozen_weight_bit_identical(place, tmp_path, kind):
    """open_clip's attention is nn.MultiheadAttention, to which peft adds and from which it subtracts in every call."""
    tower = dict(TOWER)
    if kind != "open_clip":
        name = tiny_transformers.write(tmp_path / kind, kind)
        tower["text_cfg"] = {"hf_model_name": name, "hf_model_pretrained": False, "context_length": 16}
    if kind == "llama":
        tower["text_cfg"]["tokenizer_kwargs"] = {"pad_token": tiny_transformers.RESERVED}
    torch.manual_seed(0)
    encoder = models.create(tower, pooling="average")
    before = {name: value.clone() for name, value in encoder.clip.text.state_dict().items()}
    encoder.adapt(params().model.adapters, LoraParams(rank=2))
    trained = [parameter for parameter in encoder.clip.text.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=0.05)
    tokens = encoder.tokenizer(["a red cat", "two dogs on a table"])
    losses = []
    for _ in range(6):
        pooled_CW = encoder.train().tower_text(tokens).pooled_NW
        losses.append((loss := (pooled_CW[0] - pooled_CW[1]).square().sum()).item())
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in trained)
        optimizer.step()
    assert losses[-1] < losses[0]
    after = {name.replace(WRAPPED, ""): x for name, x in encoder.clip.text.state_dict().items() if TRAINED not in name}
    assert same(after, before)


def test_a_run_with_low_rank_changes_resumes_loads_and_exports(place, tmp_path):
    run = lora()
    weights = adapt(tmp_path / "whole", place.pooled, run=run)
    assert {name.split(".")[0] for name in weights} == {"adapters", "logit_scale", "text"}
    assert all(TRAINED in name for name in weights if name.startswith("text"))
    with pytest.MonkeyPatch.context() as patch:
        take = loop.Trainer.take_step
        patch.setattr(loop.Trainer, "take_step", lambda self: take(self) if self.step < 5 else pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            adapt(tmp_path / "killed", place.pooled, run=run)
    assert same(adapt(tmp_path / "killed", place.pooled, run=run), weights)
    models.export.export_model(tmp_path / "whole" / "run", tmp_path / "alone")
    ours, alone = models.load(tmp_path / "whole" / "run"), models.load(tmp_path / "alone")
    assert (ours.lora, alone.lora) == (run.model.lora, None)
    tokens = ours.tokenizer(["a red cat", "two dogs"])
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_text(tokens)[0], alone.encode_text(tokens)[0])


def test_adapters_start_as_the_towers_are(place):
    """Where the joint space has their width: a run that was aligned already loses nothing."""
    model = params().model
    model = model.model_copy(update={"adapters": model.adapters.model_copy(update={"dimension": 16})})
    adapted, plain = build(model, start=place.start).eval(), models.load(place.start)
    tokens = plain.tokenizer(["a red cat", "two dogs"])
    with torch.no_grad():
        assert torch.equal(adapted.encode_text(tokens).embedding_CD, plain.encode_text(tokens).embedding_CD)


def test_what_has_no_partner_is_never_one_of_the_pairs(place):
    run = params(pairs=24, objective=UNPAIRED)
    data = replace(place.pooled, unpaired_images=None, unpaired_captions=None).training_set(place.encoder, run)
    assert len(data) == 24
    for stream in (data.more_images, data.more_captions):
        drawn = {sample for step in range(20) for sample in stream.draw(0, step)[0].tolist()}
        assert drawn == set(range(24, 40))


def places(folder):
    return Places(folder / "run", folder / "checkpoints")


def adapt(folder, inputs, *, run=None, **runtime):
    pretrain(
        Run("test", run or params(), "test"),
        seed=0,
        inputs=inputs,
        places=places(folder),
        runtime=RuntimeParams(checkpoint_every=3, **runtime),
    )
    return load_file(folder / "run" / "model.safetensors")


def test_a_killed_adaptation_ends_with_the_same_weights(place, tmp_path, monkeypatch):
    whole = adapt(tmp_path / "whole", place.pooled)
    take, steps = loop.Trainer.take_step, []

    def dying(self):
        steps.append(self.step)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return take(self)

    monkeypatch.setattr(loop.Trainer, "take_step", dying)
    with pytest.raises(KeyboardInterrupt):
        adapt(tmp_path / "killed", place.pooled)
    assert same(adapt(tmp_path / "killed", place.pooled), whole)
    assert steps == [0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7]


def test_a_run_holds_adapters_alone_and_loads_with_its_towers(place, tmp_path):
    weights = adapt(tmp_path, place.pooled)
    assert {name.split(".")[0] for name in weights} == {"adapters", "logit_scale"}
    loaded = models.load(tmp_path / "run")
    trained = build(params().model, start=place.start).eval()
    trained.load_trained_state({n if n.startswith("adapters") else f"clip.{n}": x for n, x in weights.items()})
    tokens = loaded.tokenizer(["a red cat", "two dogs"])
    pictures = torch.randn(2, 3, loaded.image_size, loaded.image_size)
    with torch.no_grad():
        assert torch.equal(loaded.encode_text(tokens)[0], trained.encode_text(tokens)[0])
        assert torch.equal(loaded.encode_image(pictures)[0], trained.encode_image(pictures)[0])


def test_exported_it_holds_its_towers_too(place, tmp_path):
    adapt(tmp_path, place.pooled)
    models.export.export_model(tmp_path / "run", tmp_path / "alone")
    ours, alone = models.load(tmp_path / "run"), models.load(tmp_path / "alone")
    assert alone.frozen is None
    tokens = ours.tokenizer(["a red cat", "two dogs"])
    with torch.no_grad():
        assert torch.equal(ours.encode_text(tokens)[0], alone.encode_text(tokens)[0])


def test_other_towers_under_it_are_refused(place, tmp_path):
    start = write_run(tmp_path / "first", seed=0)
    adapt(tmp_path, replace(place.pooled, start=start))
    weights = load_file(start / "model.safetensors")
    weights["text.text_projection"][0, 0] += 1
    save_file(weights, start / "model.safetensors")
    with pytest.raises(VlalignError, match=r"first/model\.safetensors is not the file that .*bring that file back"):
        models.load(tmp_path / "run")


def test_open_clip_does_not_read_it_as_if_it_had_no_adapters(place, tmp_path):
    import open_clip

    adapt(tmp_path, place.pooled)
    models.export.export_model(tmp_path / "run", tmp_path / "alone")
    for folder in (tmp_path / "run", tmp_path / "alone"):
        with pytest.raises(RuntimeError, match="adapters"):
            open_clip.create_model(f"local-dir:{folder}")


def test_a_changed_run_to_start_from_trains_again(place, tmp_path):
    first, second = (write_run(tmp_path / f"start-{seed}", seed=seed) for seed in (0, 1))
    hashes = [replace(place.pooled, start=start).hashes(params().model) for start in (first, second)]
    assert hashes[0]["start"] != hashes[1]["start"]
    assert hashes[0] | {"start": ""} == hashes[1] | {"start": ""}
    assert "features of train" in hashes[0]
    assert "features of unpaired/images" in hashes[0]


def test_features_of_other_towers_are_refused(place, tmp_path):
    inputs = replace(place.pooled, start=write_run(tmp_path / "second", seed=1))
    with pytest.raises(VlalignError, match=r"pooled/train has the features of other towers; run `vlalign features`"):
        trainer(params(), inputs)


def test_a_damaged_run_to_start_from_is_refused(place, tmp_path):
    start = write_run(tmp_path / "first", seed=0)
    write_record(start / "run.json", {"files": stamps(start, ["model.safetensors", "open_clip_config.json"])})
    adapt(tmp_path, replace(place.pooled, start=start))
    weights = load_file(start / "model.safetensors")
    weights["text.text_projection"][0, 0] += 1
    save_file(weights, start / "model.safetensors")
    with pytest.raises(VlalignError, match=r"first/model\.safetensors is not the file that .*run\.json describes"):
        adapt(tmp_path, replace(place.pooled, start=start))


def test_measured_through_the_store_it_is_what_the_towers_give(place, tmp_path):
    """Two runs on the same towers, of which the second finds all that it needs; the naive twin has no store."""
    adapt(tmp_path / "one", place.pooled)
    adapt(tmp_path / "two", place.pooled, run=params(learning_rate=0.01))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test").symlink_to(place.root / "split")
    (tmp_path / "data" / "validation").symlink_to(place.root / "split")
    settings, kept = EvaluationParams(benchmarks=("retrieval", "modality")), Execution(features=tmp_path / "kept")
    values = {}
    for name in ("one", "two"):
        how = {"data": tmp_path / "data", "settings": settings}
        fast = evaluate(tmp_path / name / "run", **how, output_dir=tmp_path / f"fast-{name}", execution=kept)
        naive = evaluate(tmp_path / name / "run", **how, output_dir=tmp_path / f"naive-{name}")
        files = {path.name for path in (tmp_path / "kept").glob("*.safetensors")}
        values[name] = {row.place: row.value for found in fast.values() for row in found.rows}
        assert values[name] == pytest.approx({row.place: row.value for found in naive.values() for row in found.rows})
        assert len(files) == 2, "the pictures and the captions of one split, of both runs"
    assert values["one"] != values["two"]
    shown = {"data": tmp_path / "data", "annotations": tmp_path, "split": "test", "compared": []}
    [drawn] = shown_runs({"two": tmp_path / "two" / "run"}, **shown, features=tmp_path / "kept")
    [naive] = shown_runs({"two": tmp_path / "two" / "run"}, **shown)
    for ours, theirs in zip(drawn.features.pairs(), naive.features.pairs(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert files == {path.name for path in (tmp_path / "kept").glob("*.safetensors")}, "figures find them too"


def test_centred_adapters_subtract_each_modalitys_mean(place, tmp_path):
    run = params("centred", steps=1, objective={"cs": 0})
    adapt(tmp_path, place.pooled, run=run)
    encoder, plain = models.load(tmp_path / "run"), models.load(place.start)
    data = PairedSet(place.root / "split", plain)
    batch = data.select(torch.arange(len(data)))
    with torch.no_grad():
        images_ID, texts_CD = (found[0] for found in encode(plain, batch))
        ours = [found[0] for found in encode(encoder, batch)]
    for found, unit in zip(ours, (images_ID, texts_CD), strict=True):
        centred = unit - unit.mean(0)
        torch.testing.assert_close(found, centred / centred.norm(dim=-1, keepdim=True))


def test_centred_adapters_need_a_joint_space():
    with pytest.raises(VlalignError, match=r"adapters\.kind: .* gives 8 numbers and the text tower 9; choose mlp"):
        Adapters(8, 9, AdapterParams(kind="centred"))


def test_an_adapted_text_lands_in_the_space_of_the_image_tower_as_it_is(place, tmp_path):
    run = params(learning_rate=0.02)
    adapters = run.model.adapters.model_copy(update={"sides": "text", "dimension": 16})
    run = run.model_copy(update={"model": run.model.model_copy(update={"adapters": adapters})})
    weights = adapt(tmp_path, place.pooled, run=run)
    assert {name.rsplit(".", 3)[0] for name in weights if name.startswith("adapters")} == {"adapters.text"}
    ours, towers = models.load(tmp_path / "run"), models.load(place.start)
    pictures, tokens = torch.randn(2, 3, ours.image_size, ours.image_size), ours.tokenizer(["a red cat", "two dogs"])
    with torch.no_grad():
        assert torch.equal(ours.encode_image(pictures).embedding_ID, towers.encode_image(pictures).embedding_ID)
        assert not torch.equal(ours.encode_text(tokens).embedding_CD, towers.encode_text(tokens).embedding_CD)


def test_what_adapts_texts_alone_needs_the_width_of_the_image_tower():
    with pytest.raises(VlalignError, match=r"adapters\.dimension is 12, .* gives 8 numbers; set dimension to 8"):
        Adapters(8, 9, AdapterParams(sides="text", dimension=12))
    with pytest.raises(ValueError, match="sides: centred adapters subtract the mean of each modality"):
        AdapterParams(kind="centred", sides="text")
