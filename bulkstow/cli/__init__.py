"""The command line: one module for each command.

This layer decides about messages, exit statuses, standard output and standard error. An error that the user can fix
never shows a traceback. This module is the entry point, and imports almost nothing, so that it handles an early Ctrl-C.
"""

from __future__ import annotations

import os

from bulkstow.errors import INTERRUPTED

TYPE_CHECKING = False  # importing `typing` takes longer than this whole module
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["leave_at_once", "main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process: 0 done, 1 some failed, 2 usage, 3 stopped, 130 interrupted."""
    try:
        import signal

        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, and no embedding program's
            signal.signal(signal.SIGINT, leave_at_once)
        from bulkstow.cli.process import run_process

        run_process(arguments)
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)


def leave_at_once(_number: int, _frame: object) -> None:
    """End the process on SIGINT. Nothing is open yet, and an import may swallow an exception."""
    os._exit(INTERRUPTED)
