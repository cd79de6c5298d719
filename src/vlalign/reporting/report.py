"""One self-contained HTML file: summary, tables, figures, and what is needed to make it again."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from vlalign.data.overlap import Overlap
from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import known_benchmarks
from vlalign.files import write_text
from vlalign.records import read_record
from vlalign.reporting.captions import Caption, caption
from vlalign.reporting.cells import Table
from vlalign.reporting.provenance import provenance, sources
from vlalign.reporting.published import published_tables
from vlalign.reporting.results import Results
from vlalign.reporting.summary import summarise
from vlalign.reporting.tables import measured_tables


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


def sections() -> dict[str, str]:
    """Headings of the report by name, in their order; those of the benchmarks' tables stand in the middle."""
    tables = (table for kind in known_benchmarks().values() for table in kind.tables)
    return {
        "summary": "Summary",
        "results": "Results",
        **{_slug(table.section): table.section for table in tables},
        "ablations": "Ablations",
        "precision": "Precision of the aggregators",
        "training": "Training",
        "further": "Further figures",
    }


def _slug(title: str) -> str:
    return "-".join(re.findall(r"\w+", title.lower()))


def write_report(
    results: Results,
    output: str | Path,
    *,
    figures: Sequence[str | Path] = (),
    manifests: Sequence[str | Path] = (),
    overlaps: Sequence[Overlap] = (),
    title: str = "vlalign report",
) -> None:
    """Write the report as one HTML file that needs no network, script or font.

    Args:
        results: what is reported; arms appear in the order of its runs.
        figures: SVG files; the name of each says what it shows (captions.py) and so where it stands.
        manifests: manifest.json of the data that was trained and evaluated on; their `source` is shown, which is where
            attribution of third parties' work comes from.
        overlaps: how many images of each split that is measured occur in the training split.
    Raises VlalignError when an input is missing.
    """
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
    tables: dict[str, list[Table]] = {}
    for table in measured_tables(results):
        tables.setdefault(_slug(table.section), []).append(table)
    placed = _placed(results, figures)
    return [
        Section(name, title, placed.get(name, []), tables.get(name, []))
        for name, title in sections().items()
        if name == "summary" or placed.get(name) or tables.get(name)
    ]


def _placed(results: Results, figures: Sequence[Path]) -> Mapping[str, list[Figure]]:
    captions = {path.stem: caption(path.stem, results) for path in figures}
    order = list(sections())
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
