"""The process of a command: its standard streams, SIGINT before the command runs, and its end.

`app` parses and runs the command. This module imports little, so that a Ctrl-C is handled early.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import NoReturn

from bulkstow.cli import leave_at_once
from bulkstow.cli.streams import prepare_standard_streams
from bulkstow.errors import INTERRUPTED
from bulkstow.platform.start_up import quick_start

_starting = ExitStack()
"""Closed when the command begins."""


def run_process(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit status."""
    _starting.enter_context(quick_start())
    prepare_standard_streams()
    from bulkstow.cli.app import status  # slow: 0.5 s on a cold disk

    exit_status = INTERRUPTED
    with suppress(KeyboardInterrupt):
        exit_status = status(sys.argv[1:] if arguments is None else arguments)
    # Everything is recorded and printed. During Python's clean-up a Ctrl-C would change the exit status, and a thread
    # that hangs on a dead file system would keep the process alive.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os._exit(exit_status)


def end_start_up() -> None:
    """Return to usual from a quick start, if there was one: everything is imported."""
    _starting.close()


def hand_over_interrupts() -> None:
    """Raise KeyboardInterrupt on SIGINT from now on, so that a running command closes what it opened."""
    if signal.getsignal(signal.SIGINT) is leave_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
