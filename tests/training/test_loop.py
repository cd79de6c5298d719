import csv
import json

import pytest
import torch
from safetensors.torch import load_file

from vlalign.errors import VlalignError
from vlalign.models import load
from vlalign.params import PowersetParams, RunParams, TrainParams
from vlalign.training import loop
from vlalign.training.checkpoint import Checkpoint
from vlalign.training.objective import scheduled_tau
from vlalign.training.optim import learning_rate


class KilledError(Exception):
    """Stands for the end of the process."""


def train(config, inputs, folder, *, seed=0, output="run"):
    loop.pretrain(config, seed=seed, inputs=inputs, output=folder / output, checkpoints=folder / "checkpoints")
    return load_file(folder / output / "model.safetensors")


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_same_seed_same_weights(config, inputs, tmp_path):
    first, second = (train(config(), inputs, tmp_path, output=name) for name in ("a", "b"))
    other = train(config(), inputs, tmp_path, seed=1, output="c")
    assert same(first, second)
    assert not same(first, other)


@pytest.mark.parametrize("last_step", [2, 3, 5, 7])
def test_a_resumed_run_equals_an_uninterrupted_one(config, inputs, tmp_path, monkeypatch, last_step):
    whole = train(config(), inputs, tmp_path / "whole")
    step = loop.Trainer.take_step

    def killed(trainer):
        if trainer.step == last_step:
            raise KilledError
        return step(trainer)

    monkeypatch.setattr(loop.Trainer, "take_step", killed)
    with pytest.raises(KilledError):
        train(config(), inputs, tmp_path / "killed")
    monkeypatch.setattr(loop.Trainer, "take_step", step)
    assert not (tmp_path / "killed" / "run").exists()
    resumed = train(config(), inputs, tmp_path / "killed")
    assert same(whole, resumed)
    histories = [rows(tmp_path / name / "run" / "history.csv") for name in ("whole", "killed")]
    assert histories[0] == histories[1]
    assert [path.name for path in (tmp_path / "killed" / "checkpoints").iterdir()] == ["lock"]


def rows(path):
    """A history without its timings."""
    timings = {"pairs_per_second", "data_seconds"}
    with open(path) as stream:
        return [{name: value for name, value in row.items() if name not in timings} for row in csv.DictReader(stream)]


def test_a_run_writes_what_the_workflow_declares(config, inputs, tmp_path):
    train(config(), inputs, tmp_path, seed=3)
    folder = tmp_path / "run"
    names = {"model.safetensors", "open_clip_config.json", "history.csv", "run.json"}
    assert {path.name for path in folder.iterdir()} == names
    history = rows(folder / "history.csv")
    assert [row["step"] for row in history] == ["1", "2", "4", "6", "8"]
    logged = ("powerset", "cs", *loop.STATISTICS)
    assert all(row[name] for row in history for name in logged)
    run = json.loads((folder / "run.json").read_text())
    assert run["seed"] == 3
    assert run["params"]["objective"]["cs"]["weight"] == 0.1
    assert load(folder).grid == (4, 4)


def test_terms_that_are_off_leave_their_cells_empty(config, inputs, tmp_path):
    plain = config()
    plain["params"]["objective"] = {}
    loop.pretrain(plain, seed=0, inputs=loop.Inputs(inputs.split), output=tmp_path / "run", checkpoints=tmp_path / "c")
    assert {(row["powerset"], row["cs"]) for row in rows(tmp_path / "run" / "history.csv")} == {("", "")}


def test_a_broken_checkpoint_starts_again(config, inputs, tmp_path, caplog):
    whole = train(config(), inputs, tmp_path / "whole")
    broken = tmp_path / "broken" / "checkpoints" / "last.pt"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"half a file")
    assert same(whole, train(config(), inputs, tmp_path / "broken"))
    assert "cannot be read" in caplog.text


def test_a_checkpoint_of_other_params_is_not_continued(tmp_path, caplog):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save({"params_hash": "old", "step": 5})
    assert checkpoint.load(params_hash="new") is None
    assert "other params" in caplog.text
    assert checkpoint.load(params_hash="old") == {"params_hash": "old", "step": 5}


def test_a_term_that_is_not_finite_stops_the_run(config, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("vlalign.training.objective.cs_divergence", lambda *_, **__: torch.tensor(float("nan")))
    with pytest.raises(VlalignError, match="the cs term is nan at step 0"):
        train(config(), inputs, tmp_path)


def test_powerset_without_annotations_is_an_error(config, inputs, tmp_path):
    with pytest.raises(VlalignError, match="--phrases and --regions"):
        train(config(), loop.Inputs(inputs.split), tmp_path)


def test_batch_larger_than_the_split(config, inputs, tmp_path):
    with pytest.raises(VlalignError, match=r"train\.batch_size is 64"):
        train(config(batch_size=64), inputs, tmp_path)


@pytest.mark.parametrize("objective", ["triplet", "cross-entropy"])
@pytest.mark.parametrize("aggregator", ["exact", "nla", "sampled", "calibrated", "mean", "max"])
def test_every_objective_trains(config, inputs, objective, aggregator):
    params = config()["params"]
    params["objective"] = {
        "powerset": {"weight": 1.0, "aggregator": aggregator, "loss": objective, "centre": True, "cost": 0.1}
    }
    trainer = loop.Trainer(RunParams.model_validate(params), seed=0, inputs=inputs)
    losses = [trainer.take_step()["loss"] for _ in range(8)]
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
        return [trainer.take_step()["powerset"] for _ in range(6)]

    plain, switched = losses({}), losses(switch)
    assert plain[:3] != switched[:3]
    assert switched[-1] < switched[0]


def test_a_learnt_cost_moves(config, inputs):
    params = config()["params"]
    params["objective"] = {"powerset": {"weight": 1.0, "loss": "cross-entropy", "cost": "learnt"}}
    trainer = loop.Trainer(RunParams.model_validate(params), seed=0, inputs=inputs)
    for _ in range(3):
        trainer.take_step()
    assert trainer.objective.cost.item() != 0


def test_tau_goes_from_start_to_end_by_equal_factors():
    params = PowersetParams(tau=0.01, tau_start=1.0)
    assert [scheduled_tau(params, progress) for progress in (0, 0.5, 1)] == pytest.approx([1.0, 0.1, 0.01])
    assert scheduled_tau(PowersetParams(tau=0.02), 0.3) == 0.02


def test_the_token_term_trains(config, inputs, tmp_path):
    tokens = config()
    tokens["params"]["objective"] = {"cs": {"token_weight": 1.0, "sigma": [0.5, 1.0]}}
    loop.pretrain(tokens, seed=0, inputs=loop.Inputs(inputs.split), output=tmp_path / "run", checkpoints=tmp_path / "c")
    terms = [float(row["cs_tokens"]) for row in rows(tmp_path / "run" / "history.csv")]
    assert terms[-1] < terms[0]


def test_learning_rate_rises_then_falls():
    params = TrainParams(steps=100, warmup=0.1, learning_rate=1.0)
    rates = [learning_rate(step, params) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) <= 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.01
