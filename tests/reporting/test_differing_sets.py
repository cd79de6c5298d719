"""Phrases that name other objects to one run than to another."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_results import make_named, write_objects

from vlalign.params import load, merged
from vlalign.params.reading import read
from vlalign.params.workflow import Params
from vlalign.reporting.figures.differing_sets import DifferingSets, distinct, in_common
from vlalign.reporting.style import HIT, INK, MISS

PROJECT = Path(__file__).parents[2]
RIGHT, WRONG, LESS = [1], [1, 3], [2]


def texts(path):
    return " ".join(ElementTree.parse(path).getroot().itertext())


def draw(folder, ours, theirs, **fields):
    figure = DifferingSets(runs=("a", "b"), **fields)
    figure.draw("differing-sets", {"a": ours, "other": None, "b": theirs}, folder / "differing-sets.svg")
    return texts(folder / "differing-sets.svg")


def test_as_many_are_shown_of_either_and_all_are_counted(tmp_path):
    split = write_objects(tmp_path / "split")
    ours = make_named(split, [RIGHT, RIGHT, WRONG, WRONG, RIGHT, RIGHT, LESS])
    theirs = make_named(split, [RIGHT, WRONG, RIGHT, RIGHT, LESS, LESS, LESS])
    shown = draw(tmp_path, ours, theirs)
    assert "Of 7 phrases 1 name exactly what they mean to both runs, 3 to a alone, 2 to b alone, 1 to neither." in shown
    assert re.findall(r"phrase \d|[✓✗] \w", shown) == [
        *("phrase 1", "✓ a", "✗ b", "phrase 2", "✗ a", "✓ b"),
        *("phrase 4", "✓ a", "✗ b", "phrase 3", "✗ a", "✓ b"),
    ]
    assert re.findall(r"phrase \d", draw(tmp_path, ours, theirs, scenes=1)) == ["phrase 1", "phrase 2"]


def test_outlines_tell_what_is_meant_named_rightly_and_named_wrongly(tmp_path):
    split = write_objects(tmp_path / "split")
    draw(tmp_path, make_named(split, [RIGHT, WRONG]), make_named(split, [LESS, RIGHT]))
    svg = (tmp_path / "differing-sets.svg").read_text()
    counts = {colour: len(re.findall(f"stroke: {colour}; stroke-width: 1.3", svg)) for colour in (HIT, MISS, INK)}
    # Meant in two pictures; named rightly twice, and once beside what is wrong; wrong twice.
    assert counts == {INK: 2, HIT: 3, MISS: 2}


@pytest.mark.parametrize("theirs", [[RIGHT, RIGHT], [RIGHT, WRONG]])
def test_where_one_run_is_nowhere_ahead_nothing_is_shown_but_numbers(tmp_path, theirs):
    split = write_objects(tmp_path / "split")
    shown = draw(tmp_path, make_named(split, [RIGHT, WRONG]), make_named(split, theirs))
    assert "Of 2 phrases 1 name" in shown
    assert "phrase 0" not in shown


def test_a_single_run_is_compared_with_nothing(tmp_path):
    assert "no two runs" in draw(tmp_path, make_named(tmp_path, [RIGHT]), None)


def test_only_phrases_of_several_objects_are_shown_where_these_are_asked_for(tmp_path):
    split = write_objects(tmp_path / "split")
    ours, theirs = (make_named(split, [one, other] * 2) for one, other in ((RIGHT, LESS), (LESS, RIGHT)))
    several = np.array([[True, True, False]])
    for found, right in ((ours, 2), (theirs, 3)):
        found.referents_NR[2:] = several
        found.named_NR[right] = several
    shown = draw(tmp_path, ours, theirs, referents=2)
    assert "Of 2 phrases 0 name" in shown
    assert re.findall(r"phrase \d", shown) == ["phrase 2", "phrase 3"]


def test_each_picture_is_shown_once_and_phrases_of_one_run_alone_are_left_out(tmp_path):
    places = [(0, 0, (1,)), (0, 1, (2,)), (1, 3, (0,)), (1, 3, (1,))]
    assert distinct(np.array([1, 2, 3]), places) == [1, 2]
    ours = make_named(tmp_path, [RIGHT, WRONG, LESS])
    theirs = replace(ours, texts=ours.texts[1:], places=ours.places[1:], **{
        name: getattr(ours, name)[1:] for name in ("referents_NR", "named_NR")
    })  # fmt: skip
    one, other = in_common(ours, theirs)
    assert one.places == other.places == ours.places[1:]
    assert np.array_equal(one.named_NR, ours.named_NR[1:])


def test_the_baseline_is_compared_with_the_first_arm_that_has_phrases():
    params = load(PROJECT / "params.yaml")
    [figure] = [one for one in params.figures if one.name == "differing-sets"]
    assert figure.runs == figure.compares() == ("clip", "powerclip")
    study = load(PROJECT / "params.yaml", PROJECT / "config/studies/powerset-damaged.yaml")
    assert [one.compares() for one in study.figures if one.name == "differing-sets"] == [("single-max", "holder")]
    plain = merged(
        read(PROJECT / "params.yaml"), {"report": {"figures": [{**figure.model_dump(), "runs": ["clip", "no"]}]}}
    )
    with pytest.raises(ValueError, match=r"differing-sets.runs: no is not one of runs.arms"):
        Params.model_validate(plain)
