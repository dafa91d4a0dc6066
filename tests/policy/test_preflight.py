"""Claims about answers to the questions before the first body."""

from __future__ import annotations

import pytest

from bulkstow.errors import DestinationRefused, LoginRefused, RunStopped
from bulkstow.model import Cause, NoResponse, Response
from bulkstow.policy.preflight import Asked, Step, judge_search, judge_store, may_expect_tls

ROOT = "http://pacs/dicom-web"
ASKED = Asked(ROOT, has_login=True)
PAGE = b"<!DOCTYPE html><html><head><title>Portal</title></head></html>"


def no_response(cause: Cause) -> NoResponse:
    """Return an exchange without an answer."""
    return NoResponse(cause, body_started=False, detail="why")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Response(204, b""), Step.BEGIN),
        (Response(200, b""), Step.BEGIN),
        (Response(200, b"[]", "application/json"), Step.BEGIN),
        (Response(200, b'[{"0020000D": {"vr": "UI"}}]', "text/plain"), Step.BEGIN),
        (Response(206, b"[1]"), Step.BEGIN),
        (Response(200, b"--x", 'multipart/related; type="application/dicom+xml"'), Step.BEGIN),
        (Response(503, b""), Step.BEGIN),
        (Response(500, PAGE), Step.BEGIN),
        (Response(429, b""), Step.BEGIN),
        (no_response(Cause.UNANSWERED), Step.BEGIN),
        (no_response(Cause.OVERLONG), Step.BEGIN),
        (Response(200, PAGE, "text/html"), Step.ASK_BY_STORING),
        (Response(200, b"welcome", "text/plain"), Step.ASK_BY_STORING),
        (Response(200, b'{"status": "ok"}', "application/json"), Step.ASK_BY_STORING),
        (Response(200, b"[" * 100_000, "application/json"), Step.ASK_BY_STORING),
        (Response(400, b""), Step.ASK_BY_STORING),
        (Response(403, b""), Step.ASK_BY_STORING),
        (Response(404, PAGE), Step.ASK_BY_STORING),
        (Response(405, b""), Step.ASK_BY_STORING),
        (Response(406, b""), Step.ASK_BY_STORING),
        (Response(501, b""), Step.ASK_BY_STORING),
        (no_response(Cause.DISCONNECTED), Step.ASK_AGAIN),
        (no_response(Cause.MALFORMED), Step.ASK_AGAIN),
    ],
)
def test_search(answer: Response | NoResponse, expected: Step) -> None:
    """QIDO-RS and busy servers are used; other servers may store all the same; no response leads to a retry."""
    assert judge_search(answer, ASKED) is expected


@pytest.mark.parametrize(
    ("answer", "asked", "error", "message"),
    [
        (
            Response(401, b""),
            ASKED,
            LoginRefused,
            f"{ROOT} refuses our login (401): check --user, --header or the bearer",
        ),
        (
            Response(401, b""),
            Asked(ROOT, has_login=False),
            LoginRefused,
            (
                f"{ROOT} requires a login (401), and none was given: "
                "--user, --bearer-file, --bearer-command or BULKSTOW_BEARER"
            ),
        ),
        (
            Response(302, b"", location="https://pacs/login\x1b[1m"),
            ASKED,
            DestinationRefused,
            f"{ROOT} redirects to https://pacs/login [1m (HTTP 302): give the root of that URL as --url",
        ),
        (
            no_response(Cause.UNREACHABLE),
            ASKED,
            DestinationRefused,
            f"cannot connect to {ROOT}: why; is the server running, is the URL right?",
        ),
        (
            no_response(Cause.UNREACHABLE),
            Asked(ROOT, has_login=True, proxy="proxy:3128"),
            DestinationRefused,
            f"cannot connect to {ROOT}: why; check the proxy, or put the server's host into no_proxy to go around it",
        ),
        (
            no_response(Cause.UNANSWERED),
            Asked(ROOT, has_login=True, proxy="proxy:3128"),
            DestinationRefused,
            f"cannot connect to {ROOT}: the proxy proxy:3128 gives no answer; check the proxy, or",
        ),
        (
            Response(503, PAGE),
            Asked(ROOT, has_login=True, proxy="proxy:3128"),
            DestinationRefused,
            f"cannot connect to {ROOT}: the proxy proxy:3128 answers HTTP 503; check the proxy, or",
        ),
    ],
)
def test_search_that_stops(answer: Response | NoResponse, asked: Asked, error: type[RunStopped], message: str) -> None:
    """A failure that no retry fixes stops the run, and the message says what to do."""
    with pytest.raises(error) as caught:
        judge_search(answer, asked)
    assert str(caught.value).startswith(message) or message in str(caught.value)


