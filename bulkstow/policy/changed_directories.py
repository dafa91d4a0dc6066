"""Directories in which files have changed since the scan: batches from there are verified before they are sent.

A request is cancelled at its first file that has changed. When a directory is removed, or a share is unmounted, each of
its batches would cost a request. So after a change the batches of the same directory tree are verified first, until
several in a row are unchanged.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from bulkstow.model import Batch

CLEAN_LOOKS = 8
"""Unchanged batches in a row after which a directory is trusted again. If it still changes, the next request finds
out."""

MOST_DIRECTORIES = 64
"""Bounds the work for each batch; beyond it the oldest are forgotten, which costs a request each."""


class ChangedDirectories:
    """Remembers directories in which files have changed."""

    def __init__(self) -> None:
        self._looks_left: dict[str, int] = {}
        self._last_lost: str | None = None

    def touches(self, batch: Batch) -> bool:
        """Return True if a file of the batch is in one of the directories, or below it."""
        return bool(self._looks_left) and _lies_beneath(batch, tuple(self._looks_left))

    def lost(self, directories: Iterable[str]) -> None:
        """Take note that files below these directories have changed.

        After changes in two directories, one after the other, their common parent counts too: the directories of a
        share that fails still exist.
        """
        for directory in directories:
            self._suspect(directory)
            if self._last_lost is not None:
                self._suspect(_common_directory(directory, self._last_lost))
            self._last_lost = directory
        for prefix in list(self._looks_left)[:-MOST_DIRECTORIES]:
            del self._looks_left[prefix]

    def unharmed(self, batch: Batch) -> None:
        """Take note that no file of a batch has changed."""
        for prefix in [prefix for prefix in self._looks_left if _lies_beneath(batch, prefix)]:
            self._looks_left[prefix] -= 1
            if not self._looks_left[prefix]:
                del self._looks_left[prefix]

    def _suspect(self, directory: str) -> None:
        prefix = directory if directory.endswith("/") or not directory else f"{directory}/"
        self._looks_left.pop(prefix, None)
        self._looks_left[prefix] = CLEAN_LOOKS


def _common_directory(one: str, other: str) -> str:
    try:
        return posixpath.commonpath((one, other))
    except ValueError:  # one is relative and the other is not
        return ""


def _lies_beneath(batch: Batch, prefixes: str | tuple[str, ...]) -> bool:
    return any(instance.candidate.location.startswith(prefixes) for instance in batch.instances)
