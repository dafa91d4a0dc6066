"""The comparison of a study's contents, with a comparer of prepared answers."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
import pytest

from bulkstow.errors import LoginRefused
from bulkstow.model import Cause, Instance, NoResponse, Response
from bulkstow.policy.findings import Finding
from bulkstow.policy.retry import Backoff
from bulkstow.verification.content_result import ContentResult, Different, Identical, NotCompared, SameDataSet, Tell
from bulkstow.verification.contents import EDITED, RECORDED_AT_ONCE, Contents, Findings
from bulkstow.verification.expected import ExpectedFile, ExpectedStudy
from bulkstow.verification.requests import Abandoned
from tests.verification.test_requests import requests

pytestmark = pytest.mark.anyio

BROKEN = NoResponse(Cause.MALFORMED, body_started=False)


def file(name: str, number: int = 1, **changes: object) -> ExpectedFile:
    """Return a stored file of an instance of study 2.25.1."""
    made = ExpectedFile(
        series_uid="2.25.1.1",
        sop_instance_uid=f"2.25.1.1.{number}",
        sop_class_uid="1.2",
        transfer_syntax_uid="1.2.840.10008.1.2",
        path=os.fsencode(name),
        size_bytes=1,
        version=1,
        sent_bytes=None,
        original_study_uid=None,
        original_series_uid=None,
        original_sop_instance_uid=None,
        outcome="stored",
        reason="",
        has_other_file=0,
        verified_level=None,
        verified_at_s=None,
        is_expected=1,
    )
    return made._replace(**changes)  # type: ignore[arg-type]


def study(*files: ExpectedFile) -> ExpectedStudy:
    """Return a study of these files."""
    uids = frozenset(one.sop_instance_uid for one in files)
    return ExpectedStudy(1, "2.25.1", files, uids, frozenset())


@dataclass
class Comparer:
    """Has its answers by path; each is used once, the last one for ever."""

    answers: dict[str, list[ContentResult]]
    compared: list[str] = field(default_factory=list)

    async def compare(self, instance: Instance) -> ContentResult:
        """Return the next answer for a file."""
        location = instance.candidate.location
        self.compared.append(location)
        await anyio.lowlevel.checkpoint()
        answers = self.answers[location]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def compare_series(self, instances: Sequence[Instance], tell: Tell) -> Response | NoResponse:
        """Refuse to send a series."""
        return Response(404, b"")


@dataclass
class Recorded:
    """Keeps recorded findings."""

    findings: list[tuple[str, Finding, str]] = field(default_factory=list)
    calls: int = 0

    async def __call__(self, findings: Findings) -> None:
        """Record findings."""
        self.calls += 1
        self.findings += [(os.fsdecode(one.path), finding, detail) for one, finding, detail in findings]


def contents(comparer: Comparer, *, since_s: int | None = None) -> Contents:
    """Return a comparison of contents without delays."""
    made = requests(attempts=2)
    made._backoff = Backoff(base_s=0.0)
    return Contents(comparer, made, at_once=4, since_s=since_s)


async def test_what_the_comparison_says_is_found() -> None:
    """Equal and different files are recorded; files that could not be compared are named with the reason."""
    comparer = Comparer(
        {
            "/same": [Identical()],
            "/encoded": [SameDataSet("file meta information")],
            "/other": [Different(("(0010,0010) PatientName", "(7FE0,0010) PixelData"))],
            "/syntax": [NotCompared("no decoder")],
            "/gone": [Response(404, b"")],
            "/broken": [BROKEN],
            "/retried": [BROKEN, Identical()],
        }
    )
    recorded, whole = Recorded(), study(*(file(name, n) for n, name in enumerate(comparer.answers)))
    compared = await contents(comparer).compare(whole, whole.expected, recorded)
    assert sorted(recorded.findings) == [
        ("/encoded", Finding.EQUAL, ""),
        ("/other", Finding.DIFFERENT, "(0010,0010) PatientName, (7FE0,0010) PixelData"),
        ("/retried", Finding.EQUAL, ""),
        ("/same", Finding.EQUAL, ""),
    ]
    assert compared.different == {"2.25.1.1.2": "(0010,0010) PatientName, (7FE0,0010) PixelData"}
    assert compared.not_compared == {
        "2.25.1.1.3": "no decoder",
        "2.25.1.1.4": "QIDO-RS lists it, but WADO-RS answers HTTP 404 (no reason given)",
        "2.25.1.1.5": "malformed answer",
    }


async def test_each_file_of_an_instance_is_compared() -> None:
    """Of two files with one SOP Instance UID and other content the server has one: the other one is different."""
    comparer = Comparer({"/a": [Different(("(7FE0,0010) PixelData",))], "/b": [Identical()]})
    recorded, whole = Recorded(), study(file("/a"), file("/b"))
    compared = await contents(comparer).compare(whole, whole.expected, recorded)
    assert (compared.different, compared.not_compared) == ({"2.25.1.1.1": "(7FE0,0010) PixelData"}, {})
    assert {(name, finding) for name, finding, _ in recorded.findings} == {
        ("/a", Finding.DIFFERENT),
        ("/b", Finding.EQUAL),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": "skipped", "has_other_file": 1, "sop_instance_uid": "2.25.1.1.1"},
        {"is_expected": 0},
        {"verified_level": "content", "verified_at_s": 100},
    ],
)
async def test_files_that_need_no_comparison(changes: dict[str, object]) -> None:
    """Not compared: copies of another file, unexpected instances, and files compared by an unfinished run."""
    comparer = Comparer({"/a": [Identical()]})
    whole = study(file("/a"), file("/b", 2, **changes))
    await contents(comparer, since_s=100).compare(whole, whole.expected, Recorded())
    assert comparer.compared == ["/a"]


async def test_edited_instances_are_compared_with_the_edits_only() -> None:
    """Without them an edited file would differ from its instance, so it is not compared."""
    comparer = Comparer({"/a": [Identical()], "/b": [Identical()]})
    edited = file("/b", 2, original_study_uid="1.2", original_series_uid="1.3", original_sop_instance_uid="1.4")
    whole = study(file("/a"), edited)
    compared = await contents(comparer).compare(whole, whole.expected, Recorded())
    assert comparer.compared == ["/a"]
    assert compared.not_compared == {edited.sop_instance_uid: EDITED}
    with_edits = Contents(comparer, requests(), at_once=2, since_s=None, has_edits=True)
    compared = await with_edits.compare(whole, whole.expected, Recorded())
    assert sorted(comparer.compared) == ["/a", "/a", "/b"]
    assert compared.not_compared == {}


async def test_what_was_confirmed_before_the_unfinished_run_is_compared_again() -> None:
    """An older confirmation, and one at a lower level, do not count."""
    comparer = Comparer({"/a": [Identical()], "/b": [Identical()]})
    older = file("/a", 1, verified_level="content", verified_at_s=99)
    lower = file("/b", 2, verified_level="instances", verified_at_s=200)
    whole = study(older, lower)
    await contents(comparer, since_s=100).compare(whole, whole.expected, Recorded())
    assert sorted(comparer.compared) == ["/a", "/b"]


async def test_a_large_study_is_recorded_in_parts() -> None:
    """A run that is killed loses a few comparisons, not a study."""
    names = [f"/{n}" for n in range(5 * RECORDED_AT_ONCE)]
    comparer = Comparer({name: [Identical()] for name in names})
    recorded, whole = Recorded(), study(*(file(name, n) for n, name in enumerate(names)))
    await contents(comparer).compare(whole, whole.expected, recorded)
    assert sorted(name for name, *_ in recorded.findings) == sorted(names)
    assert recorded.calls >= math.floor(len(names) / (2 * RECORDED_AT_ONCE))


async def test_an_abandoned_comparison_records_what_it_knows() -> None:
    """After a drain the study has no result, but its compared files are confirmed."""
    made = requests()

    class Abandoning(Comparer):
        async def compare(self, instance: Instance) -> ContentResult:
            if len(self.compared) == 2:
                made.abandon()
            return await super().compare(instance)

    names = [f"/{n}" for n in range(20)]
    comparer = Abandoning({name: [Identical()] for name in names})
    recorded, whole = Recorded(), study(*(file(name, n) for n, name in enumerate(names)))
    with pytest.raises(Abandoned):
        await Contents(comparer, made, at_once=2, since_s=None).compare(whole, whole.expected, recorded)
    assert 2 < len(recorded.findings) < 20


async def test_an_error_that_no_retry_fixes_is_raised_as_it_is() -> None:
    """A login that is refused in one of several comparisons ends the study with that error."""

    class Refusing(Comparer):
        async def compare(self, instance: Instance) -> ContentResult:
            raise LoginRefused("401")

    whole = study(file("/a"), file("/b", 2))
    with pytest.raises(LoginRefused, match="401"):
        await contents(Refusing({})).compare(whole, whole.expected, Recorded())
