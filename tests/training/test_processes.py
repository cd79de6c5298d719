"""Processes that share every batch end with the weights of one process that has all of it."""

import os
import socket

import pytest
import torch
import torch.multiprocessing as mp
from training_runs import EVERY_TERM

from vlalign.params import RunParams
from vlalign.training.loop import Trainer
from vlalign.training.processes import Processes, processes

pytestmark = pytest.mark.slow

STEPS = 20


def train(params, inputs, team, *, exact):
    """The losses of every step, and the weights after the last."""
    torch.set_default_dtype(torch.float64 if exact else torch.float32)
    trainer = Trainer(RunParams.model_validate(params), seed=0, inputs=inputs, team=team)
    losses = [trainer.take_step().total.item() for _ in range(STEPS)]
    torch.set_default_dtype(torch.float32)
    return losses, [parameter.detach().clone() for parameter in trainer.model.parameters()]


def work(rank, count, port, params, inputs, exact, output):
    local = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= local
    torch.set_num_threads(1)
    with processes() as team:
        torch.save(train(params, inputs, team, exact=exact), output / f"{rank}.pt")


@pytest.fixture
def params(config):
    # 11 pairs do not divide by 2 or 4. The gradient of an attention's key bias is zero but for rounding, which AdamW
    # with the default epsilon would make as large as a step of the learning rate.
    params = config(steps=STEPS, batch_size=11, epsilon=1e-4)["params"]
    return {**params, "objective": EVERY_TERM}


@pytest.mark.parametrize(
    ("exact", "tolerance"),
    [pytest.param(False, 1e-6, marks=pytest.mark.exhaustive, id="fp32"), pytest.param(True, 1e-12, id="fp64")],
)
@pytest.mark.parametrize(("count", "parts"), [(2, 1), pytest.param(4, 1, marks=pytest.mark.exhaustive), (2, 2)])
def test_processes_together_equal_one(params, inputs, tmp_path, count, parts, exact, tolerance):
    wanted, weights = train(params, inputs, Processes(), exact=exact)
    params = {**params, "train": {**params["train"], "accumulate": parts}}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(work, (count, port, params, inputs, exact, tmp_path), nprocs=count)
    for rank in range(count):
        losses, found = torch.load(tmp_path / f"{rank}.pt")
        assert losses == pytest.approx(wanted, abs=10 * tolerance)
        for ours, theirs in zip(found, weights, strict=True):
            torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("exact", "tolerance"), [(False, 1e-6), (True, 1e-12)], ids=["fp32", "fp64"])
@pytest.mark.parametrize("parts", [2, 4])
def test_parts_together_equal_one(params, inputs, parts, exact, tolerance):
    wanted, weights = train(params, inputs, None, exact=exact)
    params = {**params, "train": {**params["train"], "accumulate": parts}}
    losses, found = train(params, inputs, None, exact=exact)
    assert losses == pytest.approx(wanted, abs=10 * tolerance)
    for ours, theirs in zip(found, weights, strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)
