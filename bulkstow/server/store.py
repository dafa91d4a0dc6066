"""Stores the parts of a store request's body, and decides on each (PS3.18 §10.5.3, Annex I).

Takes pieces of a body and returns a result for each part; of HTTP it knows only the status. About 1 MiB of a part is in
memory at most: its UIDs are read from its beginning, and a refused instance is refused before it reaches the disk.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import IntEnum

from aiohttp import web
from anyio import to_thread

from bulkstow.errors import HeadError
from bulkstow.model import Header, Referenced, StoreResponse
from bulkstow.server.heads import quick_header, slow_header
from bulkstow.server.storage import Storage
from bulkstow.wire.multipart_reader import BodyEvent, MultipartReader, PartBegin, PartData, PartEnd
from bulkstow.wire.uids import is_uid

HEAD_BYTES = 64 * 1024
"""The bytes of a part in which UIDs are looked for first; then all that have been received are read."""

WRITE_BYTES = 1024 * 1024
"""The bytes that are hashed and written at once; a call in a thread costs about 0.1 ms."""


class Refusal(IntEnum):
    """The FailureReason of an instance that is not stored (PS3.18 Table I.2-2, PS3.7 Annex C)."""

    DUPLICATE_INSTANCE = 0x0111
    """Other bytes are stored under its SOP Instance UID; the same bytes may be sent again at any time."""
    OUT_OF_RESOURCES = 0xA700
    INVALID_UID = 0xA900
    """A UID is missing or invalid; Azure's code for all errors of its validation."""
    OTHER_STUDY = 0xA901
    """It does not belong to the study in the URL. PS3.18 §10.5.1 has no code: this is Azure's, Orthanc's is 0x0110."""
    CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True, slots=True)
class PartResult:
    """The result of one part."""

    header: Header | None
    """None if its head cannot be read."""
    refusal: int | None
    """The FailureReason; None if the instance is stored."""


def no_objection(_header: Header) -> None:
    """Accept every instance."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The conditions on a request's parts."""

    study_uid: str | None = None
    """The study in the URL, to which every instance must belong (PS3.18 §10.5.1)."""
    max_part_bytes: int | None = None
    judge: Callable[[Header], int | None] = no_objection
    """Called with each valid instance: returns the FailureReason of one that is not to be stored, None to store it."""


async def receive(
    body: AsyncIterable[bytes], reader: MultipartReader, storage: Storage, terms: Terms
) -> list[PartResult]:
    """Store each part of a body when it arrives, and return their results.

    Raises MultipartError if the body is malformed; the parts before that are stored. Raises HTTPRequestEntityTooLarge
    if a part is too large by its Content-Length or by its bytes, and the errors of `body`.
    """
    results: list[PartResult] = []
    part: _Part | None = None
    try:
        async with aclosing(_events(body, reader)) as events:
            async for event in events:
                match event:
                    case PartBegin(headers):
                        part = _Part(storage, terms, headers)
                    case PartData(data) if part:
                        await part.take(data)
                    case PartEnd() if part:
                        results.append(await part.end())
                    case _:
                        pass
    finally:
        if part:
            await part.drop()
    return results


def status_of(response: StoreResponse) -> int:
    """Return 200 if all are stored, 202 if some are, 409 if none is (PS3.18 Table 10.5.3-1)."""
    if not response.failed and not response.other_failures:
        return 200
    return 202 if response.stored else 409


def response_to(results: Sequence[PartResult], studies_url: str) -> StoreResponse:
    """Return a Store Instances Response (PS3.18 Table I.1-1), with a RetrieveURL if it concerns one study."""
    stored: list[Referenced] = []
    failed: list[Referenced] = []
    other_failures: list[Referenced] = []
    studies: set[str] = set()
    for header, refusal in ((result.header, result.refusal) for result in results):
        if header and refusal is None:
            stored.append(Referenced(header.sop_class_uid, header.sop_instance_uid))
            studies.add(header.study_uid)
        elif header and _is_nameable(header):
            failed.append(Referenced(header.sop_class_uid, header.sop_instance_uid, refusal))
        else:
            other_failures.append(Referenced("", "", refusal))
    return StoreResponse(
        stored=tuple(stored),
        failed=tuple(failed),
        other_failures=tuple(other_failures),
        retrieve_url=f"{studies_url}/{studies.pop()}" if len(studies) == 1 else "",
    )


