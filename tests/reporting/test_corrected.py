"""Differences that were chosen to be tested, and what their number takes from them."""

import itertools

import numpy as np
import pytest
from fake_results import load_tree, write_tree
from scipy import stats

from vlalign.params.workflow import TestsParams
from vlalign.reporting.corrected import corrected_table
from vlalign.reporting.stats import holm, p_value

METRICS = ("grounding.exact.multiple", "grounding.top_k", "retrieval.image_to_text_r1", "modality.mean_distance")
TESTS = TestsParams(arms=("powerclip", "cs"), references=("clip", "linear"), metrics=METRICS)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tests")
    return load_tree(folder, write_tree(folder, arms=("clip", "linear", "powerclip", "cs"), taus=()))


def test_holm_equals_its_definition():
    random = np.random.default_rng(0)
    for _ in range(50):
        found = random.uniform(0, 0.2, 6)
        # The closed testing procedure that Holm's is: a hypothesis goes if every set with it goes by Bonferroni.
        closed = [
            max(
                min(1.0, len(chosen) * min(found[list(chosen)]))
                for size in range(1, 7)
                for chosen in itertools.combinations(range(6), size)
                if index in chosen
            )
            for index in range(6)
        ]
        assert holm(found.tolist()) == pytest.approx(closed)
    assert holm([]) == []


def test_p_values_are_those_of_pairs():
    ours, theirs = {0: 3.0, 1: 5.0, 2: 4.5, 9: 1.0}, {0: 2.0, 1: 3.0, 2: 4.4, 7: 0.0}
    differences = [1.0, 2.0, 0.1]
    assert p_value(ours, theirs) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert p_value({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}) == 1
    assert p_value({0: 1.5, 1: 2.5}, {0: 1.0, 1: 2.0}) == 0


def test_every_arm_against_every_reference_by_every_metric(results):
    table = corrected_table(results, TESTS)
    assert table.header == ("metric", "powerclip", "cs")
    assert [row.name for row in table.rows if row.kind == "group"] == ["minus clip", "minus linear"]
    assert len(table.records) == 2 * 2 * len(METRICS)
    p_values = [record["p_holm"] for record in table.records]
    for record in table.records:
        plain = results.difference(record["run"], _metric(results, record), reference=record["reference"])
        assert record["difference"] == pytest.approx(plain.mean)
        assert record["low"] < plain.low < plain.high < record["high"], "wider than an interval by itself"
        assert (record["verdict"] == "not distinguishable from noise") == (record["p_holm"] >= 0.05)
    assert min(p_values) < 0.05 <= max(p_values)


def _metric(results, record):
    from vlalign.evaluation.benchmark import Metric

    return Metric(record["metric"], "", group=record["group"], benchmark=record["benchmark"])


def test_what_was_not_measured_or_has_one_seed_is_not_tested(tmp_path):
    alone = load_tree(tmp_path, write_tree(tmp_path, arms=("clip", "powerclip"), taus=(), seeds=(0,)))
    assert corrected_table(alone, TESTS).rows == ()


def test_metrics_are_checked():
    with pytest.raises(ValueError, match=r"metrics: grounding\.exakt is no benchmark\.metric; there are .*exact"):
        TestsParams(arms=("a",), references=("b",), metrics=("grounding.exakt",))
    with pytest.raises(ValueError, match=r"there are .*grounding\.…"):
        TestsParams(arms=("a",), references=("b",), metrics=("exact",))


def test_captions_tell_when_arms_have_fewer_seeds(tmp_path):
    from vlalign.reporting.figure import intervals

    alike = load_tree(tmp_path / "alike", write_tree(tmp_path / "alike", arms=("clip", "cs"), taus=()))
    fewer = write_tree(tmp_path / "fewer", arms=("clip",), taus=())
    fewer += write_tree(tmp_path / "fewer", arms=("cs",), taus=(), seeds=(0,))
    assert intervals(alike, "Bars") == "Bars over 3 seeds."
    assert intervals(load_tree(tmp_path / "fewer", fewer), "Bars") == "Bars over up to 3 seeds."
