"""Names of files and directories from a stream: what `--files-from` reads.

Owns the notation, and nothing else: a name a line, or a name up to each NUL as `find -print0` writes them. There are
no comments, no quotes and no patterns, for every one of their characters may be part of a name. Whether a name exists
is for the walk to find out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from bulkstow.errors import ConfigurationError

_BLOCK_BYTES = 64 * 1024
"""What a pipe holds on Linux: a read takes all that is waiting in it."""

_LONGEST_NAME_BYTES = 64 * 1024
"""Linux opens no path beyond 4 KiB, Windows none beyond 32 Ki characters: more than that is not a list of names."""


def read_list(stream: BinaryIO, *, null_separated: bool) -> Iterator[str]:
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
