"""What code a result depends on, computed from the code itself.

A command depends on the modules that it imports, in functions too, and on those that they import. Plug-ins are found
by their package when they are asked for, so that no import leads to them: the caller names those that params name. The
digest is one of syntax trees: comments, docstrings and layout are no part of it, while every other edit is, of the data
files that modules read as well.
"""

import ast
import contextlib
import hashlib
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import grimp
from grimp.exceptions import SourceSyntaxError

from vlalign.errors import VlalignError
from vlalign.files import write_text

PACKAGE = Path(__file__).parent
# Where the plug-ins of each kind lie.
KINDS = {
    "sources": "vlalign.data.sources",
    "segmenters": "vlalign.annotate.regions.segmenters",
    "terms": "vlalign.training.terms",
    "aggregators": "vlalign.objectives.aggregators",
    "benchmarks": "vlalign.evaluation.benchmarks",
    "figures": "vlalign.reporting.figures",
}
# What is known of files that were read before, beside Snakemake's own records.
CACHE = Path(".snakemake") / "vlalign-code.json"
FILE_NAME = re.compile(r"[\w./-]*\.\w+")


class Source(NamedTuple):
    """One file of Python: the digest of its syntax tree, file names among its texts, and the names of its plug-ins."""

    digest: str
    files: list[str]
    plugins: list[str]


def digest(command: str, **plugins: Iterable[str]) -> str:
    """SHA-256 of the code that a command depends on, data files of the package included.

    command: such as "pretrain". plugins: of each kind in `KINDS`, the names that the params give.
    Raises VlalignError for a plug-in that does not exist and for code that is no Python.
    """
    found, read = hashlib.sha256(), _sources()
    for name in sorted(modules(command, **plugins)):
        found.update(f"{name}\0{read[name].digest}\n".encode())
        for path in data_files(name):
            found.update(f"{path.relative_to(PACKAGE)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def modules(command: str, **plugins: Iterable[str]) -> set[str]:
    """The modules of this package that a command depends on; see `digest`."""
    named = (_plugin(kind, name) for kind, names in plugins.items() for name in names)
    return reachable(imports(), f"{PACKAGE.name}.cli.{command}", *filter(None, named))


def reachable(graph: dict[str, set[str]], *names: str) -> set[str]:
    """These modules, and those that importing them imports."""
    waiting, found = list(names), set[str]()
    while waiting:
        name = waiting.pop()
        if name and name not in found:
            found.add(name)
            # The packages that a module lies in are imported before it.
            waiting += [*graph[name], name.rpartition(".")[0]]
    return found


@cache
def imports() -> dict[str, set[str]]:
    """The modules of this package by name, each with those that it imports itself."""
    try:
        graph = grimp.build_graph(PACKAGE.name, cache_dir=None, exclude_type_checking_imports=True)
    except SourceSyntaxError as error:
        raise VlalignError(f"{error}; correct it") from None
    return {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}


def data_files(module: str) -> list[Path]:
    """The files beside a module that it reads: those that it names, and what lies in a folder with one of them."""
    names = {Path(name).name for name in _sources()[module].files}
    found: list[Path] = []
    for entry in _beside(module_file(module).parent):
        files = sorted(path for path in entry.rglob("*") if path.is_file()) if entry.is_dir() else [entry]
        if names & {path.name for path in files}:
            found += files
    return found


@cache
def _beside(folder: Path) -> list[Path]:
    """Files and folders that are neither Python nor made by it."""
    entries = (path for path in folder.iterdir() if not path.name.startswith((".", "_")) and path.suffix != ".py")
    return sorted(path for path in entries if not (path / "__init__.py").exists())


def _plugin(kind: str, name: str) -> str | None:
    """The module of a plug-in; None where the kind has no package."""
    package = KINDS[kind]
    known = [module for module in imports() if module.rpartition(".")[0] == package]
    found = next((module for module in known if name in _sources()[module].plugins), None)
    if known and found is None:
        raise VlalignError(f"{package} has no plug-in '{name}'")
    return found


def module_file(module: str) -> Path:
    """Where a module of this package lies."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _sources() -> dict[str, Source]:
    """Every module of the package, read; what was read before is taken from the cache, whatever its time says."""
    before, after, keys = dict[str, Source](), dict[str, Source](), dict[str, str]()
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        before = {key: Source(*values) for key, values in json.loads(CACHE.read_text(encoding="utf-8")).items()}
    for name in imports():
        content = module_file(name).read_bytes()
        keys[name] = key = f"{name} {hashlib.sha256(content).hexdigest()}"
        after[key] = before.get(key) or read_source(content, name)
    if after != before and CACHE.parent.is_dir():
        # Only the time of the next reading depends on it.
        with contextlib.suppress(OSError):
            write_text(CACHE, json.dumps(after))
    return {name: after[key] for name, key in keys.items()}


def read_source(content: bytes, module: str) -> Source:
    """What freshness asks of a file of Python."""
    tree = ast.parse(content)
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    kinds = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    own_name = module.rpartition(".")[2].replace("_", "-")
    return Source(
        hashlib.sha256(_shape(tree).encode()).hexdigest(),
        sorted(filter(FILE_NAME.fullmatch, texts)),
        sorted({_name(kind) or own_name for kind in kinds}),
    )


def _name(kind: ast.ClassDef) -> str | None:
    """The name that a class gives itself as a plug-in; see `vlalign.registry`."""
    for statement in kind.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        value = getattr(statement, "value", None)
        if any(isinstance(target, ast.Name) and target.id == "name" for target in targets) and value:
            return str(value.value) if isinstance(value, ast.Constant) else None
    return None


def _shape(node: Any) -> str:
    """A syntax tree as text, the same in every version of Python that reads the code: without what is empty, without
    positions, and without statements that do nothing, docstrings above all.
    """
    if isinstance(node, list):
        return "[" + " ".join(_shape(item) for item in node if not _does_nothing(item)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
    return f"{type(node).__name__}(" + " ".join(f"{name}={_shape(value)}" for name, value in fields) + ")"


def _does_nothing(node: Any) -> bool:
    """Texts that stand by themselves, and imports for type checkers alone."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If) and not node.orelse:
        return getattr(node.test, "id", getattr(node.test, "attr", None)) == "TYPE_CHECKING"
    return False
