"""Changes in directories, as the operating system reports them: inotify and its equivalents, by `watchfiles`.

The system reports changes on a network file system only if this computer made them, so directories there are not
watched. Nothing here is needed for a complete result: a scan finds every file, later.
"""

# ruff: noqa: PTH112, PTH116 - as everywhere in this package

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence

from bulkstow.platform.files import listed_mounts
from bulkstow.source.paths import error_text

REMOTE = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs"),
        *("nfs4", "orangefs", "panfs", "smb3", "smbfs", "vboxsf", "virtiofs"),
    }
)
"""Types of file systems to which other computers write; FUSE counts too, because its storage is unknown."""

LOOK_EVERY_MS = 100
"""Interval at which changes are collected. With it an idle watch takes 0.1 % of a core."""

DEBOUNCE_MS = 1000
"""The longest time for which changes are collected while others follow."""

NOT_INSTALLED = "watchfiles is not installed (pip install watchfiles)"

BEGUN_WITHIN_MS = 200
"""Time after which the thread tells that it watches, though nothing has changed yet."""

Listener = Callable[[Sequence[str], Sequence[str]], None]
"""Takes the paths that are new or have changed, and those that are gone."""


class Changes:
    """Watches directories in a thread of its own, which calls the listeners."""

    def __init__(
        self,
        directories: Iterable[str],
        *,
        on_begin: Callable[[], None],
        on_changes: Listener,
        on_end: Callable[[str], None],
    ) -> None:
        self._directories = tuple(directories)
        self._on_begin = on_begin
        """Called when changes are told from now on."""
        self._on_changes = on_changes
        self._on_end = on_end
        """Takes the reason for which no more changes are told."""
        self._stop: threading.Event | None = None
        self._identities: list[tuple[int, int] | None] = []

    def renew(self) -> None:
        """Begin to watch, or begin anew if that has ended, or a directory is another one, as after a mount. Blocks."""
        identities = [_identity(directory) for directory in self._directories]
        if self._stop is not None and not self._stop.is_set() and identities == self._identities:
            return
        self.end()
        self._identities = identities
        directories = [path for path, identity in zip(self._directories, identities, strict=True) if identity]
        if not directories:
            return
        stop = self._stop = threading.Event()
        threading.Thread(target=self._watch, args=(directories, stop), name="changes", daemon=True).start()

    def end(self) -> None:
        """Watch no longer; does not wait for the thread."""
        if self._stop is not None:
            self._stop.set()

    def _watch(self, directories: Sequence[str], stop: threading.Event) -> None:
        why, has_begun = "the system ended it", False
        try:
            from watchfiles import Change, watch

            for changes in watch(
                *directories,
                watch_filter=None,
                debounce=DEBOUNCE_MS,
                step=LOOK_EVERY_MS,
                stop_event=stop,
                raise_interrupt=False,
                ignore_permission_denied=True,
                rust_timeout=BEGUN_WITHIN_MS,
                yield_on_timeout=True,
            ):
                if not has_begun:
                    has_begun = True
                    self._on_begin()
                if not changes:
                    continue
                # A path that was removed and is there again has both.
                changed = {path for change, path in changes if change is not Change.deleted}
                gone = {path for change, path in changes if change is Change.deleted} - changed
                self._on_changes(sorted(changed), sorted(gone))
        except ImportError:
            why = NOT_INSTALLED
        except OSError as error:
            why = error_text(error)
        except RuntimeError as error:  # such as a name that is not UTF-8
            why = str(error)
        if not stop.is_set():
            stop.set()
            self._on_end(why)


def remote_type(path: str, mounts: str | None = None) -> str:
    """Return the type of a path's file system if other computers may write to it; otherwise nothing. Blocks.

    `mounts` are those of this computer, unless they are given.
    """
    type_ = file_system_type(os.path.realpath(path), listed_mounts() if mounts is None else mounts)
    return type_ if type_ in REMOTE or type_.startswith("fuse.") or type_ == "fuse" else ""


def file_system_type(path: str, mounts: str) -> str:
    """Return the type of the file system of a real path, from the mounts as Linux lists them; empty if unknown."""
    best, found = "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        place = _unescaped(fields[4])
        is_above = path == place or path.startswith(place.rstrip("/") + "/")
        if is_above and len(place) >= len(best):  # of several at one place, the last one is on top
            best, found = place, after.split()[0]
    return found


def _unescaped(place: str) -> str:
    """Return a mount point; Linux writes blanks and backslashes in it as octal numbers."""
    for number in ("040", "011", "012", "134"):
        place = place.replace(f"\\{number}", chr(int(number, 8)))
    return place


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if os.path.isdir(path) else None
