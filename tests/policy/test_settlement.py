"""What an exchange proves: responses of real servers as a table, and the guarantees for any response."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.errors import DestinationRefused, LoginRefused, RunStopped, StoreResponseError
from bulkstow.model import (
    Batch,
    Candidate,
    Cause,
    Exchange,
    FileResult,
    Instance,
    NoResponse,
    Outcome,
    Referenced,
    Response,
    SourceChanged,
    StoreResponse,
)
from bulkstow.policy.exchange import is_absence
from bulkstow.policy.query_settlement import EXCUSED_QUERIES, QUERIES, settle_query
from bulkstow.policy.retry import Delay
from bulkstow.policy.settlement import settle
from bulkstow.policy.work_items import AMBIGUOUS_TRIES, MOST_EXCUSED, HealthSignal, Query, Rules, Settlement, Store
from bulkstow.wire import store_response
from bulkstow.wire.failure_reasons import FailureClass
from bulkstow.wire.server_profile import DEFAULT
from bulkstow.wire.synthetic import SECONDARY_CAPTURE
from tests.archives import header

BYTES_EACH = 1000


def instance(number: int) -> Instance:
    """Return instance `number`; its UID ends with that number."""
    return Instance(Candidate(f"/archive/{number}", BYTES_EACH, 0), header(number))


def batch(
    count: int,
    *,
    requests: int = 0,
    failed_attempts: int = 0,
    ambiguous_failures: int = 0,
    may_be_stored: bool = False,
    was_ambiguous: bool = False,
    excused: int = 0,
) -> Batch:
    """Return instances 1 to `count`."""
    instances = tuple(instance(n) for n in range(1, count + 1))
    return Batch(1, instances, requests, failed_attempts, may_be_stored, ambiguous_failures, was_ambiguous, excused)


def referenced(number: int, code: int | None = None) -> Referenced:
    """Return an item for instance `number`."""
    return Referenced(SECONDARY_CAPTURE, header(number).sop_instance_uid, code)


def answer(
    *,
    stored: Iterable[int] = (),
    warned: Iterable[tuple[int, int]] = (),
    failed: Iterable[tuple[int, int | None]] = (),
    others: Iterable[int | None] = (),
) -> bytes:
    """Return a Store Instances Response in JSON."""
    return store_response.to_json(
        StoreResponse(
            tuple(referenced(n) for n in stored),
            tuple(referenced(n, code) for n, code in warned),
            tuple(referenced(n, code) for n, code in failed),
            tuple(Referenced("", "", code) for code in others),
        )
    )


def number(of: Instance | FileResult) -> int:
    """Return the number of an instance."""
    return int(of.candidate.location.rpartition("/")[2])


def shown(settlement: Settlement) -> list[str]:
    """Return a settlement as lines: outcomes, what is left to do, and the pressure where it is not 'eased'."""
    lines = [f"{number(o)} {o.outcome}{f': {o.reason}' if o.reason else ''}" for o in settlement.results]
    for later in settlement.again:
        item = later.item
        words = ["send" if isinstance(item, Store) else "ask", *(str(number(i)) for i in item.batch.instances)]
        words += [f"after {later.delay.value}"] if later.delay is not Delay.NONE else []
        words += [f"not before {later.at_least_s:g} s"] if later.at_least_s is not None else []
        words += [f"({item.batch.failed_attempts} faults)"] if item.batch.failed_attempts else []
        words += [f"({item.batch.ambiguous_failures} doubts)"] if item.batch.ambiguous_failures else []
        excused = item.batch.excused if isinstance(item, Store) else item.excused
        words += [f"({excused} excused)"] if excused else []
        words += ["(may be stored)"] if item.batch.may_be_stored else []
        words += [f"because: {item.reason}"] if isinstance(item, Query) else []
        lines.append(" ".join(words))
    if settlement.health_signal is not HealthSignal.EASED:
        lines.append(settlement.health_signal.value)
    if settlement.too_large_bytes is not None:
        lines.append(f"too large: {settlement.too_large_bytes}")
    return lines


@dataclass(frozen=True)
class Case:
    """A batch, how its exchange ended, and what that settles."""

    name: str
    sent: Batch
    exchange: Exchange
    expected: list[str]
    rules: Rules = field(default_factory=Rules)
    outage: bool = False


ORTHANC_17_GOOD_ONES_LISTED = (
    b'{"00081190":{"vr":"UR","Value":["http://localhost/dicom-web/studies/2.25.1"]},'
    b'"00081199":{"vr":"SQ","Value":[{"00081150":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.7"]},'
    b'"00081155":{"vr":"UI","Value":["2.25.1.1.1"]},'
    b'"00081190":{"vr":"UR","Value":["http://localhost/dicom-web/studies/2.25.1/series/2.25.1.1/instances/2.25.1.1.1"]}'
    b"}]}}"
)
ORTHANC_17_NOTHING_LISTED = b'{"00081190":{"vr":"UR"}}'
DCM4CHEE_MADE_UP_UID = (
    b'{"00081190":{"vr":"UR","Value":["http://arc/dcm4chee-arc/aets/DCM4CHEE/rs/studies/2.25.1"]},'
    b'"00081198":{"vr":"SQ","Value":[{"00081150":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.7"]},'
    b'"00081155":{"vr":"UI","Value":["2.25.329800735698586629295641978511506172918"]},'
    b'"00081197":{"vr":"US","Value":[49152]}}]},'
    b'"00081199":{"vr":"SQ","Value":[{"00081150":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.7"]},'
    b'"00081155":{"vr":"UI","Value":["2.25.1.1.1"]}}]}}'
)
AZURE_ALREADY_STORED = (
    b'{"00081198":{"vr":"SQ","Value":[{"00081150":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.7"]},'
    b'"00081155":{"vr":"UI","Value":["2.25.1.1.1"]},"00081197":{"vr":"US","Value":[45070]}}]}}'
)
AZURE_WITHOUT_UID = b'{"00081198":{"vr":"SQ","Value":[{"00081197":{"vr":"US","Value":[43264]}}]}}'
GOOGLE_ALL_STORED_XML = (
    b'<?xml version="1.0" encoding="UTF-8"?><NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
    b'<DicomAttribute tag="00081199" vr="SQ" keyword="ReferencedSOPSequence"><Item number="1">'
    b'<DicomAttribute tag="00081150" vr="UI"><Value number="1">1.2.840.10008.5.1.4.1.1.7</Value></DicomAttribute>'
    b'<DicomAttribute tag="00081155" vr="UI"><Value number="1">2.25.1.1.1</Value></DicomAttribute>'
    b"</Item></DicomAttribute></NativeDicomModel>"
)
NGINX_413 = (
    b"<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n"
    b"<center><h1>413 Request Entity Too Large</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
DCM4CHEE_STACK_TRACE = (
    b"javax.ws.rs.WebApplicationException: HTTP 500 Internal Server Error\n"
    b"\tat org.dcm4chee.arc.stow.StowRS.store(StowRS.java:322)\n"
)
SLOWED = "20 times not accepted, the last: HTTP 429 (slow)"
STACK_TRACE_REASON = "HTTP 500 (javax.ws.rs.WebApplicationException: HTTP 500 Internal Server Error)"

LISTED = [
    Case("200 all listed", batch(2), Response(200, answer(stored=[1, 2])), ["1 stored", "2 stored"]),
    Case("200 in XML, whatever its type", batch(1), Response(200, GOOGLE_ALL_STORED_XML, "text/plain"), ["1 stored"]),
    Case(
        "202 stored but not all",
        batch(2),
        Response(202, answer(stored=[1], failed=[(2, 0xC122)])),
        ["1 stored", "2 refused: C122 transfer syntax not supported"],
    ),
    Case(
        "409 that lists one as stored",
        batch(2),
        Response(409, answer(stored=[1], failed=[(2, 0xA900)])),
        ["1 stored", "2 refused: A900 data set does not match SOP class"],
    ),
    Case("500 that lists all as stored", batch(2), Response(500, answer(stored=[1, 2])), ["1 stored", "2 stored"]),
    Case(
        "stored and failed: failed",
        batch(2),
        Response(200, answer(stored=[1, 2], failed=[(2, 0xC000)])),
        ["1 stored", "2 refused: C000 cannot understand"],
    ),
    Case(
        "warned and failed: failed",
        batch(1),
        Response(202, answer(warned=[(1, 0xB000)], failed=[(1, 0xA900)])),
        ["1 refused: A900 data set does not match SOP class"],
    ),
    Case(
        "warned is stored, with its code",
        batch(3),
        Response(202, answer(warned=[(1, 0xB000), (2, 0xB006), (3, 0xB007)])),
        [
            "1 warned: B000 coerced",
            "2 warned: B006 elements discarded",
            "3 warned: B007 data set does not match SOP class",
        ],
    ),
    Case(
        "stored twice over, once with a warning",
        batch(1),
        Response(200, answer(stored=[1], warned=[(1, 0xB000)])),
        ["1 warned: B000 coerced"],
    ),
    Case(
        "strangers listed as stored do not count",
        batch(2),
        Response(200, answer(stored=[1, 77])),
        ["1 stored", "send 2 (may be stored)"],
    ),
    Case(
        "strangers as stored, and the status trusted",
        batch(1),
        Response(200, answer(stored=[77])),
        ["ask 1 because: HTTP 200 without naming it"],
        Rules(trust_status=True),
    ),
]

UNACKNOWLEDGED = [
    Case(
        "Orthanc 1.7: 200 with nothing listed",
        batch(3),
        Response(200, ORTHANC_17_NOTHING_LISTED),
        ["send 1 (may be stored)", "send 2 (may be stored)", "send 3 (may be stored)"],
    ),
    Case(
        "Orthanc 1.7: 200, last part dropped",
        batch(3),
        Response(200, answer(stored=[1, 2])),
        ["1 stored", "2 stored", "send 3 (may be stored)"],
    ),
    Case(
        "204, which Azure gives for nothing",
        batch(2),
        Response(204, b""),
        ["send 1 (may be stored)", "send 2 (may be stored)"],
    ),
    Case(
        "alone and still not listed",
        batch(1),
        Response(200, ORTHANC_17_NOTHING_LISTED),
        ["ask 1 because: HTTP 200 without naming it"],
    ),
    Case("dcmjs: 200 and a word", batch(1), Response(200, b"success"), ["ask 1 because: HTTP 200 without naming it"]),
    Case(
        "trusted: an empty 200",
        batch(2),
        Response(200, b""),
        ["1 stored: HTTP 200, trusted", "2 stored: HTTP 200, trusted"],
        Rules(trust_status=True),
    ),
    Case(
        "trusted: a module that lists nothing",
        batch(1),
        Response(202, ORTHANC_17_NOTHING_LISTED),
        ["1 stored: HTTP 202, trusted"],
        Rules(trust_status=True),
    ),
    Case(
        "trusted, but it lists some and leaves others out",
        batch(3),
        Response(200, answer(stored=[1])),
        ["1 stored", "send 2 (may be stored)", "send 3 (may be stored)"],
        Rules(trust_status=True),
    ),
    Case(
        "trusted, but another failure is told",
        batch(3),
        Response(200, answer(others=[272])),
        ["send 1 (may be stored)", "send 2 (may be stored)", "send 3 (may be stored)"],
        Rules(trust_status=True),
    ),
    Case(
        "trust is in 2xx only",
        batch(1),
        Response(409, b""),
        ["1 refused: HTTP 409 (no reason given)"],
        Rules(trust_status=True),
    ),
]

ELIMINATION = [
    Case(
        "Orthanc 1.7: 400, the good one listed, two culprits unnamed",
        batch(3),
        Response(400, ORTHANC_17_GOOD_ONES_LISTED),
        ["1 stored", "send 2", "send 3"],
    ),
    Case(
        "Orthanc 1.7: 400, the good one listed, one culprit unnamed",
        batch(2),
        Response(400, ORTHANC_17_GOOD_ONES_LISTED),
        ["1 stored", "send 2"],
    ),
    Case(
        "dcm4chee: a made-up UID, one left",
        batch(2),
        Response(202, DCM4CHEE_MADE_UP_UID),
        ["1 stored", "2 refused: C000 cannot understand"],
    ),
    Case(
        "dcm4chee: a made-up UID, two left",
        batch(3),
        Response(202, DCM4CHEE_MADE_UP_UID),
        ["1 stored", "send 2 (may be stored)", "send 3 (may be stored)"],
    ),
    Case(
        "Azure: no UID, alone",
        batch(1),
        Response(409, AZURE_WITHOUT_UID),
        ["1 refused: A900 data set does not match SOP class"],
    ),
    Case("Azure: no UID, two sent", batch(2), Response(409, AZURE_WITHOUT_UID), ["send 1", "send 2"]),
    Case(
        "other failures, one left",
        batch(2),
        Response(202, answer(stored=[2], others=[0xC000])),
        ["1 refused: C000 cannot understand", "2 stored"],
    ),
    Case(
        "strangers that do not agree tell nothing of the one left",
        batch(1),
        Response(409, answer(failed=[(77, 45070), (78, 0xA900)])),
        ["send 1 after backoff (1 doubts)"],
    ),
    Case(
        "strangers that agree",
        batch(1),
        Response(409, answer(failed=[(77, 0xA900), (78, 0xA900)])),
        ["1 refused: A900 data set does not match SOP class"],
    ),
    Case(
        "a stranger, and nobody left", batch(1), Response(202, answer(stored=[1], failed=[(77, 0xA900)])), ["1 stored"]
    ),
]

DUPLICATES = [
    Case("Azure 45070", batch(1), Response(409, AZURE_ALREADY_STORED), ["1 duplicate: B00E already stored"]),
    Case(
        "Azure 45070 after an unanswered request",
        batch(1, may_be_stored=True),
        Response(409, AZURE_ALREADY_STORED),
        ["1 stored: B00E already stored, by an earlier request of ours"],
    ),
    Case(
        "273",
        batch(2),
        Response(202, answer(stored=[1], failed=[(2, 273)])),
        ["1 stored", "2 duplicate: 0111 duplicate SOP instance"],
    ),
    Case(
        "a bare 409 is no duplicate",
        batch(1),
        Response(409, b""),
        ["1 refused: HTTP 409 (no reason given)"],
    ),
    Case("Azure 45071", batch(1), Response(409, answer(failed=[(1, 45071)])), ["send 1 after backoff (1 faults)"]),
]

FAILURE_CODES = [
    Case(
        "A7xx in part",
        batch(2),
        Response(202, answer(stored=[1], failed=[(2, 0xA700)])),
        ["1 stored", "send 2 after long (1 faults)"],
    ),
    Case(
        "A700 for all: the breaker",
        batch(2),
        Response(409, answer(failed=[(1, 0xA700), (2, 0xA7FF)])),
        ["send 1 2 after long (1 faults)", "full"],
    ),
    Case(
        "A700 for all in an outage burns nothing",
        batch(2, failed_attempts=4),
        Response(409, answer(failed=[(1, 0xA700), (2, 0xA700)])),
        ["send 1 2 after long (4 faults)", "full"],
        outage=True,
    ),
    Case(
        "507 in an outage burns nothing",
        batch(2, failed_attempts=4),
        Response(507, b""),
        ["send 1 2 after long (4 faults)", "full"],
        outage=True,
    ),
    Case(
        "A700 for all, attempts used up",
        batch(1, failed_attempts=4),
        Response(409, answer(failed=[(1, 0xA700)])),
        ["1 unconfirmed: A700 out of resources", "full"],
    ),
    Case(
        "A770 and A77B are permanent",
        batch(2),
        Response(409, answer(failed=[(1, 0xA770), (2, 0xA77B)])),
        ["1 refused: A770 rejected by the archive's rules", "2 refused: A77B rejected by the archive's rules"],
    ),
    Case("A77A passes slowly", batch(1), Response(409, answer(failed=[(1, 42874)])), ["send 1 after long (1 faults)"]),
    Case(
        "A9xx",
        batch(1),
        Response(409, answer(failed=[(1, 43519)])),
        ["1 refused: A9FF data set does not match SOP class"],
    ),
    Case("Cxxx", batch(1), Response(409, answer(failed=[(1, 53247)])), ["1 refused: CFFF cannot understand"]),
    Case(
        "272 in a batch goes alone",
        batch(2),
        Response(202, answer(stored=[1], failed=[(2, 272)])),
        ["1 stored", "send 2"],
    ),
    Case(
        "several of 272 go each alone",
        batch(2),
        Response(409, answer(failed=[(1, 272), (2, 272)])),
        ["send 1", "send 2"],
    ),
    Case(
        "272 alone, the second time",
        batch(1, ambiguous_failures=1),
        Response(409, answer(failed=[(1, 272)])),
        ["send 1 after backoff (2 doubts)"],
    ),
    Case(
        "272 after lost connections is the first of three",
        batch(1, failed_attempts=4),
        Response(409, answer(failed=[(1, 272)])),
        ["send 1 after backoff (4 faults) (1 doubts)"],
    ),
    Case(
        "272 alone, the third time",
        batch(1, ambiguous_failures=2),
        Response(409, answer(failed=[(1, 272)])),
        ["ask 1 (3 doubts) because: 0110 processing failure"],
    ),
    Case(
        "272 alone, when there is one attempt",
        batch(1),
        Response(409, answer(failed=[(1, 272)])),
        ["ask 1 (1 doubts) because: 0110 processing failure"],
        Rules(attempts=1),
    ),
    Case(
        "no code is as 272",
        batch(1, ambiguous_failures=2),
        Response(409, answer(failed=[(1, None)])),
        ["ask 1 (3 doubts) because: no reason given"],
    ),
    Case("0106", batch(1), Response(409, answer(failed=[(1, 262)])), ["1 refused: 0106 invalid attribute value"]),
    Case("0122", batch(1), Response(409, answer(failed=[(1, 290)])), ["1 refused: 0122 SOP class not supported"]),
    Case(
        "0124 in part",
        batch(2),
        Response(202, answer(stored=[1], failed=[(2, 292)])),
        ["1 stored", "2 refused: 0124 not authorised"],
    ),
    Case("0210", batch(1), Response(409, answer(failed=[(1, 528)])), ["1 refused: 0210 protocol error behind a proxy"]),
    Case("0213", batch(2), Response(409, answer(failed=[(1, 531), (2, 531)])), ["send 1 2 after backoff (1 faults)"]),
    Case(
        "0213, attempts used up",
        batch(1, failed_attempts=4),
        Response(409, answer(failed=[(1, 531)])),
        ["1 unconfirmed: 0213 resource limitation"],
    ),
    Case(
        "what waits alike travels together",
        batch(5),
        Response(409, answer(failed=[(1, 531), (2, 0xA700), (3, 272), (4, 45071), (5, 42874)])),
        ["send 3", "send 1 4 after backoff (1 faults)", "send 2 5 after long (1 faults)"],
    ),
    Case(
        "503 with A700 and Retry-After",
        batch(1),
        Response(503, answer(failed=[(1, 0xA700)]), retry_after_s=30),
        ["send 1 after long not before 30 s (1 faults)", "full"],
    ),
]

MAY_BE_THERE = [
    *(
        Case(
            f"{name}, after {past}",
            replace(sent, instances=(instance(1),)),
            Response(status, body),
            [f"ask 1{' (may be stored)' if sent.may_be_stored else ''} because: {reason}", *health_signal],
        )
        for past, sent in (
            ("a request without an answer", batch(1, may_be_stored=True)),
            ("an ambiguous failure", batch(1, was_ambiguous=True)),
        )
        for name, status, body, reason, health_signal in (
            ("C122", 409, answer(failed=[(1, 0xC122)]), "C122 transfer syntax not supported", []),
            ("0122", 409, answer(failed=[(1, 290)]), "0122 SOP class not supported", []),
            ("a bare 409", 409, b"", "HTTP 409 (no reason given)", []),
            ("a bare 400", 400, b"bad", "HTTP 400 (bad)", []),
            (
                "a 413",
                413,
                b"",
                "HTTP 413 (no reason given): 1000 bytes are more than the server takes",
                ["busy", "too large: 1000"],
            ),
        )
    ),
    Case(
        "out of attempts, after a request without an answer",
        batch(1, failed_attempts=4, may_be_stored=True),
        Response(409, answer(failed=[(1, 531)])),
        ["ask 1 (5 faults) (may be stored) because: 0213 resource limitation"],
    ),
    Case(
        "C122 in a batch that was broken off: of each it is asked",
        batch(2, may_be_stored=True),
        Response(409, answer(failed=[(1, 0xC122), (2, 0xC122)])),
        [f"ask {n} (may be stored) because: C122 transfer syntax not supported" for n in (1, 2)],
    ),
]

STATUSES = [
    Case("413 batch", batch(4), Response(413, NGINX_413), ["send 1 2", "send 3 4", "busy", "too large: 4000"]),
    Case(
        "413 alone",
        batch(1),
        Response(413, NGINX_413),
        [
            "1 refused: HTTP 413 (413 Request Entity Too Large): 1000 bytes are more than the server takes",
            "busy",
            "too large: 1000",
        ],
    ),
    Case(
        "413 that lists one: the size is the request's",
        batch(2),
        Response(413, answer(stored=[1])),
        ["1 stored", "send 2", "busy", "too large: 2000"],
    ),
    Case(
        "400 that names nobody",
        batch(3),
        Response(400, b'{"HttpError":"Bad Request","HttpStatus":400}'),
        ["send 1", "send 2 3"],
    ),
    Case("409 that names nobody", batch(2), Response(409, b""), ["send 1", "send 2"]),
    Case("415", batch(2), Response(415, b"", warning="no DICOM"), ["send 1", "send 2"]),
    Case(
        "422 alone, its Warning header kept",
        batch(1),
        Response(422, b"", warning='299 arc "pixel data missing"'),
        ['1 refused: HTTP 422 (299 arc "pixel data missing")'],
    ),
    Case(
        "500 with a stack trace",
        batch(4),
        Response(500, DCM4CHEE_STACK_TRACE, "text/plain"),
        ["send 1 2 after backoff (1 faults) (may be stored)", "send 3 4 after backoff (1 faults) (may be stored)"],
    ),
    Case(
        "500 with a stack trace, alone, attempts used up",
        batch(1, failed_attempts=4),
        Response(500, DCM4CHEE_STACK_TRACE),
        [f"ask 1 after backoff (5 faults) (may be stored) because: 5 attempts, the last: {STACK_TRACE_REASON}"],
    ),
    Case("502", batch(2), Response(502, b""), ["send 1 2 after backoff (1 faults) (may be stored)", "gone"]),
    Case(
        "503 with Retry-After",
        batch(2),
        Response(503, b"", retry_after_s=120),
        ["send 1 2 after backoff not before 120 s (1 excused) (may be stored)", "rejected"],
    ),
    Case(
        "429 with Retry-After is no attempt, even where one is left",
        batch(2, failed_attempts=1),
        Response(429, b"", "", "slow", retry_after_s=7),
        ["send 1 2 after backoff not before 7 s (1 faults) (1 excused) (may be stored)", "rejected"],
        Rules(attempts=2),
    ),
    Case(
        "rejected for the tenth time: each instance alone, as one of them may be the cause",
        batch(2, excused=MOST_EXCUSED // 2 - 1),
        Response(429, b""),
        [*(f"send {n} after backoff ({MOST_EXCUSED // 2} excused) (may be stored)" for n in (1, 2)), "rejected"],
    ),
    Case(
        "rejected until that must end",
        batch(1, excused=MOST_EXCUSED - 1),
        Response(429, b"", "", "slow", retry_after_s=7),
        [f"ask 1 after backoff not before 7 s (may be stored) because: {SLOWED}", "rejected"],
    ),
    Case(
        "failed in outages until that must end",
        batch(1, excused=MOST_EXCUSED - 1),
        NoResponse(Cause.UNANSWERED, body_started=True),
        ["ask 1 after backoff (may be stored) because: 20 times not accepted, the last: no answer in time", "gone"],
        outage=True,
    ),
    Case("507: the breaker", batch(1), Response(507, b""), ["send 1 after backoff (1 faults) (may be stored)", "full"]),
    *(
        Case(
            f"{status} is tried again",
            batch(1),
            Response(status, b""),
            [f"send 1 after backoff (1 {counted}) (may be stored)", health_signal],
        )
        for status, counted, health_signal in (
            (408, "faults", "busy"),
            (424, "faults", "busy"),
            (425, "excused", "rejected"),
            (429, "excused", "rejected"),
            (503, "excused", "rejected"),
            (504, "faults", "gone"),
        )
    ),
    Case(
        "503 that lists one",
        batch(2),
        Response(503, answer(stored=[2])),
        ["2 stored", "send 1 after backoff (1 excused) (may be stored)", "rejected"],
    ),
    Case(
        "503 the second time is not halved: that would be more of it",
        batch(4, failed_attempts=1),
        Response(503, b""),
        ["send 1 2 3 4 after backoff (1 faults) (1 excused) (may be stored)", "rejected"],
    ),
    Case(
        "502 the second time is halved",
        batch(4, failed_attempts=1),
        Response(502, b""),
        [f"send {pair} after backoff (2 faults) (may be stored)" for pair in ("1 2", "3 4")] + ["gone"],
    ),
    Case(
        "a proxy's word in an outage burns nothing",
        batch(2, failed_attempts=4),
        Response(502, b"", retry_after_s=5),
        ["send 1 2 after backoff not before 5 s (4 faults) (1 excused) (may be stored)", "gone"],
        outage=True,
    ),
]

LOST = NoResponse(Cause.DISCONNECTED, body_started=True, detail="reset")
NOT_BEGUN = NoResponse(Cause.DISCONNECTED, body_started=False)

INTERRUPTIONS = [
    Case("lost midway", batch(3), LOST, ["send 1 2 3 after backoff (1 faults) (may be stored)", "gone"]),
    Case("lost before it began", batch(3), NOT_BEGUN, ["send 1 2 3 after backoff (1 faults)", "gone"]),
    Case(
        "that it may be stored is not forgotten",
        batch(1, may_be_stored=True),
        NOT_BEGUN,
        ["send 1 after backoff (1 faults) (may be stored)", "gone"],
    ),
    Case(
        "the second time it is halved",
        batch(3, failed_attempts=1),
        LOST,
        [
            "send 1 after backoff (2 faults) (may be stored)",
            "send 2 3 after backoff (2 faults) (may be stored)",
            "gone",
        ],
    ),
    Case(
        "the last attempt each has alone",
        batch(3, failed_attempts=3),
        LOST,
        [*(f"send {n} after backoff (4 faults) (may be stored)" for n in (1, 2, 3)), "gone"],
    ),
    Case(
        "then we ask",
        batch(2, failed_attempts=4),
        LOST,
        [
            "ask 1 2 after backoff (5 faults) (may be stored) because: 5 attempts, the last: connection lost (reset)",
            "gone",
        ],
    ),
    Case(
        "one attempt only",
        batch(2),
        LOST,
        [
            "ask 1 2 after backoff (1 faults) (may be stored) because: 1 attempt: connection lost (reset)",
            "gone",
        ],
        Rules(attempts=1),
    ),
    Case(
        "no connection burns nothing",
        batch(2, failed_attempts=4),
        NoResponse(Cause.UNREACHABLE, body_started=False),
        ["send 1 2 after backoff (4 faults)", "gone"],
    ),
    Case(
        "an outage burns nothing",
        batch(2, failed_attempts=4),
        NOT_BEGUN,
        ["send 1 2 after backoff (4 faults) (1 excused)", "gone"],
        outage=True,
    ),
    Case(
        "an outage that began midway burns nothing",
        batch(2, failed_attempts=4),
        LOST,
        ["send 1 2 after backoff (4 faults) (1 excused) (may be stored)", "gone"],
        outage=True,
    ),
    Case(
        "an endless answer is no absence",
        batch(1),
        NoResponse(Cause.OVERLONG, body_started=True),
        ["send 1 after backoff (1 faults) (may be stored)"],
        outage=True,
    ),
    Case(
        "an answer beyond its limit: in halves it may keep it",
        batch(2),
        NoResponse(Cause.OVERLONG, body_started=True),
        [f"send {n} after backoff (1 faults) (may be stored)" for n in (1, 2)],
    ),
    Case(
        "spoiled by one file: the others pay nothing",
        batch(3, failed_attempts=2),
        SourceChanged({header(2).sop_instance_uid: "it grew"}),
        ["2 unreadable: it grew", "send 1 3 (2 faults) (may be stored)", "none"],
    ),
    Case(
        "spoiled by several files",
        batch(4),
        SourceChanged({header(n).sop_instance_uid: f"gone {n}" for n in (1, 3)}),
        ["1 unreadable: gone 1", "3 unreadable: gone 3", "send 2 4 (may be stored)", "none"],
    ),
    Case(
        "spoiled before it was begun: nothing left, and nothing may be stored",
        batch(3, requests=2),
        SourceChanged({header(2).sop_instance_uid: "gone"}, is_begun=False),
        ["2 unreadable: gone", "send 1 3", "none"],
    ),
    Case(
        "spoiled, alone",
        batch(1),
        SourceChanged({header(1).sop_instance_uid: "it is gone"}),
        ["1 unreadable: it is gone", "none"],
    ),
]

GOOGLE_DIFFERS = (
    b'<NativeDicomModel><DicomAttribute tag="00081198" vr="SQ" keyword="FailedSOPSequence"><Item number="1">'
    b'<DicomAttribute tag="00081197" vr="US" keyword="FailureReason"><Value number="1">272</Value></DicomAttribute>'
    b'<DicomAttribute tag="00090097" vr="LT" keyword="FailureDetail" privateCreator="GOOGLE"><Value number="1">'
    b"An instance already exists in this DICOM Store with the same Study/Series/SOPInstance UID, but the DICOM files "
    b"differ (checksum mismatch).</Value></DicomAttribute></Item></DicomAttribute></NativeDicomModel>"
)
GOOGLE_WORDS = (
    "An instance already exists in this DICOM Store with the same Study/Series/SOPInstance UID, but the DICOM files "
    "differ (checksum mismatch)."
)
GOOGLE_EXISTS = (
    b'{"00081198":{"vr":"SQ","Value":[{"00081155":{"vr":"UI","Value":["2.25.1.1.1"]},"00081197":{"vr":"US","Value":[272]},'
    b'"00090097":{"vr":"LT","Value":["instance already exists"]}}]}}'
)
BESIDE = (
    b'{"00000902":{"vr":"LO","Value":["quota of the tenant"]},"00081198":{"vr":"SQ","Value":['
    b'{"00081155":{"vr":"UI","Value":["2.25.1.1.1"]},"00081197":{"vr":"US","Value":[49152]}}]}}'
)

SERVERS_WORDS = [
    Case(
        "Google: it exists",
        batch(1),
        Response(409, GOOGLE_EXISTS),
        ["1 duplicate: 0110 processing failure: instance already exists"],
    ),
    Case(
        "Google: it exists, after an unanswered request",
        batch(1, may_be_stored=True),
        Response(409, GOOGLE_EXISTS),
        ["1 stored: 0110 processing failure: instance already exists, by an earlier request of ours"],
    ),
    Case(
        "Google: it exists with other bytes, which are not ours, whatever was sent before",
        batch(1, may_be_stored=True),
        Response(409, GOOGLE_DIFFERS),
        [f"1 refused: 0110 processing failure: {GOOGLE_WORDS}"],
    ),
    Case(
        "409 alone, in words: it exists",
        batch(1),
        Response(409, b'{"error":{"code":409,"message":"instance already exists","status":"ALREADY_EXISTS"}}'),
        ["1 duplicate: HTTP 409 (instance already exists)"],
    ),
    Case(
        "words beside the sequences",
        batch(1),
        Response(409, BESIDE),
        ["1 refused: C000 cannot understand: quota of the tenant"],
    ),
    Case(
        "strangers that agree, in words too",
        batch(1),
        Response(
            409, store_response.to_json(StoreResponse(other_failures=(Referenced("", "", 0xC000, "no DICM"),) * 2))
        ),
        ["1 refused: C000 cannot understand: no DICM"],
    ),
    Case(
        "strangers with different words",
        batch(1),
        Response(
            409,
            store_response.to_json(
                StoreResponse(other_failures=(Referenced("", "", 0xC000, "a"), Referenced("", "", 0xC000, "b")))
            ),
        ),
        ["1 refused: C000 cannot understand"],
    ),
    Case(
        "a warning's words",
        batch(1),
        Response(
            202, store_response.to_json(StoreResponse(warned=(replace(referenced(1, 0xB007), comment="no date"),)))
        ),
        ["1 warned: B007 data set does not match SOP class: no date"],
    ),
    Case(
        "only a module's words, and nobody named",
        batch(1),
        Response(400, b'{"00000902":{"vr":"LO","Value":["no boundary"]}}'),
        ["1 refused: HTTP 400 (no boundary)"],
    ),
]

CASES = [
    *SERVERS_WORDS,
    *LISTED,
    *UNACKNOWLEDGED,
    *ELIMINATION,
    *DUPLICATES,
    *FAILURE_CODES,
    *MAY_BE_THERE,
    *STATUSES,
    *INTERRUPTIONS,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_exchange_settles(case: Case) -> None:
    """Each exchange gives these results, these instances to send or query again, and this signal of health."""
    settlement = settle(case.sent, case.exchange, case.rules, outage=case.outage)
    assert shown(settlement) == case.expected


@pytest.mark.parametrize(
    ("response", "expected", "message"),
    [
        (Response(401, b""), LoginRefused, r"\(401\): check --user, --header or the bearer token"),
        (Response(403, b""), LoginRefused, r"forbids this user to store \(403\)"),
        (
            Response(404, b""),
            DestinationRefused,
            r"no STOW-RS service at this URL \(HTTP 404\): --url is the DICOMweb root",
        ),
        (Response(405, b""), DestinationRefused, r"no STOW-RS service at this URL \(HTTP 405\)"),
        (Response(406, b""), DestinationRefused, r"no STOW-RS service at this URL \(HTTP 406\)"),
        (Response(501, b""), DestinationRefused, r"no STOW-RS service at this URL \(HTTP 501\)"),
        (Response(411, b""), DestinationRefused, r"\(411\): look for a proxy"),
        (
            Response(302, b"", location="https://sso/login"),
            DestinationRefused,
            r"redirects to https://sso/login \(HTTP 302\)",
        ),
        (Response(308, b""), DestinationRefused, r"the server redirects \(HTTP 308\)"),
        (Response(409, answer(failed=[(1, 292), (2, 0x0214)])), LoginRefused, r"every instance .* \(0124\)"),
    ],
    ids=lambda value: f"{value.status}" if isinstance(value, Response) else "",
)
def test_a_failure_that_no_retry_fixes_stops_the_run(
    response: Response, expected: type[RunStopped], message: str
) -> None:
    """Login, address and method concern all instances; the message says what to check."""
    with pytest.raises(expected, match=message):
        settle(batch(2), response, Rules())


@pytest.mark.parametrize("status", [401, 403, 404, 405, 406, 411, 501])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            b'{"error":{"code":403,"message":"dicomWebWrite denied","status":"PERMISSION_DENIED"}}',
            "dicomWebWrite denied",
        ),
        (b"the tenant is unknown\nat line 7", "the tenant is unknown"),
        (b"<html><head><title>404 Not Found</title></head></html>", None),
        (b"", None),
    ],
    ids=["JSON", "plain text", "HTML", "nothing"],
)
def test_what_stops_the_run_ends_with_the_servers_words(status: int, body: bytes, words: str | None) -> None:
    """JSON and plain text follow our message; an HTML page does not, as it is not specific to the request."""
    with pytest.raises(RunStopped) as stopped:
        settle(batch(2), Response(status, body), Rules())
    said = str(stopped.value).partition("; the server says: ")
    assert said[1:] == (("; the server says: ", words) if words else ("", ""))


def test_results_count_the_requests_of_their_instances() -> None:
    """The settled request is counted in results, and in the batches that are sent again."""
    settlement = settle(batch(2, requests=2), Response(202, answer(stored=[1], failed=[(2, 531)])), Rules())
    assert [result.attempts for result in settlement.results] == [3]
    assert [later.item.batch.requests for later in settlement.again] == [3]


WHY = "5 attempts, the last: HTTP 500"


@pytest.mark.parametrize(
    ("answered", "asked", "outage", "expected"),
    [
        (
            frozenset({"2.25.1.1.1", "2.25.1.1.2"}),
            0,
            False,
            [f"1 stored: {WHY}; QIDO-RS finds it", f"2 stored: {WHY}; QIDO-RS finds it"],
        ),
        (
            frozenset({"2.25.1.1.2"}),
            0,
            False,
            [f"2 stored: {WHY}; QIDO-RS finds it", f"ask 1 after backoff because: {WHY}"],
        ),
        (
            frozenset({"2.25.1.1.2"}),
            2,
            False,
            [f"2 stored: {WHY}; QIDO-RS finds it", f"1 unconfirmed: {WHY}; QIDO-RS does not find it"],
        ),
        (frozenset(), 1, False, [f"ask 1 2 after backoff because: {WHY}"]),
        (frozenset({"2.25.9"}), 2, False, [f"{n} unconfirmed: {WHY}; QIDO-RS does not find it" for n in (1, 2)]),
        (
            Response(404, b""),
            0,
            False,
            [*(f"{n} unconfirmed: {WHY}; QIDO-RS answers HTTP 404 (no reason given)" for n in (1, 2)), "none"],
        ),
        (
            Response(401, b""),
            0,
            False,
            [*(f"{n} unconfirmed: {WHY}; QIDO-RS answers HTTP 401 (no reason given)" for n in (1, 2)), "none"],
        ),
        (
            Response(403, b""),
            0,
            False,
            [*(f"{n} unconfirmed: {WHY}; QIDO-RS answers HTTP 403 (no reason given)" for n in (1, 2)), "none"],
        ),
        (
            Response(503, b"", retry_after_s=9),
            0,
            False,
            [f"ask 1 2 after backoff not before 9 s (1 excused) because: {WHY}", "none"],
        ),
        (Response(429, b""), 2, False, [f"ask 1 2 after backoff (1 excused) because: {WHY}", "none"]),
        (Response(408, b""), 1, False, [f"ask 1 2 after backoff because: {WHY}", "none"]),
        (
            Response(502, b""),
            2,
            False,
            [*(f"{n} unconfirmed: {WHY}; QIDO-RS answers HTTP 502 (no reason given)" for n in (1, 2)), "none"],
        ),
        (
            NoResponse(Cause.UNANSWERED, body_started=False),
            1,
            False,
            [f"ask 1 2 after backoff because: {WHY}", "none"],
        ),
        (
            NoResponse(Cause.UNANSWERED, body_started=False),
            2,
            False,
            [*(f"{n} unconfirmed: {WHY}; QIDO-RS gave no answer (no answer in time)" for n in (1, 2)), "none"],
        ),
        (
            NoResponse(Cause.UNANSWERED, body_started=False),
            2,
            True,
            [f"ask 1 2 after backoff (1 excused) because: {WHY}", "gone"],
        ),
        (
            NoResponse(Cause.UNREACHABLE, body_started=False),
            2,
            False,
            [f"ask 1 2 after backoff because: {WHY}", "gone"],
        ),
        (
            NoResponse(Cause.OVERLONG, body_started=False),
            2,
            True,
            [
                *(f"{n} unconfirmed: {WHY}; QIDO-RS gave no answer (answer longer than the limit)" for n in (1, 2)),
                "none",
            ],
        ),
    ],
    ids=[
        "found",
        "one found",
        "one missing for good",
        "missing yet",
        "a stranger found",
        "no such service",
        "not logged in to ask",
        "may not ask",
        "busy",
        "told to slow down",
        "timed out",
        "nobody behind the proxy",
        "no answer",
        "no answer for good",
        "no answer in an outage",
        "nobody there",
        "endless answer",
    ],
)
def test_a_query_settles(
    answered: frozenset[str] | Response | NoResponse, asked: int, outage: bool, expected: list[str]
) -> None:
    """An instance that QIDO-RS finds is stored; another is queried a few times, and then does not count as stored."""
    assert shown(settle_query(Query(batch(2), WHY, asked), answered, Rules(attempts=1), outage=outage)) == expected


@pytest.mark.parametrize("otherwise", [Outcome.UNCONFIRMED, Outcome.REFUSED])
@pytest.mark.parametrize("found", [frozenset(), frozenset({"2.25.1.1.1", "2.25.1.1.2"})])
def test_an_instance_that_cannot_be_queried_is_unconfirmed(found: frozenset[str], otherwise: Outcome) -> None:
    """An instance whose study has no path is neither proved nor disproved; the others are settled."""
    sent = batch(2, may_be_stored=True)
    odd = replace(sent.instances[0], header=replace(sent.instances[0].header, study_uid="../../x"))
    query = Query(replace(sent, instances=(odd, sent.instances[1])), WHY, asked=QUERIES - 1, otherwise=otherwise)
    first, second = settle_query(query, found, Rules(attempts=1)).results
    assert (first.candidate, first.outcome) == (odd.candidate, Outcome.UNCONFIRMED)
    assert first.reason == f"{WHY}; QIDO-RS cannot be asked for it: its Study Instance UID is not a UID"
    assert second.outcome is (Outcome.STORED if found else otherwise)


def test_queries_are_counted() -> None:
    """A repeated query is counted in its work item, unless the server was unreachable."""
    query = Query(batch(1), WHY)
    (later,) = settle_query(query, frozenset(), Rules()).again
    (unreached,) = settle_query(query, NoResponse(Cause.UNREACHABLE, body_started=False), Rules()).again
    assert later.item == replace(query, asked=1)
    assert unreached.item == query


@pytest.mark.parametrize("outage", [False, True])
def test_a_query_is_rejected_a_bounded_number_of_times(outage: bool) -> None:
    """If the server rejects every query, or is gone each time, the instances do not count as stored."""
    answer = NoResponse(Cause.UNANSWERED, body_started=False) if outage else Response(503, b"")
    query, questions = Query(batch(1), WHY), 0
    while (settlement := settle_query(query, answer, Rules(), outage=outage)).again:
        (later,) = settlement.again
        assert isinstance(later.item, Query)
        query, questions = later.item, questions + 1
    assert [result.outcome for result in settlement.results] == [Outcome.UNCONFIRMED]
    assert questions == EXCUSED_QUERIES + QUERIES - 1


def test_one_forbidden_study_does_not_stop_a_run_that_has_stored_others() -> None:
    """0124 for a whole batch stops a run that has stored nothing yet; later, these instances are refused."""
    attempt = (batch(2), Response(409, answer(failed=[(1, 292), (2, 292)])))
    with pytest.raises(LoginRefused, match="0124"):
        settle(*attempt, Rules())
    settlement = settle(*attempt, Rules(), has_stored=True)
    assert shown(settlement) == ["1 refused: 0124 not authorised", "2 refused: 0124 not authorised"]


@pytest.mark.parametrize(
    ("exchange", "expected"),
    [
        (NoResponse(Cause.UNREACHABLE, body_started=False), True),
        (NoResponse(Cause.UNANSWERED, body_started=False), True),
        (NoResponse(Cause.OVERLONG, body_started=False), False),
        (Response(502, b""), True),
        (Response(503, b""), True),
        (Response(504, b""), True),
        (Response(507, b""), False),
        (Response(500, b""), False),
        (Response(404, b""), False),
        (Response(401, b""), False),
        (Response(204, b""), False),
    ],
    ids=str,
)
def test_absence(exchange: Response | NoResponse, expected: bool) -> None:
    """No response means absence, and so does a proxy's error; a response of the server itself does not."""
    assert is_absence(exchange) is expected


