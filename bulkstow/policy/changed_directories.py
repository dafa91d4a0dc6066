"""Which batches to look at again before they are sent, because files beside theirs were lost or changed.

A request is broken off at its first file that is not what the scan found. When a directory is removed, or a share is
unmounted, each batch of it would cost a request. So after a loss the files of a batch in the same tree are compared
with the scan first, until several batches in a row are unharmed. Reads no file: `pipeline` does, and tells what it saw.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from bulkstow.model import Batch

CLEAN_LOOKS = 8
"""Batches in a row that are as they were: the tree is at rest again. If it is not, one more request finds out."""

MOST_DIRECTORIES = 64
"""Bounds the work for each batch; of more, the oldest are forgotten, which costs a request each."""


class ChangedDirectories:
    """Remembers directories in which files were lost or changed."""

    def __init__(self) -> None:
        self._looks_left: dict[str, int] = {}
        self._last_lost: str | None = None

    def touches(self, batch: Batch) -> bool:
        """Say whether a file of the batch lies beneath a directory under suspicion."""
        return bool(self._looks_left) and _lies_beneath(batch, tuple(self._looks_left))

    def lost(self, directories: Iterable[str]) -> None:
        """Take that files beneath these directories were lost or changed.

        After losses in two directories one after the other, what lies between them is under suspicion too: a share that
        fails keeps its directories.
        """
        for directory in directories:
            self._suspect(directory)
            if self._last_lost is not None:
                self._suspect(_common_directory(directory, self._last_lost))
            self._last_lost = directory
        for prefix in list(self._looks_left)[:-MOST_DIRECTORIES]:
            del self._looks_left[prefix]

    def unharmed(self, batch: Batch) -> None:
        """Take that all files of a batch are as the scan found them."""
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
