"""What each figure shows and how it was measured; the stem of its file says which one it is."""

from dataclasses import dataclass

from vlalign.reporting.results import Results


@dataclass(frozen=True)
class Caption:
    """Section of the report, place within it, a title, what one sees, and how it was measured."""

    section: str
    rank: int
    title: str
    seen: str
    measured: str


def caption(stem: str, results: Results) -> Caption:
    """Caption of a figure by the stem of its file.

    Known are `differences`, `grounding`, `similarity`, `embeddings`, `training`, `ablation-<name>` and
    `precision-<direction>`, all with an optional `-<rest>`; others stand under further figures, by their name.
    """
    for prefix, make in _CAPTIONS.items():
        if stem == prefix or stem.startswith(f"{prefix}-"):
            return make(stem.removeprefix(prefix).removeprefix("-"), results)
    return Caption("further", 0, stem.replace("-", " "), "", "")


def _intervals(results: Results, drawn: str) -> str:
    count = len(results.seeds)
    return "One seed, so there are no intervals." if count == 1 else f"{drawn} over {count} seeds."


def _differences(rest: str, results: Results) -> Caption:
    return Caption(
        "summary",
        0,
        f"What moves against {results.baseline}, and what does not",
        "Each dot is an arm's mean difference, in points; filled where the interval excludes zero, hollow where it "
        "does not or where there is none. The better side is tinted. Scores in percent share one scale; the modality "
        "gap has its own.",
        f"Difference to {results.baseline} with the same seed. {_intervals(results, 'Bars: 95 % Student-t intervals')} "
        "Seeds change initialisation and sample order; the test set is the same for all.",
    )


def _grounding(rest: str, results: Results) -> Caption:
    return Caption(
        "grounding",
        0,
        "Phrases that find their objects",
        "Share of phrases whose k most similar object masks are exactly the k objects that they mean, by kind of "
        "phrase. Dashed: ordering the masks at random.",
        f"{_intervals(results, 'Whiskers: 95 % Student-t intervals of the mean')} Features are centred.",
    )


def _similarity(rest: str, results: Results) -> Caption:
    if not results.groups("grounding", "top_k"):
        return Caption(
            "grounding",
            1,
            f"What the phrases see{f': {rest}' if rest else ''}",
            "Left the picture, then one phrase each: the darker a patch, the more similar to the phrase. Numbers are "
            "similarities of whole regions; the best has a thick outline. Nobody has marked what the phrases mean.",
            "The first images of the evaluated split whose first caption has two phrases, not chosen by outcome. "
            "Features are not centred. One colour scale per row, from its lowest to its highest patch similarity.",
        )
    return Caption(
        "grounding",
        1,
        f"What the phrases see{f': {rest}' if rest else ''}",
        "Left the picture, then one phrase each: the darker a patch, the more similar to the phrase. Numbers are "
        "similarities of whole object masks, bold for the k best; thick outlines are the objects that are meant. "
        "✓ the k best are those, ✗ they are not.",
        "Scenes of the evaluated split in the order of the data, not chosen by outcome. Features are not centred, "
        "unlike those of the measure above. One colour scale per row, from its lowest to its highest patch similarity.",
    )


def _embeddings(rest: str, results: Results) -> Caption:
    return Caption(
        "shared-space",
        0,
        f"Images and captions in two dimensions{f': {rest}' if rest else ''}",
        "A line joins an image to its caption. A gap shows where the dots and the triangles keep to different places; "
        "clouds that hold both are kinds of content.",
        "Plane of the largest variance of both modalities' embeddings together, fitted for each run; the share of the "
        "variance that it holds is given. All panels have one scale.",
    )


def _training(rest: str, results: Results) -> Caption:
    return Caption(
        "training",
        0,
        "Loss terms and health of training",
        "Thin lines are seeds, thick ones their mean. A term is drawn only for the arms that have it.",
        "As logged in history.csv, which is kept with every run; the mean is smoothed over 1/25 of the rows.",
    )


def _ablation(rest: str, results: Results) -> Caption:
    grid = next((grid for grid in results.grids if grid.name == rest), None)
    subject = f"{grid.param} of {grid.arm}" if grid else rest
    return Caption(
        "ablations",
        0,
        f"Ablation of {rest}",
        f"Headline metrics along the values of {subject}. Small dots are seeds, large ones their means.",
        grid.remark + ("" if grid.changed else f" Dashed, with a band: {results.baseline}, mean ± one SD over seeds.")
        if grid
        else "",
    )


def _precision(rest: str, results: Results) -> Caption:
    direction = {"r2t": "regions to text (R2T)", "t2r": "text to regions (T2R)"}.get(rest, rest)
    return Caption(
        "precision",
        0,
        f"Error of the aggregators, {direction}",
        "Relative error against the exact powerset, on a logarithmic axis; 1 (dotted) is an error as large as the "
        "value. Dashed: the proven bound, where there is one. Mean knows no subsets: a control.",
        "Exact values by enumerating all subsets; trained features as the run's own loss has them, with its centring "
        "and cost. One parameter varies at a time, the others keep one value; an aggregator without the parameter is a "
        "level line.",
    )


_CAPTIONS = {
    "differences": _differences,
    "grounding": _grounding,
    "similarity": _similarity,
    "embeddings": _embeddings,
    "training": _training,
    "ablation": _ablation,
    "precision": _precision,
}
