"""Weights of terms that rise at the start and fall at the end."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from training_runs import EVERY_TERM, history, run_below

from vlalign.params import ObjectiveParams, TermParams
from vlalign.training.objective import Objective
from vlalign.training.term import Step

# Of the losses of EVERY_TERM.
WEIGHTS = {
    "contrastive": 1,
    "powerset": 1,
    "cs": 0.5,
    "cs_tokens": 0.5,
    "mmd": 0.5,
    "gaussian_kl": 0.01,
    "sliced_wasserstein": 5,
    "hard_negatives": 0.5,
}


def at(progress):
    return Step(lambda _: torch.Generator().manual_seed(0), progress)


def pairs():
    random = torch.Generator().manual_seed(1)
    images, texts = (F.normalize(torch.randn(6, 8, generator=random), dim=1) for _ in range(2))
    tokens = {"cs:patches_IVD": images[:, None], "cs:tokens_CLD": texts[:, None], "cs:token_mask": torch.ones(6, 1) > 0}
    return {"image_ID": images, "text_CD": texts, "logit_scale": torch.tensor(1.0), **tokens}


@pytest.mark.parametrize(
    ("warmup", "decay", "expected"),
    [
        (0, 0, [1, 1, 1, 1, 1]),
        (0.5, 0, [0, 0.5, 1, 1, 1]),
        (0, 0.5, [1, 1, 1, 0.5, 0]),
        (0.25, 0.75, [0, 1, 2 / 3, 1 / 3, 0]),
        (1, 0, [0, 0.25, 0.5, 0.75, 1]),
    ],
)
def test_weights_rise_and_fall_in_lines(warmup, decay, expected):
    term = TermParams(weight=1, warmup=warmup, decay=decay)
    assert [term.share(progress) for progress in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx(expected)


def test_all_losses_of_a_term_are_scaled_and_told_as_they_are():
    objective = Objective(
        ObjectiveParams.model_validate({"cs": {"weight": 2, "token_weight": 3, "sigma": 0.5, "warmup": 0.5}})
    )
    (none, first), (half, _), (whole, last) = (objective(pairs(), at(progress)) for progress in (0, 0.25, 1))
    assert first == last
    assert none == first["contrastive"]
    torch.testing.assert_close(whole, first["contrastive"] + 2 * first["cs"] + 3 * first["cs_tokens"])
    torch.testing.assert_close(2 * half, none + whole)


def test_a_term_that_is_watched_alone_stays_so():
    objective = Objective(ObjectiveParams.model_validate({"contrastive": {"weight": 0, "decay": 0.5}, "mmd": 1.0}))
    total, losses = objective(pairs(), at(0.5))
    assert total == losses["mmd"]
    assert losses["contrastive"] > 0


def test_a_schedule_is_part_of_a_run_only_where_there_is_one():
    def told(**powerset):
        return ObjectiveParams.model_validate({"powerset": {"weight": 1, **powerset}}).relevant()

    assert told(warmup=0, decay=0.0) == told()
    assert not {"warmup", "decay"} & told()["powerset"].keys()
    assert told(warmup=0.5)["powerset"] == {**told()["powerset"], "warmup": 0.5}
    assert told(weight=0, warmup=0.5) == told(weight=0)


def test_more_than_all_steps_are_refused():
    with pytest.raises(ValidationError, match=r"decay: with a warmup of 0\.75 at most 0\.25 of the steps are left"):
        TermParams(warmup=0.75, decay=0.5)


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_a_run_trains_with_the_weight_of_each_step(config, inputs, tmp_path, accumulate):
    objective = {**EVERY_TERM, "powerset": {**EVERY_TERM["powerset"], "warmup": 0.5, "decay": 0.25}}
    params = {**config(accumulate=accumulate)["params"], "objective": objective}
    run_below(tmp_path, {**config(), "params": params}, inputs, log_every=1, validate_every=None)
    rows = history(tmp_path / "run")
    for step, share in {0: 0, 1: 2 / 7, 3: 6 / 7, 5: 1, 6: 4 / 7, 7: 0}.items():
        row = {column: float(rows[step][column]) for column in ("loss", *WEIGHTS)}
        total = sum(weight * row[name] for name, weight in {**WEIGHTS, "powerset": share}.items())
        assert row["loss"] == pytest.approx(total, rel=1e-4)
