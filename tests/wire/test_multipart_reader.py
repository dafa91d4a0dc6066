import gc
import tracemalloc
import weakref
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.errors import MultipartError
from bulkstow.wire.multipart import content_type
from bulkstow.wire.multipart_reader import (
    BodyEvent,
    End,
    MultipartReader,
    PartBegin,
    PartData,
    PartEnd,
    boundary_of,
    read_content_type,
)
from tests.wire.test_multipart import boundaries, framed

COUNTED = b"--B\r\nContent-Length: 4\r\n\r\ndata\r\n--B--\r\n"
SEARCHED = b"--B\r\nContent-Type: application/dicom\r\n\r\ndata\r\n--B--\r\n"


def events_of(chunks: Iterable[bytes], boundary: str = "B", *, max_head_bytes: int = 16384) -> list[BodyEvent]:
    """Read a body that arrives in these pieces, to its end."""
    reader = MultipartReader(boundary, max_head_bytes=max_head_bytes)
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    reader.finish()
    return events


def parts_of(events: Iterable[BodyEvent]) -> list[tuple[dict[str, str], bytes]]:
    """Assemble events into parts, and check their order."""
    parts: list[tuple[dict[str, str], bytes]] = []
    inside = ended = False
    for event in events:
        assert not ended
        match event:
            case PartBegin(headers):
                assert not inside
                parts.append((dict(headers), b""))
                inside = True
            case PartData(data):
                assert inside
                assert len(data) > 0
                headers, content = parts[-1]
                parts[-1] = (dict(headers), content + data)
            case PartEnd():
                assert inside
                inside = False
            case End():
                ended = True
    assert ended
    assert not inside
    return parts


