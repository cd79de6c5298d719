"""Draw the figures of docs/ from finished results, and write their tables into its pages.

make all
snakemake --cores all --configfile config/studies/collapse.yaml -- all
snakemake --cores all --configfile config/studies/switches.yaml -- all
snakemake --cores all --configfile config/studies/powerset.yaml -- all
snakemake --cores all --configfile config/studies/adaptation.yaml -- all
snakemake --cores all --configfile config/studies/phases.yaml -- trained
python docs/figures.py                  # or some alone: python docs/figures.py phases
"""

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from vlalign.objectives.aggregator import PooledAggregator, aggregator_of
from vlalign.params import Params, load
from vlalign.reporting import style
from vlalign.reporting.cells import Row, Table
from vlalign.reporting.claims import NOT_MEASURED, NOT_RUN, claims_table
from vlalign.reporting.corrected import corrected_table, tested_metric
from vlalign.reporting.exports import markdown
from vlalign.reporting.figure import Measured
from vlalign.reporting.figures.ablation import AblationFigure
from vlalign.reporting.figures.differences import Differences
from vlalign.reporting.figures.phases import Phases
from vlalign.reporting.figures.precision import Precision
from vlalign.reporting.figures.training import Training, read_history
from vlalign.reporting.results import Results, load_results, read_run
from vlalign.reporting.tables import SPREAD, ablation_table, arms_table
from vlalign.training.terms.powerset import MOST_WORDS

DOCS = Path(__file__).parent
FIGURES = DOCS / "figures"
POWERSET, ADAPTATION = "config/studies/powerset.yaml", "config/studies/adaptation.yaml"
COLLAPSE = ("powerset", "grad_norm", "score_sd", "positive_share", "contrastive")


def main(*names: str) -> None:
    """Write docs/figures/*.svg, and the tables of docs/adaptation.md; names: of what is drawn, all if none."""
    if unknown := sorted(set(names) - set(DRAWN)):
        sys.exit(f"{unknown[0]} is nothing that is drawn here; there are {', '.join(DRAWN)}")
    for name in names or DRAWN:
        DRAWN[name]()


def collapse() -> None:
    """Of the published loss and each remedy."""
    found = measured("params.yaml", "config/studies/collapse.yaml")
    Training(terms=COLLAPSE).draw("training", found, FIGURES / "collapse.svg")


def switches() -> None:
    """Of the parts of the method."""
    Differences().draw("differences", measured("params.yaml", "config/studies/switches.yaml"), FIGURES / "switches.svg")


def precision() -> None:
    """Of the aggregators' errors."""
    for name in Precision().names():
        Precision().draw(name, measured("params.yaml"), FIGURES / f"{name}.svg")


def phases() -> None:
    """Of when the published loss trains; nothing of these runs is measured but their histories."""
    params = load("params.yaml", "config/studies/phases.yaml")
    found = Results((), tuple(map(read_run, run_folders(params))), params.report.baseline, params.report.control)
    [figure] = [figure for figure in params.figures if isinstance(figure, Phases)]
    figure.draw("phases", Measured(found, Path()), FIGURES / "phases.svg")


def powerset() -> None:
    """Of the study of what a subset's size should cost."""
    params, found = load("params.yaml", POWERSET), measured("params.yaml", POWERSET)
    Differences().draw("differences", found, FIGURES / "powerset.svg")
    if "order" in {grid.name for grid in found.results.grids}:
        AblationFigure(grids=("order",)).draw("ablation-order", found, FIGURES / "powerset-order.svg")
    learnt_orders(found.results)
    assert params.report.tests is not None
    metrics = [tested_metric(name) for name in params.report.tests.metrics]
    values = replace(arms_table(found.results, metrics), title="What was tested, of all arms", caption=SPREAD)
    tables = (*of_study(found.results), values, corrected_table(found.results, params.report.tests))
    write_tables(DOCS / "powerset.md", tables)


