"""One login for every kind of request: what is authorized, and what happens after a 401."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256

import pytest

from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import Auth, AuthRequest, Basic, Bearer, NoLogin, Secret, Token
from bulkstow.destination.authorized import AuthorizedClient
from bulkstow.destination.http import HttpClient, Request
from bulkstow.errors import ConfigurationError, LoginRefused
from bulkstow.model import Cause, Exchange, NoResponse, Response
from tests.destination.peers import answer, peer, read_request

pytestmark = pytest.mark.anyio


class Signer:
    """A login that signs each request's method, URL and headers, with a key that the server changes once."""

    def __init__(self, key: str = "old", *, refreshes: bool = True) -> None:
        self._key = key
        self._refreshes = refreshes
        self.refused: list[Mapping[str, str]] = []

    async def authorize(self, request: AuthRequest) -> Mapping[str, str]:
        """Return the signature, in two headers of which neither name tells that it is secret."""
        return {"X-First": self.sign(request), "X-Second": f"by-{self._key}"}

    async def refresh(self, refused: Mapping[str, str]) -> bool:
        """Take the new key."""
        self.refused.append(refused)
        self._key = "new"
        return self._refreshes

    def sign(self, request: AuthRequest) -> str:
        """Return a digest of what is known of a request."""
        text = f"{self._key} {request.method} {request.url} {request.headers['Accept']} {request.headers['X-User']}"
        return sha256(text.encode()).hexdigest()


async def echo_login(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuse the old key, and repeat every request's head."""
    while True:
        request = await read_request(reader)
        status = "401 Unauthorized" if request.headers.get("X-Second") == "by-old" else "200 OK"
        lines = [request.line, request.headers.get("X-First", ""), request.headers.get("X-Second", "")]
        answer(writer, status, "\n".join(lines).encode())


@asynccontextmanager
async def connected(url: str, auth: Auth) -> AsyncIterator[AuthorizedClient]:
    """Give a client with a login, whose user adds a header."""
    async with HttpClient(DestinationSettings(url=url, header=("X-User: me",))) as http:
        yield AuthorizedClient(http, auth)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_every_kind_of_request_is_logged_in(method: str) -> None:
    """The login sees URL, query and headers; a 401 makes it refresh once, and a response never shows its headers."""
    signer = Signer()
    request = Request(method, "/studies/1.2", {"Accept": "application/json"}, {"limit": "1"})
    async with peer(echo_login) as url, connected(url, signer) as client:
        exchange = await client.exchange(request, timeout_s=10)
    line = f"{method} /dicom-web/studies/1.2?limit=1 HTTP/1.1"
    assert exchange == Response(200, f"{line}\n***\n***".encode())
    headers = {"Accept": "application/json", "X-User": "me"}
    seen = AuthRequest(method, f"{url}/studies/1.2?limit=1", headers)
    assert signer.refused == [{"X-First": Signer().sign(seen), "X-Second": "by-old"}]


async def test_a_login_that_cannot_be_refreshed_repeats_nothing() -> None:
    """Then the 401 is the answer."""
    signer = Signer(refreshes=False)
    attempts: list[Request] = []

    async def attempt(request: Request) -> Exchange:
        attempts.append(request)
        return Response(401, b"")

    async with connected("http://localhost/dicom-web", signer) as client:
        assert await client.authorized(Request("POST", "/studies", {"Accept": "*/*"}), attempt) == Response(401, b"")
    assert len(attempts) == 1


async def test_a_second_401_is_the_answer() -> None:
    """A request is repeated once only, with the headers of the refreshed login."""
    attempts: list[Request] = []

    async def attempt(request: Request) -> Exchange:
        attempts.append(request)
        return Response(401, b"")

    async with connected("http://localhost/dicom-web", Signer()) as client:
        assert await client.authorized(Request("POST", "/studies", {"Accept": "*/*"}), attempt) == Response(401, b"")
    assert [request.login["X-Second"] for request in attempts] == ["by-old", "by-new"]


async def test_a_login_may_end_the_run() -> None:
    """Its LoginRefused passes, and nothing is sent."""

    class Expired(Signer):
        async def authorize(self, request: AuthRequest) -> Mapping[str, str]:
            raise LoginRefused("the account is locked")

    async with connected("http://localhost/dicom-web", Expired()) as client:
        with pytest.raises(LoginRefused, match="the account is locked"):
            await client.exchange(Request("GET", "/studies", {}), timeout_s=10)


async def test_the_time_limit_is_the_exchanges() -> None:
    """A server that does not answer in time has not answered."""

    async def say_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with peer(say_nothing) as url, connected(url, NoLogin()) as client:
        exchange = await client.exchange(Request("GET", "/studies", {}), timeout_s=0.05)
    assert exchange == NoResponse(Cause.UNANSWERED, body_started=False)


async def test_one_login_at_a_time() -> None:
    """A login beside an Authorization of the user is refused, in whatever case it is written."""
    settings = DestinationSettings(url="http://localhost/dicom-web", header=("authorization: Bearer x",))
    assert not AuthorizedClient(HttpClient(settings), NoLogin()).has_login
    with pytest.raises(ConfigurationError, match="one login at a time"):
        AuthorizedClient(HttpClient(settings), Basic("a", Secret("b")))


async def test_a_token_is_replaced_before_the_server_refuses_it() -> None:
    """A bearer token with an expiry costs no 401: the request after the time of refresh has the new one."""
    clock = [1000.0]
    tokens = iter([Token("first", 2000.0), Token("second", 3000.0)])
    seen: list[str] = []

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            seen.append(request.headers["Authorization"])
            answer(writer)

    async with peer(store) as url, connected(url, Bearer(lambda: next(tokens), now=lambda: clock[0])) as client:
        for clock[0] in (1000.0, 1939.0, 1941.0, 2500.0):
            exchange = await client.exchange(Request("GET", "/studies", {}), timeout_s=10)
            assert isinstance(exchange, Response)
            assert exchange.status == 200
    assert seen == ["Bearer first", "Bearer first", "Bearer second", "Bearer second"]
