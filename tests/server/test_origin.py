import base64
import gzip
import logging
import ssl

import pytest
import trustme
from aiohttp import ClientSession, ServerDisconnectedError, web
from anyio import Event, create_task_group

from bulkstow.model import Referenced, StoreResponse
from bulkstow.server.login import Login
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage, DiscardStorage
from bulkstow.wire.store_response import read
from tests.server.samples import BOUNDARY, CT, INSTANCE, STUDY, body_of, part10, post, store

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "application/dicom",
        "not a media type",
        f"multipart/form-data; boundary={BOUNDARY}",
        f"multipart/related; boundary={BOUNDARY}",
        f'multipart/related; type="application/dicom+json"; boundary={BOUNDARY}',
    ],
)
async def test_another_media_type_is_415(session: ClientSession, url: str, media_type: str) -> None:
    """Only Part 10 files in multipart/related are accepted, and the answer says so."""
    status, answer = await post(session, f"{url}/studies", body_of(part10()), headers={"Content-Type": media_type})
    assert status == 415
    assert answer.startswith((b"expected", b"the Content-Type"))


async def test_an_encoded_body_is_415(session: ClientSession, url: str) -> None:
    """It is not inflated: the client has to hear that it must not compress."""
    async with session.post(
        f"{url}/studies",
        data=gzip.compress(body_of(part10())),
        headers={"Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'}
        | {"Content-Encoding": "gzip"},
        skip_auto_headers=["Accept-Encoding"],
    ) as response:
        assert response.status == 415
        assert "found gzip" in await response.text()


@pytest.mark.parametrize("boundary", ["", "; boundary=", '; boundary=""', f"; boundary={'x' * 71}"])
async def test_a_boundary_that_is_none_is_400(session: ClientSession, url: str, boundary: str) -> None:
    """The media type is right, the syntax is not."""
    headers = {"Content-Type": f'multipart/related; type="application/dicom"{boundary}'}
    status, _ = await post(session, f"{url}/studies", body_of(part10()), headers=headers)
    assert status in {400, 415}
    assert (status == 415) == (boundary == "; boundary=")


async def test_a_study_that_is_no_uid_is_400(session: ClientSession, url: str) -> None:
    """Nothing could ever belong to it."""
    status, _ = await post(session, f"{url}/studies/..%2Fetc", body_of(part10()))
    assert status == 400


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "application/dicom+json"),
        ("*/*", "application/dicom+json"),
        ("application/json", "application/json"),
        ("application/dicom+xml", "application/dicom+xml"),
        ("Application/DICOM+XML;q=0.5, text/html", "application/dicom+xml"),
        ("application/dicom+xml;q=0.5, application/dicom+json", "application/dicom+json"),
        ("application/dicom+xml, application/*;q=0.1", "application/dicom+xml"),
        ("application/dicom+json;q=0, application/dicom+xml;q=0.1", "application/dicom+xml"),
    ],
)
async def test_the_answer_is_of_the_type_liked_best(
    session: ClientSession, url: str, accept: str, expected: str
) -> None:
    """JSON unless XML is preferred, and both say the same."""
    headers = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}', "Accept": accept}
    async with session.post(f"{url}/studies", data=body_of(part10(), b"garbage"), headers=headers) as response:
        assert response.content_type == expected
        body = await response.read()
    assert body.startswith(b"<" if expected.endswith("xml") else b"{")
    assert read(body).stored == (Referenced(CT, INSTANCE),)
    assert read(body).other_failures == (Referenced("", "", 0xC000),)


@pytest.mark.parametrize("accept", ["text/html", "application/dicom+json;q=0", "application/json;q=none"])
async def test_an_answer_of_no_known_type_is_406(
    session: ClientSession, url: str, storage: DirectoryStorage, accept: str
) -> None:
    """It is refused before anything is stored, as Azure does."""
    status, _ = await post(session, f"{url}/studies", body_of(part10()), headers={"Accept": accept})
    assert status == 406
    assert len(storage.catalogue) == 0


def basic(user_and_password: str) -> str:
    """Return an Authorization header (RFC 7617)."""
    return f"Basic {base64.b64encode(user_and_password.encode()).decode()}"


