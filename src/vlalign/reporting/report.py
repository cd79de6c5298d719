"""One self-contained HTML file: summary, tables, figures, and what is needed to make it again."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from vlalign.data.overlap import Overlap
from vlalign.errors import VlalignError
from vlalign.files import write_text
from vlalign.records import read_record
from vlalign.reporting.captions import Caption, caption
from vlalign.reporting.cells import Table
from vlalign.reporting.provenance import provenance, sources
from vlalign.reporting.published import published_tables
from vlalign.reporting.results import Results, load_results
from vlalign.reporting.summary import summarise
from vlalign.reporting.tables import measured_tables

SECTIONS = {
    "summary": "Summary",
    "compared": "Results",
    "grounding": "Grounding",
    "composition": "Hard negatives",
    "retrieval": "Retrieval",
    "shared-space": "The shared space",
    "ablations": "Ablations",
    "precision": "Precision of the aggregators",
    "training": "Training",
    "further": "Further figures",
}
TABLE_SECTIONS = {
    "summary": "Summary",
    "arms": "compared",
    "differences": "compared",
    "grounding": "grounding",
    "composition": "composition",
    "retrieval": "retrieval",
    "shared-space": "shared-space",
    "ablation": "ablations",
}


@dataclass(frozen=True)
class Figure:
    """An SVG as it goes into the page; `number` counts figures through the report."""

    name: str
    number: int
    svg: Markup
    caption: Caption


@dataclass(frozen=True)
class Section:
    """A heading with its figures and tables."""

    name: str
    title: str
    figures: Sequence[Figure]
    tables: Sequence[Table]


def write_report(
    output: str | Path,
    *,
    metrics: str | Path,
    run_dirs: Sequence[str | Path],
    figures: Sequence[str | Path] = (),
    manifests: Sequence[str | Path] = (),
    overlaps: Sequence[Overlap] = (),
    baseline: str = "clip",
    control: str = "linear",
    title: str = "vlalign report",
) -> None:
    """Write the report as one HTML file that needs no network, script or font.

    Args:
        metrics: the collected metrics.json.
        run_dirs: directories of single seeds, in the order in which arms are to appear.
        figures: SVG files; the name of each says what it shows (captions.py) and so where it stands.
        manifests: manifest.json of the data that was trained and evaluated on; their `source` is shown, which is where
            attribution of third parties' work comes from.
        overlaps: how many images of each split that is measured occur in the training split.
        baseline, control: arms that the others are compared with; either may be absent.
    Raises VlalignError when an input is missing.
    """
    results = load_results(metrics, run_dirs, baseline=baseline, control=control)
    write_text(
        output,
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            results=results,
            summary=summarise(results),
            unmeasured=_unmeasured(results),
            sections=list(_sections(results, list(map(Path, figures)))),
            published=published_tables(),
            provenance=provenance(results),
            sources=sources([read_record(path) for path in manifests]),
            overlaps=_overlap_sentences(overlaps),
        ),
    )


def _overlap_sentences(overlaps: Sequence[Overlap]) -> list[str]:
    """One for every split with images of the training split, and one for all that have none."""
    found = [
        f"{one.count} {'images' if one.count > 1 else 'image'} of {one.name} also in train, byte for byte (first "
        f"{', '.join(one.first)}): what is measured there was partly trained on."
        for one in overlaps
        if one.count
    ]
    if clean := [one.name for one in overlaps if not one.count]:
        found.append(f"No image of {', '.join(clean)} stands in train byte for byte.")
    return found


def _unmeasured(results: Results) -> list[str]:
    """A sentence for every benchmark and reason for which it could not be measured."""
    every = {run.name for run in results.runs}
    sentences = []
    for (benchmark, reason), names in results.unmeasured.items():
        runs = "any run" if set(names) == every else ", ".join(names)
        sentences.append(f"The benchmark {benchmark} was not measured for {runs}: {reason}.")
    return sentences


def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("vlalign.reporting")
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _sections(results: Results, figures: Sequence[Path]) -> list[Section]:
    tables: dict[str, list[Table]] = {name: [] for name in SECTIONS}
    for table in measured_tables(results):
        prefix = next(prefix for prefix in TABLE_SECTIONS if table.name.startswith(prefix))
        tables[TABLE_SECTIONS[prefix]].append(table)
    placed = _placed(results, figures)
    return [
        Section(name, title, placed.get(name, []), tables[name])
        for name, title in SECTIONS.items()
        if name == "summary" or placed.get(name) or tables[name]
    ]


def _placed(results: Results, figures: Sequence[Path]) -> Mapping[str, list[Figure]]:
    captions = {path.stem: caption(path.stem, results) for path in figures}
    order = list(SECTIONS)
    placed: dict[str, list[Figure]] = {}
    ranked = sorted(
        figures, key=lambda path: (order.index(captions[path.stem].section), captions[path.stem].rank, path.stem)
    )
    for count, path in enumerate(ranked, start=1):
        described = captions[path.stem]
        figure = Figure(path.stem, count, inline_svg(path, described.title), described)
        placed.setdefault(described.section, []).append(figure)
    return placed


def inline_svg(path: Path, label: str) -> Markup:
    """Read an SVG for use inside HTML: without prologue, with identifiers of its own, named for screen readers.

    Raises VlalignError when the file is missing or holds no SVG.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise VlalignError(f"{path} does not exist; the rule that draws it has not run") from None
    start = text.find("<svg")
    if start < 0:
        raise VlalignError(f"{path} is not an SVG; delete it and draw it again")
    prefix = re.sub(r"[^a-zA-Z0-9-]", "-", path.stem)
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", text[start:], flags=re.DOTALL)
    # Within tags alone: a caption may say `id="x"`.
    body = re.sub(r"<[^>]+>", lambda tag: re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", tag[0]), body)
    body = body.replace("<svg", f'<svg role="img" aria-label="{Markup.escape(label)}"', 1)
    return Markup(body)
