"""Claims about the TLS settings of connections."""

from __future__ import annotations

import ssl

import pytest

from bulkstow.config import DestinationSettings
from bulkstow.destination.connection import ssl_context


@pytest.mark.parametrize(
    ("url", "proxy_url", "uses_tls"),
    [
        ("http://pacs.example/dicom-web", "", False),
        ("http://pacs.example/dicom-web", "http://proxy.example:3128", False),
        ("http://pacs.example/dicom-web", "https://proxy.example:443", True),
        ("https://pacs.example/dicom-web", "", True),
        ("https://pacs.example/dicom-web", "http://proxy.example:3128", True),
    ],
)
def test_only_tls_has_a_context(url: str, proxy_url: str, uses_tls: bool) -> None:
    """The server or the proxy: aiohttp's own context has no certificates in a process of bulkstow's."""
    context = ssl_context(DestinationSettings(url=url), proxy_url)
    assert isinstance(context, ssl.SSLContext) == uses_tls
    if isinstance(context, ssl.SSLContext):
        assert context.verify_mode is ssl.CERT_REQUIRED
