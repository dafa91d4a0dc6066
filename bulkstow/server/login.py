"""Who may use the origin.

Owns the check of an Authorization header (RFC 7617, RFC 6750). Refuses to be security: passwords are kept as they are,
in memory, and without TLS travel in the clear. It is there to see a client log in, and be turned away.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from hmac import compare_digest


class Login:
    """Users by password, a bearer token, or both; whichever is given will do."""

    def __init__(self, *, users: Mapping[str, str] | None = None, token: str = "") -> None:
        self._accepted = [
            ("basic", base64.b64encode(f"{user}:{word}".encode())) for user, word in (users or {}).items()
        ]
        self._accepted += [("bearer", token.encode())] if token else []
        schemes = {"basic": 'Basic realm="bulkstow", charset="UTF-8"', "bearer": 'Bearer realm="bulkstow"'}
        self.challenge = ", ".join(text for scheme, text in schemes.items() if scheme in dict(self._accepted))
        """The WWW-Authenticate of a 401 (RFC 9110 §11.6.1)."""

    def admits(self, authorization: str) -> bool:
        """Tell whether this Authorization header opens the door; an absent one is empty."""
        scheme, _, credentials = authorization.partition(" ")
        given = credentials.strip().encode("utf-8", "surrogateescape")
        # Every entry is compared, and each in constant time: how long it takes must not tell how close one came.
        return any([scheme.lower() == known and compare_digest(given, secret) for known, secret in self._accepted])  # noqa: C419