def test_an_instance_neither_named_nor_found_is_sent_again() -> None:
    """A server that lost an instance may store it the next time; after three attempts the instance is unconfirmed."""
    lost, tries = batch(1), 0
    while True:
        tries += 1
        (later,) = settle(lost, Response(200, b"{}"), Rules()).again
        assert isinstance(later.item, Query)
        settlement = settle_query(replace(later.item, asked=QUERIES - 1), frozenset(), Rules())
        if settlement.results:
            break
        lost = settlement.again[0].item.batch
    assert tries == AMBIGUOUS_TRIES
    assert [result.outcome for result in settlement.results] == [Outcome.UNCONFIRMED]


@pytest.mark.parametrize("found", [frozenset({"2.25.1.1.1"}), frozenset()], ids=["there", "not there"])
def test_a_bare_409_after_a_lost_response_leads_to_a_query(found: frozenset[str]) -> None:
    """It may mean a duplicate: QIDO-RS decides, and an instance that it never finds is refused for the 409."""
    (later,) = settle(batch(1, may_be_stored=True), Response(409, b""), Rules()).again
    assert isinstance(later.item, Query)
    (result,) = settle_query(replace(later.item, asked=QUERIES - 1), found, Rules()).results
    assert result.outcome is (Outcome.STORED if found else Outcome.REFUSED)


