"""Responses of real servers, and malformed ones."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bulkstow.errors import StoreResponseError
from bulkstow.model import Referenced, StoreResponse
from bulkstow.wire.store_response import read, to_json, to_xml

CT = "1.2.840.10008.5.1.4.1.1.2"

ORTHANC_JSON = b"""{
   "00081190" : { "Value" : [ "http://localhost:8042/dicom-web/studies/1.2.3" ], "vr" : "UR" },
   "00081198" : { "vr" : "SQ" },
   "00081199" : {
      "Value" : [
         {
            "00081150" : { "Value" : [ "1.2.840.10008.5.1.4.1.1.2" ], "vr" : "UI" },
            "00081155" : { "Value" : [ "1.2.3.1" ], "vr" : "UI" },
            "00081190" : { "Value" : [ "http://localhost:8042/dicom-web/studies/1.2.3/series/1" ], "vr" : "UR" }
         }
      ],
      "vr" : "SQ"
   }
}
"""

ORTHANC_XML = b"""<?xml version="1.0" encoding="utf-8"?>
<NativeDicomModel>
  <DicomAttribute tag="00081190" vr="UR" keyword="RetrieveURL">
    <Value number="1">http://localhost:8042/dicom-web/studies/1.2.3</Value>
  </DicomAttribute>
  <DicomAttribute tag="00081198" vr="SQ" keyword="FailedSOPSequence">
    <Item number="1">
      <DicomAttribute tag="00081150" vr="UI" keyword="ReferencedSOPClassUID">
        <Value number="1">1.2.840.10008.5.1.4.1.1.2</Value>
      </DicomAttribute>
      <DicomAttribute tag="00081155" vr="UI" keyword="ReferencedSOPInstanceUID">
        <Value number="1">1.2.3.2</Value>
      </DicomAttribute>
      <DicomAttribute tag="00081197" vr="US" keyword="FailureReason"><Value number="1">272</Value></DicomAttribute>
    </Item>
  </DicomAttribute>
  <DicomAttribute tag="00081199" vr="SQ" keyword="ReferencedSOPSequence">
    <Item number="1">
      <DicomAttribute tag="00081150" vr="UI" keyword="ReferencedSOPClassUID">
        <Value number="1">
          1.2.840.10008.5.1.4.1.1.2
        </Value>
      </DicomAttribute>
      <DicomAttribute tag="00081155" vr="UI" keyword="ReferencedSOPInstanceUID">
        <Value number="1">1.2.3.1</Value>
      </DicomAttribute>
    </Item>
  </DicomAttribute>
