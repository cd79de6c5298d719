"""What a rule's result depends on is what its command imports: neither less nor, but for lazy imports, more."""

import ast
import json

import pytest
from repository import Repository, jobs

from vlalign import freshness
from vlalign.freshness import KINDS, imports, modules, reachable
from vlalign.records import read_record

pytestmark = pytest.mark.slow
COMMANDS = {
    "dataset",
    "parser",
    "phrases",
    "regions",
    "pretrain",
    "measure",
    "collect",
    "focus",
    "precision",
    "illustrate",
    "report",
}
# Rules that are not called as their commands.
RULES = {"measure": "evaluate"}


@pytest.fixture(scope="module")
def imported(finished) -> dict[str, list[set[str]]]:
    """The modules of the package that each process of a command had imported at its end, by command."""
    found: dict[str, list[set[str]]] = {}
    for path in finished.imports.glob("*.json"):
        record = json.loads(path.read_text())
        if record["arguments"][0].endswith("/vlalign"):
            found.setdefault(record["arguments"][1], []).append(set(record["modules"]))
    return found


def found_at_run_time() -> set[str]:
    """Plug-ins, and what they import: the registry imports all of a kind to list them."""
    plugins = [name for name in imports() if name.rpartition(".")[0] in KINDS.values()]
    return reachable(imports(), *plugins)


def eager_imports(module: str) -> set[str]:
    """Those of `imports` that stand outside of functions, and are therefore made whenever the module is imported; what
    type checkers alone import is none.
    """
    path = freshness.module_file(module)
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        for_types = isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        if isinstance(node, ast.FunctionDef) or for_types:
            node.body = []
    named = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
    return imports()[module] & named


def test_every_command_of_the_workflow_was_seen(imported):
    assert set(imported) == COMMANDS


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_what_a_command_imports_is_in_its_digest(imported, command):
    known = modules(command) | found_at_run_time()
    for seen in imported[command]:
        assert seen - known == set()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_only_functions_that_were_not_called_make_the_digest_one_of_more(imported, command):
    seen = set.union(*imported[command])
    unseen = modules(command) - seen
    eager = {name: imports()[name] if name in unseen else eager_imports(name) for name in imports()}
    eager_of_seen = {target for name in seen & set(eager) for target in eager[name]}
    assert unseen & eager_of_seen == set()
    assert len(unseen) <= len(seen) / 4, sorted(unseen)


def edit(repository: Repository, module: str, old: str, new: str) -> None:
    path = repository.root / "src" / "vlalign" / module
    before = path.read_text()
    assert before.count(old) >= 1
    path.write_text(before.replace(old, new, 1))


def is_rerun(repository: Repository, rule: str) -> bool:
    """Whether a rule is run again since its own params have changed: alone, no other rule makes it run."""
    printed = repository.run("snakemake", "--dry-run", "--allowed-rules", "all", rule, "--", "all")
    assert ("Params have changed" in printed) == bool(jobs(printed) - {"all"})
    return "Params have changed" in printed


def test_a_comment_reruns_nothing(finished_copy):
    edit(finished_copy, "models/towers.py", '"""', '"""In other words. ')
    edit(finished_copy, "objectives/numerics.py", "\nimport torch\n", "\n# It is all that is needed.\nimport torch\n")
    assert finished_copy.plan() == set()


@pytest.mark.parametrize(
    "module", ["objectives/numerics.py", pytest.param("annotate/phrases/trees.py", marks=pytest.mark.exhaustive)]
)
def test_a_number_reruns_the_rules_whose_commands_import_it(finished_copy, imported, module):
    path = finished_copy.root / "src" / "vlalign" / module
    path.write_text(path.read_text() + "\nNUMBER = 1\n")
    name = "vlalign." + module.removesuffix(".py").replace("/", ".")
    expected = {command for command, seen in imported.items() if name in set.union(*seen)}
    assert set() < expected < COMMANDS
    assert {command for command in COMMANDS if is_rerun(finished_copy, RULES.get(command, command))} == expected


def test_an_edit_reaches_what_is_made_in_parts(finished_copy):
    for module in ("annotate/phrases/trees.py", "annotate/regions/masks.py"):
        path = finished_copy.root / "src" / "vlalign" / module
        path.write_text(path.read_text() + "\nNUMBER = 1\n")
        kind = module.split("/")[1]
        assert {f"{kind} split=train", "pretrain run=powerclip, seed=0"} <= finished_copy.plan()
        path.write_text(path.read_text().removesuffix("\nNUMBER = 1\n"))


def test_a_plug_in_that_nothing_names_reruns_nothing(finished_copy):
    for package in KINDS.values():
        folder = finished_copy.root / "src" / package.replace(".", "/")
        if folder.is_dir():
            (folder / "_unnamed.py").write_text('"""Nothing names it."""\n\nVALUE = 1\n')
    assert finished_copy.plan() == set()


def test_runs_record_the_digest_of_their_rule(finished):
    record = read_record(finished.root / "results/runs/powerclip/seed-0/run.json")
    recorded = [json.loads(path.read_text()) for path in (finished.root / ".snakemake/metadata").iterdir()]
    [params] = {tuple(one["params"]) for one in recorded if one["rule"] == "pretrain" and "powerclip/" in str(one)}
    assert repr(record["code"]) in params
    assert jobs(finished.run("snakemake", "-n", "all")) == set()
