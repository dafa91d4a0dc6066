"""The sources that a user names: check that they exist, and whether a path lies in one of them."""

# ruff: noqa: PTH100, PTH116, PTH120 - a `Path` for each of a million files would cost as much as the system calls

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Executor
from dataclasses import dataclass

from bulkstow.blocking import ReadLimit, map_in_threads
from bulkstow.errors import ConfigurationError

NAMES_PER_CALL = 256
"""Sources looked up in one worker thread call; each takes 10 µs."""


@dataclass(frozen=True, slots=True)
class SourcePath:
    """A file or directory that the user named."""

    path: str
    """Absolute; links in it are not resolved."""
    real_path: str


def find_source(source: str) -> SourcePath:
    """Return the path of a source, before a run starts.

    Raises ConfigurationError with the name and the absolute path if it does not exist or its status cannot be read.
    """
    path = absolute(source)
    try:
        os.stat(path)
        return SourcePath(path, os.path.realpath(path))
    except FileNotFoundError:
        raise ConfigurationError(
            f"no such file or directory: {source!r} (looked for {path}); correct the name, or mount its file system"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot look at {source!r} ({path}): {error_text(error)}") from None


async def find_sources(names: Sequence[str], threads: Executor, limit: ReadLimit) -> dict[str, SourcePath]:
    """Find every source in worker threads, before a run starts.

    Raises ConfigurationError as `find_source` does, and if the storage does not respond.
    """

    def look(name: str) -> tuple[str, SourcePath]:
        return name, find_source(name)

    def on_timeout(name: str, why: str) -> tuple[str, SourcePath]:
        raise ConfigurationError(f"cannot look at {name!r}: {why}; is its file system mounted, and does it answer?")

    found: dict[str, SourcePath] = {}
    async for several in map_in_threads(look, names, on_timeout, threads, limit, items_per_list=NAMES_PER_CALL):
        found.update(several)
    return found


def absolute(source: str) -> str:
    """Return the absolute path of a source; links in it are not resolved."""
    # An empty name would become the working directory.
    return os.path.abspath(source) if source else ""


def _ancestors(path: str) -> Iterator[str]:
    """Yield a path and all directories above it."""
    while True:
        yield path
        above = os.path.dirname(path)
        if above == path:
            return
        path = above


def is_within(real_path: str, roots: AbstractSet[str]) -> bool:
    """Return whether a path is one of the roots, or below one."""
    return any(above in roots for above in _ancestors(real_path))


def error_text(error: OSError | ValueError) -> str:
    """Return the operating system's text for an error."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
