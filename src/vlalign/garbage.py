"""Less work for the garbage collector while many small objects are made that it has no business with."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Leave cycles alone for a while.

    The collector would walk every object made so far, again and again, and find nothing: two fifths of the time of a
    parser, two thirds of that of a reader.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    """Let the collector pass over what exists already, such as models and modules, for a while."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
