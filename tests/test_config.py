"""Settings that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bulkstow.config import DestinationSettings, SelectionSettings, UploadSettings
from bulkstow.errors import ConfigurationError
from bulkstow.quantities import (
    Span,
)

URL = "http://localhost:8042/dicom-web"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"url": ""}, "--url is missing: give the DICOMweb root, such as http://"),
        ({"url": "pacs/dicom-web"}, "--url 'pacs/dicom-web': expected http://HOST/ROOT or https://HOST/ROOT"),
        ({"url": "ftp://pacs/"}, "--url 'ftp://pacs/': expected http"),
        ({"url": "http:///dicom-web"}, "expected http://HOST/ROOT"),
        ({"url": "http://[::1"}, "expected http://HOST/ROOT"),
        ({"url": "http://pacs:port/"}, "expected http://HOST/ROOT"),
        ({"url": "http://pacs:0/"}, "expected http://HOST/ROOT"),
        ({"url": "http://pacs:70000/"}, "expected http://HOST/ROOT"),
        ({"url": "http://me:s3cret@pacs/"}, "--url holds a user or password, which would be seen: use --user"),
        ({"url": "ftp://s3cret@pacs/"}, "--url holds a user or password"),
        (
            {"url": f"{URL}?token=s3cret"},
            f"--url '{URL}'…: STOW-RS takes no query (PS3.18 §10.5.1); leave out ?… and #…",
        ),
        ({"url": f"{URL}#s3cret"}, "leave out ?… and #…"),
        ({"header": ("Accept: x", "s3cret")}, "--header number 2: expected 'Name: value' on one line"),
        ({"header": (": s3cret",)}, "--header number 1: expected 'Name: value'"),
        ({"header": ("Authorization Bearer: s3cret",)}, "--header number 1: expected 'Name: value'"),
        ({"header": ("X-Key: a\nHost: s3cret",)}, "--header number 1: expected 'Name: value' on one line"),
        ({"header": ("X-Key: a\rs3cret",)}, "--header number 1: expected"),
        ({"header": ("Content-Type: s3cret",)}, "--header Content-Type: cannot be set, as bulkstow sets it itself"),
        ({"header": ("X-A: 1", "x-a: 2")}, "--header x-a: given twice; put both values into one, with a comma"),
        ({"header": ("Authorization: Basic s3cret",), "user": "me"}, "--header Authorization: one login at a time"),
        ({"header": ("authorization: s3cret",), "bearer_command": "x"}, "--header Authorization: one login at a time"),
        (
            {"user": "me", "bearer_file": Path("token")},
            "--user, --bearer-file and --bearer-command: one login at a time",
        ),
        ({"bearer_file": Path("token"), "bearer_command": "token"}, "one login at a time"),
        ({"client_key": Path("key.pem")}, "--client-key without --client-cert"),
        ({"connect_timeout_s": 0.0}, "--connect-timeout 0: expected more than 0"),
        ({"stall_timeout_s": -1.5}, "--stall-timeout -1.5: expected more than 0"),
        ({"response_timeout_s": float("nan")}, "--response-timeout nan: expected more than 0"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(next(iter(value.values()))),
)
def test_a_destination_that_cannot_be_used_is_refused(values: dict[str, Any], message: str) -> None:
    """The message names the setting and what is expected, and repeats no secret."""
    with pytest.raises(ConfigurationError) as caught:
        DestinationSettings(**{"url": URL} | values)
    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"per_study": -1}, "--per-study -1: expected more than 0"),
        ({"read_concurrency": 0}, "--read-concurrency 0: expected more than 0"),
        ({"requests_per_s": 0.0}, "--requests-per-second 0: expected more than 0"),
        ({"batch_bytes": 0}, "--batch-bytes 0: expected more than 0"),
        ({"batch_instances": 0}, "--batch-instances 0: expected more than 0"),
        ({"retries": -1}, "--retries -1: expected 0 or more"),
        ({"dask": "head:8786"}, "--dask 'head:8786': expected tcp://HOST:PORT, tls://HOST:PORT or 'local'"),
        ({"dask": "tcp://"}, "--dask 'tcp://': expected tcp://HOST:PORT, tls://HOST:PORT or 'local'"),
        (
            {"processes": 3, "dask": "tcp://head:8786"},
            "--processes 3: with --dask tcp://head:8786, the workers send; leave it out",
        ),
        ({"processes": 1, "dask": "local"}, "--processes 1: with --dask local, the workers send; leave it out"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_an_upload_out_of_range_is_refused(values: dict[str, Any], message: str) -> None:
    """The message names the setting, its value and the expected form."""
    with pytest.raises(ConfigurationError) as caught:
        UploadSettings(**values)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_age_s": 0.0}, "--min-age 0: expected more than 0"),
        ({"max_size_bytes": 0}, "--max-size 0: expected more than 0"),
    ],
)
def test_a_filter_out_of_range_is_refused(values: dict[str, Any], message: str) -> None:
    """The message names the setting, its value and the expected form."""
    with pytest.raises(ConfigurationError) as caught:
        SelectionSettings(**values)
    assert str(caught.value) == message


def test_the_least_that_may_be_set() -> None:
    """One of each, no retries, no limits."""
    UploadSettings(concurrency=Span(1, 1), per_study=1, read_concurrency=1, batch_bytes=1, batch_instances=1, retries=0)
    UploadSettings(batch_bytes=None, batch_instances=None, requests_per_s=0.001)


@pytest.mark.parametrize(
    ("url", "root"),
    [
        (URL, URL),
        (f"{URL}/", URL),
        (f"{URL}//", URL),
        (f"{URL}/studies", URL),
        (f"{URL}/studies/", URL),
        (f"{URL}/mystudies", f"{URL}/mystudies"),
        (f"{URL}/studies/rs", f"{URL}/studies/rs"),
        ("https://pacs", "https://pacs"),
        ("https://pacs/", "https://pacs"),
        ("https://pacs/studies", "https://pacs"),
        ("https://studies", "https://studies"),
        ("https://studies/", "https://studies"),
        ("https://studies/studies", "https://studies"),
        ("https://[::1]:8443/rs/", "https://[::1]:8443/rs"),
        ("https://pacs/a%20b", "https://pacs/a%20b"),
        ("https://pacs/rs?", "https://pacs/rs"),
        ("https://pacs/user@site/rs", "https://pacs/user@site/rs"),
    ],
)
def test_the_root_is_where_studies_is_added(url: str, root: str) -> None:
    """Slashes at the end and /studies itself are understood; a host of that name is no path."""
    assert DestinationSettings(url=url).root == root


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), {}),
        (("X-Key: abc",), {"X-Key": "abc"}),
        (("X-Key:abc", "Accept : a/b"), {"X-Key": "abc", "Accept": "a/b"}),
        (("Authorization: Basic a:b:c",), {"Authorization": "Basic a:b:c"}),
        (("X-Empty:",), {"X-Empty": ""}),
        (("X-Tab: a\tb",), {"X-Tab": "a\tb"}),
    ],
    ids=["none", "one", "spaces", "colons", "empty", "tab"],
)
def test_headers_are_read(lines: tuple[str, ...], expected: dict[str, str]) -> None:
    """A name up to the first colon, and a value without spaces around it."""
    assert DestinationSettings(url=URL, header=lines).headers == expected
