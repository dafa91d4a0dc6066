"""The lock that keeps a second run out of a ledger.

A separate file beside the ledger: SQLite's locks admit a second run between two writes, and a lock on the database
itself would conflict with SQLite's where `flock` uses POSIX locks (NFS, some BSDs). The system releases the lock of a
run that is killed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from bulkstow.errors import LedgerError

LOCK_SUFFIX = "-lock"

WAIT_S = 0.1
RETRY_S = 0.01
"""Retries in case that the previous run removes the file after it was opened and before it is locked."""


class Lock:
    """The lock of a ledger, from construction until `release`, which removes the file.

    Raises LedgerError if another run has the lock, or the file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        from filelock import FileLock, Timeout

        real = path.resolve()  # a ledger reached by a link is the same ledger
        self._path = real.with_name(real.name + LOCK_SUFFIX)
        _check_directory(self._path.parent)  # `filelock` would create a missing one
        lock = FileLock(self._path, WAIT_S, 0o600, thread_local=False, fallback_to_soft=False, poll_interval=RETRY_S)
        try:
            lock.acquire()
            self._identity = os.lstat(self._path)
        except Timeout:
            raise LedgerError(
                f"the ledger {path} is in use by another run: wait for it, or give another --ledger"
            ) from None
        except OSError as error:
            raise LedgerError(self._why_not(path, error)) from error
        self._lock = lock

    def release(self) -> None:
        """Remove the file, if it was not replaced, and release the lock."""
        with suppress(OSError):  # Windows cannot remove an open file; `filelock` removes it afterwards
            if os.path.samestat(self._identity, os.lstat(self._path)):
                self._path.unlink()
        self._lock.release()

    def _why_not(self, path: Path, error: OSError) -> str:
        if error.filename is None:  # the file was opened, but the file system has no locks
            return f"the ledger {path} cannot be locked: {error.strerror}; put it on a local disk"
        return f"cannot write the ledger's lock {self._path}: {error.strerror}; give a --ledger in another directory"


def _check_directory(directory: Path) -> None:
    if not directory.exists():
        raise LedgerError(f"the ledger's directory {directory} does not exist: make it, or give another --ledger")
    if not directory.is_dir():
        raise LedgerError(f"the ledger's directory {directory} is not a directory: give another --ledger")
