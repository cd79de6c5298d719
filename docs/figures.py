"""Draw the figures of docs/ from finished results.

make all
snakemake --cores all --configfile config/studies/collapse.yaml -- all
snakemake --cores all --configfile config/studies/switches.yaml -- all
python docs/figures.py
"""

from pathlib import Path

from vlalign.params import load
from vlalign.reporting.figure import Measured
from vlalign.reporting.figures.differences import Differences
from vlalign.reporting.figures.precision import Precision
from vlalign.reporting.figures.training import Training
from vlalign.reporting.results import load_results

FIGURES = Path(__file__).parent / "figures"
COLLAPSE = ("powerset", "grad_norm", "score_sd", "positive_share", "contrastive")


def main() -> None:
    """Write docs/figures/*.svg."""
    collapse, switches = (measured("params.yaml", f"config/studies/{name}.yaml") for name in ("collapse", "switches"))
    Training(terms=COLLAPSE).draw("training", collapse, FIGURES / "collapse.svg")
    Differences().draw("differences", switches, FIGURES / "switches.svg")
    for name in Precision().names():
        Precision().draw(name, measured("params.yaml"), FIGURES / f"{name}.svg")


def measured(*files: str) -> Measured:
    """The finished results of params.yaml and its overlays, the arms in the order given there."""
    params = load(*files)
    folder, baseline = Path(params.root) / "results", params.report.baseline
    runs = [folder / "runs" / run.name / f"seed-{seed}" for run in params.all_runs.values() for seed in run.seeds]
    return Measured(load_results(folder / "metrics.json", runs, baseline=baseline), folder / "precision.csv")


if __name__ == "__main__":
    main()
