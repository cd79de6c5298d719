"""The state that a run ended in, from its history, and the figure of many of them."""

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from vlalign.errors import VlalignError
from vlalign.params import load, parse
from vlalign.reporting.figure import Measured
from vlalign.reporting.figures.phases import STATES, Phases, phase_of
from vlalign.reporting.results import Results, Run

PROJECT = Path(__file__).parents[2]
CHANCE = math.log(64)


def history(*, contrastive=0.5 * CHANCE, powerset=0.3, score_sd=1.0, rows=13):
    """Of 120 steps: it starts at chance, and the last quarter is as given."""
    steps = [1, *range(10, 10 * rows, 10)]
    late = [step > 90 for step in steps]
    table = pd.DataFrame({"step": steps})
    for name, start, end in (
        ("contrastive", CHANCE, contrastive),
        ("powerset", 6.0, powerset),
        ("score_sd", 1.2, score_sd),
    ):
        table[name] = [end if is_late else start for is_late in late]
    return table


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "learns"),
        ({"powerset": 0.39}, "learns"),
        ({"powerset": 0.4, "score_sd": 0.19}, "flat"),
        ({"powerset": 13.0, "score_sd": 7.0}, "unordered"),
        ({"contrastive": 0.9 * CHANCE}, "collapsed"),
        ({"contrastive": CHANCE, "powerset": 0.41, "score_sd": 0.002}, "collapsed"),
    ],
)
def test_the_end_of_a_history_has_a_state(changes, state):
    found = phase_of(history(**changes), batch_size=64, margin=0.2)
    values = {"contrastive": 0.5 * CHANCE, "powerset": 0.3, "score_sd": 1.0} | changes
    assert found.state == state
    assert found.contrastive == pytest.approx(values["contrastive"] / CHANCE)
    assert (found.term, found.spread) == pytest.approx((values["powerset"] / 0.2, values["score_sd"] / 0.2))


def test_semi_hard_negatives_leave_open_what_s_has_learnt():
    assert phase_of(history(), batch_size=64, margin=0.2, negatives="semi-hard").state == "open"
    gone = history(contrastive=CHANCE)
    assert phase_of(gone, batch_size=64, margin=0.2, negatives="semi-hard").state == "collapsed"


def test_the_batch_says_what_chance_is():
    assert phase_of(history(contrastive=4.1), batch_size=64, margin=0.2).state == "collapsed"
    assert phase_of(history(contrastive=4.1), batch_size=256, margin=0.2).state == "learns"


def test_a_single_odd_row_and_rows_of_validation_alone_change_nothing():
    table = history()
    table.loc[12, "powerset"] = 50.0
    table.loc[len(table)] = {"step": 119, "contrastive": CHANCE, "powerset": 50.0, "score_sd": float("nan")}
    assert phase_of(table, batch_size=64, margin=0.2).state == "learns"


def test_a_history_without_scores_is_refused():
    with pytest.raises(VlalignError, match="has no column score_sd"):
        phase_of(history().drop(columns="score_sd"), batch_size=64, margin=0.2)
    with pytest.raises(VlalignError, match="no row with statistics"):
        phase_of(history().assign(score_sd=float("nan")), batch_size=64, margin=0.2)


def results(folder, *, lacks=None):
    """Two grids of the weight, of which the second has a larger batch."""
    runs = []
    for grid, batch, weights in (("small", 64, [0.02, 0.2]), ("large", 128, [0.2, 1])):
        for weight in weights:
            name = f"{grid}-{weight}"
            directory = folder / name
            directory.mkdir(parents=True)
            powerset = {"weight": weight, "loss": "triplet", "margin": 0.2, "negatives": "hardest"}
            params = {"model": {"tower": "tiny"}, "train": {"batch_size": batch}, "objective": {"powerset": powerset}}
            ablation = {"name": grid, "param": "objective.powerset.weight", "value": weight}
            if name != lacks:
                history(score_sd=0.1, powerset=1.0 if weight == 1 else 0.3).to_csv(
                    directory / "history.csv", index=False
                )
            runs.append(Run(directory, name, "literal", 0, ablation, params, {}))
    return Results((), tuple(runs), "literal", "literal")


def draw(figure, found, folder):
    figure.draw("phases", Measured(found, folder / "precision.csv"), folder / "phases.svg")
    return " ".join(ElementTree.parse(folder / "phases.svg").getroot().itertext())


def test_cells_have_numbers_and_the_key_has_the_states_that_occur(tmp_path):
    panels = {"Batch": {"64 pairs": "small", "128 pairs": "large"}, "Alone": {"all": "small"}}
    shown = draw(Phases(panels=panels), results(tmp_path / "runs"), tmp_path)
    assert all(text in shown for text in ("Batch", "Alone", "64 pairs", "128 pairs", "powerset.weight"))
    assert shown.count("1.5 m") == 5
    assert shown.count("5.0 m") == 1
    assert {state for state, (text, _) in STATES.items() if text in shown} == {"learns", "flat"}
    before = (tmp_path / "phases.svg").read_bytes()
    draw(Phases(panels=panels), results(tmp_path / "again"), tmp_path)
    assert (tmp_path / "phases.svg").read_bytes() == before


def test_without_panels_there_is_one_for_each_param(tmp_path):
    shown = draw(Phases(), results(tmp_path / "runs"), tmp_path)
    assert "objective.powerset.weight" in shown
    assert re.search(r"large\s+small", shown)
    assert "no ablation" in draw(Phases(), Results((), (), "literal", "literal"), tmp_path)


def test_what_is_missing_is_named(tmp_path):
    found = results(tmp_path / "runs", lacks="large-1")
    with pytest.raises(VlalignError, match=r"large-1/history\.csv does not exist; train the run again"):
        draw(Phases(), found, tmp_path)
    with pytest.raises(VlalignError, match="ablation 'tau'; there are: large, small"):
        draw(Phases(panels={"Batch": {"1": "tau"}}), found, tmp_path)


def test_only_ablations_of_the_triplet_are_shown():
    from vlalign.params.reading import read

    plain = read(PROJECT / "params.yaml")
    for panels, message in (
        ({"A": {"1": "nu"}}, "the ablation nu is not one of runs.ablations"),
        ({"A": {"1": "tau"}}, "phases shows the triplet loss of the powerset, and the run tau-1 has none"),
    ):
        plain["report"] = {**plain["report"], "figures": [{"figure": "phases", "panels": panels}]}
        with pytest.raises(VlalignError, match=re.escape(message)):
            parse(plain).figures  # noqa: B018


def test_the_study_draws_every_grid_that_it_trains(monkeypatch):
    monkeypatch.chdir(PROJECT)
    params = load("params.yaml", "config/studies/phases.yaml")
    [figure] = [figure for figure in params.figures if isinstance(figure, Phases)]
    drawn = {grid for rows in figure.panels.values() for grid in rows.values()}
    assert drawn == set(params.runs.ablations)
    assert not any(isinstance(figure, Phases) for figure in load("params.yaml").figures)
