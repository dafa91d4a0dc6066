"""Small archives as sources of each kind, which count the instances that are fetched from another machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from bulkstow.model import Header
from bulkstow.server.faults import Operation
from bulkstow.server.read_terms import ReadTerms
from bulkstow.server.storage import DirectoryStorage
from bulkstow.wire.synthetic import part10
from tests.archives import header
from tests.cli.command import served
from tests.object_stores import BUCKET, LOGIN, faulty_store
from tests.source.test_dicomdir import write_dicomdir
from tests.sources_end_to_end.packing import PACKERS


@dataclass(frozen=True, slots=True)
class Archive:
    """Instances of a few studies."""

    contents: Mapping[str, bytes]
    """By SOP Instance UID."""
    headers: Mapping[str, Header]

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each instance."""
        return {uid: hashlib.sha256(content).hexdigest() for uid, content in self.contents.items()}

    def write(self, directory: Path) -> list[tuple[str, str]]:
        """Write the instances as files, a directory for each study; return the directories and names of files."""
        written = []
        for number, (uid, content) in enumerate(self.contents.items()):
            study = f"S{self.headers[uid].study_uid.rpartition('.')[2]:0>4}"
            (directory / study).mkdir(parents=True, exist_ok=True)
            (directory / study / f"IM{number:06}").write_bytes(content)
            written.append((study, f"IM{number:06}"))
        return written

    def store(self, root: Path) -> DirectoryStorage:
        """Write the instances as a server of ours keeps them."""
        storage = DirectoryStorage(root)
        for uid, content in self.contents.items():
            path = storage.path(self.headers[uid])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return DirectoryStorage(root)


def archive_of(studies: int, instances: int, *, rows: int = 16, columns: int = 16) -> Archive:
    """Return studies of so many instances each."""
    headers = [header(number, study=study) for study in range(1, studies + 1) for number in range(1, instances + 1)]
    contents = {
        uids.sop_instance_uid: part10(uids, rows=rows, columns=columns, number=number)
        for number, uids in enumerate(headers)
    }
    return Archive(contents, {uids.sop_instance_uid: uids for uids in headers})


@dataclass(frozen=True, slots=True)
class OpenSource:
    """A source that can be read."""

    name: str
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    fetched: Callable[[], list[str]] = list
    """Returns the SOP Instance UIDs of all that was requested so far, in that order; of files nothing is known."""


@contextmanager
def files(kind: str, archive: Archive, directory: Path) -> Iterator[OpenSource]:
    """Give the archive, packed."""
    archive.write(directory / "tree")
    (directory / "packed").mkdir()
    yield OpenSource(str(PACKERS[kind](directory / "tree", directory / "packed")))


@contextmanager
def file_set(archive: Archive, directory: Path) -> Iterator[OpenSource]:
    """Give the archive as a directory with a DICOMDIR."""
    written = archive.write(directory / "tree")
    write_dicomdir(directory / "tree" / "DICOMDIR", zip(written, archive.contents, strict=True))
    yield OpenSource(str(directory / "tree"), ("--dicomdir",))


@contextmanager
def bucket(archive: Archive, directory: Path) -> Iterator[OpenSource]:
    """Give the archive as objects that have the UIDs as keys."""
    with faulty_store(contents=dict(archive.contents)) as store:
        yield OpenSource(
            f"s3://{BUCKET}",
            ("--source-endpoint", store.endpoint),
            LOGIN,
            lambda: [key for path in tuple(store.requests) if (key := path.rpartition("/")[2]) in archive.contents],
        )


@dataclass(slots=True)
class CountedReads:
    """Notes the paths of retrievals."""

    paths: list[str] = field(default_factory=list)

    async def terms(self, request: web.Request, operation: Operation) -> ReadTerms:
        """Answer without a fault."""
        if operation is Operation.RETRIEVE:
            self.paths.append(request.path)
        return ReadTerms()

    def fetched(self, archive: Archive) -> list[str]:
        """Return the instances that were requested, as such or with their series."""
        names = [path.rpartition("/")[2] for path in tuple(self.paths)]
        return [uid for name in names for uid, uids in archive.headers.items() if name in (uid, uids.series_uid)]


@contextmanager
def dicomweb_server(archive: Archive, directory: Path) -> Iterator[OpenSource]:
    """Give the archive in the embedded server."""
    reads = CountedReads()
    with served(archive.store(directory / "source"), read_fault=reads) as url:
        yield OpenSource(f"dicomweb+{url}", fetched=lambda: reads.fetched(archive))


KINDS: Mapping[str, Callable[[Archive, Path], AbstractContextManager[OpenSource]]] = {
    "file set": file_set,
    "bucket": bucket,
    "DICOMweb server": dicomweb_server,
}

REMOTE = frozenset({"bucket", "DICOMweb server"})
"""Kinds of sources whose instances are fetched from another machine."""


def source_of(kind: str, archive: Archive, directory: Path) -> AbstractContextManager[OpenSource]:
    """Open a source of a kind, or of files that are packed in a way."""
    return KINDS[kind](archive, directory) if kind in KINDS else files(kind, archive, directory)
