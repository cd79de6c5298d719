import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from fake_results import load_tree, make_scene, remeasure, unmeasured, write_illustrations, write_precision, write_tree

from vlalign.data.samples import Sample, encode_png
from vlalign.data.shards.manifest import write_split
from vlalign.data.shards.overlap import Overlap
from vlalign.errors import VlalignError
from vlalign.evaluation.metrics import read_metrics
from vlalign.files import read_json
from vlalign.params import ReportParams
from vlalign.records import check_record, read_record, write_record
from vlalign.reporting import style
from vlalign.reporting.figure import Caption, Figure, Measured
from vlalign.reporting.figures.differences import Differences
from vlalign.reporting.figures.grounding import Grounding
from vlalign.reporting.figures.similarity import Similarity
from vlalign.reporting.figures.training import Training
from vlalign.reporting.page import inline_svg, write_page
from vlalign.reporting.report import write_report

VOID = {"meta", "br", "img", "path", "use", "rect", "image"}


class Page(HTMLParser):
    """Collects ids and links, and checks that elements nest."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[key] for key in ("href", "src", "xlink:href") if key in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


class Other(Figure):
    """A figure with a section of its own."""

    name = "other-thing"
    section = "What else"

    def draw(self, name, source, output):
        style.placeholder(output, "other")

    def caption(self, name, results):
        return Caption("Another thing")


def report(folder, run_dirs, **options):
    results = load_tree(folder, run_dirs)
    drawn = {folder / "figures" / f"{figure.name}.svg": figure for figure in (Grounding(), Other(), Differences())}
    for path, figure in drawn.items():
        figure.draw(path.stem, Measured(results, folder / "precision.csv"), path)
    write_page(folder / "report.html", results, figures=drawn, **options)
    page = Page()
    page.feed((folder / "report.html").read_text())
    assert page.open == []
    return page, " ".join(" ".join(page.text).split())


def test_report_is_one_file_without_network_or_script(run_dirs, tmp_path):
    page, _ = report(tmp_path, run_dirs)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    html = (tmp_path / "report.html").read_text()
    assert not re.search(r"<script|<link|@import|url\((?!#)", html)


def test_identifiers_are_unique_and_every_link_arrives(run_dirs, tmp_path):
    page, _ = report(tmp_path, run_dirs)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_report_is_the_same_twice(run_dirs, tmp_path):
    report(tmp_path, run_dirs)
    first = (tmp_path / "report.html").read_bytes()
    report(tmp_path, run_dirs)
    assert (tmp_path / "report.html").read_bytes() == first


def test_summary_and_provenance_come_from_the_runs(run_dirs, tmp_path):
    _, text = report(tmp_path, run_dirs, title="Made up")
    assert "7 arms, 3 seeds, 30 trained models, ablations of tau" in text
    assert "not distinguishable from noise" in text
    assert "0123456789abcdef" in text
    assert "objective.powerset.weight" in text
    assert "Figure 1. What moves against clip" in text
    assert "Figure 3. Another thing." in text
    assert "What else" in text


def test_the_summary_begins_with_the_claims_of_the_papers(run_dirs, tmp_path):
    page, text = report(tmp_path, run_dirs)
    assert "table-claims" in page.ids
    places = [text.index(part) for part in ("What the papers claim", "paired differences to clip, ", "Figure 1.")]
    assert places == sorted(places)


def test_the_smallest_run_reports_gracefully(tmp_path):
    _, text = report(tmp_path, write_tree(tmp_path, arms=("clip", "powerclip"), seeds=(0,), taus=()))
    assert "2 arms, 1 seed, 2 trained models, no ablation" in text
    assert "no conclusion can be drawn" in text
    assert "One seed, so there are no intervals" in text
    assert "Ablations" not in text


def test_attribution_comes_from_the_manifests(run_dirs, tmp_path):
    manifest = tmp_path / "manifest.json"
    write_record(manifest, {"source": {"artwork": "OpenMoji, CC BY-SA 4.0", "images": {"test": 10}}})
    _, text = report(tmp_path, run_dirs, manifests=[manifest, manifest])
    assert text.count("OpenMoji, CC BY-SA 4.0") == 1
    assert "images.test" in text
    manifest.write_text(manifest.read_text().replace("OpenMoji", "Mine"))
    with pytest.raises(VlalignError, match=r"manifest\.json was changed or damaged after it was written"):
        report(tmp_path, run_dirs, manifests=[manifest])


def test_without_manifests_nothing_about_artwork_is_claimed(run_dirs, tmp_path):
    _, text = report(tmp_path, run_dirs)
    assert "OpenMoji" not in text


def test_runs_of_different_versions_are_warned_about(run_dirs, tmp_path):
    file = run_dirs[0] / "run.json"
    record = read_record(file)
    record["versions"]["torch"], record["git_commit"] = "2.8.0", "9876543210" * 4
    write_record(file, record)
    _, text = report(tmp_path, run_dirs)
    assert "different versions of torch: 2.8.0, 2.9.0" in text
    assert "2 different commits" in text


def test_names_are_escaped(tmp_path, run_dirs):
    _, text = report(tmp_path, run_dirs, title="<b>A & B</b>")
    assert "<b>A & B</b>" in text


def test_missing_or_broken_figures_are_named(tmp_path):
    with pytest.raises(VlalignError, match=r"gone\.svg does not exist"):
        inline_svg(tmp_path / "gone.svg", "x")
    (tmp_path / "bad.svg").write_text("nothing")
    with pytest.raises(VlalignError, match=r"bad\.svg is not an SVG"):
        inline_svg(tmp_path / "bad.svg", "x")


def test_everything_from_the_files_of_the_workflow(tmp_path):
    run_dirs = write_tree(tmp_path, arms=("clip", "powerclip"), seeds=(0, 1), taus=(0.1,))
    for split, shade in (("train", 0), ("test", 1), ("zeroshot/test", 0)):
        picture = encode_png(np.full((8, 8, 3), shade, np.uint8))
        write_split(tmp_path / "data" / split, [Sample("a", picture)], source={})
    load_tree(tmp_path, run_dirs)
    Similarity().draw("similarity", {"clip": [make_scene(0)]}, tmp_path / "figures" / "similarity.svg")
    everything(tmp_path, run_dirs, "similarity")
    page = Page()
    page.feed((tmp_path / "report.html").read_text())
    drawn = list((tmp_path / "figures").glob("*.svg"))
    wanted = {f"figure-{path.stem}" for path in drawn}
    assert len(wanted) == 7
    assert wanted <= set(page.ids)
    assert (tmp_path / "tables" / "ablation-tau.csv").exists()
    files = [tmp_path / "report.html", *drawn, *(tmp_path / "tables").iterdir()]
    assert set(check_record(tmp_path / "report.html.json")["files"]) == {str(p.relative_to(tmp_path)) for p in files}


def everything(folder, run_dirs, *illustrated):
    files = {"tables": folder / "tables", "output": folder / "report.html"}
    files["figures"] = write_illustrations(folder / "figures", names=[f"{name}.svg" for name in illustrated])
    files["precision"] = write_precision(folder / "precision.csv")
    ablation = {"figure": "ablation", "grids": ["tau"]}
    params = ReportParams(figures=("differences", "grounding", "training", "precision", ablation, *illustrated))
    write_report(folder / "metrics.json", run_dirs, params=params, **files)


@pytest.mark.parametrize(
    ("name", "record"),
    [("precision.csv", "precision.csv.json"), ("figures/similarity.svg", "figures/illustrations.json")],
)
def test_what_was_changed_since_its_step_wrote_it_is_not_reported(tmp_path, name, record):
    run_dirs = write_tree(tmp_path, arms=("clip", "powerclip"), seeds=(0,), taus=())
    load_tree(tmp_path, run_dirs)
    files = {"figures": tmp_path / "figures", "tables": tmp_path / "tables", "output": tmp_path / "report.html"}
    Similarity().draw("similarity", {"clip": [make_scene(0)]}, tmp_path / "figures" / "similarity.svg")
    write_illustrations(files["figures"], names=["similarity.svg"])
    precision, changed, vouching = write_precision(tmp_path / "precision.csv"), tmp_path / name, tmp_path / record
    for damage, message in (
        (lambda: changed.write_text(changed.read_text() + "\n"), f"{name} is not the file that .*{record} describes"),
        (changed.unlink, f"{name} is named in .*{record} but cannot be read"),
        (lambda: vouching.write_text(vouching.read_text().replace('": 1', '": 2')), f"{record} was changed or damaged"),
        (vouching.unlink, f"{record} does not exist; the rule that makes it has not run"),
    ):
        damage()
        with pytest.raises(VlalignError, match=message):
            write_report(tmp_path / "metrics.json", run_dirs, params=ReportParams(), precision=precision, **files)
        assert not files["output"].exists()


def test_text_in_a_figure_stays_as_it_is(tmp_path):
    phrase = '<script> id="a" url(#b)'
    scene = replace(make_scene(0), phrases=[phrase] * 3)
    Similarity().draw("similarity", {"clip": [scene]}, tmp_path / "similarity.svg")
    svg = inline_svg(tmp_path / "similarity.svg", '"$5" <b>')
    page = Page()
    page.feed(svg)
    assert phrase in " ".join(" ".join(page.text).split())
    assert "<script>" not in svg
    assert 'aria-label="&#34;$5&#34; &lt;b&gt;"' in svg
    assert all(name.startswith("similarity-") for name in page.ids)


def test_what_was_not_measured_is_one_line_with_its_reason(tmp_path):
    run_dirs = write_tree(tmp_path, arms=("clip", "powerclip"), seeds=(0,), taus=())
    for run in run_dirs:
        remeasure(run, modality=unmeasured("it needs <4> images"))
    remeasure(run_dirs[1], transfer=unmeasured("one class"))
    _, text = report(tmp_path, run_dirs)
    assert "The benchmark modality was not measured for any run: it needs <4> images." in text
    assert "The benchmark transfer was not measured for powerclip: one class." in text


def test_a_report_without_any_measurement_is_written(tmp_path):
    run_dirs = write_tree(tmp_path, arms=("clip", "powerclip"), seeds=(0,), taus=(0.1,))
    for run in run_dirs:
        measured = read_metrics(run)
        remeasure(run, **{name: unmeasured("one image") for name in measured})
        assert all(read_json(run / "metrics" / f"{name}.json") == {"not_measured": "one image"} for name in measured)
    load_tree(tmp_path, run_dirs)
    everything(tmp_path, run_dirs)
    assert "No headline metric was measured" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("content", ["", "a,b\n1\n2,3,4\n", "step,loss\n1,x\n", "loss\n1\n"])
def test_a_damaged_history_is_named(tmp_path, content):
    [run] = write_tree(tmp_path, arms=("clip",), seeds=(0,), taus=())
    results = load_tree(tmp_path, [run])
    (run / "history.csv").write_text(content)
    with pytest.raises(VlalignError, match=r"history\.csv .*delete the run and train it again"):
        Training().draw("training", Measured(results, tmp_path / "precision.csv"), tmp_path / "training.svg")


def test_images_that_were_trained_on_are_told(run_dirs, tmp_path):
    overlaps = [Overlap("validation", 0, ()), Overlap("test", 2, ("a<1>", "b")), Overlap("zeroshot/test", 0, ())]
    _, text = report(tmp_path, run_dirs, overlaps=overlaps)
    assert "2 images of test also in train, byte for byte (first a<1>, b)" in text
    assert "No image of validation, zeroshot/test stands in train byte for byte." in text
