"""Room for open files and sockets.

A shell's soft limit is often 256 or 1024, and running out of descriptors in the middle shows as failures of files that
are fine. So the limit is raised before the run starts, and where it cannot be, fewer requests are made at once.
"""

from __future__ import annotations

from bulkstow.platform.process import raise_open_files_limit

SPARE = 64
"""The interpreter, the ledger with its files, the walk's open directories, standard streams."""

PER_SENDER = 5
"""A socket and a second handle on it, one more while the server closes the last, a file, a replay on a fresh
connection."""


def make_room(*, senders: int, readers: int) -> int:
    """Raise the soft limit of open files for so many senders and readers; return how many senders there is room for.

    At least one: a run that cannot open two files says so by itself.
    """
    wanted = SPARE + readers + senders * PER_SENDER
    allowed = raise_open_files_limit(wanted)
    return senders if allowed >= wanted else max(1, (allowed - SPARE - readers) // PER_SENDER)