def test_a_replay_may_meet_its_own_first_copy() -> None:
    """After a body was sent twice for one response, a duplicate is our own first copy."""
    response = Response(409, AZURE_ALREADY_STORED, is_replayed=True)
    (result,) = settle(batch(1), response, Rules()).results
    assert result.outcome is Outcome.STORED


@pytest.mark.parametrize(
    ("body", "trusted"),
    [(b"", True), (b"success", True), (b"{}", True), (b"<html><title>Sign in</title>", False), (b"x" * 300, False)],
    ids=["empty", "a word", "a response", "a login page", "a long text"],
)
def test_a_status_is_trusted_only_without_other_content(body: bytes, trusted: bool) -> None:
    """--trust-status is for servers with empty responses, not for the login page of a proxy."""
    settlement = settle(batch(1), Response(200, body), Rules(trust_status=True))
    assert [result.outcome for result in settlement.results] == ([Outcome.STORED] if trusted else [])


Server = Callable[[Batch], Exchange]


@pytest.mark.parametrize("found", [True, False], ids=["there", "not there"])
def test_a_lost_race_leads_to_a_query_before_it_is_refused(found: bool) -> None:
    """After 0110 in a batch and 'conflict' alone, an instance is stored if QIDO-RS finds it."""

    def server(sent: Batch) -> Response:
        if len(sent.instances) > 1:
            return Response(202, answer(stored=[1], failed=[(2, 272)]))
        return Response(409, b"")

    course = carry_out(batch(2), server, Rules(), (lambda _: frozenset({"2.25.1.1.2"})) if found else find_nothing)
    assert course.outcomes() == {1: Outcome.STORED, 2: Outcome.STORED if found else Outcome.REFUSED}
    assert [result.reason for result in course.results if number(result) == 2] == [
        f"HTTP 409 (no reason given); QIDO-RS {'finds it' if found else 'does not find it'}"
    ]


