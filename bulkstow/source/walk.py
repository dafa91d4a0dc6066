"""Every file below the given sources, each with its size, in an order that stays the same.

Owns which files are looked at: regular files under the sources, by their own name or by a link that the rules admit.
Everything else it meets becomes an `Outcome`, so that nothing is passed over in silence, except directories themselves
and what the caller excludes, such as its own ledger. It opens no file and judges no name: content decides.

Everything here blocks and belongs into threads. Usually one thread walks; when a file system hangs, another one goes
on with what is left (see `blocking`).
"""

# A `Path` for each of a million files would cost as much as the system calls.
# ruff: noqa: PTH100, PTH114, PTH115, PTH116, PTH120

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import attrgetter

from bulkstow.blocking import Turn, Work
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

HANGING_AT_ONCE = 3
"""Entries of a directory that may hang before the others are left until one of those is answered. One file may be
damaged; three mean the directory, and each takes a thread."""

EMPTY_SOURCES_KEPT = 100
"""A list may name any number of directories; a person names a few."""

LINK_TO_DIRECTORY = "a link to a directory, not followed: --follow-links follows it"
LINK_TO_OUTSIDE = "a link to a file outside the sources: --follow-links sends it"
WALKED_ALREADY = "a directory that was reached before: its files are sent under their other names"

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)

_Identity = tuple[int, int]
"""Device and inode: the same for a directory by whatever path it is reached."""


Found = Candidate | Outcome
"""What the walk hands on: a file to look into, or what became of something that cannot be looked into."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file or directory that the user named."""

    path: str
    """Absolute; links in it are not resolved."""
    real_path: str


@dataclass(frozen=True, slots=True)
class _Directory:
    path: str
    identity: _Identity
    by_link: bool = False
    source_real_path: str = ""
    """Of a directory that is a source itself."""


@dataclass(slots=True, eq=False)
class _Level:
    """A directory that is being walked."""

    directory: _Directory
    source_real_path: str
    parent: _Level | None
    listing: Iterator[os.DirEntry[str]] | None = None
    is_listed: bool = False
    entries: list[os.DirEntry[str]] = field(default_factory=list)
    """Of the present window, the next one last."""
    directories: deque[_Directory] = field(default_factory=deque)
    steps_under_way: int = 0
    missed: int = 0
    """Entries given up since one was answered."""
    is_aside: bool = False
    """So many of its entries hang that the others are left until one of those is answered."""
    has_files: bool = False
    """A file was found in or below it, or something that could not be read and is reported for itself."""


@dataclass(slots=True, eq=False)
class _List:
    """Read a directory's next window."""

    level: _Level
    window: list[os.DirEntry[str]] = field(default_factory=list)
    """What was read so far."""


@dataclass(frozen=True, slots=True)
class _Name:
    """Read the name of the next source."""


_Look = tuple[_Level, os.DirEntry[str]]
"""Look at an entry of a directory."""

_Step = _Look | _List | _Name | str
"""A `str` is a source to look at."""


