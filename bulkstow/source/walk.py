"""Scan directories: every file below some sources with its size, in a fixed order.

Finds regular files, by their own names or by links that the rule admits. Everything else gets an outcome, so nothing
is skipped silently, except directories themselves and excluded paths such as the run's own ledger. Opens no file and
judges no name, as only the content shows whether a file is an instance.

Everything here blocks and runs in worker threads: usually in one; if a file system hangs, another thread continues with
the rest (see `blocking`).
"""

# A `Path` for each of a million files would cost as much as the system calls.
# ruff: noqa: PTH114, PTH116

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from operator import attrgetter

from bulkstow.blocking import Work, Worker
from bulkstow.errors import ConfigurationError
from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.policy.sharding import Place, Sharding
from bulkstow.ports import Found
from bulkstow.source.entries import Directory, Identity, classify, not_listed, result_of, stat_failure
from bulkstow.source.links import LinkRule
from bulkstow.source.paths import SourcePath, absolute, error_text
from bulkstow.source.shards import ELSEWHERE, Elsewhere, Looked, look_at_source, look_in_shard

LIST_LENGTH = 256
"""Files in a list. Handing a list to another thread takes 50 µs, scanning a file 4 µs, so this adds a twentieth; the
first list is complete after a millisecond."""

LIST_S = 0.1
"""Time after which an incomplete list is passed on. If every file costs a round trip to a file server, a full list
takes more than a second."""

SORT_WINDOW = 65_536
"""Entries of a directory that are sorted together; they take some 16 MB. A larger directory is sorted in windows of so
many entries, in the order of the file system."""

HANGING_AT_ONCE = 3
"""Entries of a directory that may hang before its others wait for one of them to end. One file may be damaged; three
suggest a fault of the whole directory, and each occupies a thread."""

EMPTY_SOURCES_KEPT = 100
"""Bounds memory, as a list of names may have any number of directories."""

WALKED_ALREADY = "a directory that was reached before: its files are sent under their other names"


@dataclass(slots=True, eq=False)
class _Level:
    """A directory that is being walked."""

    directory: Directory
    source_real_path: str
    parent: _Level | None
    listing: Iterator[os.DirEntry[str]] | None = None
    is_listed: bool = False
    entries: list[os.DirEntry[str]] = field(default_factory=list)
    """Those left of the current window, the next one last."""
    looked_ahead: int = 0
    """How many of these, from the next one on, have their status."""
    directories: deque[Directory] = field(default_factory=deque)
    steps_under_way: int = 0
    missed: int = 0
    """Entries given up in succession."""
    is_aside: bool = False
    """HANGING_AT_ONCE entries hang, and the others wait for one of them to end."""
    has_files: bool = False
    """A file, or something unreadable that is reported, was found in or below it."""


@dataclass(slots=True, eq=False)
class _List:
    """Read a directory's next window."""

    level: _Level
    window: list[os.DirEntry[str]] = field(default_factory=list)
    """The entries read so far."""


@dataclass(frozen=True, slots=True)
class _Name:
    """Read the name of the next source."""


_Look = tuple[_Level, os.DirEntry[str]]
"""Read the status of a directory's entry."""

_Step = _Look | _List | _Name | str
"""A `str` is a source whose status is read."""


