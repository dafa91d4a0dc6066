"""Names of objects, and the errors of their stores as texts for a report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.errors import ConfigurationError
from bulkstow.wire.object_store import ObjectsName, StoreError, unaddressable


@pytest.mark.parametrize(
    ("name", "root", "prefix", "directory"),
    [
        ("s3://archive", "s3://archive", "", ""),
        ("s3://archive/", "s3://archive", "", ""),
        ("s3://archive/2024", "s3://archive", "2024", "2024/"),
        ("s3://archive/2024/", "s3://archive", "2024/", "2024/"),
        ("s3://archive//2024", "s3://archive", "/2024", "/2024/"),
        ("s3://archive/a b%20?x#y", "s3://archive", "a b%20?x#y", "a b%20?x#y/"),
        ("gs://archive/x", "gs://archive", "x", "x/"),
        ("az://archive/x", "az://archive", "x", "x/"),
    ],
)
def test_a_name_is_read_as_it_is_written(name: str, root: str, prefix: str, directory: str) -> None:
    """Nothing is decoded, and a prefix ends between two parts of a key."""
    found = ObjectsName.parse(name)
    assert (found.root, found.prefix, found.directory) == (root, prefix, directory)


@pytest.mark.parametrize("name", ["s3://", "s3:///key", "s3:/archive", "http://archive/x", "archive", "s4://archive"])
def test_another_name_is_a_usage_error(name: str) -> None:
    """The message says which forms there are."""
    with pytest.raises(ConfigurationError, match="s3://BUCKET/PREFIX"):
        ObjectsName.parse(name)


def test_a_login_in_a_name_is_refused_without_printing_it() -> None:
    """Names are in the ledger and in logs, where no secret belongs."""
    with pytest.raises(ConfigurationError) as raised:
        ObjectsName.parse("s3://key:secret@archive/x")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("a/b.dcm", ""),
        ("a b/ü%2F?#+~*'\"\\", ""),
        ("..a/b..", ""),
        ("a//b", "empty part"),
        ("/a", "empty part"),
        ("a/", "empty part"),
        ("a/../b", "'..'"),
        ("./a", "'.'"),
        ("a\tb", "control character"),
        ("a\x7f", "control character"),
    ],
)
def test_keys_that_obstore_cannot_ask_for(key: str, reason: str) -> None:
    """These are the keys with which obstore 0.12 raises InvalidPathError, or asks for another key."""
    assert reason in unaddressable(key)
    assert bool(reason) == bool(unaddressable(key))


NOT_THERE = """Object at location lead not found: Error performing GET http://127.0.0.1:36139/b/lead in 32.717982ms - \
Server returned non-2xx status code: 404 Not Found: <?xml version="1.0" encoding="utf-8"?>
<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message><Key>lead</Key></Error>

Debug source:
NotFound {
    path: "lead",
    source: RetryError(RetryErrorImpl { status: 503"""

ARCHIVED = """The operation lacked the necessary privileges to complete for path g: Error performing GET \
https://s3.amazonaws.com/b/g in 3.1ms - Server returned non-2xx status code: 403 Forbidden: <Error>\
<Code>InvalidObjectState</Code><Message>The operation is not valid for the object's storage class</Message></Error>"""

NO_ACCOUNT = """Generic MicrosoftAzure error: Error performing list request: Error performing GET \
https://a.blob.core.windows.net/c?restype=container&comp=list&sig=SECRET in 5.4ms - Server returned non-2xx status \
code: 403 Forbidden: <?xml version="1.0"?><Error>
  <Code>AuthorizationFailure</Code>
  <Message>Server failed to authenticate the request.
RequestId:8da92c94</Message></Error>"""

NO_NETWORK = """Generic S3 error: Error performing GET http://127.0.0.1:9/b/x?X-Amz-Signature=SECRET in 363.592us - \
HTTP error: error sending request

Debug source:
Generic { store: "S3", source: 404 }"""

NO_LOGIN = """Generic GCS error: Error performing token request: Error performing GET \
http://metadata.google.internal/token?audience=https%3A%2F%2Fwww.googleapis.com in 902us - Server returned non-2xx \
status code: 403 Forbidden: denied"""


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (NOT_THERE, StoreError(404, "NoSuchKey", "The specified key does not exist.")),
        (
            ARCHIVED,
            StoreError(403, "InvalidObjectState", "The operation is not valid for the object's storage class"),
        ),
        (NO_ACCOUNT, StoreError(403, "AuthorizationFailure", "Server failed to authenticate the request.")),
        (NO_NETWORK, StoreError(None, "", "error sending request")),
        (NO_LOGIN, StoreError(401, "", "no login was found, or the service that gives one refuses it")),
        ("something else of https://x/?sig=SECRET", StoreError(None, "", "something else of …")),
    ],
)
def test_errors_of_obstore_are_read(text: str, error: StoreError) -> None:
    """Status, code and message of the answer are found, and no address with its signature."""
    found = StoreError.parse(text)
    assert found == error
    assert "SECRET" not in str(found)


def test_an_archived_object_is_no_refusal() -> None:
    """Both have status 403; only for the first a restore helps."""
    archived, refused = StoreError.parse(ARCHIVED), StoreError.parse(NO_ACCOUNT)
    assert (archived.is_archived, archived.is_refusal) == (True, False)
    assert (refused.is_archived, refused.is_refusal) == (False, True)


@given(st.text())
def test_any_text_of_an_error_gives_one_short_printable_line(text: str) -> None:
    """A store's message goes to the terminal and to the report."""
    shown = str(StoreError.parse(text))
    assert shown.isprintable()
    assert len(shown) < 1000
