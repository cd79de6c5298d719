"""Fine-grained and distributional vision-language alignment: PowerCLIP and CS-Aligner in one workflow."""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`load`, when it is asked for: importing the package alone takes no time."""
    if name == "load":
        # Named as text: as an import it would make every command depend on the models (see `vlalign.freshness`).
        return importlib.import_module("vlalign.models").load
    raise AttributeError(f"module 'vlalign' has no attribute '{name}'")
