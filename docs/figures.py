"""Draw the figures of docs/ from finished results.

make all
snakemake --cores all --configfile config/studies/collapse.yaml -- all
snakemake --cores all --configfile config/studies/switches.yaml -- all
python docs/figures.py
"""

from pathlib import Path

from vlalign.params import load
from vlalign.reporting.figures import draw_differences, draw_precision, draw_training
from vlalign.reporting.results import Results, load_results

FIGURES = Path(__file__).parent / "figures"
COLLAPSE = ("powerset", "grad_norm", "score_sd", "positive_share", "contrastive")


def main() -> None:
    """Write docs/figures/*.svg."""
    draw_training(study("collapse", baseline="literal"), FIGURES / "collapse.svg", terms=COLLAPSE)
    draw_differences(study("switches", baseline="powerclip"), FIGURES / "switches.svg")
    draw_precision("results/precision.csv", FIGURES / "precision-r2t.svg", direction="r2t")
    draw_precision("results/precision.csv", FIGURES / "precision-t2r.svg", direction="t2r")


def study(name: str, *, baseline: str) -> Results:
    """The finished results of config/studies/<name>.yaml, its arms in the order given there."""
    folder, params = Path("studies") / name / "results", load("params.yaml", f"config/studies/{name}.yaml")
    runs = [folder / "runs" / run.name / f"seed-{seed}" for run in params.all_runs.values() for seed in run.seeds]
    return load_results(folder / "metrics.json", runs, baseline=baseline)


if __name__ == "__main__":
    main()
