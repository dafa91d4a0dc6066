"""The limit on open files, and the numbers of requests and open files that it allows."""

from __future__ import annotations

from bulkstow.config import UploadSettings
from bulkstow.platform.process import raise_open_files_limit

SPARE_DESCRIPTORS = 128
"""Descriptors of the interpreter, the ledger, the open directories of the walk, standard streams, and the pipes of
sender processes."""

DESCRIPTORS_PER_REQUEST = 5
"""Descriptors of one request: a socket, its second handle, a socket that the server is closing, a file, and the
connection of a replay."""

KEPT_FILES = 1024
"""Files of slow storage that stay open from their heads until they are sent. Sending takes less than 0.1 ms for a file
in the page cache, a head takes 10 ms, so only the files of a few lists wait."""


def _descriptors(*, at_once: int, readers: int) -> int:
    return SPARE_DESCRIPTORS + readers + at_once * DESCRIPTORS_PER_REQUEST


def allowed_requests(*, at_once: int, readers: int) -> int:
    """Raise the limit on open files for so many requests and readers; return how many requests it allows, at least 1.

    Sender processes inherit the limit.
    """
    wanted = _descriptors(at_once=at_once, readers=readers)
    allowed = raise_open_files_limit(wanted)
    return at_once if allowed >= wanted else max(1, (allowed - SPARE_DESCRIPTORS - readers) // DESCRIPTORS_PER_REQUEST)


def most_open_files(settings: UploadSettings) -> int:
    """Return how many files may stay open between two reads, besides the descriptors of requests and readers."""
    needed = _descriptors(at_once=settings.concurrency.highest, readers=settings.read_concurrency)
    return max(0, raise_open_files_limit(needed + KEPT_FILES) - needed)
