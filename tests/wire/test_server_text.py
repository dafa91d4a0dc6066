"""The text of a server, as it is shown in a report."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bulkstow.wire.server_text import ERROR_TEXT_CHARACTERS, error_text, printable
from tests.wire.test_store_response import (
    DCM4CHEE_202,
    MISSHAPEN,
    NGINX_413,
    ORTHANC_400,
    ORTHANC_XML,
    STACK_TRACE,
    mutated,
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", ""),
        (b"{}", ""),
        (b"null", ""),
        (b"[]", ""),
        (DCM4CHEE_202, ""),
        (ORTHANC_XML, ""),
        (ORTHANC_400, "Bad file format: Cannot parse an invalid DICOM file (size: 0 bytes)"),
        (b'{"HttpError":"Bad Request"}', "Bad Request"),
        (b'{"errorMessage":"Missing boundary"}', "Missing boundary"),
        (b'{"error":"invalid_token","error_description":"expired"}', "invalid_token: expired"),
        (b'{"title":"Bad Request","detail":"Bad Request","status":400}', "Bad Request"),
        (b'[{"error":{"code":429,"message":"Quota exceeded","status":"X"}}]', "Quota exceeded"),
        (b'{"message":{"text":1},"title":"","detail":"only this"}', "only this"),
        (
            b'{"error":{"code":403,"message":"Permission healthcare.dicomWeb denied","status":"PERMISSION_DENIED"}}',
            "Permission healthcare.dicomWeb denied",
        ),
        (
            b'{"errors":[{"status":"401","title":"Unauthorized","detail":"token expired"}]}',
            "Unauthorized: token expired",
        ),
        (b'{"errors":["quota of the tenant is used up"]}', "quota of the tenant is used up"),
        (
            b'{"detail":"Authentication credentials were not provided."}',
            "Authentication credentials were not provided.",
        ),
        (b'{"timestamp":1,"status":404,"error":"Not Found","message":"No static resource"}', "No static resource"),
        (b'"success"', "success"),
        (b"success", "success"),
        (NGINX_413, "413 Request Entity Too Large"),
        (b"<html><head><TITLE lang='en'>\n Bad &amp;\tgone&#7; </TITLE>", "Bad & gone"),
        (b"<html><body>no title</body></html>", ""),
        (b"<?xml version='1.0'?><Error><Code>X</Code><Message>Access Denied</Message></Error>", "Access Denied"),
        (STACK_TRACE, "java.lang.IllegalStateException: transaction rolled back"),
        (b"\r\n\x1b[31mred\x07 alert\r\nsecond line", "[31mred alert"),
        (b"x" * 1000, "x" * ERROR_TEXT_CHARACTERS),
        ("\u202eevil".encode(), "evil"),
        (b'{"half":', '{"half":'),
    ],
)
def test_the_error_message_is_extracted(body: bytes, expected: str) -> None:
    """The error message is extracted from JSON, HTML, XML and plain text."""
    assert error_text(body) == expected


@given(st.binary() | mutated() | MISSHAPEN | st.text().map(lambda text: json.dumps({"Message": text}).encode()))
@example(b"[" * 100_000)
@example(b'{"error":' * 100_000)
@example(b"<title>" * 10_000)
def test_any_error_is_one_short_line(body: bytes) -> None:
    """For any body the text is printable and of bounded length, and nothing is raised."""
    text = error_text(body)
    assert text.isprintable()
    assert len(text) <= ERROR_TEXT_CHARACTERS


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("PatientID 12345 is of another study", "PatientID *** is of another study"),
        ("Patient ID: 'A 77' differs", "Patient ID: *** differs"),
        ('PatientName="Smith" is not valid', "PatientName=*** is not valid"),
        ("element 'PatientID' value '0815' is not LO", "element 'PatientID' value *** is not LO"),
        ("patient's birth date 19701301 is no DA", "patient's birth date *** is no DA"),
        ("Content DOE^JANE does not validate VR PN", "Content *** does not validate VR PN"),
        ("Patient[id=P12^^^ISSUER,name=DOE^JANE] exists", "Patient[id=***,name=***] exists"),
        ("'DOE^JANE' (0010,0010)", "'***' (0010,0010)"),
        (
            "Dicom element 'PatientID' failed validation for VR 'LO': Value contains invalid character.",
            "Dicom element 'PatientID' failed validation for VR 'LO': Value contains invalid character.",
        ),
        ("PatientID is missing in 1.2.840.10008", "PatientID is missing in 1.2.840.10008"),
    ],
)
def test_a_patient_is_not_quoted(said: str, shown: str) -> None:
    """Names, IDs and birth dates of patients in a server's text are masked, and nothing else."""
    assert printable(said) == shown
    assert error_text(said.encode()) == shown
