"""Move or delete files of the source after their instances are at the server (`--after-stored`).

A file is moved or deleted only if its size and modification time are those of the scan; a file that cannot be dealt
with stays in place, with a reason. Moving never overwrites a file, and loses none if the process is killed at any
moment. Everything here blocks.
"""

# A `Path` for each of a million files would cost as much as the system calls.
# ruff: noqa: PTH103, PTH104, PTH106, PTH108, PTH116, PTH118, PTH119, PTH120

from __future__ import annotations

import errno
import filecmp
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import count

from bulkstow.model import Candidate
from bulkstow.source.paths import error_text

MEMBER = "a member of an archive"
GONE = "it is gone"
LINK = "a symbolic link"
CHANGED = "changed since it was sent"

MOST_EMPTIED = 10_000
"""Directories that are looked at again to see whether they are empty; beyond that they stay. They take 2 MB."""


class Disposal:
    """Removes files from their places below `roots`, the absolute paths of the sources.

    `remove` takes a path and its status, and raises OSError if the file stays in place.
    """

    def __init__(self, roots: Iterable[str], remove: Callable[[str, os.stat_result], None]) -> None:
        self._roots = frozenset(roots)
        self._remove = remove
        self._emptied: dict[str, None] = {}
        """Directories from which files were removed, in this order."""

    def dispose(self, candidate: Candidate) -> str:
        """Move or delete a file; return why it stays in place, empty if it does not."""
        path = candidate.location
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                return LINK
            if (status.st_size, status.st_mtime_ns) != (candidate.size_bytes, candidate.version):
                return CHANGED
            self._remove(path, status)
        except (FileNotFoundError, NotADirectoryError) as error:
            is_of_archive = "!/" in path and error.filename == path
            return MEMBER if is_of_archive else GONE if error.filename == path else error_text(error)
        except OSError as error:
            return error_text(error)
        if len(self._emptied) < MOST_EMPTIED:
            self._emptied[os.path.dirname(path)] = None
        return ""

    def tidy(self, quiet_s: float) -> None:
        """Remove directories below the sources that are empty and have not changed for so many seconds."""
        waiting, self._emptied = self._emptied, {}
        for directory in sorted(waiting, key=len, reverse=True):  # those below others first
            while self._is_below_source(directory):
                with suppress(OSError):
                    if quiet_s and time.time() - os.stat(directory).st_mtime < quiet_s:
                        self._emptied[directory] = None
                        break
                    os.rmdir(directory)
                    directory = os.path.dirname(directory)  # may be empty now
                    continue
                break

    def _is_below_source(self, directory: str) -> bool:
        return directory not in self._roots and root_of(directory, self._roots) is not None


def root_of(path: str, roots: frozenset[str]) -> str | None:
    """Return the innermost of some directories that a path is in, or the path itself if it is one of them."""
    above = path
    while above not in roots:
        below, above = above, os.path.dirname(above)
        if above == below:
            return None
    return above


def delete(path: str, _status: os.stat_result) -> None:
    """Delete a file."""
    os.unlink(path)


class Move:
    """Moves files to a directory, where they keep their paths relative to their source.

    A file that is in no source keeps its whole path. If there is another file of its name, a number is appended.
    """

    def __init__(self, directory: str, roots: Iterable[str]) -> None:
        self._directory = directory
        self._roots = frozenset(roots)

    def __call__(self, path: str, status: os.stat_result) -> None:
        """Move a file. Raises OSError if it stays in place."""
        wanted = os.path.join(self._directory, self._relative(path))
        os.makedirs(os.path.dirname(wanted), exist_ok=True)
        for target in _names(wanted):
            try:
                os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                if not _is_copy(path, status, target):
                    continue
                os.unlink(path)  # a run that was killed had copied it
                return
            try:
                _replace(target, path, status)
            except BaseException:
                _take_back(target, path)
                raise
            return

    def _relative(self, path: str) -> str:
        root = root_of(path, self._roots)
        if root is None:
            return path.lstrip(os.sep)
        return os.path.basename(path) if root == path else os.path.relpath(path, root)


def _names(wanted: str) -> Iterator[str]:
    yield wanted
    yield from (f"{wanted}~{number}" for number in count(2))


def _replace(placeholder: str, path: str, status: os.stat_result) -> None:
    """Move a file over an empty file; the name is never taken by anything else."""
    try:
        os.rename(path, placeholder)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(path, status, placeholder)
        os.unlink(path)


def _take_back(target: str, path: str) -> None:
    """Remove the file that a failed move has left at its target, unless that is the only copy.

    NFS may repeat a call whose response was lost: the file is moved, and the second call finds none (RFC 1813 §4.5).
    """
    if os.path.lexists(path) or not os.lstat(target).st_size:
        os.unlink(target)


def _copy(path: str, status: os.stat_result, placeholder: str) -> None:
    """Copy a file to another file system, so that it is whole there after a power failure."""
    directory, name = os.path.split(placeholder)
    temporary = os.path.join(directory, f".{name}.{os.getpid()}.part")
    try:
        shutil.copyfile(path, temporary)
        with suppress(OSError):  # some file systems have no modes
            shutil.copymode(path, temporary)
        os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
        _flush(temporary, os.O_RDWR)
        now, copied_bytes = os.stat(path), os.stat(temporary).st_size
        is_same = (now.st_size, now.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
        if not is_same or copied_bytes != status.st_size:
            raise OSError(None, "it changed while it was copied")
        os.rename(temporary, placeholder)
        _flush(directory, os.O_RDONLY)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _flush(path: str, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_copy(path: str, status: os.stat_result, other: str) -> bool:
    """Return whether another file has the size, the time and the bytes of this one."""
    found = os.lstat(other)
    is_alike = (found.st_size, found.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    return is_alike and stat.S_ISREG(found.st_mode) and filecmp.cmp(path, other, shallow=False)
