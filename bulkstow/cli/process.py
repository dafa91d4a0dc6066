"""The process around a command: its standard streams, SIGINT while nothing runs yet, and its end.

Parses nothing and runs no command itself; `app` does. Imports little, so that a Ctrl-C is handled early.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from bulkstow.cli import leave_at_once
from bulkstow.cli.streams import prepare_standard_streams
from bulkstow.errors import INTERRUPTED


def run_process(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit status."""
    prepare_standard_streams()
    from bulkstow.cli.app import status  # the slow part: half a second on a cold disk

    exit_status = INTERRUPTED
    with suppress(KeyboardInterrupt):
        exit_status = status(sys.argv[1:] if arguments is None else arguments)
    # Everything is recorded and printed. While Python cleans up, a last Ctrl-C would end it with another status than
    # the true one, and a thread that hangs on a dead file system would keep it for ever.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os._exit(exit_status)


def hand_over_interrupts() -> None:
    """Raise KeyboardInterrupt on SIGINT from now on: a command runs, and closes what it opened."""
    if signal.getsignal(signal.SIGINT) is leave_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