@pytest.mark.parametrize(
    ("sent", "answered", "expected"),
    [
        (batch(1, was_ambiguous=True), Response(404, b""), Outcome.REFUSED),
        (batch(1, was_ambiguous=True), NoResponse(Cause.UNANSWERED, body_started=False), Outcome.REFUSED),
        (batch(1, may_be_stored=True), Response(404, b""), Outcome.UNCONFIRMED),
        (batch(1, may_be_stored=True, was_ambiguous=True), Response(502, b""), Outcome.UNCONFIRMED),
    ],
    ids=[
        "its word stands",
        "its word stands, no answer",
        "an answer was lost",
        "an answer was lost, busy",
    ],
)
def test_without_qido_rs_the_last_response_counts(
    sent: Batch, answered: Response | NoResponse, expected: Outcome
) -> None:
    """A failure that the server named is refused; after a lost response the instance is unconfirmed."""
    settlement = settle_query(Query(sent, "C122", QUERIES - 1, Outcome.REFUSED), answered, Rules())
    assert [result.outcome for result in settlement.results] == [expected]


@dataclass
class Course:
    """The course of a run until nothing is left to do."""

    results: list[FileResult] = field(default_factory=list)
    sent: list[Batch] = field(default_factory=list)
    asked: list[Batch] = field(default_factory=list)

    def outcomes(self) -> dict[int, Outcome]:
        """Return what became of each instance."""
        return {number(result): result.outcome for result in self.results}


