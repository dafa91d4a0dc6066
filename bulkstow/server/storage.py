"""Where stored instances go: a directory, or nowhere.

Owns files, their digests and the catalogue of what is there. Refuses to judge what may be stored (`store` does), with
one exception: whatever it was told, no path leaves its root, since paths are made of valid UIDs only.

All work on the disk is done in threads. What `keep` has accepted has its final name and survives the end of this
process, not a power cut: nothing is synced, an origin for tests and measurements must not wait for platters.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import IO, Protocol

from anyio import CancelScope, to_thread

from bulkstow.model import Header
from bulkstow.server.catalogue import Catalogue, Held, is_uid

_UNFINISHED = ".incoming-"
"""Begins the name of what is not stored yet, or not yet wholly deleted; no UID begins so."""


class Incoming(Protocol):
    """An instance on its way in; ends with either `keep` or `drop`."""

    async def write(self, pieces: Sequence[memoryview]) -> None:
        """Take the next octets; OSError where there is no room for them."""

    async def keep(self, header: Header, pieces: Sequence[memoryview]) -> bool:
        """Take the last octets and store the whole under its UIDs.

        True: it is there, now or since an earlier time with the same bytes. False: other bytes are held under its SOP
        Instance UID, and stay. OSError where there is no room for it; ValueError where a UID is none.
        """

    async def drop(self) -> None:
        """Forget it; without effect after `keep`."""


class Storage(Protocol):
    """What the origin stores into and answers from."""

    catalogue: Catalogue

    def incoming(self) -> Incoming:
        """Return a place for an instance that is about to come."""

    def path(self, header: Header) -> Path | None:
        """Return the file that holds an instance of the catalogue, None where none does."""

    async def remove_study(self, study_uid: str) -> bool:
        """Delete a study, and tell whether it was there."""

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each instance held, by SOP Instance UID; reads what an earlier process stored."""


class DirectoryStorage:
    """Part 10 files as `root/<study>/<series>/<instance>.dcm`, readable by their owner only.

    An instance is written beside the tree and moved into it when it is complete, so whatever has a final name is
    whole; the names alone tell the next process what is there. One process at a time may use a root.
    """

    def __init__(self, root: Path) -> None:
        self.catalogue = Catalogue()
        self._root = root
        self._placing = Lock()
        root.mkdir(parents=True, exist_ok=True)
        for leftover in root.glob(f"{_UNFINISHED}*"):
            _delete(leftover)
        for header in _headers_on_disk(root):
            if self.catalogue.find(header.sop_instance_uid) is None:
                self.catalogue.add(Held(header))

    def incoming(self) -> Incoming:
        """Return a place for an instance that is about to come; no file is made before its first octets."""
        return _IncomingFile(self, self._root)

    def path(self, header: Header) -> Path:
        """Return where an instance has its file; ValueError where a UID is none (PS3.5 §9.1)."""
        uids = (header.study_uid, header.series_uid, header.sop_instance_uid)
        if not all(map(is_uid, uids)):
            raise ValueError("a path is made of valid UIDs only")
        study, series, instance = uids
        return self._root / study / series / f"{instance}.dcm"

    def place(self, unplaced: Path, header: Header, digest: str) -> bool:
        """Give a complete file its final name, unless its UID is taken; blocks.

        True: it has it, or the same bytes do. False: other bytes are held under its UID.
        """
        path = self.path(header)
        with self._placing:
            held = self.catalogue.find(header.sop_instance_uid)
            if held is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                unplaced.replace(path)
                self.catalogue.add(Held(header, digest))
                return True
        return digest == self._digest(held)

    async def remove_study(self, study_uid: str) -> bool:
        """Delete a study, and tell whether it was there."""
        return await to_thread.run_sync(self._remove_study, study_uid)

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each instance held, by SOP Instance UID; reads what an earlier process stored."""
        return {held.header.sop_instance_uid: self._digest(held) for held in self.catalogue.instances()}

    def _remove_study(self, study_uid: str) -> bool:
        with self._placing:
            if not self.catalogue.remove_study(study_uid):
                return False
            # Moved out of the tree at once: the study may come anew while its old files are being deleted.
            grave = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._root))
            (self._root / study_uid).replace(grave / study_uid)
        _delete(grave)
        return True

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
            # Closing writes what is buffered, and fails again where the disk is full; the file goes all the same.
            with suppress(OSError):
                self._file.close()
            Path(self._file.name).unlink(missing_ok=True)
            self._file = None


class DiscardStorage:
    """Keeps nothing, so that a client is measured and not this machine's disk.

    `remember` keeps UIDs and digests: queries are then answered and duplicates told, at the price of SHA-256 over all.
    """

    def __init__(self, *, remember: bool = False) -> None:
        self.catalogue = Catalogue()
        self.received = 0
        """Instances accepted, repeats included."""
        self.received_bytes = 0
        self._remember = remember

    def incoming(self) -> Incoming:
        """Return a place for an instance that is about to come."""
        return _IncomingNowhere(self, remember=self._remember)

    def path(self, _header: Header) -> None:
        """Return None: there are no files."""
        return

    async def remove_study(self, study_uid: str) -> bool:
        """Forget a study, and tell whether it was remembered."""
        return self.catalogue.remove_study(study_uid)

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
                self._storage.catalogue.add(Held(header, digest))
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