</NativeDicomModel>
"""

DCM4CHEE_202 = (
    b'{"00081190":{"vr":"UR","Value":["http://pacs:8080/dcm4chee-arc/aets/DCM4CHEE/rs/studies/1.2.3"]},'
    b'"00081198":{"vr":"SQ","Value":[{"00081150":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},'
    b'"00081155":{"vr":"UI","Value":["1.2.3.2"]},"00081197":{"vr":"US","Value":[42868]}}]},'
    b'"00081199":{"vr":"SQ","Value":[{"00081150":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},'
    b'"00081155":{"vr":"UI","Value":["1.2.3.1"]},"00081196":{"vr":"US","Value":[45056]}}]}}'
)

AZURE_409 = (
    b'{"00081198":{"vr":"SQ","Value":[{"00081150":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},'
    b'"00081155":{"vr":"UI","Value":["1.2.3.1"]},"00081197":{"vr":"US","Value":[45070]}},'
    b'{"00081197":{"vr":"US","Value":[272]}}]}}'
)

ORTHANC_400 = b"""{
   "Details" : "Cannot parse an invalid DICOM file (size: 0 bytes)",
   "HttpError" : "Bad Request",
   "HttpStatus" : 400,
   "Message" : "Bad file format",
   "Method" : "POST",
   "OrthancError" : "Bad file format",
   "OrthancStatus" : 15,
   "Uri" : "/dicom-web/studies"
}
"""

NGINX_413 = (
    b"<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n"
    b"<center><h1>413 Request Entity Too Large</h1></center>\r\n"
    b"<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n"
)

STACK_TRACE = (
    b"java.lang.IllegalStateException: transaction rolled back\r\n"
    b"\tat org.dcm4chee.arc.stow.StowRS.store(StowRS.java:321)\r\n"
)


def references(*items: object, tag: str = "00081199") -> bytes:
    """Return a module with one sequence of these items, in JSON."""
    return json.dumps({tag: {"vr": "SQ", "Value": items}}).encode()


def coded(reason: object) -> bytes:
    """Return a module with one failed item of this FailureReason."""
    return references({"00081197": {"vr": "US", "Value": [reason]}}, tag="00081198")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            ORTHANC_JSON,
            StoreResponse(
                stored=(Referenced(CT, "1.2.3.1"),), retrieve_url="http://localhost:8042/dicom-web/studies/1.2.3"
            ),
            id="Orthanc, JSON",
        ),
        pytest.param(
            ORTHANC_XML,
            StoreResponse(
                stored=(Referenced(CT, "1.2.3.1"),),
                failed=(Referenced(CT, "1.2.3.2", 0x0110),),
                retrieve_url="http://localhost:8042/dicom-web/studies/1.2.3",
            ),
            id="Orthanc, XML",
        ),
        pytest.param(
            DCM4CHEE_202,
            StoreResponse(
                warned=(Referenced(CT, "1.2.3.1", 0xB000),),
                failed=(Referenced(CT, "1.2.3.2", 0xA774),),
                retrieve_url="http://pacs:8080/dcm4chee-arc/aets/DCM4CHEE/rs/studies/1.2.3",
            ),
            id="dcm4chee, 202",
        ),
        pytest.param(
            AZURE_409,
            StoreResponse(failed=(Referenced(CT, "1.2.3.1", 0xB00E), Referenced("", "", 0x0110))),
            id="Azure, 409, one failure unnamed",
        ),
    ],
)
def test_answers_of_servers_are_read(body: bytes, expected: StoreResponse) -> None:
    """Stored, warned and failed instances are read from both notations, as each server writes them."""
    assert read(body) == expected


GOOGLE_409 = (
    b'<NativeDicomModel><DicomAttribute tag="00081190" vr="UR" keyword="RetrieveURL"><Value number="1">'
    b"https://healthcare.googleapis.com/v1/projects/p/locations/l/datasets/d/dicomStores/s/dicomWeb/studies/1.2.3"
    b'</Value></DicomAttribute><DicomAttribute tag="00081198" vr="SQ" keyword="FailedSOPSequence"><Item number="1">'
    b'<DicomAttribute tag="00081155" vr="UI"><Value number="1">1.2.3.1</Value></DicomAttribute>'
    b'<DicomAttribute tag="00081197" vr="US" keyword="FailureReason"><Value number="1">272</Value></DicomAttribute>'
    b'<DicomAttribute tag="00090097" vr="LT" keyword="FailureDetail" privateCreator="GOOGLE"><Value number="1">'
    b"An instance already exists in this DICOM Store with the same Study/Series/SOPInstance UID, but the DICOM files "
    b"differ (checksum mismatch).</Value></DicomAttribute></Item></DicomAttribute></NativeDicomModel>"
)
GOOGLE_WORDS = (
    "An instance already exists in this DICOM Store with the same Study/Series/SOPInstance UID, but the DICOM files "
    "differ (checksum mismatch)."
)

AZURE_VALIDATION = (
    b'{"00081198":{"vr":"SQ","Value":[{"00081150":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},'
    b'"00081155":{"vr":"UI","Value":["1.2.3.1"]},"00081197":{"vr":"US","Value":[43264]},'
    b'"00741048":{"vr":"SQ","Value":['
    b'{"00000902":{"vr":"LO","Value":["DICOM100: (0008,0020) - \'StudyDate\' failed validation for VR \'DA\'"]}},'
    b'{"00000902":{"vr":"LO","Value":["DICOM114: (0010,0020) - empty"]}},'
    b"{}]}}]}}"
)
AZURE_WORDS = "DICOM100: (0008,0020) - 'StudyDate' failed validation for VR 'DA'; DICOM114: (0010,0020) - empty"


def comments(body: bytes) -> list[str]:
    """Return the comments of a response."""
    response = read(body)
    return [item.comment for item in (*response.warned, *response.failed, *response.other_failures)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(GOOGLE_409, [GOOGLE_WORDS], id="Google, FailureDetail in XML"),
        pytest.param(
            b'{"00081198":{"vr":"SQ","Value":[{"00081197":{"vr":"US","Value":[272]},'
            b'"00090097":{"vr":"LT","Value":["bad\\npixel data"]}}]}}',
            ["bad pixel data"],
            id="Google, FailureDetail in JSON",
        ),
        pytest.param(
            b'{"00081198":{"vr":"SQ","Value":[{"00090010":{"vr":"LO","Value":["ACME"]},"00091097":{"Value":["no"]},'
            b'"00090011":{"vr":"LO","Value":["GOOGLE"]},"00091197":{"vr":"LT","Value":["yes"]}}]}}',
            ["yes"],
            id="FailureDetail in its block, a stranger's in another",
        ),
        pytest.param(
            AZURE_VALIDATION,
            [AZURE_WORDS],
            id="Azure, one ErrorComment per failed attribute",
        ),
        pytest.param(
            b'{"00081199":{"vr":"SQ","Value":[{"00081155":{"vr":"UI","Value":["1.2.3"]},'
            b'"00081196":{"vr":"US","Value":[45063]},"00741048":{"vr":"SQ","Value":[{"00000902":{"Value":["why"]}}]}}]}}',
            ["why"],
            id="Azure, a warning's",
        ),
        pytest.param(
            b'{"00081198":{"vr":"SQ","Value":[{"00081155":{"vr":"UI","Value":["1.2.3"]},'
            b'"00081197":{"vr":"US","Value":[49442]},"00000902":{"Value":["JPEG XL\\u0007 is \\u001b[31mnew"]}}]}}',
            ["JPEG XL is [31mnew"],
            id="ErrorComment beside the code, cleaned",
        ),
        pytest.param(
            b'<NativeDicomModel><DicomAttribute tag="0008119A" vr="SQ"><Item number="1">'
            b'<DicomAttribute tag="00081197" vr="US"><Value number="1">49152</Value></DicomAttribute>'
            b'<DicomAttribute tag="00000902" vr="LO"><Value number="1">part 3 is no DICOM</Value></DicomAttribute>'
            b"</Item></DicomAttribute></NativeDicomModel>",
            ["part 3 is no DICOM"],
            id="another failure's, in XML",
        ),
        pytest.param(DCM4CHEE_202, ["", ""], id="none"),
        pytest.param(
            references({"00000902": {"Value": ["x" * 5000]}, "00741048": {"Value": "odd"}}, tag="00081198"),
            ["x" * 160],
            id="endless, and a sequence that is none",
        ),
    ],
)
def test_comments_of_items_are_read(body: bytes, expected: list[str]) -> None:
    """Each vendor's text of a failure or warning is read, from either notation, short and printable."""
    assert comments(body) == expected


