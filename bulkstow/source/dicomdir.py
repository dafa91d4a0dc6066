"""File sets: the files that a DICOMDIR references, and nothing else (PS3.10 §8, PS3.3 Annex F).

Used with `--dicomdir`. The DICOMDIR belongs to the named source itself: it is named, or the named directory holds it.
Every referenced file is sent or has a failure; every other file of the directory is skipped with a reason.
Everything here blocks.
"""

# A `Path` for each file would cost as much as the system calls.
# ruff: noqa: PTH112, PTH114, PTH118, PTH119, PTH120, PTH208

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bulkstow.errors import DamagedHead
from bulkstow.model import Candidate, Container, FileResult, Instance, Outcome
from bulkstow.ports import Found
from bulkstow.source.entries import result_of
from bulkstow.source.files import FileSource
from bulkstow.source.paths import SourcePath, absolute, error_text
from bulkstow.wire.part10 import (
    MEDIA_STORAGE_DIRECTORY,
    MEDIA_STORAGE_SOP_CLASS,
    META_AT,
    TRANSFER_SYNTAX,
    has_magic,
)
from bulkstow.wire.steps import MemoryWindow, run
from bulkstow.wire.tolerant_reader import announced_syntax, read_data_set, read_meta

NAME = "DICOMDIR"

MOST_BYTES = 32 * 2**20
"""The largest DICOMDIR that is read. A record takes 230 bytes there and 4.5 KB while pydicom parses it, so that is
140,000 files and 650 MB; a Blu-ray disc of CT slices has 100,000."""

_RECORDS, _FILE_ID, _SOP_INSTANCE_UID = 0x00041220, 0x00041500, 0x00041511
_IN_USE = 0x00041410
"""Record In-use Flag; a record with 0 was deleted (PS3.3 Table F.3-3)."""

MOST_COMPONENTS = 64
"""A File ID has up to 8 components (PS3.10 §8.2); writers exceed that a little."""


class DamagedDicomdir(Exception):
    """A DICOMDIR cannot be used; the text is the reason for the report."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A record's reference to a file."""

    file_id: tuple[str, ...]
    """Components of a path below the directory of the DICOMDIR."""
    sop_instance_uid: str
    """Empty if the record has none."""

    @property
    def shown(self) -> str:
        """The File ID as a path."""
        return "/".join(self.file_id)


def is_dicomdir_name(name: str) -> bool:
    """Return whether a file name is that of a DICOMDIR, in any spelling of ISO 9660."""
    return _comparable(name) == NAME


def _comparable(component: str) -> str:
    """Return a component without the differences between file systems: case, version and the dot of no extension."""
    return component.partition(";")[0].rstrip(". ").upper()


def references_in(path: str) -> list[Reference]:
    """Return the references of a DICOMDIR. Raises DamagedDicomdir."""
    try:
        size_bytes = Path(path).stat().st_size
        if size_bytes > MOST_BYTES:
            raise DamagedDicomdir(f"longer than {MOST_BYTES // 2**20} MiB, which no DICOMDIR is")
        data = Path(path).read_bytes()
    except OSError as error:
        raise DamagedDicomdir(f"cannot be read: {error_text(error)}") from None
    return [reference for record in _records(data) if (reference := _reference(record)) is not None]


