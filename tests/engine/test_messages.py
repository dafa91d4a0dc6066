"""The messages between coordinator and senders: they arrive as they were sent, and show no secret."""

from __future__ import annotations

import pytest

from bulkstow.config import DestinationSettings
from bulkstow.destination.given_headers import GivenHeaders
from bulkstow.engine.messages import Begin, Ended, Failed, FromSender, Post, Progress, ToSender, Verify, decode, encode
from bulkstow.errors import (
    BulkstowError,
    ConfigurationError,
    DestinationRefused,
    LedgerError,
    LoginRefused,
    RunStopped,
    StorageGone,
)
from bulkstow.model import Batch, Candidate, Cause, Instance, NoResponse, RequestTiming, Response, SourceChanged
from bulkstow.wire.edit_rules import Edits, Extend, Private, Regenerate, Remove, Rules, SetTo, Table
from tests.archives import header

BEGIN = Begin(
    DestinationSettings(url="http://pacs.example/dicom-web", header=("X-Key: hidden",)),
    {"BULKSTOW_PASSWORD": "hidden"},
    read_concurrency=8,
    read_timeout_s=300.0,
    is_throttled=False,
    headers=GivenHeaders({"X-Key": "hidden"}, frozenset({"hidden"})),
    edits=Edits(
        Rules(
            {Private(0x29, "hidden creator", 1): SetTo("hidden"), 0x0010_0020: Remove()},
            (Table("ids.csv", 0x0010_0020, (0x0010_0021,), {"hidden": ("hidden",)}, keeps_missing=True),),
            {0x0008_1110: Rules({0x0008_0050: Extend("hidden", "")})},
        ),
        Regenerate(b"hidden key of 16 bytes"),
    ),
)
BATCH = Batch(
    7,
    tuple(
        Instance(candidate, header(number))
        for number, candidate in enumerate(
            [Candidate("/a/1", 300, 5, by_link=True), Candidate("/a/\udcff", 2**33, 10**18), Candidate("s3:x", 1, "e")]
        )
    ),
    requests=2,
)
TIMING = RequestTiming(elapsed_s=1.0, connecting_s=0.0, reading_s=0.1, sending_s=0.2, waiting_s=0.7)


@pytest.mark.parametrize(
    "message",
    [
        BEGIN,
        Post.of(3, BATCH),
        Verify.of(4, BATCH.instances[0]),
        Progress(2**40, 1.5, 0.5),
        Ended(3, Response(200, b"{}", changed={"1.2": "its size"}), (TIMING, TIMING)),
        Ended(3, NoResponse(Cause.STALLED, body_started=True), (TIMING,)),
        Ended(3, SourceChanged({"1.2": "gone"}, frozenset({"/a"}))),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_arrives_as_it_was_sent(message: ToSender | FromSender) -> None:
    """Decoding the encoded message gives an equal one."""
    assert decode(encode(message)) == message


def test_a_batch_arrives_with_all_that_sending_needs() -> None:
    """The candidates and the SOP Instance UIDs are those of the batch; the number is that of the request."""
    message = decode(encode(Post.of(3, BATCH)))
    assert isinstance(message, Post)
    sent = message.batch
    assert sent.number == 3
    assert [i.candidate for i in sent.instances] == [i.candidate for i in BATCH.instances]
    assert [i.candidate.by_link for i in sent.instances] == [True, None, None]
    assert [i.header.sop_instance_uid for i in sent.instances] == [i.header.sop_instance_uid for i in BATCH.instances]
    assert sent.size_bytes == BATCH.size_bytes


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConfigurationError("--ca-file x"), ConfigurationError),
        (LoginRefused("401"), LoginRefused),
        (DestinationRefused("no service"), DestinationRefused),
        (StorageGone("hangs"), StorageGone),
        (LedgerError("of no sender"), RunStopped),
    ],
)
def test_an_error_keeps_its_kind(error: BulkstowError, expected: type[BulkstowError]) -> None:
    """The coordinator raises what the sender raised; an unknown kind still stops the run."""
    message = decode(encode(Failed.of(error, 3)))
    assert isinstance(message, Failed)
    assert type(message.error) is expected
    assert str(message.error) == str(error)


def test_a_message_shows_no_secret() -> None:
    """The text of the first message holds neither the login nor the headers."""
    assert "hidden" not in repr(BEGIN)