def learnt_orders(results: Results) -> None:
    """q of the norm by the number of a phrase's words, at the last step of every seed that learnt it."""
    names = {words: f"norm_order_{words}" for words in range(2, MOST_WORDS + 1)}
    histories = [read_history(run.directory) for run in results.runs if run.name == "holder-words"]
    with style.panels(FIGURES / "powerset-learnt.svg", 1, columns=1, width=4.2, height=2.6) as [axes]:
        for found in histories:
            axes.plot(
                list(names),
                [found[name].dropna().iloc[-1] for name in names.values()],
                "o-",
                color=style.INK,
                alpha=0.5,
            )
        axes.axhline(4, color=style.MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.set(xlabel="words of the phrase (8: 8 or more)", ylabel="q", title="Learnt order of the norm, five seeds")
        axes.grid(axis="y")


def readme() -> None:
    """The README's table of claims, of the studies with five seeds."""
    claims = [_looked_into(measured("params.yaml", study).results) for study in (POWERSET, ADAPTATION)]
    rows = [Row(row.name, row.cells[1:]) for table in claims for row in table.rows]
    note = (
        f"Mean differences over five seeds, with paired 95 % intervals, on test: `{POWERSET}` and `{ADAPTATION}`. "
        "`holder` is what the arm `powerclip` trains with."
    )
    table = replace(
        claims[0], title="Claim by claim", header=("claim", "measured here", "verdict"), rows=tuple(rows), caption=note
    )
    write_tables(DOCS.parent / "README.md", [table])


def adaptation() -> None:
    """Of the study of adapters on frozen encoders."""
    found = measured("params.yaml", ADAPTATION)
    Differences().draw("differences", found, FIGURES / "adaptation.svg")
    for grid in ("lambda", "sigma"):
        AblationFigure(grids=(grid,)).draw(f"ablation-{grid}", found, FIGURES / f"adaptation-{grid}.svg")
    write_tables(DOCS / "adaptation.md", of_study(found.results))


def of_study(results: Results) -> Iterable[Table]:
    """The claims that a study looks into, its arms and its ablations."""
    yield _looked_into(results)
    for table in (arms_table(results), *(ablation_table(results, grid) for grid in results.grids)):
        yield replace(table, caption=SPREAD)


def _looked_into(results: Results) -> Table:
    claims = claims_table(results, None)
    rows = [row for row in claims.rows if row.cells and row.cells[-1].text not in (NOT_RUN, NOT_MEASURED)]
    return replace(claims, rows=tuple(rows))


# Similarities of a phrase to the regions of a picture: two are meant, one is, nothing is similar.
PHRASES = {
    "two regions stand out": (0.9, 0.8, 0.3, 0.1, -0.2),
    "one region stands out": (0.9, 0.3, 0.2, 0.1, -0.2),
    "none does": (-0.1, -0.15, -0.2, -0.3, -0.4),
}
POOLS = {
    **{f"holder, q = {order}": ("holder", {"norm_order": order}) for order in (1, 2, 4, 8, 16)},
    "max (q = ∞)": ("max", {}),
    **{f"prefix, p = {exponent}": ("prefix", {"size_exponent": exponent}) for exponent in (0.5, 0.75, 0.9)},
    **{f"logmean, t = {heat}": ("logmean", {"softness": heat}) for heat in (0.05, 0.1, 0.2)},
}


def gradients() -> None:
    """Who learns: the weight that each region has in a phrase's pooled similarity, for several aggregators."""
    with style.panels(FIGURES / "gradients.svg", len(PHRASES), columns=3, width=3.1, height=3.4) as panels:
        for axes, (title, x) in zip(panels, PHRASES.items(), strict=True):
            weights = [pool_weights(x, name, **settings) for name, settings in POOLS.values()]
            axes.imshow(weights, cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
            for row, values in enumerate(weights):
                for column, value in enumerate(values):
                    colour = "white" if value > 0.8 else style.INK if value >= 0.005 else style.MUTED
                    axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
            axes.set_title(title)
            axes.set_xticks(range(len(x)), [f"{one:g}".replace("-", "−") for one in x])
            axes.set_yticks(range(len(POOLS)), list(POOLS) if axes is panels[0] else [""] * len(POOLS))
            axes.set_xlabel("similarity of the region")
            axes.spines[:].set_visible(False)


def pool_weights(x: Sequence[float], name: str, **settings: float) -> list[float]:
    """∂ pool / ∂ x_r of the similarities of a phrase to R regions, by autograd through an aggregator."""
    rule = aggregator_of(name, **settings)
    assert isinstance(rule, PooledAggregator)
    x_PR = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    rule.pool(x_PR, torch.ones(1, len(x), dtype=torch.bool)).sum().backward()
    assert x_PR.grad is not None
    return x_PR.grad[0].tolist()


def write_tables(page: Path, tables: Iterable[Table]) -> None:
    """Between the page's two marks, in the place of what stands there."""
    written = "\n".join(map(markdown, tables))
    pattern = r"(<!-- tables: .* -->\n).*(<!-- end of tables -->)"
    page_with, count = re.subn(
        pattern, lambda marks: f"{marks[1]}\n{written}\n{marks[2]}", page.read_text(), flags=re.DOTALL
    )
    assert count == 1, f"{page} has no marks between which tables could stand"
    page.write_text(page_with)


def measured(*files: str) -> Measured:
    """The finished results of params.yaml and its overlays, the arms in the order given there."""
    params = load(*files)
    folder, baseline = Path(params.root) / "results", params.report.baseline
    results = load_results(folder / "metrics.json", run_folders(params), baseline=baseline)
    return Measured(results, folder / "precision.csv")


def run_folders(params: Params) -> list[Path]:
    """Of every seed of every run whose seeds are all finished; says which others there are."""
    folder, found = Path(params.root) / "results" / "runs", []
    for run in params.all_runs.values():
        folders = [folder / run.name / f"seed-{seed}" for seed in run.seeds]
        if all((one / "run.json").is_file() for one in folders):
            found += folders
        else:
            print(f"{params.root}: {run.name} is not finished and left out")
    return found


PARTS = (collapse, switches, precision, powerset, adaptation, readme, gradients, phases)
DRAWN = {part.__name__: part for part in PARTS}

if __name__ == "__main__":
    main(*sys.argv[1:])
