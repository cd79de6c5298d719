import shutil

import pytest
import torch

from vlalign.errors import VlalignError
from vlalign.params import RunParams, TrainParams
from vlalign.training import loop
from vlalign.training.data.inputs import Inputs
from vlalign.training.optim import learning_rate
from vlalign.training.terms.powerset import PowersetParams, refuse_as_settings


@pytest.mark.parametrize("objective", ["triplet", "cross-entropy"])
@pytest.mark.parametrize("aggregator", ["exact", "nla", "sampled", "calibrated", "mean", "max"])
def test_every_objective_trains(config, inputs, objective, aggregator):
    params = config()["params"]
    params["objective"] = {
        "powerset": {"weight": 1.0, "aggregator": aggregator, "loss": objective, "centre": True, "cost": 0.1}
    }
    trainer = loop.Trainer(RunParams.model_validate(params), seed=0, inputs=inputs)
    losses = [trainer.take_step().total.item() for _ in range(8)]
    assert losses[-1] < losses[0]


SWITCHES = [
    {"direction": "r2t"},
    {"direction": "t2r"},
    {"activation": "relu", "tau": 1.0},
    {"zeta": 0.0},
    {"cost": "batch"},
    {"cost": "learnt"},
    {"empty_subset": False},
    {"tau_start": 1.0},
    {"phrases": {"unit": "words"}},
    {"phrases": {"normalise": False}},
    {"centre": True},
    {"per_region": False},
]


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_every_switch_changes_training(config, inputs, switch):
    def losses(powerset):
        params = config()["params"]
        base = {"weight": 1.0, "loss": "cross-entropy", "tau": 0.1}
        params["objective"] = {"powerset": {**base, **powerset}}
        trainer = loop.Trainer(RunParams.model_validate(params), seed=0, inputs=inputs)
        return [trainer.take_step().losses["powerset"].item() for _ in range(6)]

    plain, switched = losses({}), losses(switch)
    assert plain[:3] != switched[:3]
    assert switched[-1] < switched[0]


def test_a_learnt_cost_moves(config, inputs):
    params = config()["params"]
    params["objective"] = {"powerset": {"weight": 1.0, "loss": "cross-entropy", "cost": "learnt"}}
    trainer = loop.Trainer(RunParams.model_validate(params), seed=0, inputs=inputs)
    for _ in range(3):
        trainer.take_step()
    assert trainer.objective.numbers["powerset:cost"].item() != 0


