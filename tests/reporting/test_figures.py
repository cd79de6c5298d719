import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_results import (
    PICTURES,
    load_tree,
    make_confusions,
    make_embeddings,
    make_negative,
    make_retrieved,
    make_scene,
    write_pictures,
    write_precision,
    write_tree,
)

from vlalign.errors import VlalignError
from vlalign.params import load
from vlalign.reporting.figure import Measured
from vlalign.reporting.figures.ablation import AblationFigure
from vlalign.reporting.figures.confusions import Confusions
from vlalign.reporting.figures.differences import Differences
from vlalign.reporting.figures.embeddings import Embeddings, principal_plane
from vlalign.reporting.figures.grounding import Grounding
from vlalign.reporting.figures.hard_negatives import HardNegatives
from vlalign.reporting.figures.precision import Precision
from vlalign.reporting.figures.retrieval_examples import RetrievalExamples
from vlalign.reporting.figures.similarity import Similarity, innermost
from vlalign.reporting.figures.training import Training
from vlalign.reporting.style import HIT, INK, MISS, arm_colours, key, panels, power_of_ten, spaced, spans_decades

PROJECT = Path(__file__).parents[2]


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
    draw(Confusions(), {"clip": None, "cs": make_confusions("abc")}, folder)
    draw(HardNegatives(), {"clip": [], "cs": [make_negative("swap", true=0.1, false=0.2)]}, folder)
    split = write_pictures(folder / "split")
    draw(RetrievalExamples(), {arm: make_retrieved(split, seed=len(arm)) for arm in ("clip", "cs")}, folder)
    return sorted(folder.glob("*.svg"))


@pytest.mark.slow
def test_figures_are_the_same_bytes_twice_and_carry_no_date(tmp_path):
    results = load_tree(tmp_path, write_tree(tmp_path, arms=("clip", "powerclip"), taus=(0.1,)))
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    first, second = (draw_all(results, folder) for folder in folders)
    assert len(first) == 12
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
    for illustration in (Similarity(), HardNegatives(), Confusions(), RetrievalExamples()):
        draw(illustration, {"clip": []} if isinstance(illustration, Similarity) else {"clip": None}, tmp_path)
    assert "nothing to compare" in texts(tmp_path / "differences.svg")
    assert "no scene" in texts(tmp_path / "similarity.svg")
    assert "no hard negatives" in texts(tmp_path / "hard-negatives.svg")
    assert "no run" in texts(tmp_path / "confusions.svg")
    assert "no run" in texts(tmp_path / "retrieval-examples-captions.svg")


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


def test_what_is_named_is_told_from_what_is_meant(tmp_path):
    """Two balls are meant; one of them is named, and a third thing."""
    named = replace(make_scene(0), named=[{0}, {1, 2}, {0, 2}])
    draw(Similarity(phrases=2), {"clip": [named]}, tmp_path)
    svg = (tmp_path / "similarity.svg").read_text()
    assert "clip, p = 0.75" in texts(tmp_path / "similarity.svg")
    assert [mark for mark in texts(tmp_path / "similarity.svg") if mark in "✓✗"] == ["✓", "✗"]
    # Thick outlines, by colour: two are right, one is wrong, and one is meant alone.
    lines = re.findall(r"fill: none; (stroke-dasharray[^;]*; )?.*?stroke: (#\w+); stroke-width: 1.8", svg)
    assert Counter(colour for _, colour in lines) == {HIT: 2, MISS: 1, INK: 1}


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


def test_the_arms_of_the_default_run_have_colours_of_their_own():
    runs = load(PROJECT / "params.yaml").all_runs.values()
    arms = [run.name for run in runs if run.grid is None]
    assert len(set(arm_colours(arms, baseline="clip").values())) == len(arms)


def test_a_key_of_many_arms_wraps(results, tmp_path):
    def width(arms):
        with panels(tmp_path / "key.svg", 3, columns=3, width=3.5, height=2.0) as axes:
            key(axes[0], dict.fromkeys(arms, "#000000"))
        return float(ElementTree.parse(tmp_path / "key.svg").getroot().get("width").removesuffix("pt"))

    assert width([f"an arm with a long name {number}" for number in range(15)]) == pytest.approx(width(["a"]), rel=0.05)