def test_the_comment_of_the_module_is_read() -> None:
    """An ErrorComment of the module itself belongs to the response."""
    assert read(b'{"00000902":{"vr":"LO","Value":["quota"]},"00081198":{"Value":[{}]}}').comment == "quota"


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"[{}]",
        b' \r\n{"00081190":{"vr":"UR"}}\0',
        b"\xef\xbb\xbf{}",
        b'{"00081199":null,"00081198":{"vr":"SQ","Value":null},"0008119A":{"vr":"SQ"}}',
        b'{"00081199":{"vr":"SQ","Value":[]},"00081198":[]}',
        b"<NativeDicomModel/>",
        b'<n:NativeDicomModel xmlns:n="http://dicom.nema.org/PS3.19/models/NativeDICOM"/>',
        b'<NativeDicomModel><DicomAttribute tag="00081199" vr="SQ"/></NativeDicomModel>',
    ],
)
def test_a_response_may_list_no_instance(body: bytes) -> None:
    """Absent, null and empty sequences are an empty response, not an error."""
    assert read(body) == StoreResponse()


def test_a_list_of_modules_is_their_sum() -> None:
    """A list of objects is read as one response, in their order, with the first RetrieveURL."""
    body = b"[" + ORTHANC_JSON + b"," + DCM4CHEE_202 + b"]"
    first, second = read(ORTHANC_JSON), read(DCM4CHEE_202)
    assert read(body) == StoreResponse(first.stored, second.warned, second.failed, (), first.retrieve_url)


