"""The storage of instances: a directory, or none.

Owns files, their digests and the catalogue. `store` decides what is stored; no path leaves the root, since paths are
made of valid UIDs only.

All disk access is done in threads. An instance that `keep` has accepted has its final name and survives the end of this
process, but not a power cut: nothing is synced, as an origin for tests and measurements must not wait for the disk.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import IO, Protocol

from anyio import CancelScope, to_thread

from bulkstow.model import Header
from bulkstow.server.catalogue import Catalogue, Held
from bulkstow.wire.uids import is_uid

_UNFINISHED = ".incoming-"
"""The prefix of files that are not complete or not completely deleted; no UID begins with it."""

_INSTANCE_DEPTH = 3
"""The number of UIDs that name an instance: study, series and instance."""


class Incoming(Protocol):
    """An instance that is being received; ends with either `keep` or `drop`."""

    async def write(self, pieces: Sequence[memoryview]) -> None:
        """Take the next bytes. Raises OSError if the disk is full."""

    async def keep(self, header: Header, pieces: Sequence[memoryview]) -> bool:
        """Take the last bytes and store the instance under its UIDs.

        Returns True if it is stored, now or before with the same bytes; False if other bytes are stored under its SOP
        Instance UID and stay. Raises OSError if the disk is full, ValueError if a UID is invalid.
        """

    async def drop(self) -> None:
        """Discard it; without effect after `keep`."""


class Storage(Protocol):
    """The place that the origin stores into and answers from."""

    catalogue: Catalogue

    def incoming(self) -> Incoming:
        """Return a place for the next instance."""

    def path(self, header: Header) -> Path | None:
        """Return the file of an instance of the catalogue, None if there is none."""

    async def remove(self, *uids: str) -> bool:
        """Delete a study, series or instance, and return whether it existed.

        `uids` are those of the study, of the series and of the instance, as far as they are given.
        """

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each stored instance, by SOP Instance UID; reads those of an earlier process."""


