"""Claims about answers to the questions before the first body."""

from __future__ import annotations

import pytest

from bulkstow.errors import DestinationRefused, LoginRefused, RunStopped
from bulkstow.model import Cause, Interruption, Reply
from bulkstow.policy.preflight import Asked, Step, judge_search, judge_store, may_expect_tls

ROOT = "http://pacs/dicom-web"
ASKED = Asked(ROOT, has_login=True)
PAGE = b"<!DOCTYPE html><html><head><title>Portal</title></head></html>"


def interruption(cause: Cause) -> Interruption:
    """Return an exchange without an answer."""
    return Interruption(cause, body_started=False, detail="why")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Reply(204, b""), Step.BEGIN),
        (Reply(200, b""), Step.BEGIN),
        (Reply(200, b"[]", "application/json"), Step.BEGIN),
        (Reply(200, b'[{"0020000D": {"vr": "UI"}}]', "text/plain"), Step.BEGIN),
        (Reply(206, b"[1]"), Step.BEGIN),
        (Reply(200, b"--x", 'multipart/related; type="application/dicom+xml"'), Step.BEGIN),
        (Reply(503, b""), Step.BEGIN),
        (Reply(500, PAGE), Step.BEGIN),
        (Reply(429, b""), Step.BEGIN),
        (interruption(Cause.UNANSWERED), Step.BEGIN),
        (interruption(Cause.OVERLONG), Step.BEGIN),
        (Reply(200, PAGE, "text/html"), Step.ASK_BY_STORING),
        (Reply(200, b"welcome", "text/plain"), Step.ASK_BY_STORING),
        (Reply(200, b'{"status": "ok"}', "application/json"), Step.ASK_BY_STORING),
        (Reply(200, b"[" * 100_000, "application/json"), Step.ASK_BY_STORING),
        (Reply(400, b""), Step.ASK_BY_STORING),
        (Reply(403, b""), Step.ASK_BY_STORING),
        (Reply(404, PAGE), Step.ASK_BY_STORING),
        (Reply(405, b""), Step.ASK_BY_STORING),
        (Reply(406, b""), Step.ASK_BY_STORING),
        (Reply(501, b""), Step.ASK_BY_STORING),
        (interruption(Cause.DISCONNECTED), Step.ASK_AGAIN),
        (interruption(Cause.MALFORMED), Step.ASK_AGAIN),
    ],
)
def test_search(answer: Reply | Interruption, expected: Step) -> None:
    """QIDO-RS and busy servers may begin; what is no QIDO-RS may store all the same; no answer is asked for again."""
    assert judge_search(answer, ASKED) is expected


@pytest.mark.parametrize(
    ("answer", "asked", "error", "message"),
    [
        (Reply(401, b""), ASKED, LoginRefused, f"{ROOT} refuses our login (401): check --user, --header or the bearer"),
        (
            Reply(401, b""),
            Asked(ROOT, has_login=False),
            LoginRefused,
            (
                f"{ROOT} requires a login (401), and none was given: "
                "--user, --bearer-file, --bearer-command or BULKSTOW_BEARER"
            ),
        ),
        (
            Reply(302, b"", location="https://pacs/login\x1b[1m"),
            ASKED,
            DestinationRefused,
            f"{ROOT} redirects to https://pacs/login [1m (HTTP 302): give the root of that URL as --url",
        ),
        (
            interruption(Cause.UNREACHABLE),
            ASKED,
            DestinationRefused,
            f"cannot connect to {ROOT}: why; is the server running, is the URL right?",
        ),
        (
            interruption(Cause.UNREACHABLE),
            Asked(ROOT, has_login=True, proxy="proxy:3128"),
            DestinationRefused,
            f"cannot connect to {ROOT}: why; check the proxy, or put the server's host into no_proxy to go around it",
        ),
        (
            interruption(Cause.UNANSWERED),
            Asked(ROOT, has_login=True, proxy="proxy:3128"),
            DestinationRefused,
            f"cannot connect to {ROOT}: the proxy proxy:3128 gives no answer; check the proxy, or",
        ),
        (
            Reply(503, PAGE),
            Asked(ROOT, has_login=True, proxy="proxy:3128"),
            DestinationRefused,
            f"cannot connect to {ROOT}: the proxy proxy:3128 answers HTTP 503; check the proxy, or",
        ),
    ],
)
def test_search_that_stops(answer: Reply | Interruption, asked: Asked, error: type[RunStopped], message: str) -> None:
    """What no retry changes stops the run, and says what to do."""
    with pytest.raises(error) as caught:
        judge_search(answer, asked)
    assert str(caught.value).startswith(message) or message in str(caught.value)


