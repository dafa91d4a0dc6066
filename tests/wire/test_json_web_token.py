"""The expiry of a token, from its claim."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.wire.json_web_token import expires_at_s

RFC_7519 = (
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
    ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        pytest.param(RFC_7519, 1300819380.0, id="the example of RFC 7519 §3.1"),
        pytest.param("e30.eyJleHAiOjEuNX0.", 1.5, id="a fraction of a second, and no signature"),
        pytest.param("ya29.a0AfH6SM", None, id="opaque"),
        pytest.param("", None, id="empty"),
        pytest.param("a.b.c", None, id="not base64"),
        pytest.param("e30._____w.", None, id="not UTF-8"),
        pytest.param("e30.e30.", None, id="no claim"),
        pytest.param("e30.W10.", None, id="a list"),
        pytest.param("e30.eyJleHAiOnRydWV9.", None, id="true"),
        pytest.param("e30.eyJleHAiOiIxIn0.", None, id="text"),
        pytest.param("e30.eyJleHAiOi0xfQ.", None, id="-1"),
        pytest.param("e30.eyJleHAiOk5hTn0.", None, id="not a number"),
        pytest.param("e30.eyJleHAiOjFlOTk5fQ.", None, id="infinity"),
        pytest.param("e30.eyJleHAiOjEzMDA4MTkzODAwMDB9.", None, id="milliseconds"),
        pytest.param("a.e30.c.d.e", None, id="encrypted"),
    ],
)
def test_expiry_of_a_token(token: str, expected: float | None) -> None:
    """Only a number of seconds in the claims of a signed or unsigned token is an expiry."""
    assert expires_at_s(token) == expected


@given(st.text() | st.binary().map(lambda octets: f"e30.{octets.hex()}."))
def test_any_text_is_a_token(token: str) -> None:
    """No token raises an exception: a secret must not appear in a traceback."""
    expires_at_s(token)
