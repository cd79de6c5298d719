import numpy as np
import pytest
from scipy import stats as scipy_stats

from vlalign.reporting.stats import ABOVE, BELOW, NOISE, ONE_SEED, half_width, paired_difference, spread


def test_spread_is_mean_and_sample_deviation():
    result = spread([1.0, 2.0, 4.0])
    assert (result.mean, result.n) == (pytest.approx(7 / 3), 3)
    assert result.sd == pytest.approx(np.std([1, 2, 4], ddof=1))


def test_spread_of_one_seed_has_no_deviation():
    assert spread([3.0]).sd is None


def test_half_width_agrees_with_scipy():
    values = [0.3, 1.4, -0.2, 0.9]
    low, high = scipy_stats.t.interval(0.95, 3, loc=np.mean(values), scale=scipy_stats.sem(values))
    assert half_width(values) == pytest.approx((high - low) / 2)
    assert half_width([1.0]) is None


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({"0": 11.0, "1": 21.1, "2": 30.9}, ABOVE),
        ({"0": 9.0, "1": 18.9, "2": 29.1}, BELOW),
        ({"0": 11.0, "1": 18.0, "2": 31.0}, NOISE),
        ({"1": 99.0}, ONE_SEED),
    ],
)
def test_verdict(values, verdict):
    assert paired_difference(values, {"0": 10.0, "1": 20.0, "2": 30.0}).verdict == verdict


def test_pairing_removes_what_a_seed_gives_to_both():
    difference = paired_difference({"0": 11.0, "1": 51.1, "2": 90.9}, {"0": 10.0, "1": 50.0, "2": 90.0})
    assert difference.verdict == ABOVE
    assert difference.mean == pytest.approx(1.0)


def test_seeds_pair_by_name_not_by_position():
    difference = paired_difference({"2": 5.0, "1": 3.0}, {"1": 1.0, "2": 2.0, "3": 100.0})
    assert (difference.mean, difference.n) == (2.5, 2)


def test_no_common_seed_gives_no_difference():
    assert paired_difference({"0": 1.0}, {"1": 1.0}) is None


def test_equal_values_are_not_distinguishable():
    assert paired_difference({"0": 1.0, "1": 2.0}, {"0": 1.0, "1": 2.0}).verdict == NOISE
