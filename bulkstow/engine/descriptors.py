"""Room for open files and sockets.

A shell's soft limit is often 256 or 1024, and running out of descriptors in the middle shows as failures of files that
are fine. So the limit is raised before the run starts, and where it cannot be, fewer requests are made at once.
"""

from __future__ import annotations

import resource

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
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return senders
    return max(1, (soft - SPARE - readers) // PER_SENDER)