class Walk(Work[_Step, Found]):
    """Everything at and below some sources, as work for one thread or several.

    Lists have `list_length` items, fewer at the end and while the scan is slow. Sources are drawn one by one, in their
    order. Paths are absolute, links in them unresolved. Within a directory, files come before the content of its
    subdirectories, both sorted by name (code points, which for UTF-8 is the order of bytes); a directory of more than
    `sort_window` entries is sorted in windows of so many.

    A source that is a link is followed. Below a source, a link to a directory is not followed, and a link to a file
    only if its real path lies in the same source or in one of `within`. With `follow_links` all links are followed; a
    directory is not entered below itself, and by links only once in a walk, so circular links end.

    Among the sources may be results, which are passed on. `sift` returns each file that was found, or its outcome if it
    is not to be read. `exclude` holds absolute paths of files or directories. Directories for which `is_pruned` is true
    are counted and not entered. With `sharding` only the files of one shard are found: the path below a source in
    `within` decides, and of other sources their names as they are written. With `are_changes` the names are not those
    of sources, but of changed paths in one: links there are treated as those that are found below a source.
    """

    def __init__(
        self,
        sources: Iterable[str | FileResult],
        *,
        within: Iterable[SourcePath] = (),
        exclude: frozenset[str] = frozenset(),
        is_pruned: Callable[[str], bool] | None = None,
        follow_links: bool = False,
        sift: Callable[[Candidate], Found] | None = None,
        sharding: Sharding | None = None,
        are_changes: bool = False,
        list_length: int = LIST_LENGTH,
        sort_window: int = SORT_WINDOW,
    ) -> None:
        super().__init__(results_per_list=list_length, list_s=LIST_S)
        self._names = iter(sources)
        self._names_left = True
        self._namer: Worker[_Step, Found] | None = None
        within = tuple(within)
        roots = frozenset(source.real_path for source in within)
        self._named = roots | {source.path for source in within}
        self._exclude = exclude
        self._excluded_names = frozenset(map(os.path.basename, exclude))
        self._is_pruned = is_pruned
        self._sift = sift
        self._links = LinkRule(roots, exclude, follow_links)
        self._sharding = sharding
        self._are_changes = are_changes
        self._sort_window = sort_window
        self.pruned_directories = 0
        self.empty_sources: list[str] = []
        """The first sources, and paths of `within`, in which no file was found."""
        self._sources: deque[str] = deque()
        self._levels: list[_Level] = []
        self._entered: set[Identity] = set()
        """Directories that are being walked."""
        self._entered_by_link: set[Identity] = set()

    def admits(self, location: str) -> bool:
        """Return whether a link at `location` is followed. Blocks."""
        return self._links.admits(location)

    def note_empty(self, source: str) -> None:
        """Record that no file was found in a source."""
        if len(self.empty_sources) < EMPTY_SOURCES_KEPT:
            self.empty_sources.append(source)

    def wait_for_name(self) -> None:
        """Record that the list of names waits for its writer and does not hang; called while a name is drawn."""
        if self._namer is not None:
            self._namer.restart_time()

    # --- the next step

    def _next_step(self, worker: Worker[_Step, Found]) -> _Step | None:
        while self._levels:
            level = self._levels[-1]
            if level.steps_under_way and level.steps_under_way + level.missed >= HANGING_AT_ONCE:
                level.is_aside = True
                self._levels.pop()
            elif level.entries:
                level.steps_under_way += 1
                if level.looked_ahead:
                    level.looked_ahead -= 1
                return level, level.entries.pop()
            elif level.directories:
                self._enter(level.directories.popleft(), level, worker)
            elif level.is_listed:
                self._leave(self._levels.pop())
            else:
                # While it is being listed, other threads continue with the directories above it.
                self._levels.pop()
                if level.parent is not None:
                    level.parent.steps_under_way += 1
                return _List(level)
        if self._sources:
            return self._sources.popleft()
        if self._names_left and self._namer is None:
            self._namer = worker
            return _Name()
        return None

    @property
    def _may_run_ahead(self) -> bool:
        level = self._levels[-1] if self._levels else None
        # Where an entry hangs, others may hang, too, and would occupy all readers.
        return level is not None and len(level.entries) > 1 and not (level.looked_ahead or level.steps_under_way)

    def _take_ahead(self) -> Sequence[_Step]:
        """Return the next entries of a directory: an entry keeps its status."""
        level = self._levels[-1]
        entries = level.entries[: -self._results_per_list - 1 : -1]
        level.looked_ahead = len(entries)
        return [(level, entry) for entry in entries]

    def _enter(self, directory: Directory, parent: _Level | None, worker: Worker[_Step, Found]) -> None:
        identity = directory.identity
        if identity in self._entered or (directory.by_link and identity in self._entered_by_link):
            if parent is not None:
                parent.has_files = True
            worker.results.append(result_of(directory.path, Outcome.SKIPPED, WALKED_ALREADY))
            return
        if directory.by_link:
            self._entered_by_link.add(identity)
        self._entered.add(identity)
        real_path = directory.source_real_path or (parent.source_real_path if parent is not None else "")
        self._levels.append(_Level(directory, real_path, parent))

    def _leave(self, level: _Level) -> None:
        self._entered.discard(level.directory.identity)
        # An entry that hangs may be a file.
        has_files = level.has_files or level.steps_under_way > 0
        if level.parent is not None:
            level.parent.has_files |= has_files
        is_named = bool(level.directory.source_real_path) or level.directory.path in self._named
        if is_named and not has_files:
            self.note_empty(level.directory.path)

    # --- blocking calls

    def _run(self, step: _Step) -> object:
        if isinstance(step, tuple):  # nearly every step
            level, entry = step
            place = level.directory.place
            return self._look(entry, level.source_real_path) if place is None else self._look_at(entry, level, place)
        match step:
            case _List(level, window):
                return self._list(level, window)
            case _Name():
                return next(self._names, None)
            case _ if self._sharding is not None:
                is_listed = absolute(step) not in self._named
                return look_at_source(step, self._sharding, partial(self._find_source, step), is_listed=is_listed)
            case _:
                return self._find_source(step)

    def _look(self, entry: os.DirEntry[str], source_real_path: str) -> Found | Directory | None:
        path = entry.path
        if entry.name in self._excluded_names and self._excludes(path):
            return None
        try:
            found = classify(path, entry.stat())
        except OSError as error:
            return stat_failure(path, error)
        return self._links.resolve(found, path, source_real_path) if entry.is_symlink() else found

    def _look_at(self, entry: os.DirEntry[str], level: _Level, place: Place) -> Looked:
        look = partial(self._look, entry, level.source_real_path)
        found = look_in_shard(entry, place, look, follow_links=self._links.follows_all)
        is_excluded = found is ELSEWHERE and entry.name in self._excluded_names and self._excludes(entry.path)
        return None if is_excluded else found

    def _excludes(self, path: str) -> bool:
        """Return whether a path or its real path is excluded."""
        return path in self._exclude or os.path.realpath(path) in self._exclude

    def _list(self, level: _Level, window: list[os.DirEntry[str]]) -> FileResult | bool:
        """Read a directory's next window; return whether more may follow, or the directory's failure."""
        directory = level.directory
        try:
            if level.listing is None:
                level.listing = os.scandir(directory.path)
                # A link that has replaced the directory may lead out of the source.
                if not (directory.by_link or directory.source_real_path) and os.path.islink(directory.path):
                    level.listing.close()
                    return result_of(directory.path, Outcome.UNREADABLE, "a directory that was replaced by a link")
            for entry in islice(level.listing, self._sort_window):
                window.append(entry)  # noqa: PERF402 - if this hangs, the entries so far are used
        except OSError as error:
            return not_listed(directory.path, error_text(error))
        return len(window) == self._sort_window

    def _find_source(self, source: str) -> Found | Directory | None:
        """Return the file or directory at a source's path, following a link."""
        path = absolute(source)
        try:
            if self._excludes(path):
                return None
            found = classify(path, os.stat(path))
            if self._are_changes:
                return self._links.resolve(found, path, "") if os.path.islink(path) else found
            if isinstance(found, Directory):
                return replace(found, source_real_path=os.path.realpath(path))
            return replace(found, by_link=True) if isinstance(found, Candidate) else found
        except (OSError, ValueError) as error:
            return stat_failure(path, error)

    # --- results of steps

    def _finish(self, step: _Step, result: object, worker: Worker[_Step, Found]) -> None:
        if isinstance(step, tuple):
            level, _ = step
            level.steps_under_way -= 1
            level.missed = 0
            self._take_up(level)
            self._keep(result, level, worker)
            return
        match step:
            case _List(level, window):
                self._listed(level, window, more=result is True)
                if isinstance(result, FileResult):
                    self._keep(result, level, worker)
            case _Name():
                self._namer = None
                if isinstance(result, str):
                    self._sources.append(result)
                elif isinstance(result, FileResult):
                    self._keep(result, None, worker)
                else:
                    self._names_left = False
            case _:
                self._keep(result, None, worker)

    def _take_up(self, level: _Level) -> None:
        """Continue a directory that was set aside."""
        if level.is_aside:
            level.is_aside = False
            self._levels.append(level)

    def _keep(self, result: object, level: _Level | None, worker: Worker[_Step, Found]) -> None:
        if isinstance(result, Candidate):
            worker.results.append(result if self._sift is None else self._sift(result))
            if level is not None:
                level.has_files = True
        elif isinstance(result, FileResult):
            worker.results.append(result)
            if level is not None and result.outcome is Outcome.UNREADABLE:
                level.has_files = True
        elif isinstance(result, Directory):
            if self._is_pruned is not None and self._is_pruned(result.path):
                self.pruned_directories += 1
                if level is not None:
                    level.has_files = True
            elif level is None:
                self._enter(result, None, worker)
            else:
                level.directories.append(result)
        elif isinstance(result, Elsewhere) and level is not None:
            level.has_files = True

    def _listed(self, level: _Level, window: list[os.DirEntry[str]], *, more: bool) -> None:
        if level.parent is not None:
            level.parent.steps_under_way -= 1
            self._take_up(level.parent)
        level.is_listed = not more
        level.entries = sorted(window, key=attrgetter("name"), reverse=True)
        self._levels.append(level)

    def _time_out(self, step: _Step, why: str, worker: Worker[_Step, Found]) -> None:
        match step:
            case (level, entry):
                level.steps_under_way -= 1
                level.missed += 1
                self._keep(result_of(entry.path, Outcome.UNREADABLE, f"cannot be looked at: {why}"), level, worker)
                if level.missed >= HANGING_AT_ONCE and level.steps_under_way == 0:
                    # All of them hang; one after the other, the rest would take for ever.
                    level.entries.clear()
                    level.is_listed = True
                    self._keep(not_listed(level.directory.path, f"several entries hang, {why}"), level, worker)
                    self._take_up(level)
            case _List(level, window):
                self._finish(_List(level, list(window)), not_listed(level.directory.path, why), worker)
            case _Name():
                raise ConfigurationError(f"the list of files cannot be read: {why}")
            case _:
                self._finish(step, result_of(absolute(step), Outcome.UNREADABLE, f"cannot be looked at: {why}"), worker)