async def test_without_the_login_is_401(session: ClientSession) -> None:
    """The challenge names each way in, and each way in opens every route."""
    login = Login(users={"Ada": "Straße:1"}, token="t0ken")
    good = [basic("Ada:Straße:1"), "Bearer t0ken", "bearer t0ken"]
    bad = ["", "Bearer", "Bearer t0ke", "t0ken", "Digest x", basic("Ada:x"), "Basic t0ken", "Basic ü"]
    async with serving(Origin(DiscardStorage(), login=login)) as url:
        for authorization in bad:
            async with session.get(f"{url}/studies", headers={"Authorization": authorization}) as response:
                assert response.status == 401
                challenge = response.headers["WWW-Authenticate"]
                assert challenge == 'Basic realm="bulkstow", charset="UTF-8", Bearer realm="bulkstow"'
        for authorization in good:
            async with session.get(f"{url}/studies", headers={"Authorization": authorization}) as response:
                assert response.status == 204


async def test_above_the_limit_of_requests_is_503() -> None:
    """A request above the limit gets 503 with Retry-After, and is served later."""
    entered, go_on = Event(), Event()

    class Pause(Silent):
        async def before(self, request: web.Request, number: int) -> None:
            if number == 1:
                entered.set()
                await go_on.wait()

    origin = Origin(DiscardStorage(), max_requests=1, fault=Pause())
    async with serving(origin) as url, ClientSession() as session, create_task_group() as tasks:
        tasks.start_soon(post, session, f"{url}/studies", body_of(part10()))
        await entered.wait()
        async with session.get(f"{url}/studies") as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"
        go_on.set()


class Silent:
    """A fault that does nothing."""

    async def before(self, request: web.Request, number: int) -> web.StreamResponse | None:
        """Go on."""
        return None

    async def after(
        self, request: web.Request, number: int, response: StoreResponse
    ) -> StoreResponse | web.StreamResponse:
        """Return the given answer."""
        return response


async def test_a_fault_may_answer_instead(session: ClientSession) -> None:
    """The second store request is turned away unread, those around it are not."""

    class Overloaded(Silent):
        async def before(self, request: web.Request, number: int) -> web.StreamResponse | None:
            return web.Response(status=503, headers={"Retry-After": "7"}) if number == 2 else None

    storage = DiscardStorage(remember=True)
    async with serving(Origin(storage, fault=Overloaded())) as url:
        statuses = [(await post(session, f"{url}/studies", body_of(part10(f"1.2.{number}"))))[0] for number in range(3)]
    assert statuses == [200, 503, 200]
    assert set(storage.digests()) == {"1.2.0", "1.2.2"}


async def test_a_fault_may_change_what_is_said(session: ClientSession) -> None:
    """The first answer keeps an instance to itself, as Orthanc may; the second is of another kind."""

    class Forgetful(Silent):
        async def after(
            self, request: web.Request, number: int, response: StoreResponse
        ) -> StoreResponse | web.StreamResponse:
            return StoreResponse() if number == 1 else web.Response(status=500, text="stack trace")

    async with serving(Origin(DiscardStorage(), fault=Forgetful())) as url:
        assert await store(session, url, part10()) == (200, StoreResponse())
        assert await post(session, f"{url}/studies", body_of(part10())) == (500, b"stack trace")


async def test_a_fault_may_break_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    """The client loses its connection, and the log stays empty."""

    class Broken(Silent):
        async def before(self, request: web.Request, number: int) -> web.StreamResponse | None:
            assert request.transport
            request.transport.abort()
            raise ConnectionResetError

    async with serving(Origin(DiscardStorage(), fault=Broken())) as url, ClientSession() as session:
        with pytest.raises((ServerDisconnectedError, ConnectionResetError)):
            await post(session, f"{url}/studies", body_of(part10()))
    assert caplog.messages == []


async def test_nothing_is_logged_of_a_request(
    session: ClientSession, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A path holds UIDs, and so does an access log."""
    with caplog.at_level(logging.INFO):
        await store(session, url, part10(), study=STUDY)
    assert STUDY not in caplog.text


async def test_it_speaks_tls() -> None:
    """With a certificate the base URL is https."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    async with serving(Origin(DiscardStorage()), ssl_context=server) as url, ClientSession() as session:
        assert url.startswith("https://127.0.0.1:")
        async with session.get(f"{url}/studies", ssl=client) as response:
            assert response.status == 204


async def test_the_root_is_where_it_is_told_to_be(session: ClientSession) -> None:
    """The base URL ends with it, and answers there."""
    async with serving(Origin(DiscardStorage(), root="/a/b/")) as url:
        assert url.endswith("/a/b")
        assert (await store(session, url, part10()))[0] == 200