def carry_out(first: Batch, server: Server, rules: Rules, find: Callable[[Batch], frozenset[str]]) -> Course:
    """Send, settle and send again until nothing is left; far more errands than any bound allows end it."""
    course = Course()
    calls: deque[Store | Query] = deque([Store(first)])
    while calls and len(course.sent) + len(course.asked) < 40 * (len(first.instances) + 5):
        item = calls.popleft()
        match item:
            case Store(sent):
                course.sent.append(sent)
                settlement = settle(sent, server(sent), rules)
            case Query(about):
                course.asked.append(about)
                settlement = settle_query(item, find(about), rules)
        course.results += settlement.results
        calls.extend(later.item for later in settlement.again)
    assert not calls, "it does not end"
    return course


def find_nothing(_: Batch) -> frozenset[str]:
    """Answer a question by QIDO-RS: nothing is there."""
    return frozenset()


@given(count=st.integers(1, 200), data=st.data(), status=st.sampled_from([400, 409, 415, 422]))
@settings(max_examples=50, deadline=None)
def test_an_unnamed_bad_instance_is_found_by_halving(count: int, data: st.DataObject, status: int) -> None:
    """One instance that makes every request with it fail is refused alone; all others are stored, in few requests."""
    culprit = data.draw(st.integers(1, count))

    def server(sent: Batch) -> Response:
        numbers = [number(i) for i in sent.instances]
        return Response(status, b"") if culprit in numbers else Response(200, answer(stored=numbers))

    course = carry_out(batch(count), server, Rules(), find_nothing)
    assert course.outcomes() == {n: Outcome.REFUSED if n == culprit else Outcome.STORED for n in range(1, count + 1)}
    assert len(course.sent) <= 2 * math.ceil(math.log2(count)) + 1


