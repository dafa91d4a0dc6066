"""The kinds of directory entries: a file to read, a directory to enter, or an outcome."""

# ruff: noqa: PTH115 - a `Path` for each of a million files would cost as much as the system calls

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.policy.sharding import Place
from bulkstow.ports import Found
from bulkstow.source.paths import error_text

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)

Identity = tuple[int, int]
"""Device and inode: the same for a directory by whatever path it is reached."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory that the walk may enter."""

    path: str
    identity: Identity
    by_link: bool = False
    source_real_path: str = ""
    """Only if the directory itself was named as a source."""
    place: Place | None = None
    """What of it belongs to the shard; None if the walk is of the whole source."""


def classify(path: str, status: os.stat_result) -> Found | Directory:
    """Return the candidate, the directory or the outcome of a path with this status."""
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return Candidate(path, status.st_size, status.st_mtime_ns, by_link=False)
    if stat.S_ISDIR(mode):
        return Directory(path, (status.st_dev, status.st_ino))
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "of an unknown kind")
    return result_of(path, Outcome.SKIPPED, f"{kind}, not a regular file")


def stat_failure(path: str, error: OSError | ValueError) -> FileResult:
    """Return the outcome of a path whose status cannot be read."""
    reason = error_text(error)
    # A ValueError is a name with a NUL, which only a list can contain: no file can have it.
    if isinstance(error, FileNotFoundError | ValueError):
        reason = "no such file"
        with suppress(OSError, ValueError):
            reason = f"a link to nothing: {os.readlink(path)}"
    return result_of(path, Outcome.UNREADABLE, reason)


def not_listed(directory: str, why: str) -> FileResult:
    """Return the outcome of a directory whose files cannot be found."""
    return result_of(directory, Outcome.UNREADABLE, f"a directory that cannot be listed: {why}")


def result_of(path: str, outcome: Outcome, reason: str) -> FileResult:
    """Return the outcome of a path that is not read."""
    return FileResult(Candidate(path, size_bytes=0, version=0), header=None, outcome=outcome, reason=reason)
