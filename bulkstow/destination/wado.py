"""Retrieves single instances: WADO-RS (PS3.18 §10.4), streamed to a receiver.

An instance is requested in the transfer syntax in which the server has it. A server that refuses the media type (406)
is asked for the next one of MEDIA_TYPES; the one that it accepts comes first from then on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from bulkstow.destination.authorized import AuthorizedClient
from bulkstow.destination.body import ByteLimiter
from bulkstow.destination.http import Request
from bulkstow.errors import MultipartError
from bulkstow.model import Cause, NoResponse, Response
from bulkstow.wire.multipart import DICOM
from bulkstow.wire.multipart_reader import (
    MultipartReader,
    PartBegin,
    PartData,
    boundary_of,
    read_content_type,
)

MEDIA_TYPES = (
    f'multipart/related; type="{DICOM}"; transfer-syntax=*',
    f"{DICOM}; transfer-syntax=*",
    f'multipart/related; type="{DICOM}"',
    DICOM,
)
"""Accept headers, the preferred one first. Without a transfer syntax a server may transcode to the default, Explicit VR
Little Endian (PS3.18 §8.7.3.5.2); Orthanc does."""

SINGLE_PART_TYPES = (DICOM, "application/octet-stream")
"""Types of a response that is one instance without framing; static servers do not know the type of a file."""

Take = Callable[[Sequence[memoryview]], Awaitable[bool]]
"""Takes the next bytes of an instance, and returns False if the rest is not needed."""


class Retriever:
    """Retrieves instances from a DICOMweb server, within the bandwidth limit `throttle`."""

    def __init__(self, client: AuthorizedClient, throttle: ByteLimiter | None = None) -> None:
        self._client = client
        self._throttle = throttle
        self._media_types: tuple[str, ...] = MEDIA_TYPES

    async def retrieve(self, path: str, take: Take) -> Response | NoResponse:
        """Retrieve the instance at a path once, and pass its bytes on.

        A Response with status 200 means that `take` got one whole instance, or did not need the rest; with any other
        result, what it got is of no use. Raises LoginRefused, DestinationRefused, and what `take` raises.
        """
        for media_type in self._media_types:
            content = _Content(take, self._throttle)
            # Compressed content arrives later: Orthanc compresses with 30 MB/s.
            headers = {"Accept": media_type, "Accept-Encoding": "identity"}
            exchange = await self._client.receive(Request("GET", path, headers), content)
            if isinstance(exchange, NoResponse) or exchange.status != 406:
                break
        if isinstance(exchange, NoResponse) or exchange.status != 200:
            return exchange
        if fault := content.end():
            return NoResponse(Cause.MALFORMED, body_started=False, detail=fault)
        self._media_types = (media_type, *(other for other in MEDIA_TYPES if other != media_type))
        return exchange


class _Content:
    """The content of one response: finds the instance in it."""

    def __init__(self, take: Take, throttle: ByteLimiter | None) -> None:
        self._take = take
        self._throttle = throttle
        self._multipart: MultipartReader | None = None
        self._parts = 0
        self._fault = ""
        self._is_left = False

    def begin(self, content_type: str) -> None:
        """Begin a response with this Content-Type."""
        try:
            media_type = read_content_type(content_type).media_type
            if media_type not in SINGLE_PART_TYPES:
                self._multipart = MultipartReader(boundary_of(content_type))
        except MultipartError as error:
            self._fault = str(error)

    async def take(self, piece: bytes) -> bool:
        """Pass on what belongs to the instance; return False if the rest is not needed."""
        if self._throttle is not None:
            left_bytes = len(piece)
            while left_bytes:
                left_bytes -= await self._throttle.admit(left_bytes)
        data = [memoryview(piece)] if self._multipart is None else self._parsed(self._multipart, piece)
        if not self._fault and data and not await self._take(data):
            self._is_left = True
        return not self._fault and not self._is_left

    def _parsed(self, multipart: MultipartReader, piece: bytes) -> list[memoryview]:
        data: list[memoryview] = []
        try:
            for event in multipart.feed(piece):
                if isinstance(event, PartData):
                    data.append(event.data)
                elif isinstance(event, PartBegin):
                    self._parts += 1
            if self._parts > 1:
                self._fault = "more than the one instance that was requested"
        except MultipartError as error:
            self._fault = str(error)
        return data

    def end(self) -> str:
        """End the response; return what is wrong with it, or ""."""
        if self._fault or self._is_left:
            return self._fault
        try:
            if self._multipart is not None:
                self._multipart.finish()
        except MultipartError as error:
            return str(error)
        return ""
