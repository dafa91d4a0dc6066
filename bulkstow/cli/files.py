"""Writes files atomically: a reader sees the old content or the new one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from bulkstow.errors import ConfigurationError
from bulkstow.ledger import is_ledger


def check_writable(flag: str, path: Path) -> None:
    """Check that a file can be created at `path`, before a run that may take hours.

    Raises ConfigurationError if it cannot.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        why = "a directory" if path.is_dir() else "no such directory"
        raise ConfigurationError(f"{flag} {path}: cannot be written ({why})")
    check_no_ledger(flag, path)


def check_no_ledger(flag: str, path: Path) -> None:
    """Raise ConfigurationError if a ledger is at `path`: it is the only record of the sent files."""
    if is_ledger(path):
        raise ConfigurationError(f"{flag} {path}: is a ledger, and is not overwritten: give the name of another file")


def is_replaceable(path: Path) -> bool:
    """Return whether `path` may be replaced by a new file; a pipe or `/dev/null` is written to instead."""
    return path.is_file() or not path.exists()


def write_whole(flag: str, path: Path, text: str) -> None:
    """Replace the file at `path` atomically by one with this text that only its owner can read.

    Raises ConfigurationError if that fails; the old file is then unchanged.
    """
    with writing_whole(flag, path) as file:
        file.write(text)


@contextmanager
def writing_whole(flag: str, path: Path) -> Iterator[TextIO]:
    """Yield a file that replaces `path` at the end of the block, as `write_whole` does; newlines are not translated.

    If the block fails, the old file is unchanged.
    """
    try:
        if not is_replaceable(path):
            with path.open("w", encoding="utf-8", newline="") as file:
                yield file
            return
        real = path.resolve()  # a symbolic link stays
        fd, temporary = tempfile.mkstemp(prefix=f".{real.name}.", dir=real.parent)  # mode 0600
        try:
            with os.fdopen(fd, "w", encoding="utf-8", newline="") as file:
                yield file
                file.flush()
                os.fsync(fd)
            Path(temporary).replace(real)
        except BaseException:
            with suppress(OSError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise ConfigurationError(f"{flag} {path}: cannot be written ({error.strerror})") from error
