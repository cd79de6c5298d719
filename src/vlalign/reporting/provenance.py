"""What a reader needs in order to make the numbers again, read from run.json and the data's manifests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlalign.reporting.cells import MISSING, Cell, Row, Table, shown
from vlalign.reporting.results import Results, differing, flat_params


@dataclass(frozen=True)
class Provenance:
    """The runs, the params in which arms differ, versions by package, commits, and warnings where runs disagree."""

    runs: Table
    params: Table
    versions: dict[str, str]
    commits: tuple[str, ...]
    warnings: tuple[str, ...]


def provenance(results: Results) -> Provenance:
    """Summarise all runs; packages or commits that are not the same everywhere are warned about."""
    found: dict[str, set[str]] = {}
    for run in results.runs:
        for name, version in run.record.get("versions", {}).items():
            found.setdefault(name, set()).add(str(version))
    versions = {name: ", ".join(sorted(found[name])) for name in sorted(found)}
    different = (name for name in versions if len(found[name]) > 1)
    warnings = [f"Runs were made with different versions of {name}: {versions[name]}." for name in different]
    commits = tuple(sorted({str(run.record.get("git_commit") or "none") for run in results.runs}))
    if len(commits) > 1:
        warnings.append(f"Runs were made at {len(commits)} different commits.")
    return Provenance(_runs_table(results), _params_table(results), versions, commits, tuple(warnings))


def _runs_table(results: Results) -> Table:
    rows = []
    for name in dict.fromkeys(run.name for run in results.runs):
        members = [run for run in results.runs if run.name == name]
        changed = members[0].ablation
        cells = (
            ", ".join(str(run.seed) for run in members),
            _unique(run.record.get("params_hash") for run in members),
            _unique((run.record.get("git_commit") or MISSING)[:10] for run in members),
            f"{changed['param']} = {changed['value']}" if changed else "",
        )
        rows.append(Row(name, tuple(map(Cell, cells))))
    header = ("run", "seeds", "params hash", "commit", "ablation")
    return Table("runs", "Runs", "As run.json of every seed records them.", header, tuple(rows))


def _unique(values: Any) -> str:
    return ", ".join(dict.fromkeys(str(value or MISSING) for value in values))


def _params_table(results: Results) -> Table:
    first = {run.name: flat_params(run.params) for run in reversed(results.runs) if run.ablation is None}
    names = sorted(differing(*(first[arm] for arm in results.arms))) if results.arms else []
    rows = [Row(name, tuple(Cell(shown(first[arm].get(name))) for arm in results.arms)) for name in names]
    caption = f"Every param that is not the same in all arms that use it; {MISSING}: the arm has no use for it."
    return Table("params", "In what the arms differ", caption, ("param", *results.arms), tuple(rows))


def sources(manifests: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The distinct `source` entries of the manifests, nested keys joined with dots."""
    found: list[dict[str, str]] = []
    for manifest in manifests:
        source = {name: shown(value) for name, value in flat_params(manifest.get("source", {})).items()}
        if source and source not in found:
            found.append(source)
    return found