def _records(data: bytes) -> Iterable[Any]:
    """Return the directory records, as pydicom's data sets; it would take a file that is cut off for a whole one."""
    import pydicom.filereader

    if not has_magic(data):
        raise DamagedDicomdir("is no DICOM file")
    window = MemoryWindow(data)
    meta = run(read_meta(META_AT, len(data)), window)
    if meta.uids.get(MEDIA_STORAGE_SOP_CLASS) != MEDIA_STORAGE_DIRECTORY:
        raise DamagedDicomdir(meta.problem or "is no DICOMDIR: its Media Storage SOP Class is another")
    syntax_uid = meta.uids.get(TRANSFER_SYNTAX, "")
    syntax = announced_syntax(syntax_uid)
    read = run(read_data_set(meta.end_at, len(data), syntax_uid, to_end=True), window)
    if syntax is None or read.problem or read.truncation or read.highest_tag < _RECORDS:
        raise DamagedDicomdir(str(read.truncation or "") or read.problem or "has no Directory Record Sequence")
    try:
        file = io.BytesIO(data[meta.end_at :])
        data_set = pydicom.filereader.read_dataset(file, not syntax.is_explicit, not syntax.is_big)
        return list(data_set.get(_RECORDS).value)
    except Exception as error:  # noqa: BLE001 - pydicom raises any error for damaged bytes
        raise DamagedDicomdir(f"damaged: {str(error) or type(error).__name__}") from None


def _reference(record: Any) -> Reference | None:  # noqa: ANN401 - pydicom's data sets are untyped
    """Return the reference of a directory record that is in use; None if it references no file."""
    file_id, in_use, uid = (_raw(record, tag) for tag in (_FILE_ID, _IN_USE, _SOP_INSTANCE_UID))
    if not file_id.strip(b"\0 ") or in_use == b"\0\0":
        return None
    components = tuple(os.fsdecode(component.strip(b"\0 ")) for component in file_id.split(b"\\"))
    return Reference(components, uid.strip(b"\0 ").decode("ascii", "replace"))


def _raw(record: Any, tag: int) -> bytes:  # noqa: ANN401 - as above
    """Return the bytes of an element, which pydicom would validate; a File ID in lower case is no valid CS."""
    element = record.get_item(tag)
    value = None if element is None else element.value
    return value if isinstance(value, bytes) else b""


@dataclass(slots=True)
class _Directories:
    """Finds files by File IDs, whose spelling may differ from that of the file system."""

    root: str
    follow_links: bool
    _names: dict[str, dict[str, str]] = field(default_factory=dict)
    """The entries of each directory, by their comparable names."""

    def find(self, file_id: tuple[str, ...]) -> str | None:
        """Return the path of a file; None if there is none, or the walk does not get there."""
        path = self.root
        for component in file_id:
            if path != self.root and not self.follow_links and os.path.islink(path):
                return None
            exact = os.path.join(path, component)
            if os.path.lexists(exact):
                path = exact
            elif (name := self._entries(path).get(_comparable(component))) is not None:
                path = os.path.join(path, name)
            else:
                return None
        return None if os.path.isdir(path) else path

    def _entries(self, directory: str) -> dict[str, str]:
        if (names := self._names.get(directory)) is None:
            try:
                entries = sorted(os.listdir(directory), reverse=True)  # of several names, the first one counts
            except OSError:
                entries = []
            names = self._names[directory] = {_comparable(name): name for name in entries}
        return names


def _leads_outside(file_id: tuple[str, ...]) -> bool:
    is_name = (c not in ("", ".", "..") and not any(s in c for s in "/\\\0") for c in file_id)
    return not all(is_name) or len(file_id) > MOST_COMPONENTS


