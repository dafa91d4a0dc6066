"""The login of the origin: the check of an Authorization header (RFC 7617, RFC 6750).

It serves to test the logins of clients and is no security: passwords are in memory as they are.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from hmac import compare_digest


class Login:
    """Users with passwords, a bearer token, or both; a request needs one of them."""

    def __init__(self, *, users: Mapping[str, str] | None = None, token: str = "") -> None:
        self._accepted = [
            ("basic", base64.b64encode(f"{user}:{word}".encode())) for user, word in (users or {}).items()
        ]
        self._accepted += [("bearer", token.encode())] if token else []
        schemes = {"basic": 'Basic realm="bulkstow", charset="UTF-8"', "bearer": 'Bearer realm="bulkstow"'}
        self.challenge = ", ".join(text for scheme, text in schemes.items() if scheme in dict(self._accepted))
        """The WWW-Authenticate of a 401 (RFC 9110 §11.6.1)."""

    def accepts(self, authorization: str) -> bool:
        """Return whether an Authorization header is valid; an absent one is empty."""
        scheme, _, credentials = authorization.partition(" ")
        given = credentials.strip().encode("utf-8", "surrogateescape")
        # Every entry is compared, each in constant time: the duration must not show how close a guess is.
        return any([scheme.lower() == known and compare_digest(given, secret) for known, secret in self._accepted])  # noqa: C419
