"""Claims about headers that a user adds."""

from __future__ import annotations

import pytest

from bulkstow.errors import ConfigurationError
from bulkstow.wire.request_headers import parse_headers


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Host", "it follows from --url"),
        ("content-type", "bulkstow sets it itself, from the body that it sends"),
        ("Content-Length", "bulkstow sets it itself, from the body that it sends"),
        ("Content-Encoding", "bulkstow sets it itself, from the body that it sends"),
        ("Content-MD5", "bulkstow sets it itself, from the body that it sends"),
        ("Transfer-Encoding", "bulkstow sets it itself, from the body that it sends"),
        ("Expect", "bulkstow sets it itself, from the body that it sends"),
        ("Trailer", "bulkstow sets it itself, from the body that it sends"),
        ("CONNECTION", "it belongs to the connection, which bulkstow manages"),
        ("Keep-Alive", "it belongs to the connection, which bulkstow manages"),
        ("TE", "it belongs to the connection, which bulkstow manages"),
        ("Upgrade", "it belongs to the connection, which bulkstow manages"),
        ("Accept-Encoding", "bulkstow reads gzip and deflate, and says so itself"),
        ("Range", "the answer to such a request is not the whole answer"),
        ("If-None-Match", "the answer to such a request is not the whole answer"),
        ("Proxy-Authorization", "a login for a proxy goes into the proxy's URL"),
        ("Proxy-Connection", "a login for a proxy goes into the proxy's URL"),
    ],
)
def test_headers_that_are_not_the_users(name: str, reason: str) -> None:
    """A header that bulkstow sets, or that changes the meaning of a response, is refused with the reason."""
    with pytest.raises(ConfigurationError) as caught:
        parse_headers([f"{name}: s3cret"], "--header")
    assert str(caught.value).startswith(f"--header {name}: cannot be set, as {reason}")
    assert "s3cret" not in str(caught.value)


def test_headers_that_are_the_users() -> None:
    """Other headers are accepted: logins, cookies, media types, the program's name."""
    lines = [
        "Accept: application/dicom+xml",
        "Accept-Language: de",
        "Authorization: Basic a:b",
        "Cookie: session=1; b=2",
        "User-Agent: curl/8",
        "X-Forwarded-Proto: https",
        "Contents: x",
    ]
    assert [f"{name}: {value}" for name, value in parse_headers(lines, "--header").items()] == lines
