"""What an exchange says as a whole: about the destination's health, whether the run can continue, and in words.

Instances are settled in `settlement` and `query_settlement`.
"""

from __future__ import annotations

from bulkstow.errors import DestinationRefused, LoginRefused
from bulkstow.model import Cause, NoResponse, Response
from bulkstow.policy.work_items import HealthSignal
from bulkstow.wire.server_text import error_text, is_html, printable, text_of

PROXY_STATUSES = (502, 503, 504)
"""Responses of a proxy in the place of a service that is down (RFC 9110 §15.6.3 to §15.6.5)."""


def is_absence(exchange: Response | NoResponse) -> bool:
    """Return whether an exchange shows that the destination is gone: no response, or a proxy's in its place."""
    match exchange:
        case NoResponse(cause=cause):
            return cause not in (Cause.OVERLONG, Cause.MALFORMED, Cause.SENDER_LOST)
        case Response(status=status):
            return status in PROXY_STATUSES


def health_signal_of(exchange: Response | NoResponse) -> HealthSignal:
    """Return what a failed exchange says about the destination's health."""
    if isinstance(exchange, NoResponse) and exchange.cause is Cause.SENDER_LOST:
        return HealthSignal.NONE
    return HealthSignal.GONE if is_absence(exchange) else HealthSignal.EASED


def stop_if_hopeless(response: Response) -> None:
    """Raise LoginRefused or DestinationRefused for a status that no retry changes, with the server's error message."""
    match response.status:
        case 401:
            raise LoginRefused(
                f"the server refuses our login (401): check --user, --header or the bearer token{said_by(response)}"
            )
        case 403:
            raise LoginRefused(
                f"the server forbids this user to store (403): ask for the right to STOW-RS there{said_by(response)}"
            )
        case 404 | 405 | 406 | 501:
            raise DestinationRefused(
                f"no STOW-RS service at this URL (HTTP {response.status}): --url is the DICOMweb root, "
                f"to which /studies is added{said_by(response)}"
            )
        case 411:
            raise DestinationRefused(
                "the server requires a Content-Length, which was sent (411): look for a proxy that removes it"
                f"{said_by(response)}"
            )
        case status if 300 <= status < 400:
            where = f" to {printable(response.location)}" if response.location else ""
            raise DestinationRefused(f"the server redirects{where} (HTTP {status}): give that URL's root as --url")
        case _:
            return


def status_reason(response: Response, comment: str = "") -> str:
    """Return the status and reason of a request that failed as a whole; `comment` is that of the response module."""
    return f"HTTP {response.status} ({words_of(response, comment) or 'no reason given'})"


def words_of(response: Response, comment: str) -> str:
    """Return the server's message about a whole request."""
    return printable(response.warning) or comment or error_text(response.body)


def said_by(response: Response) -> str:
    """Return the server's error message for the end of ours; an HTML page is not specific to the request."""
    words = printable(response.warning) or ("" if is_html(text_of(response.body)) else error_text(response.body))
    return f"; the server says: {words}" if words else ""
