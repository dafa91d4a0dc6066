"""Why a connection or an exchange failed, in words for the user.

Takes the exceptions of ssl and the operating system; `http` unwraps aiohttp's.
"""

from __future__ import annotations

import os
import ssl

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"})
"""OpenSSL's reasons if the first bytes from a server are not a TLS record."""

NO_TLS = "the server does not speak TLS on this port; try http://"

_TLS = {
    "CERTIFICATE_REQUIRED": "the server requires a client certificate: --client-cert",
    "HANDSHAKE_FAILURE": "the server agrees to no kind of TLS, or requires a client certificate: --client-cert",
    "UNKNOWN_CA": "the server does not trust the client certificate",
    "BAD_CERTIFICATE": "the server does not accept the client certificate",
    "CERTIFICATE_EXPIRED": "the server says that the client certificate has expired",
    "PROTOCOL_VERSION": "the server offers no TLS 1.2 or newer",
    "UNSUPPORTED_PROTOCOL": "the server offers no TLS 1.2 or newer",
}
"""Messages by the end of OpenSSL's reason, which begins with SSLV3_ALERT_, TLSV1_ALERT_ or TLSV13_ALERT_."""

_CERTIFICATES = {
    9: "is not valid yet: compare the clocks of both computers",
    10: "has expired: have the server's certificate renewed",
    18: "is self-signed: give it with --ca-file",
    19: "is issued by an authority that is not trusted here: give the authority's certificate with --ca-file",
    20: "is issued by an authority that is not trusted here: give the authority's certificate with --ca-file",
    21: "is issued by an authority that is not trusted here: give the authority's certificate with --ca-file",
    62: "is for another host name: use the name in it as --url's host",
    64: "is for another address: use the name in it as --url's host",
}
"""OpenSSL's verification errors (X509_V_ERR_…)."""


def reason(error: BaseException) -> str:
    """Return why an exchange failed."""
    match error:
        case ssl.SSLError():
            return _tls_reason(error)
        case OSError(errno=int(number)) if number > 0:
            # asyncio's message for a refused connection contains the address in Python's notation.
            return os.strerror(number)
        case OSError() if error.strerror:
            return error.strerror
        case ConnectionResetError():
            return "connection reset"
        case _:
            return str(error) or type(error).__name__


def certificate_reason(error: Exception) -> str:
    """Return why a certificate is not trusted, and what to do about it."""
    advice = _CERTIFICATES.get(getattr(error, "verify_code", -1))
    found = getattr(error, "verify_message", "") or str(error)
    return f"{advice or 'is not trusted: give its authority with --ca-file'} ({found})"


def is_without_tls(error: BaseException) -> bool:
    """Return whether an exception means that a server does not speak TLS."""
    return isinstance(error, ssl.SSLError) and getattr(error, "reason", None) in _NO_TLS


def _tls_reason(error: ssl.SSLError) -> str:
    name = getattr(error, "reason", None) or ""  # only OpenSSL sets it
    words = (words for end, words in _TLS.items() if name.endswith(end))
    return next(words, f"TLS: {name.lower().replace('_', ' ')}" if name else str(error))
