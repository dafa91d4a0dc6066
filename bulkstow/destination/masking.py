"""Secrets taken out of what a server says: some servers repeat the request that they refuse.

Owns the forms in which a secret may come back: as it was sent, percent-encoded, and escaped for JSON or HTML; of a
Basic login also the pair `user:password` and the password. Pure. `http` applies it to every answer and error before
anything else sees them, so that no later cut of a text leaves a part of a secret.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections.abc import Iterable, Mapping
from itertools import product
from urllib.parse import quote, quote_plus, unquote, urlsplit

MASK = "***"

SHORTEST_SECRET = 4
"""Characters: shorter ones would be found in any text."""

_TELLING = re.compile(r"auth|cookie|key|token|secret|password|credential|signature", re.IGNORECASE)

_SEPARATORS = re.compile(r"[\s;,]+")

_LIKE_A_UID = re.compile(r"[0-9A-Fa-f.]{1,15}")
"""Secrets that UIDs, tags and codes may hold by chance: a password such as 1234."""

_DATA_ELEMENT = b"0008"
"""Every answer of STOW-RS and QIDO-RS that names an instance has a tag of this group (PS3.18 Table I.1-1)."""


class Mask:
    """Replaces secrets by ***.

    Where a body holds data elements, a short secret of hexadecimal digits and dots stays: it may be part of a UID or
    of a code, and these must not change.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        kept = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}
        forms = {form: secret for secret in kept for form in _forms(secret)}
        by_length = sorted(forms, key=len, reverse=True)  # a secret may be part of another
        self._forms = [(form, form.encode(), _LIKE_A_UID.fullmatch(forms[form]) is not None) for form in by_length]

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        for form, _, _ in self._forms:
            text = text.replace(form, MASK)
        return text

    def body(self, body: bytes) -> bytes:
        """Return a body without secrets."""
        has_elements = _DATA_ELEMENT in body
        for _, form, is_like_a_uid in self._forms:
            if not (is_like_a_uid and has_elements):
                body = body.replace(form, MASK.encode())
        return body


def is_telling(name: str) -> bool:
    """Return whether a header of this name holds a login or a key."""
    return _TELLING.search(name) is not None


def secrets_of_headers(headers: Mapping[str, str], *, all_values: bool = False) -> set[str]:
    """Return the secrets in request headers that log in: their values, and the words and parameters in these.

    With `all_values` the values of all headers count.
    """
    secrets: set[str] = set()
    for name, value in headers.items():
        if not (all_values or is_telling(name)):
            continue
        scheme, _, rest = value.partition(" ")
        words = _SEPARATORS.split(value if "=" in scheme else rest or value)
        secrets |= {value, rest.strip(), *words, *(word.partition("=")[2].strip('"') for word in words)}
        if scheme.lower() == "basic":
            secrets |= _basic_pair(rest.strip())
    return secrets


def secrets_of_url(url: str) -> set[str]:
    """Return the secrets in a URL that holds a login, such as a proxy's."""
    parts = urlsplit(url)
    if parts.password is None:
        return set()
    user, password = unquote(parts.username or ""), unquote(parts.password)
    pair = f"{user}:{password}"
    return {parts.netloc.rpartition("@")[0], pair, password, base64.b64encode(pair.encode()).decode()}


def _basic_pair(credentials: str) -> set[str]:
    """Return the pair in a Basic login, and its password (RFC 7617 §2)."""
    try:
        octets = base64.b64decode(credentials, validate=True)
    except (binascii.Error, ValueError):
        return set()
    pair = octets.decode("utf-8", "replace")
    return {pair, pair.partition(":")[2]}


def _forms(secret: str) -> set[str]:
    in_json = {json.dumps(secret, ensure_ascii=is_ascii)[1:-1] for is_ascii in (True, False)}
    in_html = html.escape(secret, quote=False)
    forms = {secret} | in_json | {form.replace("/", "\\/") for form in in_json}
    for apostrophe, quotation_mark in product(("'", "&#x27;", "&#39;", "&apos;"), ('"', "&quot;", "&#34;")):
        forms.add(in_html.replace("'", apostrophe).replace('"', quotation_mark))
    for safe in ("", "/", ":", ":/"):
        forms |= {quote(secret, safe=safe), quote_plus(secret, safe=safe)}
    return forms | {_LOWER_HEX.sub(lambda code: code[0].lower(), form) for form in forms}


_LOWER_HEX = re.compile(r"%[0-9A-F]{2}|\\u[0-9a-fA-F]{4}")
