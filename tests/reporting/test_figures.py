import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from fake_results import load_tree, make_embeddings, make_scene, write_precision, write_tree

from vlalign.errors import VlalignError
from vlalign.reporting.figure import Measured
from vlalign.reporting.figures.ablation import AblationFigure
from vlalign.reporting.figures.differences import Differences
from vlalign.reporting.figures.embeddings import Embeddings, principal_plane
from vlalign.reporting.figures.grounding import Grounding
from vlalign.reporting.figures.precision import Precision
from vlalign.reporting.figures.similarity import Similarity
from vlalign.reporting.figures.training import Training
from vlalign.reporting.style import arm_colours, power_of_ten, spaced, spans_decades


def texts(path):
    return " ".join(ElementTree.parse(path).getroot().itertext())


def draw(figure, source, folder):
    """All SVGs of a figure."""
    source = source if isinstance(source, dict) else Measured(source, folder / "precision.csv")
    for name in figure.names():
        figure.draw(name, source, folder / f"{name}.svg")


def draw_all(results, folder):
    write_precision(folder / "precision.csv")
    for figure in (Training(), Differences(), Grounding(), Precision(), AblationFigure(grids=("tau",))):
        draw(figure, results, folder)
    draw(Embeddings(), {arm: make_embeddings(gap) for arm, gap in (("clip", 2.0), ("cs", 0.1))}, folder)
    draw(Similarity(), {"clip": [make_scene(0)], "cs": [make_scene(1)]}, folder)
    return sorted(folder.glob("*.svg"))


@pytest.mark.slow
def test_figures_are_the_same_bytes_twice_and_carry_no_date(tmp_path):
    results = load_tree(tmp_path, write_tree(tmp_path, arms=("clip", "powerclip"), taus=(0.1,)))
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    first, second = (draw_all(results, folder) for folder in folders)
    assert len(first) == 8
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert not re.search(r"<dc:date>|matplotlib\.org", one.read_text())


def test_every_arm_is_labelled_and_terms_that_no_arm_has_get_no_panel(tmp_path):
    results = load_tree(tmp_path, write_tree(tmp_path, arms=("clip", "powerclip"), taus=()))
    draw(Training(), results, tmp_path)
    shown = texts(tmp_path / "training.svg")
    assert "clip" in shown
    assert "Powerset term" in shown
    assert "Cauchy-Schwarz term" not in shown


def test_the_smallest_results_draw(demo, tmp_path):
    draw(Differences(), demo, tmp_path)
    draw(Grounding(), demo, tmp_path)
    assert "powerclip" in texts(tmp_path / "grounding.svg")


def test_nothing_to_draw_says_so(tmp_path):
    results = load_tree(tmp_path, write_tree(tmp_path, arms=("clip",), taus=()))
    draw(Differences(), results, tmp_path)
    draw(Similarity(), {"clip": []}, tmp_path)
    assert "nothing to compare" in texts(tmp_path / "differences.svg")
    assert "no scene" in texts(tmp_path / "similarity.svg")


@pytest.mark.parametrize("values", [("exact", "nla"), (0.0, 0.01, 1.0), (0.0, 0.1, 0.3), (0.001, 1)])
def test_ablations_take_words_zeros_and_decades(tmp_path, values):
    results = load_tree(tmp_path, write_tree(tmp_path, arms=("clip",), taus=()))
    grid = figures_grid(results, values)
    draw(MADE_UP, grid, tmp_path)
    assert "Pointing" in texts(tmp_path / "ablation-made-up.svg")


MADE_UP = AblationFigure(grids=("made-up",))


def figures_grid(results, values):
    """Results in which each value names the same made-up run."""
    clip = results.runs[0]
    grid = {"name": "made-up", "param": "p"}
    runs = [replace(clip, name=f"run-{i}", ablation={**grid, "value": value}) for i, value in enumerate(values)]
    rows = [row.model_copy(update={"run": run.name}) for run in runs for row in results.select(run="clip")]
    return replace(results, rows=[*results.rows, *rows], runs=(*results.runs, *runs))


def test_unknown_ablation_names_the_known_ones(results, tmp_path):
    with pytest.raises(VlalignError, match="tau"):
        draw(AblationFigure(grids=("zeta",)), results, tmp_path)


def test_precision_names_missing_columns(results, tmp_path):
    (tmp_path / "precision.csv").write_text("features,aggregator\nrandom,nla\n")
    with pytest.raises(VlalignError, match="error_relative"):
        draw(Precision(), results, tmp_path)


