"""Names of files and directories from a stream: what `--files-from` reads.

Owns the notation, and nothing else: a name a line, or a name up to each NUL as `find -print0` writes them. There are
no comments, no quotes and no patterns, for every one of their characters may be part of a name. Whether a name exists
is for the walk to find out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Protocol

from bulkstow.errors import ConfigurationError
from bulkstow.platform.files import wait_readable

_BLOCK_BYTES = 64 * 1024
"""What a pipe holds on Linux: a read takes all that is waiting in it."""

LOOK_UP_S = 0.2
"""How often who waits for a name looks whether it is still wanted; nobody notices a fifth of a second at Ctrl-C."""

_LONGEST_NAME_BYTES = 64 * 1024
"""Linux opens no path beyond 4 KiB, Windows none beyond 32 Ki characters: more than that is not a list of names."""


class Readable(Protocol):
    """What names can be read from."""

    def read(self, size_bytes: int, /) -> bytes:
        """Return up to so many bytes, none at the end."""


def read_list(stream: Readable, *, null_separated: bool) -> Iterator[str]:
    """Yield the names in `stream` as they come in; one that is not UTF-8 carries surrogates (`os.fsdecode`).

    Names are separated by newlines, which a CR may precede, or by NULs. An empty name is passed over, and the last
    one needs no separator.

    Raises:
        ConfigurationError: a name is longer than any file system's, as when the separator is the wrong one.
        OSError: the stream cannot be read.
    """
    separator = b"\0" if null_separated else b"\n"
    # On a pipe, `read` would wait for a full block, and the run with it.
    read = getattr(stream, "read1", stream.read)
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


class PatientStream:
    """A stream of names that can be given up: a pipe that nobody writes to would hold its reader for ever."""

    def __init__(
        self, descriptor: int, is_given_up: Callable[[], bool], on_wait: Callable[[], None] = lambda: None
    ) -> None:
        self._descriptor = descriptor
        self._is_given_up = is_given_up
        self._on_wait = on_wait

    def read(self, size_bytes: int, /) -> bytes:
        """Return what is there, waiting for it; nothing at the end, or once it is given up."""
        while not self._is_given_up():
            if wait_readable(self._descriptor, LOOK_UP_S):
                return os.read(self._descriptor, size_bytes)
            self._on_wait()
        return b""
