"""What an exchange says as a whole: of the destination's health, of the run's future, and in words.

Settles no instance (`settlement` and `asking` do); reads no list of instances.
"""

from __future__ import annotations

from bulkstow.errors import DestinationRefused, LoginRefused
from bulkstow.model import Cause, Interruption, Reply
from bulkstow.policy.errands import Pressure
from bulkstow.wire.server_text import error_text, is_html, printable, text_of


def is_absence(result: Reply | Interruption) -> bool:
    """Say whether an exchange shows that the destination is gone: nobody answers, or a proxy answers in its stead."""
    match result:
        case Interruption(cause=cause):
            return cause not in (Cause.OVERLONG, Cause.MALFORMED)
        case Reply(status=status):
            return status in _OUT_OF_SERVICE


_OUT_OF_SERVICE = (502, 503, 504)


def pressure_of(result: Reply | Interruption) -> Pressure:
    """Return what an exchange that failed says of the destination's health."""
    return Pressure.GONE if is_absence(result) else Pressure.EASED


def stop_if_hopeless(reply: Reply) -> None:
    """Raise LoginRefused or DestinationRefused for a status that no retry changes, with the server's own words."""
    match reply.status:
        case 401:
            raise LoginRefused(
                f"the server refuses our login (401): check --user, --header or the bearer token{said_by(reply)}"
            )
        case 403:
            raise LoginRefused(
                f"the server forbids this user to store (403): ask for the right to STOW-RS there{said_by(reply)}"
            )
        case 404 | 405 | 406 | 501:
            raise DestinationRefused(
                f"no STOW-RS service at this URL (HTTP {reply.status}): --url is the DICOMweb root, "
                f"to which /studies is added{said_by(reply)}"
            )
        case 411:
            raise DestinationRefused(
                "the server misses a Content-Length that we send (411): look for a proxy that takes it away"
                f"{said_by(reply)}"
            )
        case status if 300 <= status < 400:
            where = f" to {printable(reply.location)}" if reply.location else ""
            raise DestinationRefused(f"the server redirects{where} (HTTP {status}): give that URL's root as --url")
        case _:
            return


def status_reason(reply: Reply, comment: str = "") -> str:
    """Return the status of a request that failed as a whole, and why; `comment` is what the answer says in words."""
    return f"HTTP {reply.status} ({words_of(reply, comment) or 'no reason given'})"


def words_of(reply: Reply, comment: str) -> str:
    """Return what the server says of a whole request."""
    return printable(reply.warning) or comment or error_text(reply.body)


def said_by(reply: Reply) -> str:
    """Return the server's words for the end of a message; a page in HTML was not written for this request."""
    words = printable(reply.warning) or ("" if is_html(text_of(reply.body)) else error_text(reply.body))
    return f"; the server says: {words}" if words else ""
