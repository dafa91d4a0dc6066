"""TLS: the trusted authorities and the client certificate."""

from __future__ import annotations

import ssl

from bulkstow.config import DestinationSettings
from bulkstow.destination.reasons import reason
from bulkstow.errors import ConfigurationError


def ssl_context(settings: DestinationSettings) -> ssl.SSLContext | bool:
    """Return the context for a destination, or True for aiohttp's default.

    Raises ConfigurationError for certificates that cannot be loaded.
    """
    if settings.root.startswith("http://") and settings.ca_file is None and settings.client_cert is None:
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