@pytest.mark.parametrize("answer", [Reply(503, b""), interruption(Cause.UNANSWERED)])
def test_a_server_behind_a_tunnel_may_be_busy(answer: Reply | Interruption) -> None:
    """What comes through a proxy's tunnel comes from the server."""
    assert judge_search(answer, Asked("https://pacs", has_login=True, proxy="proxy:3128")) is Step.BEGIN


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, b'{"00081199": {"vr": "SQ"}}'),
        Reply(200, b""),
        Reply(204, b""),
        Reply(400, PAGE),
        Reply(409, b""),
        Reply(411, b""),
        Reply(415, b""),
        Reply(422, b""),
        Reply(429, b""),
        Reply(503, PAGE),
        interruption(Cause.UNANSWERED),
        interruption(Cause.DISCONNECTED),
    ],
)
def test_store_that_shows_a_service(answer: Reply | Interruption) -> None:
    """Who objects to a body without instances stores others; who is busy is found out later."""
    judge_store(Reply(404, b""), answer, ASKED)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (Reply(404, b""), DestinationRefused, f"no DICOMweb service at {ROOT} (HTTP 404): --url is the DICOMweb root"),
        (
            Reply(405, b"none"),
            DestinationRefused,
            f"{ROOT} (HTTP 404 to GET, 405 to POST): --url is the DICOMweb root",
        ),
        (Reply(404, PAGE), DestinationRefused, f"no DICOMweb service at {ROOT} (HTTP 404, a web page): --url"),
        (
            Reply(200, PAGE),
            DestinationRefused,
            f"no DICOMweb service at {ROOT} (HTTP 404 to GET, 200 to POST, a web page): --url",
        ),
        (Reply(501, b""), DestinationRefused, f"no DICOMweb service at {ROOT} (HTTP 404 to GET, 501 to POST): --url"),
        (Reply(307, b""), DestinationRefused, f"{ROOT} redirects (HTTP 307): give the root of that URL as --url"),
        (Reply(401, b""), LoginRefused, f"{ROOT} refuses our login (401)"),
        (Reply(403, b""), LoginRefused, f"{ROOT} forbids this user (403): ask for the right to use DICOMweb there"),
    ],
)
def test_store_that_shows_none(answer: Reply, error: type[RunStopped], message: str) -> None:
    """Who knows no such resource, or answers with a page, is no STOW-RS service."""
    with pytest.raises(error) as caught:
        judge_store(Reply(404, b""), answer, ASKED)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "asked", "expected"),
    [
        (Reply(400, b"The plain HTTP request was sent to HTTPS port"), ASKED, True),
        (Reply(400, b"Client sent an HTTP request to an HTTPS server."), ASKED, True),
        (Reply(400, b"speaking plain HTTP to an SSL-enabled server port"), ASKED, True),
        (Reply(400, b"bad parameter"), ASKED, False),
        (Reply(200, b"https"), ASKED, False),
        (interruption(Cause.MALFORMED), ASKED, True),
        (interruption(Cause.DISCONNECTED), ASKED, True),
        (interruption(Cause.UNANSWERED), ASKED, False),
        (interruption(Cause.DISCONNECTED), Asked("https://pacs", has_login=True), False),
        (interruption(Cause.DISCONNECTED), Asked(ROOT, has_login=True, proxy="proxy:1"), False),
    ],
)
def test_may_expect_tls(answer: Reply | Interruption, asked: Asked, expected: bool) -> None:
    """Only plain HTTP that was not understood is worth a handshake."""
    assert may_expect_tls(answer, asked) is expected
