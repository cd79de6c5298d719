"""The page of the report: one self-contained HTML file of summary, tables, figures, and how to make it again."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from vlalign.data.shards.overlap import Overlap
from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import known_benchmarks
from vlalign.files import write_text
from vlalign.records import read_record
from vlalign.reporting.cells import Table
from vlalign.reporting.figure import Caption, Figure
from vlalign.reporting.generated_table import SECTION as GENERATED
from vlalign.reporting.provenance import provenance, sources
from vlalign.reporting.published import published_tables
from vlalign.reporting.results import Results
from vlalign.reporting.suites import SECTION as SUITES
from vlalign.reporting.summary import summarise
from vlalign.reporting.tables import measured_tables


class Drawing(NamedTuple):
    """An SVG as it goes into the page; `number` counts figures through the report."""

    name: str
    number: int
    svg: Markup
    caption: Caption


class Section(NamedTuple):
    """A heading with its figures and tables."""

    name: str
    title: str
    figures: Sequence[Drawing]
    tables: Sequence[Table]


def write_page(
    output: str | Path,
    results: Results,
    *,
    figures: Mapping[Path, Figure],
    precision: Path | None = None,
    manifests: Sequence[str | Path] = (),
    overlaps: Sequence[Overlap] = (),
    suites: Sequence[Table] = (),
    title: str = "vlalign report",
) -> None:
    """Write the report as one HTML file that needs no network, script or font.

    figures: SVG files, each with the figure that has drawn it. precision: CSV file of the aggregators' errors, if there
    is one. manifests: manifest.json of the data that was trained and evaluated on; their `source` is shown, which is
    where attribution of third parties' work comes from. overlaps: how many images of each split that is measured occur
    in the training split. suites: tables of what runs and models get on cards.
    Raises VlalignError when an input is missing.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vlalign.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        title=title,
        results=results,
        summary=summarise(results),
        unmeasured=_unmeasured(results),
        sections=_sections(figures, [*measured_tables(results, precision), *suites], results),
        published=published_tables(),
        provenance=provenance(results),
        sources=sources([read_record(path) for path in manifests]),
        overlaps=_overlap_sentences(overlaps),
    )
    write_text(output, page)


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


def headings(figures: Iterable[Figure]) -> list[str]:
    """Those of the report in their order: the benchmarks' tables stand in the middle, what figures add at the end."""
    measured = (table.section for kind in known_benchmarks().values() for table in kind.tables)
    summed_up = (GENERATED, "Ablations", "Precision of the aggregators", "Training")
    added = (figure.section for figure in figures)
    return list(dict.fromkeys(["Summary", "Results", SUITES, *measured, *summed_up, *added]))


def _sections(figures: Mapping[Path, Figure], every: Iterable[Table], results: Results) -> list[Section]:
    tables: dict[str, list[Table]] = {}
    for table in every:
        tables.setdefault(table.section, []).append(table)
    titles = headings(figures.values())
    placed = _placed(results, figures, order=titles)
    return [
        Section("-".join(re.findall(r"\w+", title.lower())), title, placed[title], tables.get(title, []))
        for title in titles
        if title == "Summary" or placed[title] or title in tables
    ]


def _placed(results: Results, figures: Mapping[Path, Figure], *, order: Sequence[str]) -> dict[str, list[Drawing]]:
    """The drawings of each section, numbered through the report."""
    placed: dict[str, list[Drawing]] = {name: [] for name in order}
    ranked = sorted(figures.items(), key=lambda item: (order.index(item[1].section), item[1].rank, item[0].stem))
    for count, (path, figure) in enumerate(ranked, start=1):
        caption = figure.caption(path.stem, results)
        placed[figure.section].append(Drawing(path.stem, count, inline_svg(path, caption.title), caption))
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
