"""TLS settings of connections, and connections without a request, to find out what listens on a port."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

import anyio
from yarl import URL

from bulkstow.config import DestinationSettings
from bulkstow.destination.reasons import NO_TLS, certificate_reason, is_without_tls, reason
from bulkstow.errors import ConfigurationError


def ssl_context(settings: DestinationSettings, proxy_url: str = "") -> ssl.SSLContext | bool:
    """Return the context for a destination, or True if neither the destination nor the proxy speaks TLS.

    Raises ConfigurationError for certificates that cannot be loaded.
    """
    uses_tls = settings.root.startswith("https://") or proxy_url.startswith("https://")
    if not uses_tls and settings.ca_file is None and settings.client_cert is None:
        return True  # not used, and reading the system's authorities takes 16 ms
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.client_cert is not None:
            context.load_cert_chain(settings.client_cert, settings.client_key)
    except OSError as error:
        names = " ".join(str(path) for path in (settings.ca_file, settings.client_cert, settings.client_key) if path)
        raise ConfigurationError(f"certificates {names} cannot be loaded: {reason(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def try_connection(url: URL, context: ssl.SSLContext | None, timeout_s: float) -> str:
    """Open a connection to a URL's host, with TLS where there is a context, and close it.

    Return why that failed, or "".
    """
    try:
        with anyio.fail_after(timeout_s):
            _, writer = await asyncio.open_connection(url.host, url.port, ssl=context)
    except TimeoutError:
        return "no connection in time"
    except ssl.SSLCertVerificationError as error:
        return f"the server's certificate {certificate_reason(error)}"
    except OSError as error:
        return NO_TLS if is_without_tls(error) else reason(error)
    writer.transport.abort()
    return ""


async def speaks_tls(url: URL, timeout_s: float) -> bool:
    """Return whether a TLS handshake succeeds on a URL's port; nothing is verified, and nothing sent after it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with suppress(OSError), anyio.move_on_after(timeout_s):
        _, writer = await asyncio.open_connection(url.host, url.port, ssl=context)
        writer.transport.abort()
        return True
    return False