def split(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut a body at these places, each taken modulo its length."""
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return [body[start:end] for start, end in pairwise(places)]


def test_a_counted_part_comes_as_four_events() -> None:
    """The events of a part are its begin, its octets and its end; then the body ends."""
    assert events_of([COUNTED]) == [
        PartBegin({"content-length": "4"}),
        PartData(memoryview(b"data")),
        PartEnd(),
        End(),
    ]


@pytest.mark.parametrize("body", [COUNTED, SEARCHED])
def test_bytes_may_come_one_by_one(body: bytes) -> None:
    """The boundaries between the fed pieces do not change the result."""
    whole = parts_of(events_of([body]))
    assert parts_of(events_of(body[at : at + 1] for at in range(len(body)))) == whole
    assert whole[0][1] == b"data"


@pytest.mark.parametrize(
    ("body", "contents"),
    [
        pytest.param(b"preamble\r\n" + COUNTED + b"epilogue\r\n--B\r\n", [b"data"], id="preamble and epilogue"),
        pytest.param(b"\r\n" + COUNTED, [b"data"], id="a line break before the first delimiter"),
        pytest.param(COUNTED.replace(b"--B\r\n", b"--B \t\r\n"), [b"data"], id="padding after the boundary"),
        pytest.param(COUNTED.removesuffix(b"\r\n"), [b"data"], id="no line break after the last delimiter"),
        pytest.param(b"--B\r\n\r\ndata\r\n--B--", [b"data"], id="no headers"),
        pytest.param(b"--B\r\nA: b\r\n\r\n\r\n--B--", [b""], id="an empty body"),
        pytest.param(b"--B\r\nA: b\r\n\r\n--B--", [b""], id="no body at all"),
        pytest.param(b"--B\r\nContent-Length: 0\r\n\r\n\r\n--B--", [b""], id="a length of 0"),
        pytest.param(b"--B\r\n\r\n\r\r\n\r\n-\r\n--\r\n--B--", [b"\r\r\n\r\n-\r\n--"], id="nearly a delimiter"),
        pytest.param(b"--B\r\n\r\n--B in a line\r\n--B--", None, id="a delimiter where a body begins"),
        pytest.param(b"--B\r\n\r\na--B--\r\n--B--", [b"a--B--"], id="no line break before the boundary"),
    ],
)
def test_what_the_grammar_allows_is_read(body: bytes, contents: list[bytes] | None) -> None:
    """Corner cases of RFC 2046 §5.1.1 are read, whole and byte by byte."""
    for chunks in ([body], [body[at : at + 1] for at in range(len(body))]):
        if contents is None:
            with pytest.raises(MultipartError):
                events_of(chunks)
        else:
            assert [content for _, content in parts_of(events_of(chunks))] == contents


def test_a_counted_part_may_hold_its_own_boundary() -> None:
    """Pixel data with a Content-Length may contain the boundary."""
    content = b"\r\n--B--\r\n--B\r\n"
    assert (
        parts_of(events_of([framed("B", [content, content])]))
        == [({"content-type": "application/dicom", "content-length": "14"}, content)] * 2
    )


def test_headers_are_unfolded_and_named_in_lower_case() -> None:
    """A header may be folded (RFC 5322 §2.2.3), and its name may have either case."""
    body = b'--B\r\nCONTENT-type: application/dicom;\r\n\ttransfer-syntax="1.2"\r\nX-Empty:\r\n\r\n\r\n--B--'
    (headers, _), *_ = parts_of(events_of([body]))
    assert headers == {"content-type": 'application/dicom;\ttransfer-syntax="1.2"', "x-empty": ""}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "before its first part"),
        (b"no delimiter", "before its first part"),
        (b"--B--", "no parts"),
        (b"--B\r\nContent-Length: 4\r\n\r\nda", "part 1, without its closing delimiter"),
        (COUNTED.removesuffix(b"--\r\n"), "part 1, without its closing delimiter"),
        (SEARCHED.removesuffix(b"\r\n--B--\r\n"), "part 1, without its closing delimiter"),
        (b"--Bother\r\n", "neither -- nor a line break"),
        (b"--B -- \r\n", "neither -- nor a line break"),
        (b"--B\n\ndata\n--B--\n", "neither -- nor a line break"),
        (COUNTED.replace(b"4", b"3"), "no delimiter after the 3 bytes that part 1"),
        (COUNTED.replace(b"4", b"5"), "no delimiter after the 5 bytes that part 1"),
        (COUNTED.replace(b"4", b"-4"), "not a number"),
        (COUNTED.replace(b"4", "٤".encode()), "not a number"),
        (COUNTED.replace(b"4", b"4\r\ncontent-LENGTH: 5"), "content-length twice"),
        (COUNTED.replace(b"Content-Length: 4", b"Content-Length"), "without a name"),
        (COUNTED.replace(b"Content-Length: 4", b": 4"), "without a name"),
        (COUNTED.replace(b"Content-Length", b" Content-Length"), "without a name"),
    ],
)
def test_a_broken_body_is_refused_in_one_line(body: bytes, text: str) -> None:
    """Each violation of the format has its own message of one line."""
    with pytest.raises(MultipartError, match=text) as raised:
        events_of([body])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("flood", [b"--B\r\nX: " + b"x" * 200, b"--B" + b" " * 200, b"--B\r\n" + b"X: x\r\n" * 50])
def test_a_head_without_end_is_refused(flood: bytes) -> None:
    """Headers and padding, which are kept in memory, have a limit."""
    for chunks in ([flood], [flood[at : at + 1] for at in range(len(flood))]):
        with pytest.raises(MultipartError, match=r"longer than 100 bytes|neither"):
            events_of(chunks, max_head_bytes=100)


@pytest.mark.parametrize("head", [b"--B\r\nContent-Length: 33554432\r\n\r\n", b"--B\r\n\r\n"])
def test_memory_does_not_grow_with_a_part(head: bytes) -> None:
    """A part of 32 MiB takes the memory of a few pieces, with and without a Content-Length."""
    chunk = b"\r\n--A\r\n-" * 8192
    reader = MultipartReader("B")
    reader.feed(head)
    tracemalloc.start()
    try:
        passed_bytes = sum(
            len(event.data) for _ in range(512) for event in reader.feed(chunk) if isinstance(event, PartData)
        )
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert passed_bytes > 512 * len(chunk) - 8  # where a delimiter may have begun, the last bytes are waited on
    assert peak_bytes < 4 * len(chunk)


def test_a_counted_part_is_not_copied() -> None:
    """Within a part, the fed bytes are returned without a copy."""
    reader = MultipartReader("B")
    reader.feed(b"--B\r\nContent-Length: 100\r\n\r\n")
    chunk = b"x" * 50
    (event,) = reader.feed(chunk)
    assert isinstance(event, PartData)
    assert event.data.obj is chunk


@given(boundaries, st.lists(st.binary(max_size=100), min_size=1, max_size=5), st.lists(st.integers(0, 2000)))
def test_what_was_framed_is_read_however_it_is_cut(boundary: str, contents: list[bytes], cuts: list[int]) -> None:
    """The reader returns what the writer wrote, for any division into pieces."""
    parts = parts_of(events_of(split(framed(boundary, contents), cuts), boundary))
    assert [content for _, content in parts] == contents


@given(st.lists(st.text("\r\n-BA").map(str.encode), min_size=1, max_size=4), st.lists(st.integers(0, 200)))
def test_a_searched_part_is_the_same_however_it_is_cut(contents: list[bytes], cuts: list[int]) -> None:
    """Without a Content-Length, contents similar to the delimiter are read unchanged."""
    contents = [content.replace(b"B", b"A") for content in contents]
    body = b"".join(b"\r\n--B\r\nA: b\r\n\r\n" + content for content in contents) + b"\r\n--B--"
    assert [content for _, content in parts_of(events_of(split(body, cuts)))] == contents


@given(
    st.lists(
        st.sampled_from([b"--B", b"\r\n", b"--", b"\r", b"Content-Length: ", b"3", b": ", b" ", b"abc"]) | st.binary(),
        max_size=30,
    ).map(b"".join),
    st.lists(st.integers(0, 500)),
)
def test_nothing_but_a_multipart_error_comes_of_any_bytes(body: bytes, cuts: list[int]) -> None:
    """Any bytes are read or refused, with the same result for any division into pieces."""
    results: list[list[tuple[dict[str, str], bytes]] | None] = []
    for chunks in ([body], split(body, cuts)):
        try:
            results.append(parts_of(events_of(chunks)))
        except MultipartError:
            results.append(None)
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("value", "boundary"),
    [
        (content_type("abc"), "abc"),
        (content_type("abc", quoted=True), "abc"),
        ("Multipart/Related;BOUNDARY=abc", "abc"),
        ("multipart/related ; boundary = abc ; ", "abc"),
        ('multipart/related; boundary="a b:c"; start="<1>"', "a b:c"),
        ('multipart/related; boundary="a\\bc"', "abc"),
        ('multipart/related; start="; boundary=wrong"; boundary=abc', "abc"),
        ("multipart/related; boundary=----=_Part/1.2", "----=_Part/1.2"),
        (f"multipart/related; boundary={'x' * 70}", "x" * 70),
    ],
)
def test_the_boundary_is_found(value: str, boundary: str) -> None:
    """A boundary is read quoted and bare, at any position, and with common deviations of clients."""
    assert boundary_of(value) == boundary


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", "expected a Content-Type, found none"),
        ("multipart", "has no type"),
        ("application/dicom", "expected multipart/related, found application/dicom"),
        ("multipart/form-data; boundary=abc", "expected multipart/related, found multipart/form-data"),
        ("multipart/related", "has no boundary"),
        ("multipart/related; boundary", "cannot be read"),
        ('multipart/related; boundary="abc', "cannot be read"),
        ("multipart/related boundary=abc", "cannot be read"),
        ('multipart/related; boundary=""', "1 to 70"),
        (f"multipart/related; boundary={'x' * 71}", "1 to 70"),
        ('multipart/related; boundary="abc "', "1 to 70"),
        ("multipart/related; boundary=\u00fc", "1 to 70"),
    ],
)
def test_a_content_type_without_a_boundary_is_refused(value: str, text: str) -> None:
    """Each reason has its own message."""
    with pytest.raises(MultipartError, match=text):
        boundary_of(value)


@given(st.text() | st.text('multipart/related;boundary=" \\\t,').map("multipart/related;".__add__))
def test_nothing_but_a_multipart_error_comes_of_any_content_type(value: str) -> None:
    """Any Content-Type is read or refused."""
    try:
        read_content_type(value)
        boundary_of(value)
    except MultipartError:
        pass


def test_a_reader_is_freed_at_once() -> None:
    """Nothing waits for the garbage collector: thousands of readers would keep their last bytes until then."""
    reader = MultipartReader("b")
    reader.feed(b"--b\r\nContent-Type: application/dicom\r\n\r\nabc\r\n--b--\r\n")
    reader.finish()
    is_alive = weakref.ref(reader)
    gc.disable()
    try:
        del reader
        assert is_alive() is None
    finally:
        gc.enable()
