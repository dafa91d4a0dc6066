"""The stage that moves or deletes files whose instances are stored, by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import anyio
import pytest

from bulkstow.blocking import ReadLimit
from bulkstow.errors import LoginRefused
from bulkstow.model import Candidate, Cause, FileResult, Instance, NoResponse, Outcome, Response
from bulkstow.pipeline import after_stored
from bulkstow.pipeline.after_stored import COPY_OF_UNSTORED, AfterStored, Disposition, KeptFiles
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.progress.tally import Tally
from tests.archives import header
from tests.virtual_time import BACKEND

pytestmark = pytest.mark.anyio

Answer = frozenset[str] | Response | NoResponse | LoginRefused


@pytest.fixture
def anyio_backend() -> tuple[str, Any]:
    """Let a wait for the server's index take no time."""
    return BACKEND


@dataclass
class Server:
    """Answers searches one after the other; the last answer stays."""

    answers: list[Answer]
    asked: list[set[str]] = field(default_factory=list)

    async def find(self, instances: tuple[Instance, ...]) -> frozenset[str] | Response | NoResponse:
        """Return the next answer."""
        self.asked.append({instance.header.sop_instance_uid for instance in instances})
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, LoginRefused):
            raise answer
        return answer


@dataclass
class Files:
    """Removes files, and remembers them; knows the files that are stored."""

    stuck: dict[str, str] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)
    tidied: int = 0

    def dispose(self, candidate: Candidate) -> str:
        """Remove a file, unless it has a reason to stay."""
        if why := self.stuck.get(candidate.location, ""):
            return why
        self.removed.append(candidate.location)
        return ""

    def tidy(self, quiet_s: float) -> None:
        """Count the calls."""
        self.tidied += 1

    def owners(self, uids: Sequence[str]) -> dict[str, list[Instance]]:
        """Return the stored files."""
        return {uid: [Instance(Candidate("/x", 1, 1), header(1))] for uid in uids if uid in self.stored}


def result(number: int, outcome: Outcome = Outcome.STORED, *, copy_of: str = "") -> FileResult:
    """Return the outcome of a file."""
    return FileResult(Candidate(f"/in/{number}", 1, 1), header(number), outcome, copy_of=copy_of)


def uid(number: int) -> str:
    """Return the UID of the file."""
    return header(number).sop_instance_uid


async def deal_with(
    lists: Sequence[list[FileResult]],
    files: Files,
    server: Server | None = None,
    *,
    kept: KeptFiles | None = None,
    is_abandoned: bool = False,
) -> Tally:
    """Give lists of recorded files to the stage, and return the figures at its end."""
    recorded_in, recorded = anyio.create_memory_object_stream[list[FileResult]](len(lists))
    tally, abandoned = Tally(), anyio.Event()
    if is_abandoned:
        abandoned.set()

    async def at_once() -> None:
        await anyio.lowlevel.checkpoint()

    threads = WorkerThreads(2)
    stage = AfterStored(
        disposition=Disposition(
            action="deleted", disposer=files, settle_s=None if server is None else 30.0, quiet_s=0.0
        ),
        kept=kept or KeptFiles(),
        destination=cast("Any", server),
        ledger=cast("Any", files),
        threads=threads,
        limit=ReadLimit(60.0),
        recorded_in=recorded_in,
        recorded=recorded,
        abandoned=abandoned,
        wait_to_query=at_once,
        reporter=tally,
    )
    with recorded_in:
        for several in lists:
            recorded_in.send_nowait(several)
    try:
        await stage.run()
    finally:
        threads.shutdown()
    return tally


async def test_only_instances_that_are_found_lose_their_file() -> None:
    """Two of three are listed; the third is asked for until the settle time has passed, and stays."""
    files, server = Files(), Server([frozenset({uid(1), uid(2)})])
    tally = await deal_with([[result(1), result(2), result(3)]], files, server)
    assert sorted(files.removed) == ["/in/1", "/in/2"]
    assert tally.disposed == 2
    assert tally.kept == {"not found on the server within 30s": 1}
    assert server.asked[0] == {uid(1), uid(2), uid(3)}
    assert server.asked[1:] == [{uid(3)}] * 7
    assert files.tidied == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Response(500, b""), "the search for it failed: HTTP 500 (no reason given)"),
        (NoResponse(Cause.UNREACHABLE, body_started=False), "the search for it failed: no connection"),
        (LoginRefused("the token has expired"), "the server was not asked: the token has expired"),
    ],
)
async def test_a_search_that_fails_is_repeated_and_proves_nothing(answer: Answer, reason: str) -> None:
    """The files stay with the reason; if a later search finds them, they go."""
    files = Files()
    tally = await deal_with([[result(1)]], files, Server([answer]))
    assert (files.removed, tally.kept) == ([], {reason: 1})
    tally = await deal_with([[result(1)]], files, Server([answer, answer, frozenset({uid(1)})]))
    assert (files.removed, tally.kept) == (["/in/1"], {})


async def test_what_is_not_stored_stays_and_is_counted() -> None:
    """By outcome, or by the reason for which a file could not be removed."""
    files = Files(stuck={"/in/4": "changed since it was sent"})
    outcomes = [Outcome.REFUSED, Outcome.UNREADABLE, Outcome.SKIPPED]
    tally = await deal_with([[result(n, outcome) for n, outcome in enumerate(outcomes, 1)], [result(4)]], files)
    assert files.removed == []
    assert tally.kept == {"refused": 1, "unreadable": 1, "skipped": 1, "changed since it was sent": 1}


async def test_a_copy_goes_if_the_file_that_it_is_a_copy_of_is_stored() -> None:
    """That is known at the end of the pass, in both orders of their records."""
    files = Files(stored={uid(1)})
    copies = [result(n, Outcome.SKIPPED, copy_of="/in/0") for n in (1, 2)]
    tally = await deal_with([copies], files)
    assert files.removed == ["/in/1"]
    assert tally.kept == {COPY_OF_UNSTORED: 1}


async def test_a_run_that_ends_early_leaves_the_files() -> None:
    """After a signal nothing more is queried or removed; the next run continues."""
    files, server = Files(stored={uid(2)}), Server([frozenset({uid(1)})])
    tally = await deal_with([[result(1), result(2, Outcome.SKIPPED, copy_of="/x")]], files, server, is_abandoned=True)
    assert (files.removed, server.asked, tally.kept) == ([], [], {})


async def test_files_that_stay_are_counted_once_in_a_run_that_watches() -> None:
    """In each pass they come again; with another reason they are counted under that, and removed under none."""
    kept, files = KeptFiles(), Files(stuck={"/in/1": "busy"})
    assert (await deal_with([[result(1)]], files, kept=kept)).kept == {"busy": 1}
    assert (await deal_with([[result(1)]], files, kept=kept)).kept == {}
    files.stuck["/in/1"] = "read-only"
    assert (await deal_with([[result(1)]], files, kept=kept)).kept == {"read-only": 1, "busy": -1}
    files.stuck.clear()
    assert (await deal_with([[result(1)]], files, kept=kept)).kept == {"read-only": -1}


async def test_more_files_than_may_wait_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: a file not found at once stays, and the next run asks again."""
    monkeypatch.setattr(after_stored, "MOST_WAITING", 2)
    monkeypatch.setattr(after_stored, "MOST_KEPT", 1)
    files = Files()
    tally = await deal_with([[result(n) for n in range(5)]], files, Server([frozenset()]))
    assert tally.kept == {"not found on the server within 30s": 5}