@pytest.mark.parametrize("attempts", [1, 2, 3, 5])
def test_an_instance_that_breaks_connections_fails_alone(attempts: int) -> None:
    """With two attempts or more, only the instance that breaks the connection is unconfirmed."""

    def server(sent: Batch) -> Exchange:
        numbers = [number(i) for i in sent.instances]
        return LOST if 7 in numbers else Response(200, answer(stored=numbers))

    course = carry_out(batch(10), server, Rules(attempts=attempts), find_nothing)
    lost = {7} if attempts > 1 else set(range(1, 11))
    assert {n for n, outcome in course.outcomes().items() if outcome is Outcome.UNCONFIRMED} == lost
    assert {n for n, outcome in course.outcomes().items() if outcome is Outcome.STORED} == set(range(1, 11)) - lost


def test_a_server_with_a_small_limit_stores_all_that_fits() -> None:
    """With a limit of the size of two instances, halving ends with requests that fit."""

    def server(sent: Batch) -> Response:
        if sent.size_bytes > 2 * BYTES_EACH:
            return Response(413, NGINX_413)
        return Response(200, answer(stored=(number(i) for i in sent.instances)))

    course = carry_out(batch(16), server, Rules(), find_nothing)
    assert set(course.outcomes().values()) == {Outcome.STORED}
    assert len(course.sent) == 15