@pytest.mark.parametrize("tag", ["0008119A", "0008119a"])
def test_tags_are_read_in_either_case(tag: str) -> None:
    """OtherFailuresSequence, the one tag with a letter, is found in upper and lower case, in both notations."""
    attribute = f'<DicomAttribute tag="{tag}" vr="SQ"><Item number="1"/></DicomAttribute>'
    assert read(references({}, tag=tag)).other_failures == (Referenced("", ""),)
    assert read(f"<NativeDicomModel>{attribute}</NativeDicomModel>".encode()).other_failures == (Referenced("", ""),)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (272, 272),
        ("272", 272),
        (" 42752\0", 42752),
        ("00272", 272),
        ("A700", 0xA700),
        ("c122", 0xC122),
        ("0xA700", 0xA700),
        ("0X110", 0x0110),
        ("0110", 0x0110),
        (65535, 65535),
        (0, None),
        ("0000", None),
        (65536, None),
        (-1, None),
        ("99999", None),
        ("", None),
        ("A7", None),
        ("A7000", None),
        ("\u0662\u0667\u0662", None),
        (True, None),
        (272.0, None),
        (None, None),
        ({"code": 272}, None),
        ([272], None),
    ],
)
def test_codes_are_read_as_numbers_or_text(reason: object, expected: int | None) -> None:
    """Digits are decimal, other text is hexadecimal; 0 and values that are not 16-bit numbers count as absent."""
    assert read(coded(reason)).failed == (Referenced("", "", expected),)


def test_a_warned_instance_is_not_among_the_stored() -> None:
    """A WarningReason makes an item a warned one, unless it is 0 (Success)."""
    items = [
        {"00081155": {"vr": "UI", "Value": [f"1.{number}"]}, "00081196": {"vr": "US", "Value": [code]}}
        for number, code in enumerate((0xB007, 0))
    ]
    response = read(references(*items))
    assert response.warned == (Referenced("", "1.0", 0xB007),)
    assert response.stored == (Referenced("", "1.1"),)


@pytest.mark.parametrize("uid", ["1.2.3\0", "1.2.3 ", "\n  1.2.3\n", "1.2.3\0\0"])
def test_padding_is_not_part_of_a_uid(uid: str) -> None:
    """NUL and white space around a UID are removed."""
    assert read(references({"00081155": {"vr": "UI", "Value": [uid]}})).stored == (Referenced("", "1.2.3"),)


@pytest.mark.parametrize("item", [None, 1, "1.2.3", [], ["1.2.3"], {"00081155": "1.2.3"}, {"00081155": {"Value": [7]}}])
def test_a_malformed_item_has_no_uids(item: object) -> None:
    """A malformed item is kept without UIDs: it stores no instance, and a failure is not lost."""
    nameless = (Referenced("", ""),)
    assert read(references(item)).stored == nameless
    assert read(references(item, tag="00081198")).failed == nameless
    assert read(references(item, tag="0008119A")).other_failures == (Referenced("", ""),)