async def _events(body: AsyncIterable[bytes], reader: MultipartReader) -> AsyncGenerator[BodyEvent, None]:
    async for chunk in body:
        for event in reader.feed(chunk):
            yield event
    reader.finish()


class _Part:
    """A part of the body: buffered up to `WRITE_BYTES`, checked when the buffer is first full, then written."""

    def __init__(self, storage: Storage, terms: Terms, headers: Mapping[str, str]) -> None:
        self._terms = terms
        self._incoming = storage.incoming()
        self._pieces: list[memoryview] = []
        self._pending_bytes = 0
        self._size_bytes = 0
        self._header: Header | None = None
        self._refusal: int | None = None
        # The media type of a Part 10 file, apart from parameters (PS3.18 §8.7.3).
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/dicom":
            self._refusal = Refusal.CANNOT_UNDERSTAND
        self._check_size(int(headers.get("content-length", 0)))

    async def take(self, data: memoryview) -> None:
        self._size_bytes += len(data)
        self._check_size(self._size_bytes)
        if self._refusal is not None:
            return
        self._pieces.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= WRITE_BYTES:
            await self._judge(whole=False)
            await self._write()

    async def end(self) -> PartResult:
        await self._judge(whole=True)
        if self._header and self._refusal is None:
            try:
                if not await self._incoming.keep(self._header, self._pieces):
                    self._refusal = Refusal.DUPLICATE_INSTANCE
            except OSError:
                self._refusal = Refusal.OUT_OF_RESOURCES
        await self.drop()
        return PartResult(self._header, self._refusal)

    async def drop(self) -> None:
        await self._incoming.drop()

    async def _write(self) -> None:
        if self._refusal is None:
            try:
                await self._incoming.write(self._pieces)
            except OSError:
                self._refusal = Refusal.OUT_OF_RESOURCES
                await self.drop()
        self._pieces = []
        self._pending_bytes = 0

    async def _judge(self, *, whole: bool) -> None:
        if self._header or self._refusal is not None:
            return
        try:
            self._header = await _header_of(b"".join(self._pieces), whole=whole)
        except HeadError:
            self._refusal = Refusal.CANNOT_UNDERSTAND
        else:
            refusal = _refusal_of(self._header, self._terms.study_uid)
            self._refusal = self._terms.judge(self._header) if refusal is None else refusal

    def _check_size(self, size_bytes: int) -> None:
        limit_bytes = self._terms.max_part_bytes
        if limit_bytes is not None and size_bytes > limit_bytes:
            text = f"a part of at most {limit_bytes} bytes is taken, this one has {size_bytes} or more\n"
            raise web.HTTPRequestEntityTooLarge(limit_bytes, size_bytes, text=text)


async def _header_of(begin: bytes, *, whole: bool) -> Header:
    header = quick_header(begin[:HEAD_BYTES], whole=whole and len(begin) <= HEAD_BYTES)
    if header is None and len(begin) > HEAD_BYTES:
        header = quick_header(begin, whole=whole)
    if header is None:
        header = await to_thread.run_sync(slow_header, begin)
    return header


def _refusal_of(header: Header, study_uid: str | None) -> Refusal | None:
    uids = (header.study_uid, header.series_uid, header.sop_instance_uid, header.sop_class_uid)
    if not all(map(is_uid, uids)):
        return Refusal.INVALID_UID
    if study_uid is not None and study_uid != header.study_uid:
        return Refusal.OTHER_STUDY
    return None


def _is_nameable(header: Header) -> bool:
    # A client finds its instance by the UID that it sent, even an invalid one; XML limits the characters.
    uids = header.sop_instance_uid + header.sop_class_uid
    return bool(header.sop_instance_uid) and uids.isascii() and uids.isprintable()