def test_arms_without_grounding_have_no_row(results, tmp_path):
    rows = [row for row in results.rows if (row.run, row.benchmark) != ("cs", "grounding")]
    assert "cs" in results.arms
    draw(Grounding(), replace(results, rows=rows), tmp_path)
    named = texts(tmp_path / "grounding.svg").split()
    assert "powerclip" in named
    assert "cs" not in named


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


def test_text_of_examples_is_no_formula(tmp_path, recwarn):
    split = write_pictures(tmp_path / "split")
    draw(Confusions(), {"clip": make_confusions(PLAIN)}, tmp_path)
    draw(HardNegatives(), {"clip": [make_negative("odd", true=0.1, false=0.2, text=text) for text in PLAIN]}, tmp_path)
    found = replace(make_retrieved(split, seed=0), captions=(*PLAIN, *PLAIN))
    draw(RetrievalExamples(queries=8), {"$5_$": found}, tmp_path)
    names = ("confusions", "hard-negatives", *RetrievalExamples().names())
    shown = [texts(tmp_path / f"{name}.svg") for name in names]
    assert all(word in svg for text in PLAIN for word in text.split() for svg in shown[:2])
    assert all("$5_$" in svg for svg in shown[2:])
    assert set(re.findall("“(.*?)”", shown[2])) == set(PLAIN[::2])
    assert not [warning for warning in recwarn if issubclass(warning.category, UserWarning)]


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


SVG = "{http://www.w3.org/2000/svg}"


def frames(path):
    """Of each picture, in the order in which they were put there, whether its frame is that of a right answer."""
    axes = (group for group in ElementTree.parse(path).iter(f"{SVG}g") if group.get("id", "").startswith("axes_"))
    strokes = (" ".join(line.get("style", "") for line in group.iter(f"{SVG}path")) for group in axes)
    return [HIT in stroke for stroke in strokes]


def coloured(path):
    """(text, colour) of every line of text, and whether it is bold."""
    lines = [(line.text, line.get("style")) for line in ElementTree.parse(path).iter(f"{SVG}text")]
    return [(text, re.findall("#[0-9a-f]{6}", look)[-1], "700" in look) for text, look in lines]


def disagreements_first(rights, candidates):
    """The rule by which queries are chosen, said another way."""
    apart = [query for query in candidates if len({bool(right[query]) for right in rights}) > 1]
    return apart + [query for query in candidates if query not in apart]


@pytest.fixture
def retrieved(tmp_path):
    split = write_pictures(tmp_path / "split")
    return {arm: make_retrieved(split, seed=seed) for seed, arm in enumerate(("clip", "powerclip"))}