def test_chosen_masks_are_the_k_best():
    scene = make_scene(0)
    scene.region_similarity[1] = [0.1, 0.9, 0.2, 0.8]
    assert scene.chosen(1) == {1, 3}


def test_principal_plane_is_the_best_plane():
    x = np.random.default_rng(0).normal(size=(200, 6)) * [5, 3, 0.1, 0.1, 0.1, 0.1]
    plane, share = principal_plane(x)
    assert share > 0.99
    assert np.allclose(np.abs(np.corrcoef(plane[:, 0], x[:, 0])[0, 1]), 1, atol=1e-2)
    assert np.allclose(principal_plane(x.copy())[0], plane)


def test_colours_belong_to_arms():
    colours = arm_colours(["clip", "linear", "powerclip"], baseline="clip")
    assert len(set(colours.values())) == 3
    assert arm_colours(["linear", "clip"], baseline="clip")["linear"] == colours["linear"]


def test_labels_keep_their_distance():
    assert np.all(np.diff(spaced(np.array([0.1, 0.1, 0.12, 0.9]), gap=0.1)) >= 0.1 - 1e-9)
    assert np.allclose(spaced(np.array([0.1, 0.5]), gap=0.1), [0.1, 0.5])


def test_logarithmic_axes_are_for_decades():
    assert spans_decades([1e-3, 1])
    assert not spans_decades([0, 1e-3, 1])
    assert not spans_decades([0.1, 0.3])


PLAIN = ["$5 or $10", "costs $x_", "a\\frac{", "100 % of ^", '<b> & "id="', "שלום עולם", "a 🐶 dog", "汉字"]


@pytest.mark.parametrize("text", PLAIN)
def test_text_is_no_formula_wherever_it_is_drawn(tmp_path, text, recwarn):
    results = load_tree(tmp_path, write_tree(tmp_path, arms=("clip",), taus=()))
    scene = replace(make_scene(0), phrases=[text] * 3)
    draw(Similarity(), {text: [scene, replace(scene, referents=None)]}, tmp_path)
    draw(Embeddings(), {text: make_embeddings(1.0)}, tmp_path)
    draw(MADE_UP, figures_grid(results, (text, "nla")), tmp_path)
    shown = {stem: texts(tmp_path / f"{stem}.svg") for stem in ("similarity", "embeddings", "ablation-made-up")}
    assert all(word in svg for word in text.split() for svg in shown.values())
    assert text in shown["similarity"]
    assert len(recwarn) == 0, "glyphs that the font lacks are the viewer's"


def test_a_phrase_over_two_lines_is_drawn(tmp_path):
    draw(Similarity(), {"clip": [replace(make_scene(0), phrases=["two\nlines"] * 3)]}, tmp_path)
    assert "two lines" in texts(tmp_path / "similarity.svg")


def test_ticks_of_decades_are_powers_of_ten_in_plain_text(results, tmp_path):
    write_precision(tmp_path / "precision.csv")
    draw(Precision(), results, tmp_path)
    assert "10⁻³" in texts(tmp_path / "precision-r2t.svg")
    assert "$" not in texts(tmp_path / "precision-r2t.svg")
    assert [power_of_ten(value) for value in (1, 100, 1e-12, 20, 0)] == ["10⁰", "10²", "10⁻¹²", "20", "0"]


def test_figures_are_drawn_as_params_say(results, tmp_path):
    draw(Training(terms=("loss", "no-such-column", "step")), results, tmp_path)
    assert "Total loss" in texts(tmp_path / "training.svg")
    assert "InfoNCE" not in texts(tmp_path / "training.svg")
    draw(Similarity(phrases=1), {"clip": [make_scene(0)], "cs": [make_scene(0)]}, tmp_path)
    shown = texts(tmp_path / "similarity.svg")
    assert (shown.count("a red ball"), shown.count("two blue balls")) == (2, 0)


def test_runs_stand_side_by_side_for_the_same_picture(tmp_path):
    scenes = [replace(make_scene(0), phrases=[f"phrase {number}"]) for number in range(2)]
    draw(Similarity(), {"clip": scenes, "linear": [], "powerclip": scenes}, tmp_path)
    found = re.findall(r"clip|powerclip|phrase \d", texts(tmp_path / "similarity.svg"))
    assert found == [text for number in "01" for run in ("clip", "powerclip") for text in (run, f"phrase {number}")]
