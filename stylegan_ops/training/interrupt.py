"""Ctrl-C and SIGTERM as a wish to stop after the present step."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class StopSignals:
    """Context manager that notes SIGINT and SIGTERM instead of dying from them.

    The first signal is noted in `received`; from then on both have their former effect, so that a second Ctrl-C stops at once.

    Attributes:
        received: number of the signal, 0 while there was none.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received = 0
        self._former: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        # Python lets only the main thread set handlers; a run in another thread is stopped by whoever started it.
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
