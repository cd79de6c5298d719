"""Fine-grained and distributional vision-language alignment: PowerCLIP and CS-Aligner in one workflow."""

import importlib
from typing import Any

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`load` and `__version__`, each when it is asked for: importing the package alone takes no time."""
    if name == "load":
        # Named as text: as an import it would make every command depend on the models (see `vlalign.freshness`).
        return importlib.import_module("vlalign.models").load
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("vlalign")
    raise AttributeError(f"module 'vlalign' has no attribute '{name}'")
