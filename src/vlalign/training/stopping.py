"""Leaving in good order: SIGTERM (a cluster's scheduler) and SIGINT (Ctrl-C) end a run after the step at hand."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from vlalign.errors import VlalignError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StoppedError(VlalignError):
    """A run was asked to stop and has saved its state; the exit code is that of a process which the signal ended."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}: {message}")
        self.exit_code = 128 + number


class StopSignals:
    """While it is entered, the first signal is remembered in `received`; the second acts as it always does.

    Args:
        patient: remember them all. A scheduler that signals a whole job sends one to torchrun and one to its processes,
            to which torchrun sends another; it ends them itself if they take too long.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.received: int | None = None
        self.patient = patient
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        # Elsewhere Python allows no handlers; such a caller stops its thread by its own means.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if not self.patient:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def ignore_signals(_: int) -> None:
    """For processes that only serve another: it decides when they end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
