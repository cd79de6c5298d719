import numpy as np
import pytest
from scipy.stats import bootstrap

from vlalign.evaluation.bootstrap import holm, interval, mean, paired


def answers(count: int, share: float, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(count) < share


@pytest.mark.parametrize("scores", [answers(400, 0.3), np.random.default_rng(1).random(300)])
def test_interval_is_that_of_copied_items(scores: np.ndarray) -> None:
    found = bootstrap((scores.astype(float),), np.mean, n_resamples=4000, method="percentile", rng=2)
    assert interval(scores) == pytest.approx(tuple(found.confidence_interval), abs=0.006)
    assert interval(scores) == interval(scores)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = [low <= 0.4 <= high for low, high in (interval(answers(200, 0.4, seed=seed)) for seed in range(300))]
    assert 0.9 <= np.mean(covered) <= 0.985


def test_blocks_count_alike_whatever_their_size() -> None:
    scores, blocks = np.array([1, 1, 1, 1, 0, 0, 1.0]), np.array([5, 5, 5, 5, 2, 2, 2])
    assert mean(scores, blocks) == pytest.approx((1 + 1 / 3) / 2)
    low, high = interval(scores, blocks)
    assert (low, high) == (0.5, 1.0)  # the block that is always right never moves


def test_paired_answers_are_tested_where_they_differ() -> None:
    ours, theirs = np.zeros(100, bool), np.zeros(100, bool)
    ours[:12], theirs[8:14] = True, True
    found = paired(ours, theirs)
    # 8 of the 10 answers that differ are ours: twice the tail of a fair coin.
    assert found.p == pytest.approx(2 * (45 + 10 + 1) / 1024)
    assert (found.difference, found.test, found.n) == (pytest.approx(6), "McNemar", 100)
    assert found.low < 6 < found.high
    assert paired(ours, ours).p == 1


def test_scores_that_are_no_answers_are_resampled() -> None:
    theirs = np.random.default_rng(0).random(200)
    better = paired(np.clip(theirs + 0.1, 0, 1), theirs)
    assert better.test == "paired bootstrap"
    assert better.p == pytest.approx(1 / 1000)
    assert better.low > 0
    blocks = np.repeat([0, 1], 100)
    assert paired(theirs > 0.5, theirs > 0.5, blocks).test == "paired bootstrap"


def test_no_difference_is_found_more_often_than_the_level() -> None:
    draws = ((answers(150, 0.5, seed=seed), answers(150, 0.5, seed=10_000 + seed)) for seed in range(400))
    assert np.mean([paired(*draw).p < 0.05 for draw in draws]) <= 0.08


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