class FileSets:
    """The file sets of a run, read one after the other while the scan draws its sources."""

    def __init__(self, *, follow_links: bool) -> None:
        self._follow_links = follow_links
        self._uids: dict[str, str] = {}
        """The SOP Instance UID of each referenced file by its path; empty if the record has none."""
        self._dicomdirs: dict[str, str] = {}
        """The path of the DICOMDIR of each directory."""
        self._unseen: set[str] = set()
        """Referenced files that the walk has not found yet."""

    def sources(self, names: Iterable[str]) -> Iterator[str | FileResult]:
        """Yield the directories of file sets, and results for references without a file.

        A directory whose DICOMDIR cannot be used is not walked. The walk draws the next source after the files of one.
        """
        for name in names:
            path = root_of(name)
            dicomdir = self._find(path)
            if dicomdir is None:
                reason = f"no {NAME} in this directory: --dicomdir sends only files that one references"
                yield result_of(path, Outcome.UNREADABLE, reason)
                continue
            try:
                references = references_in(dicomdir)
            except DamagedDicomdir as error:
                reason = f"{NAME} {error}; nothing of its directory is sent: without --dicomdir all files are"
                yield result_of(dicomdir, Outcome.UNREADABLE, reason)
                continue
            self._dicomdirs[path] = dicomdir
            yield from self._missing(path, dicomdir, references)
            yield path
            yield from (_not_there(gone, dicomdir) for gone in self._take_unseen() if not os.path.lexists(gone))

    def _take_unseen(self) -> list[str]:
        unseen, self._unseen = sorted(self._unseen), set()
        return unseen

    def _find(self, directory: str) -> str | None:
        try:
            names = sorted(filter(is_dicomdir_name, os.listdir(directory)))
        except OSError:
            return None
        paths = [os.path.join(directory, name) for name in names]
        return next(filter(os.path.isfile, paths), None)

    def _missing(self, root: str, dicomdir: str, references: Iterable[Reference]) -> Iterator[FileResult]:
        """Take the references of a file set; yield a failure for each that leads to no file in it."""
        directories = _Directories(root, self._follow_links)
        for reference in references:
            if _leads_outside(reference.file_id):
                reason = f"{NAME} references a file outside of its directory: {reference.shown}"
                yield result_of(f"{dicomdir}#{reference.shown}", Outcome.UNREADABLE, reason)
            elif (path := directories.find(reference.file_id)) is None:
                yield _not_there(os.path.join(root, *reference.file_id), dicomdir)
            else:
                self._unseen.add(path)
                self._uids[path] = self._uids.get(path) or reference.sop_instance_uid

    def sift(self, candidate: Candidate) -> Found:
        """Return a candidate that is referenced, or is a DICOMDIR itself; otherwise why it is not sent."""
        location = candidate.location
        self._unseen.discard(location)
        if location in self._uids or location in self._dicomdirs.values():
            return candidate
        dicomdir = next((d for root, d in self._dicomdirs.items() if location.startswith(os.path.join(root, ""))), "")
        return result_of(location, Outcome.SKIPPED, f"not referenced by {NAME} {dicomdir}")

    def check(self, instance: Instance) -> None:
        """Raise DamagedHead if a file is another instance than the one that its record announces."""
        announced, found = self._uids.get(instance.candidate.location), instance.header.sop_instance_uid
        if announced and announced != found:
            raise DamagedHead(f"not the instance that {NAME} references there: expected {announced}, found {found}")


def _not_there(path: str, dicomdir: str) -> FileResult:
    return result_of(path, Outcome.UNREADABLE, f"referenced by {NAME} {dicomdir}, not there")


def root_of(name: str) -> str:
    """Return the directory of the file set that a source names: the directory, or its DICOMDIR."""
    path = absolute(name)
    return os.path.dirname(path) if is_dicomdir_name(os.path.basename(path)) else path


class FileSetSource(FileSource):
    """The files that the DICOMDIRs of some directories reference."""

    def __init__(self, names: Iterable[str], *, within: Iterable[SourcePath] = (), **options: Any) -> None:  # noqa: ANN401 - those of `FileSource`
        self._file_sets = FileSets(follow_links=options.get("follow_links", False))
        roots = {root_of(source.path): root_of(source.real_path) for source in within}
        super().__init__(
            self._file_sets.sources(names),
            within=[SourcePath(path, real_path) for path, real_path in roots.items()],
            sift=self._file_sets.sift,
            **options,
        )

    def read_head(self, candidate: Candidate) -> Instance | Container:
        """Return the instance in a file, if it is the one that the DICOMDIR announces."""
        found = super().read_head(candidate)
        if isinstance(found, Instance):
            self._file_sets.check(found)
        return found
