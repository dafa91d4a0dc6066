"""Claims about secrets that a server repeats in its responses."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.destination.masking import MASK, Mask, secrets_of_headers, secrets_of_url

PASSWORD = "p/ss \"w'rd<&é"


def basic(password: str) -> dict[str, str]:
    """Return the header of a Basic login."""
    return {"Authorization": f"Basic {base64.b64encode(f'user:{password}'.encode()).decode()}"}


FORMS = {
    "raw": PASSWORD,
    "pair": f"user:{PASSWORD}",
    "header": basic(PASSWORD)["Authorization"],
    "base64": basic(PASSWORD)["Authorization"].removeprefix("Basic "),
    "percent-encoded": quote(PASSWORD),
    "percent-encoded, slash too": quote(PASSWORD, safe=""),
    "percent-encoded pair": quote(f"user:{PASSWORD}", safe=""),
    "lower case": quote(PASSWORD, safe="").replace("%2F", "%2f").replace("%3C", "%3c").replace("%C3%A9", "%c3%a9"),
    "form": quote_plus(PASSWORD),
    "JSON": json.dumps(PASSWORD)[1:-1],
    "JSON in UTF-8": json.dumps(PASSWORD, ensure_ascii=False)[1:-1],
    "JSON with \\/": json.dumps(PASSWORD)[1:-1].replace("/", "\\/"),
    "HTML": html.escape(PASSWORD),
    "HTML text": html.escape(PASSWORD, quote=False),
    "base64 for URLs": base64.urlsafe_b64encode(f"user:{PASSWORD}".encode()).decode(),
    "base64 without padding": basic(PASSWORD)["Authorization"].removeprefix("Basic ").rstrip("="),
    "base64 of the password": base64.b64encode(PASSWORD.encode()).decode().rstrip("="),
    "percent-encoded twice": quote(quote(PASSWORD, safe=""), safe=""),
    "JSON, every character": "".join(f"\\u{ord(character):04X}" for character in PASSWORD),
    "JSON in JSON": json.dumps(json.dumps(PASSWORD))[3:-3],
    "HTML in JSON": json.dumps(html.escape(PASSWORD, quote=False))[1:-1],
    "HTML, decimal": "".join(f"&#{ord(character)};" for character in PASSWORD),
    "HTML, hexadecimal": "".join(f"&#x{ord(character):04X};" for character in PASSWORD),
    "HTML twice": html.escape(html.escape(PASSWORD)),
    "HTML &#39;": html.escape(PASSWORD).replace("&#x27;", "&#39;"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_forms(form: str) -> None:
    """In whatever form a server repeats the login, nothing of it is left, in a text as in a body."""
    mask = Mask(secrets_of_headers(basic(PASSWORD)))
    assert mask.text(f"bad login [{form}]!") in ("bad login [***]!", "bad login [user:***]!", "bad login [Basic ***]!")
    assert b"w'rd" not in mask.body(form.encode())
    assert form.encode() not in mask.body(f"<{form}>".encode())


@pytest.mark.parametrize(
    ("headers", "secrets"),
    [
        ({"Authorization": "Bearer tok3n"}, {"Bearer tok3n", "tok3n"}),
        ({"X-Api-Key": "k3y-of-mine"}, {"k3y-of-mine"}),
        ({"Cookie": "a=session1; b=session2"}, {"session1", "session2"}),
        ({"Authorization": "Basic not/base64!"}, {"not/base64!"}),
        ({"x-tenant": "1234567890", "Accept": "application/json"}, set()),
    ],
)
def test_secrets_of_headers(headers: dict[str, str], secrets: set[str]) -> None:
    """Headers with names of logins contain secrets; others do not, unless all values count."""
    assert secrets <= secrets_of_headers(headers)
    assert bool(secrets) == bool(secrets_of_headers(headers))
    assert set(headers.values()) <= secrets_of_headers(headers, all_values=True)


def test_secrets_of_a_proxy() -> None:
    """The login in a proxy's URL is a secret, decoded and as written; a URL without a login has none."""
    encoded = base64.b64encode(b"us:p@ss").decode()
    assert secrets_of_url("http://us:p%40ss@proxy:3128") == {"us:p%40ss", "us:p@ss", "p@ss", encoded}
    assert secrets_of_url("http://proxy:3128") == set()


def test_a_secret_in_another_is_masked_whole() -> None:
    """If one secret contains another, the longer one is masked first; too short ones are not masked."""
    assert Mask(["abcd", "abcdefgh", "a"]).text("abcdefgh abcd a") == "*** *** a"


def test_a_long_token_is_masked_to_its_end() -> None:
    """Nothing of an escaped token is left, however long it is, and the text after it stays."""
    token = "a.b/" * 500
    escaped = token.replace("/", "\\/")
    assert Mask([token]).text(f'{{"token": "{escaped}", "code": 1}}') == '{"token": "***", "code": 1}'


@pytest.mark.parametrize("unit", ["\\", "%25", "&amp;", "&#0", "%", "\\u005c", 'u:\\\\"'])
def test_a_body_of_escapes(unit: str) -> None:
    """A million beginnings of a secret take linear time; quadratic time would be hours."""
    mask = Mask([r"u:\\\\\\\\", "%25%25%25%25", '"""""""""', "tok3n"])
    body = unit.encode() * (2**20 // len(unit))
    assert mask.body(body + b" tok3n").endswith(b" ***")


@pytest.mark.parametrize("secret", ["1234", "1199", "42752", "1.2.840"])
def test_names_of_instances_stay(secret: str) -> None:
    """A short numeric secret changes no UID, tag or code of a response; in an error's text it is masked."""
    mask = Mask([secret])
    body = b'{"00081199":{"Value":[{"00081155":{"Value":["1.2.840.1234"]},"00081197":{"Value":[42752]}}]}}'
    assert mask.body(body) == body
    assert mask.body(f"no user with {secret}".encode()) == b"no user with ***"


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=4, max_size=20), st.binary(max_size=50), st.binary(max_size=50))
def test_any_secret_is_masked_in_any_body(secret: str, before: bytes, after: bytes) -> None:
    """A secret that is sent as UTF-8 is found in any text."""
    if any("\ud800" <= character <= "\udfff" for character in secret) or secret in MASK * 10:
        return
    masked = Mask([secret]).body(before + secret.encode() + after)
    assert secret.encode() not in masked or b"0008" in before + secret.encode() + after