class DirectoryStorage:
    """Part 10 files as `root/<study>/<series>/<instance>.dcm`, readable by their owner only.

    An instance is written beside the tree and moved into it when it is complete, so a file with a final name is
    complete; the next process finds instances by these names. One process at a time may use a root.

    `overwrites` lets an instance with other bytes replace the one under its SOP Instance UID.
    """

    def __init__(self, root: Path, *, overwrites: bool = False) -> None:
        self.catalogue = Catalogue()
        self._root = root
        self._overwrites = overwrites
        self._placing = Lock()
        root.mkdir(parents=True, exist_ok=True)
        for leftover in root.glob(f"{_UNFINISHED}*"):
            _delete(leftover)
        for header in _headers_on_disk(root):
            if self.catalogue.find(header.sop_instance_uid) is None:
                self.catalogue.add(Held(header))

    def incoming(self) -> Incoming:
        """Return a place for the next instance; no file is made before its first bytes."""
        return _IncomingFile(self, self._root)

    def path(self, header: Header) -> Path:
        """Return the path of an instance's file. Raises ValueError if a UID is invalid (PS3.5 §9.1)."""
        uids = _uids_of(header)
        if not all(map(is_uid, uids)):
            raise ValueError("a path is made of valid UIDs only")
        study, series, instance = uids
        return self._root / study / series / f"{instance}.dcm"

    def place(self, unplaced: Path, header: Header, digest: str) -> bool:
        """Give a complete file its final name; blocks.

        Returns True if it has it, or the same bytes do; False if other bytes are stored under its UID.
        """
        path = self.path(header)
        removed = None
        with self._placing:
            held = self.catalogue.find(header.sop_instance_uid)
            if held is not None and self._overwrites and digest != self._digest(held):
                removed, held = self._remove(_uids_of(held.header)), None
            if held is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                unplaced.replace(path)
                self.catalogue.add(Held(header, digest, time.monotonic()))
        if removed is not None:
            _delete(removed)
        return held is None or digest == self._digest(held)

    async def remove(self, *uids: str) -> bool:
        """Delete a study, series or instance, and return whether it existed."""
        return await to_thread.run_sync(self._remove_and_delete, uids)

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each stored instance, by SOP Instance UID; reads those of an earlier process."""
        return {held.header.sop_instance_uid: self._digest(held) for held in self.catalogue.instances()}

    def _remove_and_delete(self, uids: Sequence[str]) -> bool:
        with self._placing:
            removed = self._remove(uids)
        if removed is not None:
            _delete(removed)
        return removed is not None

    def _remove(self, uids: Sequence[str]) -> Path | None:
        """Remove a study, series or instance from catalogue and tree; return the directory that now contains it."""
        if not self.catalogue.remove(*uids):
            return None
        path = self._root.joinpath(*uids)
        if len(uids) == _INSTANCE_DEPTH:
            path = path.with_name(f"{path.name}.dcm")
        # Moved out of the tree first: it may be stored again while its old files are being deleted.
        removed = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._root))
        path.replace(removed / path.name)
        for parent in list(path.parents)[: len(uids) - 1]:
            with suppress(OSError):  # it has other instances
                parent.rmdir()
        return removed

    def _digest(self, held: Held) -> str:
        return held.digest or _digest_of(self.path(held.header))


class _IncomingFile:
    def __init__(self, storage: DirectoryStorage, root: Path) -> None:
        self._storage = storage
        self._root = root
        self._sha256 = hashlib.sha256()
        self._file: IO[bytes] | None = None

    async def write(self, pieces: Sequence[memoryview]) -> None:
        await to_thread.run_sync(self._write, pieces)

    async def keep(self, header: Header, pieces: Sequence[memoryview]) -> bool:
        return await to_thread.run_sync(self._keep, header, pieces)

    async def drop(self) -> None:
        if self._file is not None:
            with CancelScope(shield=True):
                await to_thread.run_sync(self._drop)

    def _write(self, pieces: Sequence[memoryview]) -> IO[bytes]:
        if self._file is None:
            self._file = tempfile.NamedTemporaryFile(prefix=_UNFINISHED, dir=self._root, delete=False)  # noqa: SIM115
        for piece in pieces:
            self._sha256.update(piece)
            self._file.write(piece)
        return self._file

    def _keep(self, header: Header, pieces: Sequence[memoryview]) -> bool:
        file = self._write(pieces)
        file.close()
        kept = self._storage.place(Path(file.name), header, self._sha256.hexdigest())
        self._drop()
        return kept

    def _drop(self) -> None:
        if self._file is not None:
            # Closing writes the buffer, which fails again if the disk is full; the file is removed nevertheless.
            with suppress(OSError):
                self._file.close()
            Path(self._file.name).unlink(missing_ok=True)
            self._file = None


class DiscardStorage:
    """Stores nothing, so that a client is measured and not the disk.

    `remember` keeps UIDs and digests, for queries and duplicates, at the cost of SHA-256 over all bytes.
    """

    def __init__(self, *, remember: bool = False) -> None:
        self.catalogue = Catalogue()
        self.received = 0
        """The number of accepted instances, repeats included."""
        self.received_bytes = 0
        self._remember = remember

    def incoming(self) -> Incoming:
        """Return a place for the next instance."""
        return _IncomingNowhere(self, remember=self._remember)

    def path(self, _header: Header) -> None:
        """Return None, as there are no files."""
        return

    async def remove(self, *uids: str) -> bool:
        """Forget a study, series or instance, and return whether it was remembered."""
        return self.catalogue.remove(*uids)

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each instance that is remembered, by SOP Instance UID."""
        return {held.header.sop_instance_uid: held.digest for held in self.catalogue.instances()}


class _IncomingNowhere:
    def __init__(self, storage: DiscardStorage, *, remember: bool) -> None:
        self._storage = storage
        self._sha256 = hashlib.sha256() if remember else None
        self._size_bytes = 0

    async def write(self, pieces: Sequence[memoryview]) -> None:
        self._size_bytes += sum(map(len, pieces))
        if self._sha256 is not None:
            await to_thread.run_sync(self._hash, pieces)

    async def keep(self, header: Header, pieces: Sequence[memoryview]) -> bool:
        await self.write(pieces)
        if self._sha256 is not None:
            digest = self._sha256.hexdigest()
            held = self._storage.catalogue.find(header.sop_instance_uid)
            if held is None:
                self._storage.catalogue.add(Held(header, digest, time.monotonic()))
            elif held.digest != digest:
                return False
        self._storage.received += 1
        self._storage.received_bytes += self._size_bytes
        return True

    async def drop(self) -> None:
        pass

    def _hash(self, pieces: Iterable[memoryview]) -> None:
        if self._sha256 is not None:
            for piece in pieces:
                self._sha256.update(piece)


def _uids_of(header: Header) -> tuple[str, str, str]:
    return header.study_uid, header.series_uid, header.sop_instance_uid


def _headers_on_disk(root: Path) -> Iterator[Header]:
    for path in root.glob("*/*/*.dcm"):
        study, series, instance = path.parts[-3], path.parts[-2], path.stem
        if is_uid(study) and is_uid(series) and is_uid(instance):
            yield Header(study, series, instance, "", "")


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
