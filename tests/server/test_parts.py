"""Which instances a body names, however it comes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.model import Header
from bulkstow.server.parts import Malformed, Parts
from bulkstow.wire.multipart import closing, part_head
from bulkstow.wire.synthetic import EXPLICIT_VR_LITTLE_ENDIAN, SECONDARY_CAPTURE, part10

BOUNDARY = "0123456789abcdef0123456789abcdef"


def instance(number: int) -> bytes:
    """Return an instance of some kilobytes."""
    header = Header("1.2", "1.2.3", f"1.2.3.{number}", SECONDARY_CAPTURE, EXPLICIT_VR_LITTLE_ENDIAN)
    return part10(header, rows=40, columns=40, number=number)


def body(instances: list[bytes], *, has_lengths: bool = True) -> bytes:
    """Return a body of them, with or without a Content-Length of each."""
    pieces = []
    for number, content in enumerate(instances):
        head = part_head(BOUNDARY, len(content), first=number == 0)
        if not has_lengths:
            head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length"))
        pieces += [head, content]
    return b"".join([*pieces, closing(BOUNDARY)])


def fed(content: bytes, cuts: list[int]) -> Parts:
    """Feed a body in pieces."""
    parts = Parts(BOUNDARY.encode())
    ends = sorted({min(cut, len(content)) for cut in cuts} | {len(content)})
    start = 0
    for end in ends:
        parts.feed(bytearray(content), start, end)
        start = end
    return parts


@pytest.mark.parametrize("has_lengths", [True, False])
@given(count=st.integers(1, 4), cuts=st.lists(st.integers(0, 20_000), max_size=12))
@settings(deadline=None)
def test_every_instance_is_named(count: int, cuts: list[int], has_lengths: bool) -> None:
    """However the body is cut, with a Content-Length for each part or without."""
    parts = fed(body([instance(number) for number in range(count)], has_lengths=has_lengths), cuts)
    assert parts.has_ended
    assert [uid for _, uid in parts.named] == [f"1.2.3.{number}".encode() for number in range(count)]
    assert {sop_class for sop_class, _ in parts.named} == {SECONDARY_CAPTURE.encode()}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (body([bytes(2000)]), "a part without SOP Class or SOP Instance UID"),
        (body([instance(1)])[:-40] + bytes(40), "no delimiter after part 1"),
    ],
    ids=["no instance", "no delimiter"],
)
def test_what_is_no_body_is_refused(content: bytes, says: str) -> None:
    """An acknowledging server acknowledges no nonsense."""
    with pytest.raises(Malformed, match=says):
        fed(content, [])


def test_a_body_that_is_cut_short_has_not_ended() -> None:
    """The instances so far are named, and the body has not ended."""
    parts = fed(body([instance(1), instance(2)])[:-10], [])
    assert len(parts.named) == 2
    assert not parts.has_ended
