"""The names of a run's sources, from the command line and from a list of files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack
from enum import Enum, auto
from functools import partial
from pathlib import Path

from bulkstow.errors import ConfigurationError
from bulkstow.platform.files import open_to_read
from bulkstow.ports import Source
from bulkstow.source.listing import read_list, read_when_ready
from bulkstow.source.walk import Walk

OBJECT_STORES = ("s3", "gs", "az")
"""Schemes of object stores."""

DICOMWEB = ("dicomweb+http", "dicomweb+https")
"""Schemes of DICOMweb servers."""


def scheme_of(name: str) -> str:
    """Return the scheme of a source on another machine; empty if the name is a path."""
    scheme, separator, _ = name.partition("://")
    return scheme if separator and scheme in (*OBJECT_STORES, *DICOMWEB) else ""


def absolute_name(name: str) -> str:
    """Return the absolute path of a name that is a path; links in it are not resolved."""
    return name if scheme_of(name) else os.path.abspath(name)  # noqa: PTH100


class SourceKind(Enum):
    """A kind of source."""

    FILES = auto()
    OBJECTS = auto()
    DICOMWEB = auto()


def kind_of(name: str) -> SourceKind:
    """Return the kind of source that a name is of."""
    scheme = scheme_of(name)
    if not scheme:
        return SourceKind.FILES
    return SourceKind.OBJECTS if scheme in OBJECT_STORES else SourceKind.DICOMWEB


def paths_among(names: tuple[str, ...] | Source) -> tuple[str, ...]:
    """Return the names that are paths, which are looked for before a run starts.

    Raises ConfigurationError for names of several kinds of sources, as a run reads one, and for names with secrets, as
    the ledger keeps the names.
    """
    if not isinstance(names, tuple):
        return ()
    for name in names:
        _check_no_secret(name)
    kinds = {kind_of(name): name for name in names}
    if len(kinds) > 1:
        raise ConfigurationError(f"{' and '.join(kinds.values())}: one kind of source at a time; run once for each")
    return names if SourceKind.FILES in kinds else ()


def _check_no_secret(name: str) -> None:
    kind = kind_of(name)
    if kind is SourceKind.FILES:
        return
    scheme, _, rest = name.partition("://")
    if "@" in rest.partition("/")[0]:
        other = "--source-user" if kind is SourceKind.DICOMWEB else "the login of the cloud's tools"
        raise ConfigurationError(f"{scheme}://…: the source holds a user or password, which would be seen: use {other}")
    root = name.partition("#")[0].partition("?")[0]
    if kind is SourceKind.DICOMWEB and root != name:
        raise ConfigurationError(f"{root}…: a DICOMweb root has no query; leave out ?… and #…")


def distinct(sources: Iterable[str], real_path: Callable[[str], str] = os.path.realpath) -> list[str]:
    """Return the sources without those that are the same as, or below, another one, as its scan finds their files.

    Real paths are compared: the scan of another source does not follow a link that is a source itself.
    """
    by_real_path: dict[Path, str] = {}
    for source in sources:
        path = Path(real_path(source))
        by_real_path.pop(path, None)
        by_real_path[path] = source
    return [source for path, source in by_real_path.items() if not any(above in by_real_path for above in path.parents)]


class ListedNames:
    """The names in a list of files, which is opened at once and read while names are drawn.

    Notifies the walk that draws the names while the list's writer is slow, and if the list is empty.
    """

    def __init__(
        self, name: str, stack: ExitStack | AsyncExitStack, is_given_up: Callable[[], bool], *, null_separated: bool
    ) -> None:
        self._name = name
        self._null_separated = null_separated
        self._is_given_up = is_given_up
        self._walk: Walk | None = None
        if name == "-" and sys.stdin is None:
            raise ConfigurationError("--files-from -: standard input is closed; pipe the list of files into it")
        try:
            self._descriptor = sys.stdin.fileno() if name == "-" else open_to_read(name)
        except OSError as error:
            raise _unreadable(name, error) from error
        if name != "-":
            stack.callback(os.close, self._descriptor)

    def drawn_by(self, walk: Walk) -> None:
        """Set the walk that draws the names."""
        self._walk = walk

    def _wait(self) -> None:
        if self._walk is not None:
            self._walk.wait_for_name()

    def __iter__(self) -> Iterator[str]:
        count = 0
        read = partial(read_when_ready, self._descriptor, self._is_given_up, self._wait)
        try:
            for name in read_list(read, null_separated=self._null_separated):
                count += 1
                yield name
        except OSError as error:
            raise _unreadable(self._name, error) from error
        if not (count or self._is_given_up()) and self._walk is not None:
            self._walk.note_empty(f"--files-from {self._name}")


def _unreadable(name: str, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"--files-from {name}: cannot be read ({error.strerror or error})")
