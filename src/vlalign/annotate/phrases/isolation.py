"""Contexts that keep Stanza's training from leaving marks: on the console, on the random state, on its own modules."""

import contextlib
import io
import logging
import random
from collections.abc import Iterator

import numpy as np
import torch

from vlalign.annotate.phrases.stanza_models import import_stanza

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def reproducible() -> Iterator[None]:
    """One thread, since sums depend on how they are split; and the caller's random state is given back."""
    threads, state, numpy_state = torch.get_num_threads(), random.getstate(), np.random.get_state()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(state)
        np.random.set_state(numpy_state)


class _LogStream(io.TextIOBase):
    """A text stream whose lines become debug messages."""

    def write(self, line: str) -> int:
        if line.strip():
            logger.debug("%s", line.strip())
        return len(line)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Stanza prints, logs and draws bars while it trains; all of it goes to the log, if that wants details."""
    from stanza.models import _training_logging  # noqa: F401  # on its first import it turns all messages on

    import_stanza(level=logging.DEBUG if logger.isEnabledFor(logging.DEBUG) else logging.ERROR)
    stream = _LogStream()
    try:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            yield
    finally:
        import_stanza()
