"""The URLs of resources in answers."""

from __future__ import annotations

from aiohttp import web
from yarl import URL


def absolute(request: web.Request, path: str) -> str:
    """Return the URL of a path on this server, as the client of a request reaches it.

    The Host header decides, as a proxy has a name of its own. dicomweb-client omits the port in it: without a proxy,
    the port of the connection is then used.
    """
    url = request.url.with_path(path)
    sockname = request.transport.get_extra_info("sockname") if request.transport is not None else None
    is_forwarded = any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "Via"))
    if sockname is None or is_forwarded or URL(f"//{request.host}").explicit_port is not None:
        return str(url)
    return str(url.with_port(sockname[1]))
