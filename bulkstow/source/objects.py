"""Objects of S3, Google Cloud Storage and Azure as a source of instances.

The location of an object is the scheme, the bucket and the key, `s3://bucket/key`, with nothing encoded; its version is
the ETag, which every later request demands, so that content is never mixed. An object is fetched into the spool, a
large one in parts. `objects_bucket` lists and reads; this module decides which objects are read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from itertools import pairwise
from threading import Lock

from bulkstow.errors import DamagedHead, HeadError, InstanceChanged, StorageGone
from bulkstow.model import Candidate, Container, FileResult, Instance, Outcome
from bulkstow.policy.sharding import Sharding
from bulkstow.ports import Found, Segment, Source
from bulkstow.source.files import FileSource
from bulkstow.source.heads import EMPTY, read_open_instance
from bulkstow.source.objects_bucket import (
    ARCHIVED,
    REPLACED,
    Bucket,
    ListedObject,
    ObjectError,
    StoreOptions,
    Unlisted,
)
from bulkstow.source.objects_fetch import WHOLE_BYTES, ObjectBytes, ObjectFetcher, admit_all, listed_object
from bulkstow.source.objects_obstore import azure_container, google_bucket
from bulkstow.source.spool import Spool
from bulkstow.wire.object_store import ARCHIVE_CLASSES, ObjectsName

CONCURRENCY = 32
"""Requests at once. MR slices of 35 KB at a distance of 30 ms: 77, 158, 219 and 351 a second with 4, 8, 16 and 32."""

EMPTY_NAMES_KEPT = 100
"""Names without objects that are remembered for the messages, so that memory is bounded."""

NOT_LOOKED_INTO = "which was not looked into: archives in buckets are not unpacked"


class ObjectSource(Source):
    """Objects at and below some names; `admit` is awaited before bytes are asked for, and returns how many may be.

    Raises ConfigurationError for a name that cannot be used.
    """

    def __init__(
        self,
        names: Iterable[str],
        spool: Spool,
        options: StoreOptions | None = None,
        *,
        concurrency: int = CONCURRENCY,
        admit: Callable[[int], Awaitable[int]] | None = None,
        sharding: Sharding | None = None,
        accept_missing_preamble: bool = False,
        skip_truncated: bool = False,
    ) -> None:
        self._names = tuple(dict.fromkeys(map(ObjectsName.parse, names)))
        self._options = options or StoreOptions()
        self._spool = spool
        self._sharding = sharding
        self._accept_missing_preamble = accept_missing_preamble
        self._fetched = FileSource(accept_missing_preamble=accept_missing_preamble, skip_truncated=skip_truncated)
        self._buckets: dict[str, Bucket] = {}
        self._buckets_lock = Lock()
        self._fetcher = ObjectFetcher(
            spool, self._bucket_of, self._look_at, concurrency=concurrency, admit=admit or admit_all
        )
        self._empty: list[str] = []

    # --- listing

    def scan(self) -> Iterator[Sequence[Found]]:
        """Yield the pages of all names; before that, ask each bucket, so that a wrong name stops the run at once.

        Raises ConfigurationError, and StorageGone if a bucket cannot be listed to its end.
        """
        for name in self._names:
            self._bucket(name).check(name.directory)
        for name in self._names:
            is_empty = True
            for page in self._pages(name):
                is_empty = False
                if found := [item for listed in page if (item := self._found(name, listed)) is not None]:
                    yield found
            if is_empty and len(self._empty) < EMPTY_NAMES_KEPT:
                self._empty.append(str(name))

    def _pages(self, name: ObjectsName) -> Iterator[list[ListedObject | Unlisted]]:
        bucket = self._bucket(name)
        try:
            exact = bucket.find(name.prefix) if name.directory != name.prefix else None
        except ObjectError as error:
            raise StorageGone(f"{name}: {error}") from error
        if exact is not None:
            yield [exact]
        for page in bucket.pages(name.directory):
            if page:
                yield page

    def _found(self, name: ObjectsName, listed: ListedObject | Unlisted) -> Found | None:
        """Return the file or result of an entry of a listing; None for a directory's marker, and for another shard."""
        if isinstance(listed, Unlisted):
            candidate = Candidate(f"{name.root}/{listed.directory}", 0, "")
            return FileResult(candidate, None, Outcome.UNREADABLE, listed.reason)
        if listed.is_marker or not self._owns(name, listed.key):
            return None
        candidate = Candidate(f"{name.root}/{listed.key}", listed.size_bytes, listed.version)
        if not listed.size_bytes:
            return FileResult(candidate, None, Outcome.SKIPPED, EMPTY)
        if listed.storage_class in ARCHIVE_CLASSES:
            return FileResult(candidate, None, Outcome.UNREADABLE, f"{ARCHIVED} ({listed.storage_class})")
        return candidate

    def _owns(self, name: ObjectsName, key: str) -> bool:
        if self._sharding is None:
            return True
        *directories, last = key.removeprefix(name.directory).split("/")
        return self._sharding.place(tuple(directories)).owns_file(last)

    @property
    def empty_parts(self) -> Sequence[str]:
        """The first names without any object."""
        return self._empty

    # --- fetching

    @property
    def is_fetched(self) -> bool:
        """True: objects are on other machines."""
        return True

    async def fetch(self, candidates: Sequence[Candidate]) -> AsyncGenerator[Sequence[Found], None]:
        """Fetch objects into the spool, several at once, and yield each as soon as it is there."""
        async for found in self._fetcher.fetch(candidates):
            yield found

    def release(self, candidates: Sequence[Candidate]) -> None:
        """Free the room of objects in the spool."""
        for candidate in candidates:
            if candidate.extent is not None:
                self._spool.release(candidate.extent)

    async def until_full(self) -> None:
        """Return when an object waits for room in the spool."""
        await self._spool.until_full()

    # --- reading

    def read_head(self, candidate: Candidate) -> Instance:
        """Return the instance in an object; one that is not fetched is read in ranges."""
        if candidate.extent is None:
            return self._read_remote_head(ObjectBytes(self._bucket_of(candidate.location), candidate))
        return _instance(self._fetched.read_head(candidate))

    def _look_at(self, content: ObjectBytes) -> FileResult | None:
        """Return the outcome of an object that need not be fetched, as it is no instance; otherwise None.

        Raises ObjectError.
        """
        try:
            self._read_remote_head(content)
        except DamagedHead as error:
            return FileResult(content.candidate, None, Outcome.UNREADABLE, str(error))
        except HeadError as error:
            return FileResult(content.candidate, None, Outcome.SKIPPED, str(error))
        except OSError as error:
            if isinstance(error.__cause__, ObjectError):
                raise error.__cause__ from None
            raise
        return None

    def _read_remote_head(self, content: ObjectBytes) -> Instance:
        """Return the instance in an object that is not fetched; whether it is cut off is not asked."""
        return _instance(
            read_open_instance(content, content.candidate, accept_missing_preamble=self._accept_missing_preamble)
        )

    def open(self, instance: Instance) -> Generator[Segment]:
        """Yield the bytes of an object from the spool, or, if it is not there, from the store."""
        candidate = instance.candidate
        if candidate.extent is not None:
            yield from self._fetched.open(instance)
            return
        bucket = self._bucket_of(candidate.location)
        ends = [*range(0, candidate.size_bytes, WHOLE_BYTES), candidate.size_bytes]
        try:
            for begin, end in pairwise(ends):
                yield bucket.read(listed_object(bucket, candidate), begin, end)
        except ObjectError as error:
            raise InstanceChanged(f"cannot be read: {error}") from error

    def verify(self, instance: Instance) -> str:
        """Compare content in the spool with the time it was fetched, else the object with the scan."""
        candidate = instance.candidate
        if candidate.extent is not None:
            return self._fetched.verify(instance)
        bucket = self._bucket_of(candidate.location)
        try:
            found = bucket.find(bucket.key_of(candidate.location))
        except ObjectError as error:
            return f"cannot be looked at again: {error}"
        if found is None:
            return "removed since it was listed"
        is_same = (found.size_bytes, found.version) == (candidate.size_bytes, candidate.version)
        return "" if is_same else REPLACED

    def find_truncation(self, candidate: Candidate) -> str:
        """Return a note about the element in which an object in the spool is cut off."""
        return "" if candidate.extent is None else self._fetched.find_truncation(candidate)

    def close(self) -> None:
        """Close the files that were kept open."""
        self._fetched.close()

    # --- buckets

    def _bucket(self, name: ObjectsName) -> Bucket:
        with self._buckets_lock:
            if name.root not in self._buckets:
                self._buckets[name.root] = _open(name, self._options)
            return self._buckets[name.root]

    def _bucket_of(self, location: str) -> Bucket:
        return self._bucket(ObjectsName.parse(location))


def _open(name: ObjectsName, options: StoreOptions) -> Bucket:
    """Return a bucket. Blocks. Raises ConfigurationError for options that cannot be used."""
    if name.scheme == "s3":
        from bulkstow.source.objects_s3 import S3Bucket  # botocore takes 0.1 s to import

        return S3Bucket(name, options)
    return (google_bucket if name.scheme == "gs" else azure_container)(name.bucket, options)


def _instance(found: Instance | Container) -> Instance:
    """Return an instance; raises DamagedHead for an archive."""
    if isinstance(found, Container):
        raise DamagedHead(f"{found.format_name}, {NOT_LOOKED_INTO}")
    return found
