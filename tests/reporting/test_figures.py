import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from fake_results import load_tree, make_embeddings, make_scene, write_precision, write_tree

from vlalign.errors import VlalignError
from vlalign.reporting import figures
from vlalign.reporting.embeddings import principal_plane
from vlalign.reporting.style import arm_colours, power_of_ten, spaced, spans_decades


def texts(path):
    return " ".join(ElementTree.parse(path).getroot().itertext())


def draw_all(results, folder):
    figures.draw_training(results, folder / "training.svg")
    figures.draw_differences(results, folder / "differences.svg")
    figures.draw_grounding(results, folder / "grounding.svg")
    for grid in results.grids:
        figures.draw_ablation(results, grid.name, folder / f"ablation-{grid.name}.svg")
    pairs = {arm: make_embeddings(gap) for arm, gap in (("clip", 2.0), ("cs", 0.1))}
    figures.draw_embeddings(pairs, folder / "embeddings.svg")
    figures.draw_similarity([make_scene(0, label="clip"), make_scene(1)], folder / "similarity.svg")
    precision = write_precision(folder / "precision.csv")
    figures.draw_precision(precision, folder / "precision-r2t.svg", direction="r2t")
    figures.draw_precision(precision, folder / "precision-t2r.svg", direction="t2r")
    return sorted(folder.glob("*.svg"))


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
    figures.draw_training(results, tmp_path / "training.svg")
    shown = texts(tmp_path / "training.svg")
    assert "clip" in shown
    assert "Powerset term" in shown
    assert "Cauchy-Schwarz term" not in shown


def test_the_smallest_results_draw(demo, tmp_path):
    figures.draw_differences(demo, tmp_path / "differences.svg")
    figures.draw_grounding(demo, tmp_path / "grounding.svg")
    assert "powerclip" in texts(tmp_path / "grounding.svg")


def test_nothing_to_draw_says_so(tmp_path):
    results = load_tree(tmp_path, write_tree(tmp_path, arms=("clip",), taus=()))
    figures.draw_differences(results, tmp_path / "differences.svg")
    figures.draw_similarity([], tmp_path / "similarity.svg")
    assert "nothing to compare" in texts(tmp_path / "differences.svg")
    assert "no scene" in texts(tmp_path / "similarity.svg")


@pytest.mark.parametrize("values", [("exact", "nla"), (0.0, 0.01, 1.0), (0.0, 0.1, 0.3), (0.001, 1)])
def test_ablations_take_words_zeros_and_decades(tmp_path, values):
    results = load_tree(tmp_path, write_tree(tmp_path, arms=("clip",), taus=()))
    grid = figures_grid(results, values)
    figures.draw_ablation(grid, "made-up", tmp_path / "ablation.svg")
    assert "Pointing" in texts(tmp_path / "ablation.svg")


def figures_grid(results, values):
    """Results in which each value names the same made-up run."""
    clip = results.runs[0]
    grid = {"name": "made-up", "param": "p"}
    runs = [replace(clip, name=f"run-{i}", ablation={**grid, "value": value}) for i, value in enumerate(values)]
    rows = [row.model_copy(update={"run": run.name}) for run in runs for row in results.select(run="clip")]
    return replace(results, rows=[*results.rows, *rows], runs=(*results.runs, *runs))


def test_unknown_ablation_names_the_known_ones(results, tmp_path):
    with pytest.raises(VlalignError, match="tau"):
        figures.draw_ablation(results, "zeta", tmp_path / "x.svg")


def test_precision_names_missing_columns(tmp_path):
    (tmp_path / "p.csv").write_text("features,aggregator\nrandom,nla\n")
    with pytest.raises(VlalignError, match="error_relative"):
        figures.draw_precision(tmp_path / "p.csv", tmp_path / "x.svg", direction="r2t")


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
    scene = replace(make_scene(0, label=text), phrases=[text] * 3)
    figures.draw_similarity([scene, replace(scene, referents=None)], tmp_path / "similarity.svg")
    figures.draw_embeddings({text: make_embeddings(1.0)}, tmp_path / "embeddings.svg")
    figures.draw_ablation(figures_grid(results, (text, "nla")), "made-up", tmp_path / "ablation.svg")
    shown = {stem: texts(tmp_path / f"{stem}.svg") for stem in ("similarity", "embeddings", "ablation")}
    assert all(word in svg for word in text.split() for svg in shown.values())
    assert text in shown["similarity"]
    assert len(recwarn) == 0, "glyphs that the font lacks are the viewer's"


def test_a_phrase_over_two_lines_is_drawn(tmp_path):
    figures.draw_similarity([replace(make_scene(0), phrases=["two\nlines"] * 3)], tmp_path / "similarity.svg")
    assert "two lines" in texts(tmp_path / "similarity.svg")


def test_ticks_of_decades_are_powers_of_ten_in_plain_text(tmp_path):
    precision = write_precision(tmp_path / "precision.csv")
    figures.draw_precision(precision, tmp_path / "precision.svg", direction="r2t")
    assert "10⁻³" in texts(tmp_path / "precision.svg")
    assert "$" not in texts(tmp_path / "precision.svg")
    assert [power_of_ten(value) for value in (1, 100, 1e-12, 20, 0)] == ["10⁰", "10²", "10⁻¹²", "20", "0"]
