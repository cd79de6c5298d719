"""Draw the figures of docs/ from finished results.

make all
snakemake --cores all --configfile config/studies/collapse.yaml -- all
python docs/figures.py
"""

from pathlib import Path

from vlalign.reporting.figures import draw_precision, draw_training
from vlalign.reporting.results import load_results

FIGURES = Path(__file__).parent / "figures"
COLLAPSE = Path("studies/collapse/results")


def main() -> None:
    """Write docs/figures/*.svg."""
    runs = sorted(COLLAPSE.glob("runs/*/seed-0"), key=lambda folder: folder.parent.name != "literal")
    results = load_results(COLLAPSE / "metrics.json", runs, baseline="literal")
    terms = ("powerset", "grad_norm", "score_sd", "positive_share", "contrastive")
    draw_training(results, FIGURES / "collapse.svg", terms=terms)
    draw_precision("results/precision.csv", FIGURES / "precision-r2t.svg", direction="r2t")
    draw_precision("results/precision.csv", FIGURES / "precision-t2r.svg", direction="t2r")


if __name__ == "__main__":
    main()
