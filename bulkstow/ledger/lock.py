"""The lock that keeps a second run out of a ledger.

A file of its own beside the ledger: SQLite's locks would let a second run in between two writes, and a lock on the
database file itself would meet SQLite's where `flock` is made of POSIX locks (NFS, some BSDs).
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from bulkstow.errors import LedgerError

LOCK_SUFFIX = "-lock"


class Lock:
    """Holds the lock of a ledger from its making until `release`, which removes the file.

    Raises LedgerError when another run holds it, or the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        real = path.resolve()  # a ledger reached by a link is the same ledger
        self._path = real.with_name(real.name + LOCK_SUFFIX)
        self._fd = self._take(path)
        # The run before may have removed the file between our opening and our locking it: then this lock is nobody's.
        while not self._is_in_place():
            os.close(self._fd)
            self._fd = self._take(path)

    def release(self) -> None:
        """Remove the file, if it is still ours, and let the next run have the ledger."""
        if self._is_in_place():
            self._path.unlink(missing_ok=True)
        os.close(self._fd)

    def _is_in_place(self) -> bool:
        """Say whether the file that is locked is the one that others find by its name."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.lstat(self._path))
        except OSError:
            return False

    def _take(self, path: Path) -> int:
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise LedgerError(self._why_not(error)) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise LedgerError(
                f"the ledger {path} is in use by another run: wait for it, or give another --ledger"
            ) from None
        except OSError as error:
            os.close(fd)
            raise LedgerError(
                f"the ledger {path} cannot be locked: {error.strerror}; put it on a local disk"
            ) from error
        return fd

    def _why_not(self, error: OSError) -> str:
        directory = self._path.parent
        if not directory.exists():
            return f"the ledger's directory {directory} does not exist: make it, or give another --ledger"
        if not directory.is_dir():
            return f"the ledger's directory {directory} is not a directory: give another --ledger"
        return f"cannot write the ledger's lock {self._path}: {error.strerror}; give a --ledger in another directory"