def test_a_server_that_never_lists_is_queried() -> None:
    """After a 200 with nothing listed QIDO-RS decides, and only instances that it does not find are sent again."""

    def find(about: Batch) -> frozenset[str]:
        return frozenset(header(n).sop_instance_uid for n in (number(i) for i in about.instances) if n != 2)

    course = carry_out(batch(3), lambda _: Response(200, b""), Rules(), find)
    assert course.outcomes() == {1: Outcome.STORED, 2: Outcome.UNCONFIRMED, 3: Outcome.STORED}
    requests = Counter(number(i) for sent in course.sent for i in sent.instances)
    assert requests == {1: 2, 2: 1 + AMBIGUOUS_TRIES, 3: 2}
    questions = Counter(number(i) for about in course.asked for i in about.instances)
    assert questions == {1: 1, 2: QUERIES * AMBIGUOUS_TRIES, 3: 1}


CODES = st.sampled_from([None, 272, 273, 292, 531, 42874, 0xA700, 0xA770, 0xA900, 45070, 45071, 0xC000, 0xD000])
SAYINGS = st.one_of(
    st.sampled_from(["stored", "warned", "silent", "stored and failed"]), CODES.map(lambda code: ("failed", code))
)


@dataclass(frozen=True)
class Character:
    """How a server answers: what it says of each instance (by its number), and of others."""

    status: int
    sayings: tuple[str | tuple[str, int | None], ...]
    strangers: tuple[int | None, ...] = ()
    others: tuple[int | None, ...] = ()
    bare: bytes | None = None

    def __call__(self, sent: Batch) -> Response:
        """Answer a batch."""
        if self.bare is not None:
            return Response(self.status, self.bare)
        stored: list[int] = []
        warned: list[tuple[int, int]] = []
        failed: list[tuple[int, int | None]] = []
        for n in (number(i) for i in sent.instances):
            match self.sayings[n % len(self.sayings)]:
                case "stored":
                    stored.append(n)
                case "warned":
                    warned.append((n, 0xB000))
                case "stored and failed":
                    stored.append(n)
                    failed.append((n, 0xA900))
                case (_, int() | None as code):
                    failed.append((n, code))
                case _:
                    pass
        failed += [(1000 + n, code) for n, code in enumerate(self.strangers)]
        return Response(self.status, answer(stored=stored, warned=warned, failed=failed, others=self.others))


