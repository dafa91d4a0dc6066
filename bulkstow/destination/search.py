"""QIDO-RS of a server, for verification: one request at a time, parsed (PS3.18 §10.6).

It makes no retries and decides nothing about instances. A response that is not DICOM JSON is a `NoResponse`: a
truncated page may arrive complete at the next request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeVar

import anyio.to_thread

from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import Auth
from bulkstow.destination.authorized import AuthorizedClient
from bulkstow.destination.http import HttpClient, Request
from bulkstow.destination.masking import is_telling
from bulkstow.destination.preflight import TIMEOUT_S
from bulkstow.errors import DestinationRefused
from bulkstow.model import Cause, NoResponse, Response
from bulkstow.policy.exchange import said_by
from bulkstow.policy.preflight import Asked, Step, judge_search, login_refused, unreachable
from bulkstow.wire.search_result import instances_in, studies_in

R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S", bound=Sized)

ACCEPT = "application/dicom+json"
"""The only response format that is parsed; every server offers it."""

PAGE_LIMIT_BYTES = 64 * 2**20
"""The largest response. Orthanc lists an instance in 1 to 4 KiB, and a server that ignores `limit` lists a whole study,
here up to 16,000 instances."""

LARGE_PAGE_BYTES = 200_000
"""Larger pages are parsed in a thread; parsing a page of this size takes 2 ms."""

_OK = (200, 204, 206)


@dataclass(frozen=True, slots=True)
class Found(Generic[R_co]):
    """The results of one request."""

    results: R_co
    size_bytes: int
    """The size of the response."""
    instances: int
    """The number of instances or studies in it."""


class SearchService:
    """Searches of one server; use it as an asynchronous context manager.

    Raises ConfigurationError for certificates that cannot be loaded, and for headers that cannot be read or set.
    """

    def __init__(self, settings: DestinationSettings, auth: Auth) -> None:
        self._settings = settings
        self._http = HttpClient(settings)
        self.client = AuthorizedClient(self._http, auth)
        """Logs in the other requests to the same server."""

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.__aexit__(exc_type, exc, traceback)

    async def instances(
        self, study_uid: str, path: str, query: Mapping[str, str]
    ) -> Found[tuple[str, ...]] | Response | NoResponse:
        """Return the SOP Instance UIDs of a study that one response lists, in its order."""
        return await self.search(path, query, partial(instances_in, study_uid=study_uid))

    async def studies(self, query: Mapping[str, str]) -> Found[dict[str, int | None]] | Response | NoResponse:
        """Return the number of instances by Study Instance UID; None if the server does not tell it."""
        return await self.search("/studies", query, studies_in)

    async def search(
        self, path: str, query: Mapping[str, str], parse: Callable[[bytes], S]
    ) -> Found[S] | Response | NoResponse:
        """Make a search, and return its parsed results; `parse` raises ValueError for anything else than results.

        Raises LoginRefused for a 401 that a fresh login does not change.
        """
        response = await self._get(path, query, self._settings.response_timeout_s)
        if isinstance(response, NoResponse):
            return response
        if response.status == 401:
            raise login_refused(response, self._asked)
        if response.status not in _OK:
            return response
        body = response.body
        parsed = partial(parse, body)
        try:
            results = await anyio.to_thread.run_sync(parsed) if len(body) > LARGE_PAGE_BYTES else parsed()
        except ValueError as error:
            return NoResponse(Cause.MALFORMED, body_started=False, detail=str(error))
        return Found(results, len(body), len(results))

    async def probe(self) -> Response | NoResponse:
        """Search any study, to find out whether the server responds."""
        probe = self._settings.profile.probe
        return await self._get(probe.path, probe.query, self._settings.response_timeout_s)

    async def reach(self) -> None:
        """Check that QIDO-RS responds and accepts the login. Raises DestinationRefused and LoginRefused.

        Without preflight, check only that a connection can be made.
        """
        asked = self._asked
        if self._settings.no_preflight:
            if why := await self._http.try_connection():
                raise unreachable(why, asked)
            return
        probe = self._settings.profile.probe
        response = await self._get(probe.path, probe.query, TIMEOUT_S)
        if judge_search(response, asked) is Step.ASK_BY_STORING and isinstance(response, Response):
            raise DestinationRefused(
                f"no QIDO-RS at {asked.place} (HTTP {response.status}), so its instances cannot be listed"
                f"{said_by(response)}"
            )

    @property
    def _asked(self) -> Asked:
        has_login = self.client.has_login or any(map(is_telling, self._http.headers))
        return Asked(self._settings.root, has_login, self._http.proxy.name if self._http.proxy else "")

    async def _get(self, path: str, query: Mapping[str, str], timeout_s: float) -> Response | NoResponse:
        request = Request("GET", path, {"Accept": ACCEPT}, query, response_limit_bytes=PAGE_LIMIT_BYTES)
        return await self.client.exchange(request, timeout_s=min(timeout_s, self._settings.response_timeout_s))
