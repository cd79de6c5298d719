"""What every benchmark promises, and what is told of one that does not keep it."""

import pytest

from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import EACH, Benchmark, Metric, MetricRow, Needs, headline, known_benchmarks


class Mine(Benchmark):
    """Gives whatever it is told to."""

    name = "mine"
    metrics = (Metric("score", "Score"), Metric("loss", "Loss", direction="lower"))

    def measure(self, bench, split):
        return [MetricRow(**row) for row in bench]


def test_rows_are_completed_by_what_is_declared():
    rows = Mine().rows([{"metric": "score", "value": 1.0}, {"metric": "loss", "value": 2.0, "group": "a"}], "test")
    assert [(row.benchmark, row.direction, row.place) for row in rows] == [
        ("mine", "higher", ("mine", "score", "all", "all")),
        ("mine", "lower", ("mine", "loss", "a", "all")),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"metric": "other", "value": 1.0}], "mine: other of all is not among its metrics; correct its module"),
        ([{"metric": "score", "value": 1.0}] * 2, "mine: score of all stands there twice"),
        ([{"metric": "score", "value": float("nan")}], "mine: a row is not valid:\nvalue: .*finite number"),
        ([{"metric": "score"}], "mine: a row is not valid:\nvalue: Field required"),
    ],
)
def test_rows_that_are_wrong_are_named(rows, message):
    with pytest.raises(VlalignError, match=message):
        Mine().rows(rows, "test")


def test_needs_tell_what_is_read_and_what_is_missing():
    needs = Needs(("pairs", "classes"), tuning=("classes",), apart=True)
    assert needs.data("test") == [("classes", "validation"), ("pairs", "test"), ("classes", "test")]
    assert needs.lacks("test", lambda kind, split: True) is None
    missing = needs.lacks("test", lambda kind, split: split == "test")
    assert missing == "there is no zeroshot/validation/manifest.json; make this split or leave the benchmark out"
    assert needs.lacks("validation", lambda kind, split: True) == "it learns from validation; measure another split"
    assert Needs(("pairs",), tuning=("pairs",)).data("validation") == [("pairs", "validation")]


def test_what_is_optional_is_read_where_it_is_there_and_never_missing():
    needs = Needs(("classes",), training=("classes",), optional=("classes",))
    needed = [("classes", "train"), ("classes", "test")]
    assert needs.data("test") == needs.data("test", lambda kind, split: split != "validation") == needed
    assert needs.data("test", lambda kind, split: True) == [needed[0], ("classes", "validation"), needed[1]]
    assert needs.lacks("test", lambda kind, split: split != "validation") is None
    assert needs.lacks("test", lambda kind, split: split == "test").startswith("there is no zeroshot/train/manifest")


def test_tables_show_what_is_measured_and_no_table_has_the_name_of_another():
    kinds = known_benchmarks().values()
    for kind in kinds:
        known = {metric.name for metric in kind.metrics}
        shown = [column for table in kind.tables for column in table.columns]
        assert {column.name for column in shown} <= known
        assert all(column.label or column.group == EACH for column in shown)
    names = [table.name for kind in kinds for table in kind.tables]
    assert len(names) == len(set(names))


def test_the_headline_is_in_the_order_of_the_benchmarks_and_has_names_of_its_own():
    metrics = headline(["transfer", "grounding", "retrieval"])
    assert list(dict.fromkeys(metric.benchmark for metric in metrics)) == ["retrieval", "grounding", "transfer"]
    grounding = [metric.key for metric in metrics if metric.benchmark == "grounding"]
    assert grounding == ["top_k", "multiple_top_k", "multiple_exact", "pointing_accuracy"]
