"""Carries out faults of store requests.

Owns the effect of each kind of fault on a request, its body and its answer; `faults` chooses. Independently of the
answer, the storage has an instance exactly if the definition of the kind says so: tests compare with the content of the
storage.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from dataclasses import replace
from typing import NoReturn
from uuid import NAMESPACE_OID, uuid5

from aiohttp import web
from anyio import sleep

from bulkstow.model import Header, Referenced, StoreResponse
from bulkstow.server.early_answers import EARLY, early_answer
from bulkstow.server.faults import Arrival, FaultSelector, Kind, Plan, PlannedFault
from bulkstow.server.media import JSON, XML
from bulkstow.server.message import close
from bulkstow.server.origin import ORIGIN
from bulkstow.server.store import Refusal, status_of
from bulkstow.wire.store_response import to_json, to_xml

ALREADY_STORED = 0xB00E
"""45070: a failure of Azure, although it is in the range of warnings of PS3.4."""

STACK_TRACE = """java.lang.NullPointerException
\tat org.example.archive.StoreService.store(StoreService.java:1042)
\tat org.example.archive.StowRS.store(StowRS.java:117)
"""

_TAG = re.compile(rb'"[0-9A-F]{8}":')


class FaultInjector:
    """Carries out a plan: the `fault` of an origin."""

    def __init__(self, plan: Plan) -> None:
        self._selector = FaultSelector(plan)

    @property
    def injected(self) -> Counter[Kind]:
        """How often each kind was injected, in requests or instances."""
        return self._selector.injected

    async def before(self, request: web.Request, number: int) -> FaultyRequest:
        """Choose the fault of a request, and begin with it."""
        faulty = FaultyRequest(request, number, self._selector)
        await faulty.begin()
        return faulty

    async def after(self, _request: web.Request, _number: int, response: StoreResponse) -> StoreResponse:
        """Return the response as it is: each request has a `FaultyRequest`, which decides."""
        return response


class FaultyRequest:
    """One store request and its faults."""

    def __init__(self, request: web.Request, number: int, selector: FaultSelector) -> None:
        self._request = request
        self._arrival = Arrival(number, request.content_length)
        self._selector = selector
        self._fault = selector.at_request(self._arrival)
        self._marked: dict[str, PlannedFault] = {}
        """The faults of single instances, by SOP Instance UID."""
        self._judged = 0
        self._has_begun = False
        self._stores = True
        # The reset comes in the middle of the body, or at once if its length is not known.
        self._reset_at_bytes = (request.content_length or 0) // 2

    async def begin(self) -> None:
        """Carry out what does not wait for the end of the body; once, and only if a fault has been chosen."""
        if self._fault is None or self._has_begun:
            return
        self._has_begun = True
        origin = self._request.app[ORIGIN]
        if self._fault.kind is Kind.FROZEN:
            origin.freeze(self._fault.delay_s)
        await origin.thawed()
        if self._fault.kind in EARLY:
            raise early_answer(self._fault)

    async def body(self, pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
        """Yield the body as the origin reads it."""
        taken_bytes = 0
        async for piece in pieces:
            if self._fault and self._fault.kind is Kind.SLOW_READING:
                await sleep(len(piece) / self._fault.bytes_per_second)
            is_reset = self._fault is not None and self._fault.kind is Kind.RESET
            yield piece[: max(0, self._reset_at_bytes - taken_bytes)] if is_reset else piece
            taken_bytes += len(piece)
            await self.begin()
            if self._fault and self._fault.kind is Kind.RESET and taken_bytes >= self._reset_at_bytes:
                self._hang_up()

    def judge(self, header: Header) -> int | None:
        """Return the FailureReason of an instance that is not to be stored, None to store it."""
        uid = header.sop_instance_uid
        self._judged += 1
        fault = self._selector.at_instance(self._arrival, uid, is_first=self._judged == 1, chosen=self._fault)
        if fault and fault.applies_to_instances:
            self._marked[uid] = fault
            is_stored = fault.kind is Kind.DUPLICATE or (fault.kind is Kind.LEFT_OUT and fault.stored)
            return None if is_stored else fault.reason or Refusal.OUT_OF_RESOURCES
        if fault:
            # Chosen by this instance, in the middle of the body: it applies from here on.
            self._fault, self._reset_at_bytes = fault, 0
            self._stores = fault.kind not in EARLY and fault.kind is not Kind.RESET
        is_left = self._judged % 2 == 0 and self._fault is not None and self._fault.kind is Kind.HALF_STORED
        return None if self._stores and not is_left else Refusal.OUT_OF_RESOURCES

    async def after(
        self, _request: web.Request, _number: int, response: StoreResponse
    ) -> StoreResponse | web.StreamResponse:
        """Return the answer to a request whose body has been read."""
        response = _reworded(response, self._marked)
        match self._fault:
            case PlannedFault(kind=Kind.HALF_STORED):
                raise web.HTTPInternalServerError(text=STACK_TRACE)
            case PlannedFault(kind=Kind.SILENT):
                self._hang_up()
            case PlannedFault(kind=Kind.TRUNCATED):
                await self._send(response, share=0.5)
                self._hang_up()
            case PlannedFault(kind=Kind.CLOSED_KEEP_ALIVE):
                sent = await self._send(response)
                close(self._request)
                return sent
            case PlannedFault(kind=Kind.TRICKLE, delay_s=delay_s):
                return await self._send(response, delay_s=delay_s)
            case PlannedFault(kind=Kind.SLOW_THINKING, delay_s=delay_s):
                await sleep(delay_s)
            case PlannedFault(kind=kind) if kind in _DISGUISES:
                content_type, write = _DISGUISES[kind]
                headers = {"Content-Type": content_type}
                return web.Response(status=status_of(response), body=write(response), headers=headers)
            case _:
                pass
        return response

    async def _send(
        self, response: StoreResponse, *, share: float = 1.0, delay_s: float | None = None
    ) -> web.StreamResponse:
        """Send a share of the answer, at once or byte by byte; the whole length is announced."""
        body = to_json(response)
        answer = web.StreamResponse(status=status_of(response), headers={"Content-Type": JSON})
        answer.content_length = len(body)
        await answer.prepare(self._request)
        size_bytes = int(len(body) * share)
        step_bytes = size_bytes if delay_s is None else 1
        for start in range(0, size_bytes, step_bytes):
            await answer.write(body[start : min(start + step_bytes, size_bytes)])
            await sleep(delay_s or 0)
        return answer

    def _hang_up(self) -> NoReturn:
        close(self._request)
        raise ConnectionResetError("closed on purpose")


def _reworded(response: StoreResponse, marked: Mapping[str, PlannedFault]) -> StoreResponse:
    """Return a response as the faults of single instances change it."""

    def has_fault(item: Referenced, *kinds: Kind) -> bool:
        fault = marked.get(item.sop_instance_uid)
        return fault is not None and fault.kind in kinds

    duplicates = tuple(replace(i, code=ALREADY_STORED) for i in response.stored if has_fault(i, Kind.DUPLICATE))
    failed = (_renamed(i, marked.get(i.sop_instance_uid)) for i in response.failed if not has_fault(i, Kind.LEFT_OUT))
    return replace(
        response,
        stored=tuple(i for i in response.stored if not has_fault(i, Kind.DUPLICATE, Kind.LEFT_OUT)),
        failed=(*failed, *duplicates),
    )


def _renamed(item: Referenced, fault: PlannedFault | None) -> Referenced:
    match fault:
        case PlannedFault(kind=Kind.NAMELESS):
            return replace(item, sop_instance_uid="")
        case PlannedFault(kind=Kind.MADE_UP):
            return replace(item, sop_instance_uid=f"2.25.{uuid5(NAMESPACE_OID, item.sop_instance_uid).int}")
        case _:
            return item


_DISGUISES: dict[Kind, tuple[str, Callable[[StoreResponse], bytes]]] = {
    Kind.NOT_JSON: ("text/plain", lambda _response: b"success"),
    Kind.XML: (XML, to_xml),
    Kind.TEXT_PLAIN: ("text/plain", to_json),
    Kind.LOWER_CASE: (JSON, lambda response: _TAG.sub(lambda tag: tag[0].lower(), to_json(response))),
}
"""Whole answers under another media type or in another notation."""
