"""On the same data and weights, every number equals that of MTEB's own task, or differs as its definition does."""

from importlib import import_module
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def agreement():
    """`benchmarks/mteb_agreement.py`, as a module."""
    pytest.importorskip("mteb", reason="MTEB cannot be imported; benchmarks/mteb_agreement.py says how to install it")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return import_module("mteb_agreement")


@pytest.fixture(scope="module")
def measured(agreement, tmp_path_factory):
    """By model, our rows and MTEB's scores."""
    folder, data = tmp_path_factory.mktemp("models"), agreement.make_data()
    agreement.write_models(folder)

    def both(model):
        return agreement.measured_here(data, folder / model), agreement.measured_there(data, folder / model)

    return both


def check_equal(agreement, expected, there):
    assert {place: there[place] for place in expected} == pytest.approx(expected, abs=agreement.ROUNDING)


@pytest.mark.parametrize("model", ["stock", "vlalign"])
def test_numbers_equal_those_of_mteb(agreement, measured, model):
    here, there = measured(model)
    ours, others = agreement.same(here), agreement.other_definitions(agreement.make_data(), here)
    # None is right by being nothing, everything, or one class for all pictures.
    assert all(0 < value < 1 for value in ours.values())
    assert ours[agreement.ZEROSHOT, "recall"] != pytest.approx(1 / len(agreement.CLASSES))
    check_equal(agreement, ours, there)
    assert 0 < others[agreement.TO_TEXT, "recall_at_1"] < ours[agreement.TO_TEXT, "hit_rate_at_1"]
    check_equal(agreement, others, there)


def test_a_model_to_which_all_is_alike_gets_nothing_here_and_what_the_order_gives_it_in_mteb(agreement, measured):
    here, there = measured(agreement.ALIKE)
    assert set(agreement.same(here).values()) == {0}
    check_equal(agreement, agreement.decided_by_order(agreement.make_data()), there)
