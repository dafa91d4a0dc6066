"""Files that a command writes for others to read: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from bulkstow.errors import ConfigurationError


def check_writable(flag: str, path: Path) -> None:
    """Look whether a file can be made there, before hours are spent on what is to be in it.

    Raises ConfigurationError where it cannot.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        why = "a directory" if path.is_dir() else "no such directory"
        raise ConfigurationError(f"{flag} {path}: cannot be written ({why})")


def is_replaceable(path: Path) -> bool:
    """Say whether a file can take this one's place; a pipe or `/dev/null` must stay, and is written to."""
    return path.is_file() or not path.exists()


def write_whole(flag: str, path: Path, text: str) -> None:
    """Put a file with this text in the place of `path`, for its owner alone; a reader sees the old one or the new one.

    Raises ConfigurationError where it cannot be written: then the old one is still there.
    """
    try:
        if not is_replaceable(path):
            path.write_text(text, encoding="utf-8")
            return
        real = path.resolve()  # a link stays one
        fd, beside = tempfile.mkstemp(prefix=f".{real.name}.", dir=real.parent)  # mode 0600
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(fd)
            Path(beside).replace(real)
        except BaseException:
            with suppress(OSError):
                Path(beside).unlink()
            raise
    except OSError as error:
        raise ConfigurationError(f"{flag} {path}: cannot be written ({error.strerror})") from error
