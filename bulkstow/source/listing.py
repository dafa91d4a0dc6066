"""Names of files and directories in a list, as `--files-from` reads it.

Each line is a name, or each part up to a NUL, as `find -print0` writes them. There are no comments, quotes or patterns,
because each of their characters may be part of a name. The walk finds out whether a name exists.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from bulkstow.errors import ConfigurationError
from bulkstow.platform.files import wait_readable

_BLOCK_BYTES = 64 * 1024
"""The capacity of a pipe on Linux: one read empties it."""

_CHECK_INTERVAL_S = 0.2
"""Interval of the checks whether more names are wanted; a delay of 0.2 s at Ctrl-C is hardly noticed."""

_LONGEST_NAME_BYTES = 64 * 1024
"""Longer input is no list of names: Linux opens no path beyond 4 KiB, Windows none beyond 32 Ki characters."""


def read_list(read: Callable[[int], bytes], *, null_separated: bool) -> Iterator[str]:
    """Yield the names in a list as they are read; one that is not UTF-8 has surrogates (`os.fsdecode`).

    `read` returns up to so many bytes, none at the end. Names are separated by newlines, which a CR may precede, or by
    NULs. Empty names are skipped, and the last name needs no separator.

    Raises:
        ConfigurationError: a name is longer than any file system's, as with the wrong separator.
        OSError: the list cannot be read.
    """
    separator = b"\0" if null_separated else b"\n"
    rest = b""
    while block := read(_BLOCK_BYTES):
        *names, rest = (rest + block).split(separator)
        if len(rest) > _LONGEST_NAME_BYTES:
            raise ConfigurationError(_wrong_separator(rest, null_separated=null_separated))
        for name in names:
            yield from _decoded(name, null_separated=null_separated)
    yield from _decoded(rest, null_separated=null_separated)


def _decoded(name: bytes, *, null_separated: bool) -> Iterator[str]:
    if not null_separated:
        name = name.removesuffix(b"\r")
    if name:
        yield os.fsdecode(name)


def _wrong_separator(name: bytes, *, null_separated: bool) -> str:
    separator, other = ("NUL", "newlines") if null_separated else ("newline", "NULs")
    return (
        f"the list of files holds {len(name):,} bytes without a {separator}, beginning with {name[:40]!r}: "
        f"expected one name to each {separator}; is it separated by {other}, or no list at all?"
    )


def read_when_ready(
    descriptor: int, is_given_up: Callable[[], bool], on_wait: Callable[[], None], size_bytes: int
) -> bytes:
    """Wait for bytes in a pipe or file and return them; return none at the end, or once the list is given up.

    Without the checks, a pipe without a writer would block its reader for ever. `on_wait` is called at each check.
    """
    while not is_given_up():
        if wait_readable(descriptor, _CHECK_INTERVAL_S):
            return os.read(descriptor, size_bytes)
        on_wait()
    return b""
