"""The command line: one module a command.

Owns words, exit statuses and what goes to standard output and standard error. No traceback reaches a user for what
the user can fix. This module is the entry point: it imports next to nothing, as a Ctrl-C may come at once.
"""

from __future__ import annotations

import os

from bulkstow.errors import INTERRUPTED

TYPE_CHECKING = False  # `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["leave_at_once", "main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process: 0 done, 1 some failed, 2 usage, 3 stopped, 130 interrupted."""
    try:
        import signal

        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # otherwise it is ignored, or an embedder's
            signal.signal(signal.SIGINT, leave_at_once)
        from bulkstow.cli.process import run_process

        run_process(arguments)
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)


def leave_at_once(_number: int, _frame: object) -> None:
    """End the process on SIGINT: nothing is open yet, and an exception may get lost in an import."""
    os._exit(INTERRUPTED)