STATUS = st.one_of(
    st.sampled_from([200, 202, 204, 400, 408, 409, 413, 415, 422, 424, 429, 500, 502, 503, 504, 507]),
    st.integers(100, 599),
)
CHARACTERS = st.builds(
    Character,
    STATUS,
    st.lists(SAYINGS, min_size=1, max_size=5).map(tuple),
    st.lists(CODES, max_size=2).map(tuple),
    st.lists(CODES, max_size=2).map(tuple),
    st.none() | st.binary(max_size=20) | st.sampled_from([NGINX_413, DCM4CHEE_STACK_TRACE, b"{}", b"[]", b"success"]),
)
BREAKS = st.builds(
    NoResponse, st.sampled_from([cause for cause in Cause if cause is not Cause.UNREACHABLE]), st.booleans()
)
RULES = st.builds(Rules, st.integers(1, 6), st.booleans())
BATCHES = st.builds(
    lambda count, failed_attempts, may_be: batch(count, failed_attempts=failed_attempts, may_be_stored=may_be),
    st.integers(1, 12),
    st.integers(0, 7),
    st.booleans(),
)


def proven(response: Response, sent: Batch, rules: Rules) -> set[str]:
    """Return the UIDs of a batch that an answer gives a reason to call stored, read anew from its body."""
    try:
        listed = store_response.read(response.body)
    except StoreResponseError:
        listed = StoreResponse()
    ours = {i.header.sop_instance_uid for i in sent.instances}
    lists_any = any((listed.stored, listed.warned, listed.failed, listed.other_failures))
    if rules.trust_status and 200 <= response.status < 300 and not lists_any:
        return ours
    named = {item.sop_instance_uid for item in (*listed.stored, *listed.warned)}
    return (ours & named) - {item.sop_instance_uid for item in listed.failed}


@given(sent=BATCHES, server=CHARACTERS, broken=st.none() | BREAKS, rules=RULES, outage=st.booleans())
@settings(max_examples=400, deadline=None)
def test_a_settlement_is_complete_and_proved(
    sent: Batch, server: Character, broken: NoResponse | None, rules: Rules, outage: bool
) -> None:
    """Results and instances to send or query again partition the batch, and nothing is stored without proof."""
    exchange = broken or server(sent)
    try:
        settlement = settle(sent, exchange, rules, outage=outage)
    except RunStopped:
        return
    again = [i for later in settlement.again for i in later.item.batch.instances]
    assert Counter(o.candidate for o in settlement.results) + Counter(i.candidate for i in again) == Counter(
        i.candidate for i in sent.instances
    )
    proved = proven(exchange, sent, rules) if isinstance(exchange, Response) else set()
    for result in settlement.results:
        assert result.header is not None
        if result.outcome in (Outcome.STORED, Outcome.WARNED):
            own_doing = sent.may_be_stored and "by an earlier request of ours" in result.reason
            assert result.header.sop_instance_uid in proved or own_doing
        else:
            assert result.header.sop_instance_uid not in proved
        assert result.outcome is not Outcome.SKIPPED
        assert result.attempts == sent.requests + 1


def not_told(sent: Batch, exchange: Exchange) -> set[int]:
    """Return what a server may have stored without saying so: its answer was lost, or a failure of it is ambiguous."""
    match exchange:
        case NoResponse(body_started=True):
            return {number(i) for i in sent.instances}
        case Response(body=body):
            try:
                failed = store_response.read(body).failed
            except StoreResponseError:
                return set()
            vague = {item.sop_instance_uid for item in failed if DEFAULT.classify(item.code) is FailureClass.AMBIGUOUS}
            return {number(i) for i in sent.instances if i.header.sop_instance_uid in vague}
        case _:
            return set()


@given(
    count=st.integers(1, 12),
    servers=st.lists(CHARACTERS | BREAKS.map(lambda broken: lambda _: broken), min_size=1, max_size=3),
    rules=RULES,
    found=st.sets(st.integers(1, 12)),
)
@settings(max_examples=300, deadline=None)
def test_sending_ends_against_any_server(count: int, servers: list[Server], rules: Rules, found: set[int]) -> None:
    """With any sequence of responses, each instance has one outcome after a bounded number of requests."""
    turns = iter(range(10**6))
    perhaps_there: set[int] = set()

    def server(sent: Batch) -> Exchange:
        exchange = servers[next(turns) % len(servers)](sent)
        perhaps_there.update(not_told(sent, exchange))
        return exchange

    def find(about: Batch) -> frozenset[str]:
        return frozenset(i.header.sop_instance_uid for i in about.instances if number(i) in found)

    try:
        course = carry_out(batch(count), server, rules, find)
    except RunStopped:
        return
    assert sorted(number(result) for result in course.results) == list(range(1, count + 1))
    requests = Counter(number(i) for sent in course.sent for i in sent.instances)
    # Each request settles an instance, halves its batch, leaves it alone, counts as a fault, or is excused.
    assert max(requests.values()) <= math.ceil(math.log2(count)) + 1 + rules.attempts + 2 + MOST_EXCUSED
    assert all(result.attempts == requests[number(result)] for result in course.results)
    questions = Counter(number(i) for about in course.asked for i in about.instances)
    assert max(questions.values(), default=0) <= QUERIES * AMBIGUOUS_TRIES
    refused = {number(result) for result in course.results if result.outcome is Outcome.REFUSED}
    assert refused & perhaps_there <= questions.keys()


@given(mixed=st.lists(st.integers(1, 8), unique=True), rules=RULES)
def test_changed_files_do_not_affect_the_others(mixed: list[int], rules: Rules) -> None:
    """However many files have changed, found one by one, all others are stored, and none loses an attempt."""

    def server(sent: Batch) -> Exchange:
        assert sent.failed_attempts == 0
        for one in sent.instances:
            if number(one) in mixed:
                return SourceChanged({one.header.sop_instance_uid: "it changed"})
        return Response(200, answer(stored=(number(i) for i in sent.instances)))

    course = carry_out(batch(8), server, rules, find_nothing)
    assert course.outcomes() == {n: Outcome.UNREADABLE if n in mixed else Outcome.STORED for n in range(1, 9)}


_CHANGED = "changed on its way"
_MIXED = f"2 unreadable: {_CHANGED}; what the server has may be a mixture"


@pytest.mark.parametrize(
    ("sent", "body", "expected"),
    [
        (batch(3), answer(stored=[1, 2, 3]), ["1 stored", _MIXED, "3 stored"]),
        (batch(3), answer(stored=[1, 3], failed=[(2, 0xC000)]), None),
        (replace(batch(2), instances=(instance(2),)), b"", [_MIXED]),
    ],
    ids=["named", "refused", "not named"],
)
def test_files_that_changed_while_sent_are_not_stored(sent: Batch, body: bytes, expected: list[str] | None) -> None:
    """No response makes a file stored that was written to while it was sent; the others keep their outcome."""
    response = Response(200, body, "application/dicom+json")
    changed = replace(response, changed={header(2).sop_instance_uid: _CHANGED})

    lines = shown(settle(sent, changed, Rules()))

    assert lines == (shown(settle(sent, response, Rules())) if expected is None else expected)


def test_an_early_status_is_not_trusted() -> None:
    """A trusted 2xx needs a body that was sent whole."""
    rules = Rules(trust_status=True)
    whole, early = (settle(batch(1), Response(200, b"", is_whole=is_whole), rules) for is_whole in (True, False))
    assert [o.outcome for o in whole.results] == [Outcome.STORED]
    assert not early.results


@pytest.mark.parametrize("status", [200, 202, 409])
def test_instances_in_an_early_response_are_queried(status: int) -> None:
    """Before the body's end a response proves no instance stored; it may prove one failed."""
    early = Response(status, answer(stored=[1], failed=[(2, 0xA900)]), is_whole=False)
    settlement = settle(batch(2), early, Rules())
    assert [(o.outcome, o.header) for o in settlement.results] == [(Outcome.REFUSED, header(2))]
    assert [i.header for later in settlement.again for i in later.item.batch.instances] == [header(1)]
