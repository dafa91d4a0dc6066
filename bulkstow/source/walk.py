"""Every file below the given sources, each with its size, in an order that stays the same.

Owns what counts as a file to look at: a regular one, under its own name or by a link. Whatever else it comes across
it reports as an `Outcome`, so that nothing is passed over in silence, but for three things: directories themselves;
the files that the caller excludes, its own ledger above all; and a directory that has been entered already, which is
how links in circles end. It opens no file and judges no name: content decides, and others read that.

Everything here blocks: it is meant for one thread, which hands on a list at a time.
"""

# A `Path` for each of a million files would cost as much as the system calls.
# ruff: noqa: PTH100, PTH115, PTH116

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter

from bulkstow.errors import ConfigurationError
from bulkstow.model import Candidate, Fate, Outcome

LIST_LENGTH = 256
"""Files in a list: a hop between threads was measured at 50 µs, a file of the walk at 4 µs, so that a hop costs a
twentieth of the list it brings; and the first files are on their way after a millisecond."""

LIST_S = 0.1
"""A list is handed on after so long, whatever is in it: where every file costs a round trip to a file server, 256 of
them would keep the senders waiting for a second and more."""

SORT_WINDOW = 65_536
"""Entries of a directory that are sorted together: some 16 MB, however many millions the directory holds. Beyond it,
the order is that of the windows, as the file system gives them."""

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)

Found = Candidate | Outcome
"""What the walk hands on: a file to look into, or what became of something that cannot be looked into."""

_Identity = tuple[int, int]
"""Device and inode: the same for a directory by whatever path it is reached."""


@dataclass(frozen=True, slots=True)
class _Directory:
    path: str
    identity: _Identity
    by_link: bool


def check_sources(sources: Iterable[str]) -> None:
    """Look whether every source is there, before a run starts.

    Raises:
        ConfigurationError: one is not there, or cannot be looked at; the text names it and the place looked at.
    """
    for source in sources:
        path = _absolute(source)
        try:
            os.stat(path)
        except FileNotFoundError:
            raise ConfigurationError(
                f"no such file or directory: {source!r} (looked for {path}); correct the name, or mount what it is on"
            ) from None
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"cannot look at {source!r} ({path}): {_told(error)}") from None


def walk(
    sources: Iterable[str],
    *,
    exclude: frozenset[str] = frozenset(),
    list_length: int = LIST_LENGTH,
    sort_window: int = SORT_WINDOW,
) -> Iterator[list[Found]]:
    """Yield all that is found at and below `sources`, in lists of `list_length`; shorter ones at the end, and while it
    takes long to find more.

    Sources are taken one by one as they are needed, in their order. Paths are absolute, links in them unresolved.
    Within a directory, files come first and then what is in its sub-directories, both by name in the order of code
    points, which for UTF-8 is that of bytes; in a directory of more than `sort_window` entries this holds for each
    window of so many.

    Links are followed. A directory is not entered below itself, and by links only once in a walk, so that circles
    end and a tree of links to each other stays finite. `exclude` holds absolute paths of files or directories.
    """
    found = _find(sources, exclude, sort_window)
    while gathered := _gather(found, list_length):
        yield gathered


def _gather(found: Iterator[Found], list_length: int) -> list[Found]:
    """Return so many, or those that came in LIST_S."""
    until_s = time.monotonic() + LIST_S
    gathered = []
    for item in found:
        gathered.append(item)
        if len(gathered) == list_length or time.monotonic() > until_s:
            break
    return gathered


def _find(sources: Iterable[str], exclude: frozenset[str], sort_window: int) -> Iterator[Found]:
    """Yield what is found, depth first; the stack is our own, as trees may be deeper than Python's."""
    by_link: set[_Identity] = set()
    above: set[_Identity] = set()
    levels: list[tuple[_Identity, Iterator[Found | _Directory]]] = [((0, 0), _look_at(sources, exclude))]
    while levels:
        identity, entries = levels[-1]
        for entry in entries:
            if not isinstance(entry, _Directory):
                yield entry
                continue
            if entry.identity in above or (entry.by_link and entry.identity in by_link):
                continue
            if entry.by_link:
                by_link.add(entry.identity)
            above.add(entry.identity)
            levels.append((entry.identity, _look_into(entry.path, exclude, sort_window)))
            break
        else:
            levels.pop()
            above.discard(identity)


def _look_at(sources: Iterable[str], exclude: frozenset[str]) -> Iterator[Found | _Directory]:
    """Yield what each source is. A link named as a source counts as the directory itself: it was asked for."""
    for source in sources:
        path = _absolute(source)
        if path in exclude:
            continue
        try:
            yield _seen(path, os.stat(path), by_link=False)
        except (OSError, ValueError) as error:
            yield _unseen(path, error)


def _look_into(directory: str, exclude: frozenset[str], sort_window: int) -> Iterator[Found | _Directory]:
    """Yield the entries of a directory; of one that fits the window, no descriptor stays open meanwhile."""
    try:
        with os.scandir(directory) as entries:
            while window := sorted(islice(entries, sort_window), key=attrgetter("name"), reverse=True):
                directories = []
                # An entry keeps what it was asked: popped, it goes when it is done with.
                while window:
                    entry = window.pop()
                    path = entry.path
                    if path in exclude:
                        continue
                    try:
                        found = _seen(path, entry.stat(), by_link=entry.is_symlink())
                    except OSError as error:
                        yield _unseen(path, error)
                        continue
                    if isinstance(found, _Directory):
                        directories.append(found)
                    else:
                        yield found
                yield from directories
    except OSError as error:
        yield _outcome(directory, Fate.UNREADABLE, f"a directory that cannot be listed: {_told(error)}")


def _absolute(source: str) -> str:
    # An empty name is the name of nothing, not of the working directory.
    return os.path.abspath(source) if source else ""


def _seen(path: str, status: os.stat_result, *, by_link: bool) -> Found | _Directory:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return Candidate(path, status.st_size, status.st_mtime_ns)
    if stat.S_ISDIR(mode):
        return _Directory(path, (status.st_dev, status.st_ino), by_link)
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "of an unknown kind")
    return _outcome(path, Fate.SKIPPED, f"{kind}, not a regular file")


def _unseen(path: str, error: OSError | ValueError) -> Outcome:
    """Return why nothing can be said of `path`."""
    reason = _told(error)
    # A name with a NUL in it, which only a list can hold, is a ValueError: no file can have it.
    if isinstance(error, FileNotFoundError | ValueError):
        reason = "no such file"
        with suppress(OSError, ValueError):
            reason = f"a link to nothing: {os.readlink(path)}"
    return _outcome(path, Fate.UNREADABLE, reason)


def _outcome(path: str, fate: Fate, reason: str) -> Outcome:
    return Outcome(Candidate(path, size_bytes=0, modified_ns=0), header=None, fate=fate, reason=reason)


def _told(error: OSError | ValueError) -> str:
    """Return the operating system's own words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