def test_pictures_for_a_caption_have_a_frame_where_they_are_right(tmp_path, retrieved):
    draw(RetrievalExamples(), retrieved, tmp_path)
    drawn = tmp_path / "retrieval-examples-pictures.svg"
    queries = disagreements_first([one.to_images.is_right for one in retrieved.values()], range(0, 2 * PICTURES, 2))[:4]
    assert queries != [0, 2, 4, 6], "else any rule would do"
    assert re.findall(r"“caption (\d+)”", texts(drawn)) == [str(query) for query in queries]
    answers = [(query, one.to_images) for query in queries for one in retrieved.values()]
    assert frames(drawn) == [image == query // 2 for query, one in answers for image in one.best_NK[query]]
    verdicts = [text for text, *_ in coloured(drawn) if text.startswith(("clip", "powerclip"))]
    ranks = [one.rank_N[query] for query, one in answers]
    names = ["clip", "powerclip"] * 4
    assert verdicts == [
        f"{name} ✓" if rank == 0 else f"{name} ✗ (place {rank + 1})" for name, rank in zip(names, ranks, strict=True)
    ]
    right = {arm: sum(one.to_images.rank_N == 0) for arm, one in retrieved.items()}
    counted = f"Of all 16 captions clip is right for {right['clip']}, powerclip is right for {right['powerclip']}."
    assert counted in texts(drawn)


def test_captions_for_a_picture_are_blue_where_they_are_right(tmp_path, retrieved):
    draw(RetrievalExamples(), retrieved, tmp_path)
    lines = coloured(tmp_path / "retrieval-examples-captions.svg")
    queries = disagreements_first([one.to_captions.is_right for one in retrieved.values()], range(PICTURES))[:4]
    best = [(query, caption) for query in queries for one in retrieved.values() for caption in
            one.to_captions.best_NK[query]]  # fmt: skip
    shown = [(text, colour == HIT) for text, colour, _ in lines if text.startswith("caption")]
    assert shown == [(f"caption {caption}", caption // 2 == query) for query, caption in best]
    assert 0 < sum(right for _, right in shown) < len(shown)


def test_one_run_alone_shows_the_first_queries(tmp_path, retrieved):
    draw(RetrievalExamples(queries=2, pictures=5), {"clip": retrieved["clip"], "cs": None}, tmp_path)
    shown = texts(tmp_path / "retrieval-examples-pictures.svg")
    assert re.findall(r"“caption (\d+)”", shown) == ["0", "2"]
    assert "cs" not in shown


def test_confusions_show_every_count_and_a_last_column_only_where_it_is_needed(tmp_path):
    draw(Confusions(), {"clip": None, "powerclip": make_confusions(["dog", "a" * 40])}, tmp_path)
    shown = texts(tmp_path / "confusions.svg").split()
    assert [word for word in shown if word.isdigit()][:3] == ["1", "2", "3"], "a count of 0 stays empty"
    assert "powerclip: 3 of 6 images right" in texts(tmp_path / "confusions.svg")
    assert shown.count("a" * 25 + "…") == 2
    assert "not shown" not in texts(tmp_path / "confusions.svg")
    draw(Confusions(), {"powerclip": make_confusions(["dog", "cat"], elsewhere=7)}, tmp_path)
    assert "not shown" in texts(tmp_path / "confusions.svg")
    assert texts(tmp_path / "confusions.svg").split().count("7") == 2


def test_of_hard_negatives_the_caption_that_the_model_takes_is_bold(tmp_path):
    found = [make_negative("swap_object", true=0.25, false=0.5), make_negative("odd", true=0.75, false=0.5)]
    draw(HardNegatives(), {"clip": [], "powerclip": found}, tmp_path)
    lines = coloured(tmp_path / "hard-negatives.svg")
    assert [text for text, *_ in lines if text in ("swap object", "odd")] == ["swap object", "odd"]
    assert [line for line in lines if "caption" in line[0]] == [
        ("✓ 0.25: a true caption", HIT, False),
        ("✗ 0.50: a false caption", MISS, True),
        ("✓ 0.75: a true caption", HIT, True),
        ("✗ 0.50: a false caption", MISS, False),
    ]


def test_a_long_caption_is_cut_and_moves_what_comes_below_it(tmp_path, retrieved):
    long = replace(retrieved["clip"], captions=tuple("word " * 200 for _ in range(2 * PICTURES)))
    draw(RetrievalExamples(), {"clip": long}, tmp_path)
    drawn = tmp_path / "retrieval-examples-captions.svg"
    assert "…" in texts(drawn)
    assert len(coloured(drawn)) < 40
    heights = [float(line.get("y", re.findall(r"-?[\d.]+", line.get("transform", "0 0"))[-1]))
               for line in ElementTree.parse(drawn).iter(f"{SVG}text")]  # fmt: skip
    assert heights == sorted(heights)


def test_a_number_stands_inside_its_region_and_off_the_edge():
    ring = np.zeros((40, 60), bool)
    ring[5:35, 5:55] = True
    ring[12:33, 8:52] = False
    row, column = innermost(ring)
    assert ring[row, column]
    assert 6 <= row <= 10, "in the broad side of the ring, and not in its hole"
    whole = np.ones((20, 20), bool)
    assert all(9 <= place <= 10 for place in innermost(whole))
