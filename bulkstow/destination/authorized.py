"""Logs requests in: the one place where a login meets HTTP, for STOW-RS, QIDO-RS and DELETE alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import anyio

from bulkstow.config import ONE_LOGIN
from bulkstow.destination.auth import Auth, AuthRequest, NoLogin
from bulkstow.destination.http import HttpClient, Request
from bulkstow.destination.responses import ResponseReceiver
from bulkstow.errors import ConfigurationError
from bulkstow.model import Cause, Exchange, NoResponse, Response
from bulkstow.wire.request_headers import has_header

E = TypeVar("E", bound=Exchange)


class AuthorizedClient:
    """An HTTP client with a login.

    Raises ConfigurationError if the user's headers have an Authorization beside the login.
    """

    def __init__(self, client: HttpClient, auth: Auth) -> None:
        self._client = client
        self._auth = auth
        self.has_login = not isinstance(auth, NoLogin)
        if self.has_login and has_header(client.headers, "Authorization"):
            raise ConfigurationError(f"the header Authorization: {ONE_LOGIN}")

    async def exchange(self, request: Request, *, timeout_s: float) -> Response | NoResponse:
        """Make a request within a time limit that does not include refreshing the login."""

        async def attempt(authorized: Request) -> Response | NoResponse:
            with anyio.move_on_after(timeout_s):
                return await self._client.exchange(authorized)
            return NoResponse(Cause.UNANSWERED, body_started=False)

        return await self.authorized(request, attempt)

    async def receive(self, request: Request, receiver: ResponseReceiver) -> Response | NoResponse:
        """Make a request whose response is streamed to a receiver, as `HttpClient.receive` does."""
        return await self.authorized(request, partial(self._client.receive, receiver=receiver))

    async def authorized(self, request: Request, attempt: Callable[[Request], Awaitable[E]]) -> E:
        """Call `attempt` with the request and its login; after a 401, once more if the login can be refreshed.

        Each attempt needs a body of its own, so `attempt` adds it. Raises LoginRefused where the login cannot be
        refreshed.
        """
        request = await self._authorize(request)
        exchange = await attempt(request)
        if isinstance(exchange, Response) and exchange.status == 401 and await self._auth.refresh(request.login):
            exchange = await attempt(await self._authorize(request))
        return exchange

    async def _authorize(self, request: Request) -> Request:
        headers = {**self._client.headers, **request.headers}
        asked = AuthRequest(request.method, str(self._client.url(request)), headers)
        return replace(request, login=await self._auth.authorize(asked))