def test_a_stray_byte_in_a_text_does_not_cost_the_answer() -> None:
    """A Latin-1 letter in a text leaves the UIDs readable."""
    body = DCM4CHEE_202.replace(b"pacs", b"k\xf6ln")
    assert read(body).failed == read(DCM4CHEE_202).failed


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", "an empty body"),
        (b" \r\n\0", "an empty body"),
        (b"success", "plain text"),
        (b'"success"', "plain text"),
        (b"null", "plain text"),
        (b"200", "plain text"),
        (STACK_TRACE, "plain text"),
        (NGINX_413, "an HTML page"),
        (b"<!DOCTYPE HTML PUBLIC '-//IETF//DTD HTML 2.0//EN'><title>502</title>", "an HTML page"),
        (b"<?xml version='1.0'?>\n<!DOCTYPE html><html/>", "an HTML page"),
        (ORTHANC_400, "a JSON object without any DICOM tag"),
        (b'{"ReferencedSOPSequence":[]}', "a JSON object without any DICOM tag"),
        (b'["success"]', "a JSON list that contains other values than objects"),
        (b"[null]", "a JSON list that contains other values than objects"),
        (b"[          " * 100_000, "JSON nested too deeply"),
        (b"[" * 100_000, "JSON with too many brackets for its length"),
        (b'{"00081199":{"Value":[' + b"{}," * 100_000 + b"{}]}}", "JSON with too many brackets for its length"),
        (
            b"<NativeDicomModel>" + b"<a/>" * 100_000 + b"</NativeDicomModel>",
            "XML with too many brackets for its length",
        ),
        (b'{"00081199":' * 100_000, "JSON nested too deeply"),
        (ORTHANC_JSON[:-20], "broken JSON"),
        (b'{"00081197":1' + b"0" * 5000 + b"}", "broken JSON"),
        (b'{"00081199":{"Value":{"00081155":{}}}}', "a ReferencedSOPSequence that is not a list of items"),
        (b'{"00081198":"1.2.3"}', "a FailedSOPSequence that is not a list of items"),
        (b"<Error><Code>AccessDenied</Code></Error>", "XML that is not a NativeDicomModel"),
        (ORTHANC_XML[:-20], "broken or forbidden XML"),
        (b"<NativeDicomModel>&undefined;</NativeDicomModel>", "broken or forbidden XML"),
        (
            b"<NativeDicomModel>"
            + b"<a        ><Item      >" * 50_000
            + b"</Item      ></a       >" * 50_000
            + b"</NativeDicomModel>",
            "XML nested too deeply",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_bodies_are_refused_with_a_reason(body: bytes, found: str) -> None:
    """A body that is not a Store Instances Response raises one line with what was expected and found."""
    with pytest.raises(StoreResponseError) as refused:
        read(body)
    assert str(refused.value).startswith(f"expected a Store Instances Response, found {found}")
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "declaration",
    [
        pytest.param(
            b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>', id="billion laughs"
        ),
        pytest.param(b'<!DOCTYPE x [<!ENTITY c SYSTEM "file:///etc/passwd">]>', id="external entity"),
        pytest.param(b'<!DOCTYPE x [<!ENTITY % p SYSTEM "http://evil/x.dtd"> %p;]>', id="parameter entity"),
        pytest.param(b'<!DOCTYPE NativeDicomModel SYSTEM "http://evil/x\n.dtd">', id="external DTD"),
        pytest.param(b"<!DOCTYPE NativeDicomModel>", id="bare DTD"),
    ],
)
def test_xml_bombs_are_refused(declaration: bytes) -> None:
    """A document with a DTD is refused, so no entity is expanded or fetched."""
    with pytest.raises(StoreResponseError, match=r"broken or forbidden XML: DTDForbidden[^\n]*$"):
        read(declaration + b'<NativeDicomModel><DicomAttribute tag="00081190">&c;</DicomAttribute></NativeDicomModel>')


UIDS = st.lists(st.integers(0, 10**9), min_size=1, max_size=5).map(lambda arcs: "1." + ".".join(map(str, arcs)))
CODES = st.integers(1, 0xFFFF)
WORDS = st.from_regex(r"([a-z<>&\u00e9]{1,9}( [a-z\"]{1,9}){0,3})?", fullmatch=True)
RESPONSES = st.builds(
    StoreResponse,
    stored=st.lists(st.builds(Referenced, UIDS, UIDS)).map(tuple),
    warned=st.lists(st.builds(Referenced, UIDS, UIDS, CODES, WORDS)).map(tuple),
    failed=st.lists(st.builds(Referenced, UIDS, UIDS | st.just(""), CODES | st.none(), WORDS)).map(tuple),
    other_failures=st.lists(st.builds(Referenced, st.just(""), st.just(""), CODES | st.none(), WORDS)).map(tuple),
    retrieve_url=st.from_regex(r"(https?://[a-z0-9.]+/[a-z&<>\"'%=?\u00e9-]*)?", fullmatch=True),
    comment=WORDS,
)