@pytest.mark.parametrize("answer", [Response(503, b""), no_response(Cause.UNANSWERED)])
def test_a_server_behind_a_tunnel_may_be_busy(answer: Response | NoResponse) -> None:
    """A response through a proxy's tunnel is the server's."""
    assert judge_search(answer, Asked("https://pacs", has_login=True, proxy="proxy:3128")) is Step.BEGIN


@pytest.mark.parametrize(
    "answer",
    [
        Response(200, b'{"00081199": {"vr": "SQ"}}'),
        Response(200, b""),
        Response(204, b""),
        Response(400, PAGE),
        Response(409, b""),
        Response(411, b""),
        Response(415, b""),
        Response(422, b""),
        Response(429, b""),
        Response(503, PAGE),
        no_response(Cause.UNANSWERED),
        no_response(Cause.DISCONNECTED),
    ],
)
def test_store_that_shows_a_service(answer: Response | NoResponse) -> None:
    """A server that rejects a body without instances stores others; overload is handled during the run."""
    judge_store(Response(404, b""), answer, ASKED)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (
            Response(404, b""),
            DestinationRefused,
            f"no DICOMweb service at {ROOT} (HTTP 404): --url is the DICOMweb root",
        ),
        (
            Response(405, b"none"),
            DestinationRefused,
            f"{ROOT} (HTTP 404 to GET, 405 to POST): --url is the DICOMweb root",
        ),
        (Response(404, PAGE), DestinationRefused, f"no DICOMweb service at {ROOT} (HTTP 404, a web page): --url"),
        (
            Response(200, PAGE),
            DestinationRefused,
            f"no DICOMweb service at {ROOT} (HTTP 404 to GET, 200 to POST, a web page): --url",
        ),
        (
            Response(501, b""),
            DestinationRefused,
            f"no DICOMweb service at {ROOT} (HTTP 404 to GET, 501 to POST): --url",
        ),
        (Response(307, b""), DestinationRefused, f"{ROOT} redirects (HTTP 307): give the root of that URL as --url"),
        (Response(401, b""), LoginRefused, f"{ROOT} refuses our login (401)"),
        (Response(403, b""), LoginRefused, f"{ROOT} forbids this user (403): ask for the right to use DICOMweb there"),
    ],
)
def test_store_that_shows_none(answer: Response, error: type[RunStopped], message: str) -> None:
    """A server without this resource, or with a web page, is no STOW-RS service."""
    with pytest.raises(error) as caught:
        judge_store(Response(404, b""), answer, ASKED)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "asked", "expected"),
    [
        (Response(400, b"The plain HTTP request was sent to HTTPS port"), ASKED, True),
        (Response(400, b"Client sent an HTTP request to an HTTPS server."), ASKED, True),
        (Response(400, b"speaking plain HTTP to an SSL-enabled server port"), ASKED, True),
        (Response(400, b"bad parameter"), ASKED, False),
        (Response(200, b"https"), ASKED, False),
        (no_response(Cause.MALFORMED), ASKED, True),
        (no_response(Cause.DISCONNECTED), ASKED, True),
        (no_response(Cause.UNANSWERED), ASKED, False),
        (no_response(Cause.DISCONNECTED), Asked("https://pacs", has_login=True), False),
        (no_response(Cause.DISCONNECTED), Asked(ROOT, has_login=True, proxy="proxy:1"), False),
    ],
)
def test_may_expect_tls(answer: Response | NoResponse, asked: Asked, expected: bool) -> None:
    """Only a failure of plain HTTP leads to a TLS handshake."""
    assert may_expect_tls(answer, asked) is expected
