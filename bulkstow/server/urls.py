"""Where a client finds a resource again: the URLs in answers.

Owns the host and port in them. Answers nothing itself.
"""

from __future__ import annotations

from aiohttp import web
from yarl import URL


def absolute(request: web.Request, path: str) -> str:
    """Return the URL of a path on this server, as the client of a request reaches it.

    By its Host header, as a proxy before us has a name of its own. dicomweb-client leaves the port out of the header:
    without a proxy the port is then the one at which the request came.
    """
    url = request.url.with_path(path)
    sockname = request.transport.get_extra_info("sockname") if request.transport is not None else None
    is_forwarded = any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "Via"))
    if sockname is None or is_forwarded or URL(f"//{request.host}").explicit_port is not None:
        return str(url)
    return str(url.with_port(sockname[1]))