@pytest.mark.parametrize("learnt", ["one", "words"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_learnt_order_moves(config, inputs, learnt, accumulate):
    params = config(accumulate=accumulate)["params"]
    rule = {"aggregator": "holder", "learnt_order": learnt, "norm_order": 3}
    params["objective"] = {"powerset": {"weight": 1.0, "loss": "cross-entropy", **rule}}
    trainer = loop.Trainer(RunParams.model_validate(params), seed=0, inputs=inputs)
    step = [trainer.take_step() for _ in range(3)][-1]
    orders = {name: value.item() for name, value in trainer.objective.numbers.items() if "order" in name}
    start = torch.tensor(2.0).log().item()
    moved = {name.removeprefix("powerset:") for name, value in orders.items() if value != pytest.approx(start)}
    # Phrases have two words at least.
    assert moved == {"order"} if learnt == "one" else {"order_2"} <= moved <= {f"order_{n}" for n in range(2, 9)}
    assert step.losses["powerset"].isfinite()


def test_an_order_of_one_trains(config, inputs):
    params = config()["params"]
    rule = {"aggregator": "holder", "norm_order": 1}
    params["objective"] = {"powerset": {"weight": 1.0, "loss": "cross-entropy", **rule}}
    trainer = loop.Trainer(RunParams.model_validate(params), seed=0, inputs=inputs)
    losses = [trainer.take_step().losses["powerset"].item() for _ in range(6)]
    assert losses[-1] < losses[0]


def test_an_order_that_is_learnt_is_above_one():
    rule = {"aggregator": "holder", "learnt_order": "one", "norm_order": 1}
    with pytest.raises(ValueError, match="norm_order must be above 1 where learnt_order says that it is learnt"):
        PowersetParams(**rule)
    assert "learnt_order" not in PowersetParams(weight=1, aggregator="max", learnt_order="one").relevant()


def test_runs_from_before_a_param_was_there_are_the_same_runs():
    known = PowersetParams(weight=1, aggregator="holder").relevant()
    assert not {"of_subsets", "learnt_order"} & known.keys()
    changed = PowersetParams(weight=1, aggregator="holder", learnt_order="one", of_subsets=16).relevant()
    assert {"of_subsets", "learnt_order"} == changed.keys() - known.keys()


def test_a_setting_of_an_aggregator_may_not_be_called_as_a_param_of_the_term():
    with pytest.raises(TypeError, match=r"objective\.powerset has its own 'softness'"):
        refuse_as_settings(["margin", "softness"])


def test_tau_goes_from_start_to_end_by_equal_factors():
    params = PowersetParams(tau=0.01, tau_start=1.0)
    assert [params.rule(progress=progress).tau for progress in (0, 0.5, 1)] == pytest.approx([1.0, 0.1, 0.01])
    assert PowersetParams(tau=0.02).rule(progress=0.3).tau == 0.02


def test_the_token_term_trains(config, inputs):
    params = config()["params"]
    params["objective"] = {"cs": {"token_weight": 1.0, "sigma": [0.5, 1.0]}}
    trainer = loop.Trainer(RunParams.model_validate(params), seed=0, inputs=Inputs(inputs.split))
    terms = [trainer.take_step().losses["cs_tokens"].item() for _ in range(8)]
    assert terms[-1] < terms[0]


def test_learning_rate_rises_then_falls():
    params = TrainParams(steps=100, warmup=0.1, learning_rate=1.0)
    rates = [learning_rate(step, params) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) <= 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.01


DROPPED = {"timm_model_name": "test_vit", "timm_pool": "avg", "timm_drop": 0.3, "image_size": 160}


compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on CPUs")


@pytest.mark.slow
@compiler
def test_compiled_towers_train_the_same(config, inputs):
    losses = []
    for compiled in (False, True):
        params = RunParams.model_validate(config(steps=4, batch_size=6, accumulate=2, compile=compiled)["params"])
        trainer = loop.Trainer(params, seed=0, inputs=inputs)
        losses.append([trainer.take_step().total.item() for _ in range(4)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    assert losses[0] != losses[1], "nothing was compiled"


@pytest.mark.slow
@compiler
def test_compiled_towers_drop_the_same_in_both_passes(config, inputs, monkeypatch):
    params = config(steps=4, batch_size=6, accumulate=2, compile=True)["params"]
    params["model"] = {"tower": {**params["model"]["tower"], "vision_cfg": DROPPED}}
    trainer = loop.Trainer(RunParams.model_validate(params), seed=0, inputs=inputs)
    encode, encoded = trainer.encode, []
    monkeypatch.setattr(trainer, "encode", lambda part: encoded.append(encode(part)) or encoded[-1])
    trainer.take_step()
    first, second = ([features["image_ID"].detach() for features in encoded[start : start + 2]] for start in (0, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_every_term_is_fp32_under_autocast(config, inputs, kind):
    params = config(autocast=kind)["params"]
    params["objective"]["cs"] = {"weight": 1.0, "token_weight": 1.0, "sigma": 0.5}
    trainer = loop.Trainer(RunParams.model_validate(params), seed=0, inputs=inputs)
    features = trainer.encode(trainer._fetch())
    _, terms = trainer.loss(features)
    assert len(terms) == 4
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_a_gradient_of_the_objective_that_is_not_finite_is_found(config, inputs):
    params = config()["params"]
    params["objective"]["powerset"] = {"weight": 1.0, "loss": "cross-entropy"}
    trainer = loop.Trainer(RunParams.model_validate(params), seed=0, inputs=inputs)
    trainer.objective.numbers["powerset:score_scale"].register_hook(lambda gradient: gradient * float("nan"))
    trainer.take_step()
    with pytest.raises(VlalignError, match="the gradient of powerset:score_scale is nan at step 0"):
        trainer.watch.check()


def test_only_matrices_decay_and_numbers_of_the_objective_learn_faster(config, inputs):
    params = config()["params"]
    vision = {"timm_model_name": "swin_tiny_patch4_window7_224", "timm_pool": "avg", "image_size": 224}
    params["model"] = {"tower": {**params["model"]["tower"], "vision_cfg": vision}, "lock_text": True}
    params["objective"]["powerset"] = {"weight": 1.0, "loss": "cross-entropy", "cost": "learnt"}
    trainer = loop.Trainer(RunParams.model_validate(params), seed=0, inputs=inputs)
    decayed, free, objective = trainer.optimizer.param_groups
    names = {id(value): name for name, value in trainer.model.named_parameters()}
    decayed_names = {names[id(value)] for value in decayed["params"]}
    assert all(value.ndim >= 2 for value in decayed["params"])
    assert not [name for name in decayed_names if "bias" in name or ("embed" in name and "proj" not in name)]
    assert (decayed["weight_decay"], free["weight_decay"], objective["weight_decay"]) == (0.05, 0.0, 0.0)
    assert {names[id(value)] for value in objective["params"]} == {
        "objective.numbers.powerset:score_scale",
        "objective.numbers.powerset:cost",
    }
    assert objective["scale"] == 10 * free["scale"]
    grouped = {id(value) for group in trainer.optimizer.param_groups for value in group["params"]}
    assert grouped == {id(value) for value in trainer.model.parameters() if value.requires_grad}
    assert not [name for name in decayed_names if ".text." in name], "the text tower is locked"


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_autocast_trains_nearly_the_same(config, inputs, kind):
    losses = {}
    for autocast in ("none", kind):
        trainer = loop.Trainer(RunParams.model_validate(config(autocast=autocast)["params"]), seed=0, inputs=inputs)
        losses[autocast] = [trainer.take_step().total.item() for _ in range(8)]
    assert losses[kind][0] == pytest.approx(losses["none"][0], rel=0.01)
    assert losses[kind] != losses["none"]
    # fp16 may skip its first steps, until the scale of the loss fits.
    assert losses[kind][-1] == pytest.approx(losses["none"][-1], rel=0.15)


def test_an_overflow_in_fp16_skips_the_step_and_lowers_the_scale(config, inputs, monkeypatch):
    trainer = loop.Trainer(RunParams.model_validate(config(autocast="fp16")["params"]), seed=0, inputs=inputs)
    trainer.take_step()
    before, scale = [p.clone() for p in trainer.encoder.clip.visual.parameters()], trainer.scaler.get_scale()
    handle = next(trainer.encoder.clip.visual.parameters()).register_hook(lambda gradient: gradient * float("inf"))
    trainer.take_step()
    assert trainer.scaler.get_scale() == scale / 2
    after = list(trainer.encoder.clip.visual.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    monkeypatch.setattr(loop, "MIN_LOSS_SCALE", scale)
    with pytest.raises(VlalignError, match="the norm of the gradient is"):
        trainer.take_step()
    handle.remove()


def test_a_temperature_with_a_dimension_and_a_bias_of_the_sigmoid_loss_do_no_harm(config, inputs):
    losses = []
    for extra in ({}, {"nonscalar_logit_scale": True, "init_logit_bias": -10.0}):
        params = config(accumulate=2)["params"]
        params["model"] = {"tower": {**params["model"]["tower"], **extra}}
        trainer = loop.Trainer(RunParams.model_validate(params), seed=0, inputs=inputs)
        losses.append([trainer.take_step().total.item() for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1])
    assert trainer.encoder.clip.logit_bias.item() == -10.0


def test_a_batch_has_a_pair_for_every_part(config, inputs):
    with pytest.raises(VlalignError, match=r"train\.batch_size is 8, but 1 processes with train\.accumulate 9 need 9"):
        loop.Trainer(RunParams.model_validate(config(accumulate=9)["params"]), seed=0, inputs=inputs)
