"""Claims about the messages for failures."""

from __future__ import annotations

import errno
import os
import ssl

import pytest

from bulkstow.destination.reasons import certificate_reason, is_without_tls, reason


def tls_error(name: str) -> ssl.SSLError:
    """Return an error as OpenSSL's binding makes it."""
    error = ssl.SSLError(1, "[SSL] some words")
    error.reason = name
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ECONNREFUSED, "('::1', 1)"), "Connection refused"),
        (ConnectionResetError(), "connection reset"),
        (OSError("no such host"), "no such host"),
        (tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "the server requires a client certificate: --client-cert"),
        (tls_error("TLSV1_ALERT_PROTOCOL_VERSION"), "the server offers no TLS 1.2 or newer"),
        (tls_error("UNSUPPORTED_PROTOCOL"), "the server offers no TLS 1.2 or newer"),
        (tls_error("TLSV1_ALERT_UNKNOWN_CA"), "the server does not trust the client certificate"),
        (tls_error("DECRYPTION_FAILED_OR_BAD_RECORD_MAC"), "TLS: decryption failed or bad record mac"),
        (OSError(errno.EPIPE, os.strerror(errno.EPIPE)), "Broken pipe"),
        (ValueError(), "ValueError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_reason(error: Exception, expected: str) -> None:
    """The message for a failure has neither URLs nor bytes of the server."""
    assert reason(error) == expected


@pytest.mark.parametrize("name", ["WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"])
def test_is_without_tls(name: str) -> None:
    """First bytes that are not a TLS record mean a port without TLS; a broken record does not."""
    assert is_without_tls(tls_error(name))
    assert not is_without_tls(tls_error("DECRYPTION_FAILED_OR_BAD_RECORD_MAC"))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (10, "has expired: have the server's certificate renewed (found)"),
        (18, "is self-signed: give it with --ca-file (found)"),
        (62, "is for another host name: use the name in it as --url's host (found)"),
        (99, "is not trusted: give its authority with --ca-file (found)"),
    ],
)
def test_certificate_reason(code: int, expected: str) -> None:
    """The message for a certificate says what is wrong and what to do."""
    error = ssl.SSLCertVerificationError(1, "words")
    error.verify_code, error.verify_message = code, "found"
    assert certificate_reason(error) == expected
