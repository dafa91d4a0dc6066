"""Answers of faults that do not depend on the request: a status, a text, the end of the connection."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from aiohttp import web

from bulkstow.server.faults import Kind, PlannedFault

_PAGE = "<html>\r\n<head><title>{0}</title></head>\r\n<body><center><h1>{0}</h1></center></body>\r\n</html>\r\n"


class _AnyStatus(web.HTTPException):
    def __init__(self, status: int) -> None:
        self.status_code = status
        super().__init__(text="failed on purpose\n")


_ANSWERS: dict[Kind, Callable[[PlannedFault], web.HTTPException]] = {
    Kind.UNAVAILABLE: lambda _fault: web.HTTPServiceUnavailable(text="come back later\n"),
    Kind.TOO_MANY: lambda _fault: web.HTTPTooManyRequests(text="slow down\n"),
    Kind.BAD_GATEWAY: lambda _fault: web.HTTPBadGateway(text=_PAGE.format("502 Bad Gateway"), content_type="text/html"),
    Kind.TOO_LARGE: lambda _fault: web.HTTPRequestEntityTooLarge(
        0, 0, text=_PAGE.format("413 Request Entity Too Large"), content_type="text/html"
    ),
    Kind.LENGTH_REQUIRED: lambda _fault: web.HTTPLengthRequired(text="a Content-Length is needed\n"),
    Kind.UNAUTHORISED: lambda _fault: web.HTTPUnauthorized(
        text="a login is needed\n", headers={"WWW-Authenticate": 'Bearer realm="bulkstow"'}
    ),
    Kind.STATUS: lambda fault: _AnyStatus(fault.status),
}

EARLY = frozenset(_ANSWERS)
"""The kinds of faults whose answers are sent before the body has been read."""


def early_answer(fault: PlannedFault) -> web.HTTPException:
    """Return the answer of an early fault, which closes the connection."""
    answer = _ANSWERS[fault.kind](fault)
    # The client may still be sending: the connection cannot be used again (RFC 9110 §15.5.14).
    answer.force_close()
    if fault.retry_after_s is not None:
        later = datetime.now(UTC) + timedelta(seconds=fault.retry_after_s)
        date = format_datetime(later, usegmt=True)
        answer.headers["Retry-After"] = date if fault.as_date else f"{fault.retry_after_s:.0f}"
    return answer
