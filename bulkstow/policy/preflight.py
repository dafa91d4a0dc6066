"""Whether a URL is that of a DICOMweb service, by the responses to two requests without patient data.

The first is a search for one study (PS3.18 §10.6). If the response is none of QIDO-RS, a store request without
instances (§10.5) follows, as a server may only store. Pure: `destination.preflight` makes the requests.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum

from bulkstow.errors import DestinationRefused, LoginRefused
from bulkstow.model import Cause, NoResponse, Response
from bulkstow.policy.exchange import said_by
from bulkstow.wire.server_text import is_html, printable, text_of


class Step(Enum):
    """What to do after a response that does not stop the run."""

    BEGIN = "begin"
    ASK_BY_STORING = "ask by storing"
    ASK_AGAIN = "ask again"
    """The connection ended without a response: by chance, or because the port serves another protocol."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Where the requests go, for messages."""

    root: str
    has_login: bool
    proxy: str = ""
    """The proxy's name; empty without a proxy."""

    @property
    def place(self) -> str:
        """Return who responds, for messages."""
        return f"{self.root} (through the proxy {self.proxy})" if self.proxy else self.root

    @property
    def is_relayed(self) -> bool:
        """True if the proxy makes the requests itself, and responds in place of a server that it cannot reach."""
        return bool(self.proxy) and self.root.startswith("http://")


def judge_search(answer: Response | NoResponse, asked: Asked) -> Step:
    """Return what to do after the response to the search.

    Raises DestinationRefused (no connection, a redirect, a proxy that does not reach the server), LoginRefused (401).
    """
    match answer:
        case NoResponse(cause=Cause.UNREACHABLE, detail=why):
            raise unreachable(why, asked)
        case NoResponse(cause=Cause.DISCONNECTED | Cause.MALFORMED):
            return Step.ASK_AGAIN
        case NoResponse(cause=Cause.UNANSWERED) if asked.is_relayed:
            raise unreachable(f"the proxy {asked.proxy} gives no answer", asked)
        case NoResponse():
            return Step.BEGIN  # the server is reachable, and slow
        case Response(status=502 | 503 | 504 as status) if asked.is_relayed:
            raise unreachable(f"the proxy {asked.proxy} answers HTTP {status}", asked)
        case Response(status=403):
            return Step.ASK_BY_STORING  # perhaps only searching is forbidden
        case Response():
            _check_reply(answer, asked)
    if 200 <= answer.status < 300:
        return Step.BEGIN if _is_search_result(answer) else Step.ASK_BY_STORING
    if answer.status in _BUSY or (answer.status >= 500 and answer.status != 501):
        return Step.BEGIN
    return Step.ASK_BY_STORING


def judge_store(searched: Response | NoResponse, answer: Response | NoResponse, asked: Asked) -> None:
    """Check the response to a store request without instances; `searched` is that to the search before it.

    Raises DestinationRefused if it is none of STOW-RS, and LoginRefused (401, 403).
    """
    if isinstance(answer, NoResponse):
        return  # the run itself handles a server that does not respond
    if answer.status == 403:
        raise _forbidden(answer, asked)
    _check_reply(answer, asked)
    is_page = is_html(text_of(answer.body[:2000]))
    if answer.status in _NO_SERVICE or (answer.status < 300 and is_page):
        page = ", a web page" if is_page else ""
        before = (
            f"{searched.status} to GET, " if isinstance(searched, Response) and searched.status != answer.status else ""
        )
        statuses = f"{before}{answer.status}{' to POST' if before else ''}"
        raise DestinationRefused(
            f"no DICOMweb service at {asked.place} (HTTP {statuses}{page}): --url is the DICOMweb root, "
            f"to which /studies is added, such as http://HOST:8042/dicom-web for Orthanc{said_by(answer)}"
        )


def unreachable(why: str, asked: Asked) -> DestinationRefused:
    """Return the error for a connection that cannot be established."""
    if asked.proxy:
        advice = "check the proxy, or put the server's host into no_proxy to go around it"
    else:
        advice = "is the server running, is the URL right?"
    return DestinationRefused(f"cannot connect to {asked.root}: {why}; {advice}")


def expects_tls(asked: Asked) -> DestinationRefused:
    """Return the error for plain HTTP on a port for TLS."""
    return DestinationRefused(f"{asked.root}: the server expects TLS on this port; try https://")


def no_answer(answer: Response | NoResponse, asked: Asked) -> DestinationRefused:
    """Return the error for a port that repeatedly gives no HTTP response."""
    told = f" ({', '.join(filter(None, (answer.cause, answer.detail)))})" if isinstance(answer, NoResponse) else ""
    if asked.proxy:
        return DestinationRefused(
            f"no HTTP answer from the proxy {asked.proxy} for {asked.root}{told}: check the proxy"
        )
    certificate = ", or does it ask for a client certificate (--client-cert)" if asked.root.startswith("https") else ""
    return DestinationRefused(
        f"no HTTP answer from {asked.root}{told}: is it the port of DICOMweb, not of DICOM (DIMSE){certificate}?"
    )


def login_refused(response: Response, asked: Asked) -> LoginRefused:
    """Return the error for a 401 that a refreshed login did not change."""
    if asked.has_login:
        text = f"{asked.place} refuses our login (401): check --user, --header or the bearer token"
    else:
        text = f"{asked.place} requires a login (401), and none was given: "
        text += "--user, --bearer-file, --bearer-command or BULKSTOW_BEARER"
    return LoginRefused(f"{text}{said_by(response)}")


_BUSY = (408, 425, 429)
_NO_SERVICE = (404, 405, 406, 410, 501)


def may_expect_tls(answer: Response | NoResponse, asked: Asked) -> bool:
    """Return whether a response to plain HTTP may come from a port for TLS.

    nginx, Apache and Go answer 400 with a text that names HTTPS, SSL or TLS; others close, or send a TLS alert.
    """
    if asked.proxy or not asked.root.startswith("http://"):
        return False
    match answer:
        case Response(status=400, body=body):
            text = text_of(body[:2000]).upper()
            return any(word in text for word in ("HTTPS", "SSL", "TLS"))
        case NoResponse(cause=cause):
            return cause in (Cause.DISCONNECTED, Cause.MALFORMED)
        case _:
            return False


def _check_reply(response: Response, asked: Asked) -> None:
    if response.status == 401:
        raise login_refused(response, asked)
    if 300 <= response.status < 400:
        where = f" to {printable(response.location)}" if response.location else ""
        raise DestinationRefused(
            f"{asked.place} redirects{where} (HTTP {response.status}): give the root of that URL as --url"
        )


def _forbidden(response: Response, asked: Asked) -> LoginRefused:
    whom = "this user" if asked.has_login else "access without a login"
    text = f"{asked.place} forbids {whom} (403): ask for the right to use DICOMweb there"
    return LoginRefused(f"{text}{said_by(response)}")


def _is_search_result(response: Response) -> bool:
    """Return whether a 2xx is one of QIDO-RS: empty, a JSON list, or of a DICOM media type (PS3.18 §10.6.3)."""
    if not response.body.strip() or "dicom" in response.content_type.lower():
        return True
    try:
        return isinstance(json.loads(response.body), list)
    except (ValueError, RecursionError):
        return False
