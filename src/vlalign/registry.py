"""Plug-ins: a new term, aggregator, benchmark, source, segmenter or figure is one new file.

Each kind has a package and a base class. A plug-in is a class of that base in a module of that package: naming it in
params is enough to use it. Its `name` is that of its module with hyphens, its first line of documentation describes it
wherever it is listed.
"""

import importlib
import importlib.util
import inspect
import pkgutil
from functools import cache
from typing import ClassVar, TypeVar

from vlalign.errors import VlalignError


class Registered:
    """Base of all kinds. name: how params call a plug-in; taken from its module unless it says another. demanded: the
    methods of a kind's base that a plug-in must have of its own.
    """

    name: ClassVar[str] = ""
    demanded: ClassVar[tuple[str, ...]] = ()


Plugin = TypeVar("Plugin", bound=Registered)


@cache
def plugins(base: type[Plugin], package: str) -> dict[str, type[Plugin]]:
    """The plug-ins of a kind by name, in the order of their names.

    base: what all of them derive from. package: where their modules lie, such as "vlalign.training.terms".
    Raises VlalignError for a module without a plug-in, a name that two have, and one without documentation.
    """
    found: dict[str, type[Plugin]] = {}
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        file = info.name.rpartition(".")[2]
        # What several plug-ins share.
        if file.startswith("_"):
            continue
        try:
            module = importlib.import_module(info.name)
        except (Exception, SystemExit) as error:
            where = importlib.util.find_spec(info.name)
            problem = f"{type(error).__name__}: {error}"
            raise VlalignError(f"{where and where.origin} cannot be imported ({problem}); mend or remove it") from error
        kinds = [kind for kind in vars(module).values() if inspect.isclass(kind) and issubclass(kind, base)]
        own = [kind for kind in kinds if kind.__module__ == info.name and not inspect.isabstract(kind)]
        if not own:
            raise VlalignError(f"{module.__file__} has no class that derives from {base.__name__}; see CONTRIBUTING.md")
        for kind in own:
            name = vars(kind).get("name") or file.replace("_", "-")
            if name in found:
                raise VlalignError(
                    f"{module.__file__}: {found[name].__module__} already has the name '{name}'; name one anew"
                )
            if not vars(kind).get("__doc__"):
                raise VlalignError(f"{module.__file__}: {kind.__name__} has no docstring; say in a line what it is")
            if lacking := [method for method in base.demanded if getattr(kind, method) is getattr(base, method)]:
                raise VlalignError(
                    f"{module.__file__}: {kind.__name__} has no method `{lacking[0]}`; see CONTRIBUTING.md"
                )
            kind.name = name
            found[name] = kind
    return dict(sorted(found.items()))


def summary(kind: type) -> str:
    """The first paragraph of a plug-in's documentation, in one line."""
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