@given(RESPONSES)
def test_json_comes_back_as_it_was(response: StoreResponse) -> None:
    """A response written in DICOM JSON is read without loss."""
    assert read(to_json(response)) == response


@given(RESPONSES)
def test_xml_comes_back_as_it_was(response: StoreResponse) -> None:
    """A response written in the Native DICOM Model is read without loss."""
    assert read(to_xml(response)) == response


def test_json_is_written_as_the_standard_has_it() -> None:
    """Tags are in upper case and ascending, no sequence is empty, and RetrieveURL (Type 2) is present if empty."""
    response = StoreResponse(failed=(Referenced(CT, "1.2.3", 272),), other_failures=(Referenced("", "", 0xA700),))
    assert to_json(response).decode() == (
        '{"00081190":{"vr":"UR"},'
        '"00081198":{"vr":"SQ","Value":[{"00081150":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},'
        '"00081155":{"vr":"UI","Value":["1.2.3"]},"00081197":{"vr":"US","Value":[272]}}]},'
        '"0008119A":{"vr":"SQ","Value":[{"00081197":{"vr":"US","Value":[42752]}}]}}'
    )


def test_xml_is_written_as_the_standard_has_it() -> None:
    """The namespace, keywords and numbers of PS3.19 are written, and texts are escaped."""
    response = StoreResponse(warned=(Referenced(CT, "1.2.3", 0xB000),), retrieve_url="http://a/?b&c")
    assert to_xml(response).decode() == (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
        '<DicomAttribute tag="00081190" vr="UR" keyword="RetrieveURL">'
        '<Value number="1">http://a/?b&amp;c</Value></DicomAttribute>'
        '<DicomAttribute tag="00081199" vr="SQ" keyword="ReferencedSOPSequence"><Item number="1">'
        '<DicomAttribute tag="00081150" vr="UI" keyword="ReferencedSOPClassUID">'
        '<Value number="1">1.2.840.10008.5.1.4.1.1.2</Value></DicomAttribute>'
        '<DicomAttribute tag="00081155" vr="UI" keyword="ReferencedSOPInstanceUID">'
        '<Value number="1">1.2.3</Value></DicomAttribute>'
        '<DicomAttribute tag="00081190" vr="UR" keyword="RetrieveURL"></DicomAttribute>'
        '<DicomAttribute tag="00081196" vr="US" keyword="WarningReason">'
        '<Value number="1">45056</Value></DicomAttribute>'
        "</Item></DicomAttribute></NativeDicomModel>"
    )


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a real body with some parts replaced."""
    bodies = (ORTHANC_JSON, ORTHANC_XML, DCM4CHEE_202, AZURE_409, ORTHANC_400, NGINX_413)
    body = bytearray(draw(st.sampled_from(bodies)))
    snippets = st.sampled_from((b"", b"null", b"[", b"]", b"{}", b'"', b"<", b"&#0;", b"<!--", b"1e999")) | st.binary()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        body[start : start + draw(st.integers(0, 40))] = draw(snippets)
    return bytes(body)


TAGS = ("00081190", "00081199", "00081198", "0008119A", "00081150", "00081155", "00081196", "00081197", "Value", "vr")
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
MISSHAPEN = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TAGS), inner, max_size=4)
).map(lambda document: json.dumps(document).encode())


@given(st.binary() | mutated() | MISSHAPEN)
@example(b"\xff\xfe<\0")
@example(b'<?xml version="1.0" encoding="no-such"?><NativeDicomModel/>')
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Any body is a response or a StoreResponseError of one printable line."""
    refusal = ""
    try:
        read(body)
    except StoreResponseError as error:
        refusal = str(error)
    assert refusal.isprintable()
