"""Retrieves instances: WADO-RS (PS3.18 §10.4), streamed to a receiver.

Instances are requested in the transfer syntax in which the server has them. If a server refuses the media type (406),
the next of MEDIA_TYPES is requested; later requests begin with the accepted type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from bulkstow.destination.authorized import AuthorizedClient
from bulkstow.destination.body import ByteLimiter
from bulkstow.destination.http import Request
from bulkstow.errors import MultipartError
from bulkstow.model import Cause, NoResponse, Response
from bulkstow.wire.multipart import DICOM
from bulkstow.wire.multipart_reader import (
    MultipartReader,
    PartData,
    PartEnd,
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


class InstanceReceiver(Protocol):
    """Receives instances, one after the other; raises nothing but RunStopped."""

    async def take(self, data: Sequence[memoryview]) -> bool:
        """Take the next bytes of an instance; return False if nothing more is needed."""

    async def end(self) -> bool:
        """End an instance, which is whole; return False if nothing more is needed."""


class Retriever:
    """Retrieves instances from a DICOMweb server, within the bandwidth limit `throttle`."""

    def __init__(self, client: AuthorizedClient, throttle: ByteLimiter | None = None) -> None:
        self._client = client
        self._throttle = throttle
        self._media_types: tuple[str, ...] = MEDIA_TYPES

    async def retrieve(self, path: str, receiver: InstanceReceiver) -> Response | NoResponse:
        """Retrieve the instances of a resource once, and pass them on.

        A Response with status 200 means that the receiver got all that the server sent, or needed no more; any other
        result means that an instance that has not ended is incomplete. Raises LoginRefused, DestinationRefused, and the
        exceptions of the receiver.
        """
        for media_type in self._media_types:
            content = _Content(receiver, self._throttle)
            # Not compressed: Orthanc takes 8 ms to compress an instance of 0.5 MB, which is 60 MB/s.
            headers = {"Accept": media_type, "Accept-Encoding": "identity"}
            exchange = await self._client.receive(Request("GET", path, headers), content)
            if isinstance(exchange, NoResponse) or exchange.status != 406:
                break
        if isinstance(exchange, NoResponse) or exchange.status >= 300:
            return exchange
        if exchange.status != 200:
            return replace(exchange, body=b"")  # a part of an instance, which is no message
        if fault := await content.end():
            return NoResponse(Cause.MALFORMED, body_started=False, detail=fault)
        self._media_types = (media_type, *(other for other in MEDIA_TYPES if other != media_type))
        return exchange


class _Content:
    """The content of one response: finds the instances in it."""

    def __init__(self, receiver: InstanceReceiver, throttle: ByteLimiter | None) -> None:
        self._receiver = receiver
        self._throttle = throttle
        self._multipart: MultipartReader | None = None
        self._fault = ""
        self._is_wanted = True

    def begin(self, content_type: str) -> None:
        """Begin a response with this Content-Type."""
        try:
            media_type = read_content_type(content_type).media_type
            if media_type not in SINGLE_PART_TYPES:
                self._multipart = MultipartReader(boundary_of(content_type))
        except MultipartError as error:
            self._fault = str(error)

    async def take(self, piece: bytes) -> bool:
        """Pass on the bytes of instances; return False if the rest is not needed."""
        if self._throttle is not None:
            left_bytes = len(piece)
            while left_bytes:
                left_bytes -= await self._throttle.admit(left_bytes)
        if self._fault:
            return False
        if self._multipart is None:
            self._is_wanted = await self._receiver.take([memoryview(piece)])
        else:
            await self._take_parts(self._multipart, piece)
        return self._is_wanted and not self._fault

    async def _take_parts(self, multipart: MultipartReader, piece: bytes) -> None:
        try:
            events = multipart.feed(piece)
        except MultipartError as error:
            self._fault = str(error)
            return
        for event in events:
            if self._is_wanted and isinstance(event, PartData):
                self._is_wanted = await self._receiver.take([event.data])
            elif self._is_wanted and isinstance(event, PartEnd):
                self._is_wanted = await self._receiver.end()

    async def end(self) -> str:
        """End the response; return the error in it, or ""."""
        if self._fault or not self._is_wanted:
            return self._fault
        if self._multipart is None:
            await self._receiver.end()
            return ""
        try:
            self._multipart.finish()
        except MultipartError as error:
            return str(error)
        return ""