def find_source(source: str) -> Source:
    """Look whether a source is there, before a run starts.

    Raises:
        ConfigurationError: it is not there, or cannot be looked at; the text names it and the place looked at.
    """
    path = _absolute(source)
    try:
        os.stat(path)
        return Source(path, os.path.realpath(path))
    except FileNotFoundError:
        raise ConfigurationError(
            f"no such file or directory: {source!r} (looked for {path}); correct the name, or mount what it is on"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot look at {source!r} ({path}): {_told(error)}") from None


def check_sources(sources: Iterable[str]) -> list[Source]:
    """Look whether every source is there, before a run starts. Raises ConfigurationError as `find_source` does."""
    return [find_source(source) for source in sources]


class Walk(Work[_Step, Found]):
    """Everything at and below some sources; as an iterator, for one thread, or as work for several.

    Lists hold `list_length` items; shorter ones come at the end, and while it takes long to find more. Sources are
    taken one by one as they are needed, in their order. Paths are absolute, links in them unresolved. Within a
    directory, files come first and then what is in its sub-directories, both by name in the order of code points,
    which for UTF-8 is that of bytes; in a directory of more than `sort_window` entries this holds for each window of
    so many.

    A source that is a link counts as what it leads to: it was named. Below it, a link to a directory is not followed,
    and a link to a file only where its real target lies in the same source, or in one of `within`. With `follow_links`
    all are followed; a directory is not entered below itself, and by links only once in a walk, so that circles end and
    a tree of links to each other stays finite.

    `exclude` holds absolute paths of files or directories.
    """

    def __init__(
        self,
        sources: Iterable[str],
        *,
        within: Iterable[Source] = (),
        exclude: frozenset[str] = frozenset(),
        follow_links: bool = False,
        list_length: int = LIST_LENGTH,
        sort_window: int = SORT_WINDOW,
    ) -> None:
        super().__init__(results_per_turn=list_length, turn_s=LIST_S)
        self._names = iter(sources)
        self._names_left = True
        self._namer: Turn[_Step, Found] | None = None
        within = tuple(within)
        self._roots = frozenset(source.real_path for source in within)
        self._named = self._roots | {source.path for source in within}
        self._exclude = exclude
        self._follows = follow_links
        self._sort_window = sort_window
        self.empty_sources: list[str] = []
        """The first of those, also of `within`, in which no file was found."""
        self._sources: deque[str] = deque()
        self._levels: list[_Level] = []
        self._entered: set[_Identity] = set()
        """Directories that are being walked."""
        self._entered_by_link: set[_Identity] = set()

    def __iter__(self) -> Iterator[list[Found]]:
        return self

    def __next__(self) -> list[Found]:
        if gathered := self.go_on(Turn()):
            return gathered
        raise StopIteration

    def admits(self, location: str) -> bool:
        """Say whether a link that is now at `location` would be followed. Blocks."""
        return self._follows or _is_within(os.path.realpath(location), self._roots)

    def note_empty(self, source: str) -> None:
        """Take that no file was found in a source."""
        if len(self.empty_sources) < EMPTY_SOURCES_KEPT:
            self.empty_sources.append(source)

    def wait_for_name(self) -> None:
        """Take that the list of names is waiting for its writer: it does not hang. Called by who reads it."""
        if self._namer is not None:
            self._namer.steps += 1

    # --- what is next

    def _take(self, turn: Turn[_Step, Found]) -> _Step | None:
        while self._levels:
            level = self._levels[-1]
            if level.steps_under_way and level.steps_under_way + level.missed >= HANGING_AT_ONCE:
                level.is_aside = True
                self._levels.pop()
            elif level.entries:
                level.steps_under_way += 1
                return level, level.entries.pop()
            elif level.directories:
                self._enter(level.directories.popleft(), level, turn)
            elif level.is_listed:
                self._leave(self._levels.pop())
            else:
                # Until it is listed, another thread finds the directories above it.
                self._levels.pop()
                if level.parent is not None:
                    level.parent.steps_under_way += 1
                return _List(level)
        if self._sources:
            return self._sources.popleft()
        if self._names_left and self._namer is None:
            self._namer = turn
            return _Name()
        return None

    def _enter(self, directory: _Directory, parent: _Level | None, turn: Turn[_Step, Found]) -> None:
        identity = directory.identity
        if identity in self._entered or (directory.by_link and identity in self._entered_by_link):
            if parent is not None:
                parent.has_files = True
            turn.results.append(_outcome(directory.path, Fate.SKIPPED, WALKED_ALREADY))
            return
        if directory.by_link:
            self._entered_by_link.add(identity)
        self._entered.add(identity)
        real_path = directory.source_real_path or (parent.source_real_path if parent is not None else "")
        self._levels.append(_Level(directory, real_path, parent))

    def _leave(self, level: _Level) -> None:
        self._entered.discard(level.directory.identity)
        # What still hangs may be a file.
        has_files = level.has_files or level.steps_under_way > 0
        if level.parent is not None:
            level.parent.has_files |= has_files
        is_named = bool(level.directory.source_real_path) or level.directory.path in self._named
        if is_named and not has_files:
            self.note_empty(level.directory.path)

    # --- what blocks

    def _do(self, step: _Step) -> object:
        if isinstance(step, tuple):  # of all steps nearly every one
            level, entry = step
            return self._look(entry, level.source_real_path)
        match step:
            case _List(level, window):
                return self._list(level, window)
            case _Name():
                return next(self._names, None)
            case _:
                return self._look_at_source(step)

    def _look(self, entry: os.DirEntry[str], source_real_path: str) -> Found | _Directory | None:
        path = entry.path
        if path in self._exclude:
            return None
        try:
            found = _seen(path, entry.stat())
        except OSError as error:
            return _unseen(path, error)
        return self._through_link(found, path, source_real_path) if entry.is_symlink() else found

    def _through_link(
        self, found: Candidate | Outcome | _Directory, path: str, source_real_path: str
    ) -> Found | _Directory | None:
        """Return what stands for a link that leads to `found`."""
        if isinstance(found, _Directory):
            return replace(found, by_link=True) if self._follows else _outcome(path, Fate.SKIPPED, LINK_TO_DIRECTORY)
        if isinstance(found, Outcome):
            return found
        real_path = os.path.realpath(path)
        if real_path in self._exclude:
            return None
        if self._follows or _is_within(real_path, self._roots) or _is_within(real_path, {source_real_path}):
            return replace(found, by_link=True)
        return _outcome(path, Fate.SKIPPED, LINK_TO_OUTSIDE)

    def _list(self, level: _Level, window: list[os.DirEntry[str]]) -> Outcome | bool:
        """Read a directory's next entries; say whether there may be more. No descriptor stays open of one that fits."""
        directory = level.directory
        try:
            if level.listing is None:
                level.listing = os.scandir(directory.path)
                # It was a directory when it was seen; a link put in its place may lead out of the source.
                if not (directory.by_link or directory.source_real_path) and os.path.islink(directory.path):
                    level.listing.close()
                    return _outcome(directory.path, Fate.UNREADABLE, "a directory that was replaced by a link")
            # An entry keeps what it was asked: popped, it goes when it is done with.
            for entry in islice(level.listing, self._sort_window):
                window.append(entry)  # noqa: PERF402 - where it hangs, what is there so far is looked at
        except OSError as error:
            return _not_listed(directory.path, _told(error))
        return len(window) == self._sort_window

    def _look_at_source(self, source: str) -> Found | _Directory | None:
        """Return what a source is. A link named as a source counts as the directory itself: it was asked for."""
        path = _absolute(source)
        if path in self._exclude:
            return None
        try:
            found = _seen(path, os.stat(path))
            if isinstance(found, _Directory):
                return replace(found, source_real_path=os.path.realpath(path))
            return replace(found, by_link=True) if isinstance(found, Candidate) else found
        except (OSError, ValueError) as error:
            return _unseen(path, error)

    # --- what came of it

    def _put(self, step: _Step, brought: object, turn: Turn[_Step, Found]) -> None:
        if isinstance(step, tuple):
            level, _ = step
            level.steps_under_way -= 1
            level.missed = 0
            self._take_up(level)
            self._took(brought, level, turn)
            return
        match step:
            case _List(level, window):
                self._listed(level, window, more=brought is True)
                if isinstance(brought, Outcome):
                    self._took(brought, level, turn)
            case _Name():
                self._namer = None
                if isinstance(brought, str):
                    self._sources.append(brought)
                else:
                    self._names_left = False
            case _:
                self._took(brought, None, turn)

    def _take_up(self, level: _Level) -> None:
        """Go on with a directory that was left aside."""
        if level.is_aside:
            level.is_aside = False
            self._levels.append(level)

    def _took(self, brought: object, level: _Level | None, turn: Turn[_Step, Found]) -> None:
        if isinstance(brought, Candidate):
            turn.results.append(brought)
            if level is not None:
                level.has_files = True
        elif isinstance(brought, Outcome):
            turn.results.append(brought)
            if level is not None and brought.fate is Fate.UNREADABLE:
                level.has_files = True
        elif isinstance(brought, _Directory):
            if level is None:
                self._enter(brought, None, turn)
            else:
                level.directories.append(brought)

    def _listed(self, level: _Level, window: list[os.DirEntry[str]], *, more: bool) -> None:
        if level.parent is not None:
            level.parent.steps_under_way -= 1
            self._take_up(level.parent)
        level.is_listed = not more
        level.entries = sorted(window, key=attrgetter("name"), reverse=True)
        self._levels.append(level)

    def _miss(self, step: _Step, why: str, turn: Turn[_Step, Found]) -> None:
        match step:
            case (level, entry):
                level.steps_under_way -= 1
                level.missed += 1
                self._took(_outcome(entry.path, Fate.UNREADABLE, f"cannot be looked at: {why}"), level, turn)
                if level.missed >= HANGING_AT_ONCE and level.steps_under_way == 0:
                    # None of them was answered: one after the other, the rest would take for ever.
                    level.entries.clear()
                    level.is_listed = True
                    self._took(_not_listed(level.directory.path, f"several entries hang, {why}"), level, turn)
                    self._take_up(level)
            case _List(level, window):
                self._put(_List(level, list(window)), _not_listed(level.directory.path, why), turn)
            case _Name():
                raise ConfigurationError(f"the list of files cannot be read: {why}")
            case _:
                self._put(step, _outcome(_absolute(step), Fate.UNREADABLE, f"cannot be looked at: {why}"), turn)


walk = Walk
"""The walk as a plain iterator of lists."""


def _absolute(source: str) -> str:
    # An empty name is the name of nothing, not of the working directory.
    return os.path.abspath(source) if source else ""


def _ancestors(path: str) -> Iterator[str]:
    """Yield a path and all directories above it."""
    while True:
        yield path
        above = os.path.dirname(path)
        if above == path:
            return
        path = above


def _is_within(real_path: str, roots: frozenset[str] | set[str]) -> bool:
    return any(above in roots for above in _ancestors(real_path))


def _seen(path: str, status: os.stat_result) -> Candidate | Outcome | _Directory:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return Candidate(path, status.st_size, status.st_mtime_ns)
    if stat.S_ISDIR(mode):
        return _Directory(path, (status.st_dev, status.st_ino))
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


def _not_listed(directory: str, why: str) -> Outcome:
    return _outcome(directory, Fate.UNREADABLE, f"a directory that cannot be listed: {why}")


def _outcome(path: str, fate: Fate, reason: str) -> Outcome:
    return Outcome(Candidate(path, size_bytes=0, modified_ns=0), header=None, fate=fate, reason=reason)


def _told(error: OSError | ValueError) -> str:
    """Return the operating system's own words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
