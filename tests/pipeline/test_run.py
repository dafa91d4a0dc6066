"""Whole runs, with a destination that is a plain function."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from bulkstow.config import UploadSettings
from bulkstow.errors import DestinationRefused, LedgerError, RunStopped
from bulkstow.ledger import Ledger, read_entries
from bulkstow.model import (
    Batch,
    Cause,
    Exchange,
    Instance,
    NoResponse,
    Outcome,
    Referenced,
    Response,
    SourceChanged,
    StoreResponse,
)
from bulkstow.pipeline.run import controllers_for
from bulkstow.pipeline.send import LARGE_ANSWER_BYTES
from bulkstow.policy.batch_size import BatchSize
from bulkstow.policy.batching import BatchLimits
from bulkstow.policy.health import CircuitBreaker
from bulkstow.policy.request_rate import RequestRate
from bulkstow.policy.retry import Backoff
from bulkstow.policy.retry_budget import RetryBudget
from bulkstow.progress.tally import Tally
from bulkstow.quantities import Span
from bulkstow.source.files import FileSource
from bulkstow.wire.store_response import to_json
from bulkstow.wire.synthetic import SECONDARY_CAPTURE, part10
from tests.archives import header, write_instance
from tests.pipeline.runs import new_run

pytestmark = pytest.mark.anyio

URL = "http://archive.example"
QUICK = Backoff(base_s=0.001, cap_s=0.005)


def stored(batch: Batch) -> Response:
    """Return the response of a server that has stored everything."""
    items = tuple(Referenced(i.header.sop_class_uid, i.header.sop_instance_uid) for i in batch.instances)
    return Response(200, to_json(StoreResponse(stored=items)))


class Server:
    """A destination that responds by a function and records what it gets."""

    def __init__(self, answer: Callable[[Batch, int], Exchange] = lambda batch, _: stored(batch)) -> None:
        self._answer = answer
        self.batches: list[Batch] = []
        self.held: set[str] = set()
        self.in_flight = self.most_in_flight = 0
        self.probes = self.silent_probes = 0
        self.to_questions = Response(200, b"[]")

    async def send(self, batch: Batch) -> Exchange:
        """Take a batch, and respond."""
        self.batches.append(batch)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await anyio.lowlevel.checkpoint()
        self.in_flight -= 1
        exchange = self._answer(batch, len(self.batches))
        if isinstance(exchange, Response) and exchange.status == 200:
            self.held |= {i.header.sop_instance_uid for i in batch.instances}
        return exchange

    async def find(self, instances: tuple[Instance, ...]) -> frozenset[str] | Response | NoResponse:
        """Return the instances that are stored."""
        return frozenset(self.held & {i.header.sop_instance_uid for i in instances})

    async def probe(self) -> Response | NoResponse:
        """Answer a probe, after a number of silent ones."""
        self.probes += 1
        if self.probes <= self.silent_probes:
            return NoResponse(Cause.UNREACHABLE, body_started=False)
        return self.to_questions


async def upload(archive: Path, server: Server, ledger: Path, **changes: object) -> Tally:
    """Carry out a run and return its figures."""
    settings = UploadSettings(ledger=ledger, **changes)  # type: ignore[arg-type]
    tally = Tally()
    with Ledger(ledger, URL) as opened:
        run = new_run(
            settings,
            FileSource(
                [str(archive)],
                exclude=opened.files,
                accept_missing_preamble=settings.accept_missing_preamble,
                skip_truncated=settings.skip_truncated,
            ),
            server,
            opened,
            tally,
            backoff=QUICK,
            budget=RetryBudget(minimum_per_s=1000),
        )
        await run.carry_out()
    return tally


def outcomes(ledger: Path) -> dict[str, Outcome]:
    """Return the outcomes in the ledger, by file name."""
    return {Path(e.result.candidate.location).name: e.result.outcome for e in read_entries(ledger)}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Make an archive of 3 studies with 20 instances each."""
    for study in (1, 2, 3):
        for number in range(20):
            write_instance(tmp_path / "archive" / f"study{study}", number, study=study)
    return tmp_path / "archive"


@pytest.mark.parametrize("concurrency", [1, 3, 8])
async def test_everything_arrives_once(archive: Path, tmp_path: Path, concurrency: int) -> None:
    """Every instance is sent once and recorded, for any number of senders, and never more requests at once."""
    server = Server()
    tally = await upload(
        archive, server, tmp_path / "l.db", concurrency=Span(concurrency, concurrency), batch_instances=3
    )
    sent = Counter(i.header.sop_instance_uid for b in server.batches for i in b.instances)
    assert len(sent) == 60
    assert set(sent.values()) == {1}
    assert tally.outcomes == Counter({Outcome.STORED: 60})
    assert (tally.found_files, tally.requests, tally.retries) == (60, len(server.batches), 0)
    assert tally.scan_ended
    assert server.most_in_flight <= concurrency
    assert len(outcomes(tmp_path / "l.db")) == 60


async def test_large_answers_prove_what_small_ones_do(archive: Path, tmp_path: Path) -> None:
    """A response that is parsed in a thread has the same effect: it settles instances, or stops the run."""
    padding = b" " * LARGE_ANSWER_BYTES
    server = Server(lambda batch, _: replace(stored(batch), body=stored(batch).body + padding))
    tally = await upload(archive, server, tmp_path / "l.db")
    assert tally.outcomes == Counter({Outcome.STORED: 60})
    with pytest.raises(DestinationRefused, match="no STOW-RS service"):
        await upload(archive, Server(lambda _batch, _number: Response(404, padding)), tmp_path / "other.db")


@pytest.mark.parametrize("batch_instances", [50, "auto"])
async def test_studies_mixed_in_one_directory_fill_requests(tmp_path: Path, batch_instances: int | str) -> None:
    """600 files, each of another of 200 studies than the one before, take few requests more than 12 full ones."""
    for number in range(3):
        for study in range(1, 201):
            write_instance(tmp_path / "archive", number, study=study)
            name = f"IM{study:03}{number:06}"
            (tmp_path / "archive" / name).rename(tmp_path / "archive" / f"{number}-{name}")
    server = Server()
    tally = await upload(tmp_path / "archive", server, tmp_path / "l.db", batch_instances=batch_instances)
    assert tally.outcomes == Counter({Outcome.STORED: 600})
    assert tally.requests <= 16


async def test_an_instance_that_lost_a_race_is_not_refused(archive: Path, tmp_path: Path) -> None:
    """An instance that is stored, although the server responds with 0110 and then with 409, is found by QIDO-RS."""

    def race(batch: Batch, _number: int) -> Exchange:
        server.held |= {i.header.sop_instance_uid for i in batch.instances}
        if len(batch.instances) == 1:
            return Response(409, b"conflict")
        items = (Referenced(i.header.sop_class_uid, i.header.sop_instance_uid, 0x0110) for i in batch.instances)
        return Response(409, to_json(StoreResponse(failed=tuple(items))))

    server = Server(race)
    tally = await upload(archive / "study1", server, tmp_path / "l.db")
    assert tally.outcomes == Counter({Outcome.STORED: 20})


async def test_second_run_sends_nothing(archive: Path, tmp_path: Path) -> None:
    """Instances with a final outcome are not sent again, and are counted nevertheless."""
    await upload(archive, Server(), tmp_path / "l.db")
    server = Server()
    tally = await upload(archive, server, tmp_path / "l.db")
    assert server.batches == []
    assert tally.outcomes == Counter({Outcome.STORED: 60})
    assert tally.settled_before == 60


async def test_changed_file_is_sent_anew(archive: Path, tmp_path: Path) -> None:
    """A file with another size or time is sent again, and only that one."""
    await upload(archive, Server(), tmp_path / "l.db")
    changed = archive / "study2" / "IM002000007"
    os.utime(changed, ns=(0, 0))
    server = Server()
    await upload(archive, server, tmp_path / "l.db")
    assert [[i.candidate.location for i in b.instances] for b in server.batches] == [[str(changed)]]


async def test_refused_is_tried_again_only_on_demand(archive: Path, tmp_path: Path) -> None:
    """A refused file is not sent by the next run, unless --retry-failed asks for it."""
    bad = header(7, study=2).sop_instance_uid

    def refuse(batch: Batch, _number: int) -> Response:
        uids = [i.header.sop_instance_uid for i in batch.instances]
        good = tuple(Referenced(SECONDARY_CAPTURE, uid) for uid in uids if uid != bad)
        failed = tuple(Referenced(SECONDARY_CAPTURE, uid, 0xA900) for uid in uids if uid == bad)
        return Response(202, to_json(StoreResponse(stored=good, failed=failed)))

    (archive / "junk").write_text("junk")
    first = await upload(archive, Server(refuse), tmp_path / "l.db")
    again = Server()
    second = await upload(archive, again, tmp_path / "l.db")
    assert again.batches == []
    third = await upload(archive, again, tmp_path / "l.db", retry_failed=True)
    assert first.outcomes == second.outcomes == Counter({Outcome.STORED: 59, Outcome.REFUSED: 1, Outcome.SKIPPED: 1})
    told = [(failure.candidate, failure.reason) for failure in second.first_failures]
    assert told == [(failure.candidate, failure.reason) for failure in first.first_failures] != []
    assert first.skip_reasons == second.skip_reasons == Counter({"not DICOM": 1})
    assert third.outcomes[Outcome.STORED] == 60
    assert len(again.batches) == 1


async def test_unconfirmed_is_tried_by_the_next_run(archive: Path, tmp_path: Path) -> None:
    """Instances that one run could not confirm are sent by the next."""
    server = Server(lambda batch, _: Response(500, b"oops"))
    first = await upload(archive, server, tmp_path / "l.db", retries=1)
    assert first.outcomes == Counter({Outcome.UNCONFIRMED: 60})
    second = await upload(archive, Server(), tmp_path / "l.db")
    assert second.outcomes == Counter({Outcome.STORED: 60})


async def test_copies_and_conflicts_are_told(archive: Path, tmp_path: Path) -> None:
    """A second copy is skipped, and a file with other bytes is a conflict, in the same run and in a later one."""
    one = (archive / "study1" / "IM001000001").read_bytes()
    (archive / "zcopy").write_bytes(one)
    (archive / "study3" / "zother").write_bytes(one[:-1] + b"\0")
    first = await upload(archive, Server(), tmp_path / "l.db")
    assert (first.outcomes[Outcome.CONFLICT], first.failed) == (1, 1)
    (archive / "zlater").write_bytes(one)
    server = Server()
    again = await upload(archive, server, tmp_path / "l.db")
    assert server.batches == []
    # Files come before sub-directories: the copy at the top is found first, and stands for the instance.
    same = f"a second copy of the SOP instance, same bytes: see {archive / 'zcopy'}"
    reasons = {Path(e.result.candidate.location).name: e.result for e in read_entries(tmp_path / "l.db")}
    assert {name: (o.outcome, o.reason) for name, o in reasons.items() if o.copy_of} == {
        "IM001000001": (Outcome.SKIPPED, same),
        "zother": (Outcome.CONFLICT, f"the same SOP Instance UID as {archive / 'zcopy'}, other bytes"),
        "zlater": (Outcome.SKIPPED, same),
    }
    assert again.outcomes == Counter({Outcome.STORED: 60, Outcome.SKIPPED: 2, Outcome.CONFLICT: 1})
    assert (again.settled_before, again.failed) == (62, 1)


@pytest.mark.parametrize("is_equal", [True, False], ids=["copy", "conflict"])
async def test_copy_has_its_turn_when_the_first_fails(archive: Path, tmp_path: Path, is_equal: bool) -> None:
    """If the file that was sent cannot be read after all, its copy, or a file in conflict, is sent in the same run."""
    good = archive / "study1" / "IM001000001"
    bad = archive / "first"
    bad.write_bytes(good.read_bytes() + (b"" if is_equal else b"\0\0"))

    def spoil(batch: Batch, _number: int) -> Exchange:
        for instance in batch.instances:
            if instance.candidate.location == str(bad):
                return SourceChanged({instance.header.sop_instance_uid: "cannot be read: Input/output error"})
        return stored(batch)

    tally = await upload(archive, Server(spoil), tmp_path / "l.db")
    assert tally.outcomes == Counter({Outcome.STORED: 60, Outcome.UNREADABLE: 1})
    assert [failure.candidate.location for failure in tally.failures] == [str(bad)]
    assert tally.found_files == 61
    assert outcomes(tmp_path / "l.db")["IM001000001"] is Outcome.STORED


async def test_copy_counts_only_while_its_other_file_is_that_instance(archive: Path, tmp_path: Path) -> None:
    """If the other file of a copy now holds another instance, the copy is not settled, but sent."""
    first, copy = archive / "first", archive / "study1" / "IM001000001"
    first.write_bytes(copy.read_bytes())
    settings = UploadSettings(ledger=tmp_path / "l.db", concurrency=Span(1, 1), batch_instances=1)
    with Ledger(tmp_path / "l.db", URL) as ledger:
        run = new_run(settings, FileSource(), Server(), ledger, Tally())

        async def stop_before_it_is_sent(batch: Batch) -> Exchange:
            run.drain()
            return NoResponse(Cause.DISCONNECTED, body_started=True)

        server = Server()
        server.send = stop_before_it_is_sent  # type: ignore[method-assign]
        run = new_run(settings, FileSource([str(first), str(copy)]), server, ledger, Tally())
        await run.carry_out()
    assert outcomes(tmp_path / "l.db") == {"IM001000001": Outcome.SKIPPED}

    first.write_bytes(part10(header(999)))
    await upload(first, Server(), tmp_path / "l.db")
    server = Server()
    tally = await upload(archive, server, tmp_path / "l.db")
    assert header(1).sop_instance_uid in {i.header.sop_instance_uid for b in server.batches for i in b.instances}
    assert tally.outcomes == Counter({Outcome.STORED: 61})


async def test_many_copies_of_what_is_stored_take_one_pass(archive: Path, tmp_path: Path) -> None:
    """Later copies all refer to the stored file, not to each other."""
    await upload(archive, Server(), tmp_path / "l.db")
    one = (archive / "study1" / "IM001000001").read_bytes()
    for number in range(30):
        (archive / f"copy{number:02}").write_bytes(one)
    server = Server()
    tally = await upload(archive, server, tmp_path / "l.db")
    assert server.batches == []
    assert tally.outcomes == Counter({Outcome.STORED: 60, Outcome.SKIPPED: 30})
    stands = {e.result.copy_of for e in read_entries(tmp_path / "l.db", [Outcome.SKIPPED])}
    assert stands == {str(archive / "study1" / "IM001000001")}


async def test_a_name_listed_twice_is_one_file(archive: Path, tmp_path: Path) -> None:
    """A file named again, before or after it was sent, counts once, with the outcome of this run."""
    (archive / "junk").write_text("junk")
    names = [str(archive / "junk")]
    names += [str(archive / f"study{study}" / f"IM{study:03}{n:06}") for study in (1, 2, 3) for n in range(20)]
    tally, server = Tally(), Server()
    settings = UploadSettings(ledger=tmp_path / "l.db", batch_instances=1)
    with Ledger(tmp_path / "l.db", URL) as ledger:
        await new_run(settings, FileSource(names * 30, list_length=7), server, ledger, tally).carry_out()
    assert tally.outcomes == Counter({Outcome.STORED: 60, Outcome.SKIPPED: 1})
    assert (tally.found_files, tally.settled_before) == (61, 0)
    assert len(server.batches) == 60


async def test_nobody_to_ask_is_no_outage(archive: Path, tmp_path: Path) -> None:
    """A server that stores and lists nothing, and has no QIDO-RS behind its proxy, does not block the run."""

    class Silent(Server):
        async def find(self, instances: tuple[Instance, ...]) -> frozenset[str] | Response | NoResponse:
            return Response(503, b"")

    server = Silent(lambda _batch, _number: Response(200, b"{}"))
    server.to_questions = Response(503, b"")
    tally = await run_through(archive / "study1", server, tmp_path / "l.db", batch_instances=5)
    assert tally.outcomes == Counter({Outcome.UNCONFIRMED: 20})


async def test_a_proxy_that_answers_questions_with_503_for_ever(archive: Path, tmp_path: Path) -> None:
    """If probes say nothing about the service, one request at a time is tried, and everything arrives."""

    def back_soon(batch: Batch, number: int) -> Exchange:
        return Response(503, b"") if 3 <= number <= 9 else stored(batch)

    server = Server(back_soon)
    server.to_questions = Response(503, b"")
    tally = await run_through(archive, server, tmp_path / "l.db", batch_instances=5)
    assert tally.outcomes == Counter({Outcome.STORED: 60})


async def test_a_pass_may_begin_in_an_outage(tmp_path: Path) -> None:
    """If the last instance of a pass is given up during an outage, its copy is sent nevertheless."""
    archive = tmp_path / "archive"
    write_instance(archive, 1)
    write_instance(archive / "copy", 1)
    lost: list[str] = []

    def lose_the_first(batch: Batch, _number: int) -> Exchange:
        lost.append(batch.instances[0].candidate.location)
        return NoResponse(Cause.DISCONNECTED, body_started=True) if lost[-1] == lost[0] else stored(batch)

    class Mute(Server):
        async def find(self, instances: tuple[Instance, ...]) -> frozenset[str] | Response | NoResponse:
            return NoResponse(Cause.UNANSWERED, body_started=False)

    server = Mute(lose_the_first)
    with anyio.fail_after(10):
        tally = await run_through(archive, server, tmp_path / "l.db", retries=2)
    assert tally.outcomes == Counter({Outcome.STORED: 1, Outcome.UNCONFIRMED: 1, Outcome.SKIPPED: 0})


async def test_same_path_twice_is_one_file(archive: Path, tmp_path: Path) -> None:
    """A file that is named twice is sent once, and is no copy of itself."""
    settings = UploadSettings(ledger=tmp_path / "l.db")
    tally, server = Tally(), Server()
    one = str(archive / "study1" / "IM001000001")
    with Ledger(tmp_path / "l.db", URL) as ledger:
        await new_run(settings, FileSource([one, one]), server, ledger, tally).carry_out()
    assert tally.outcomes == Counter({Outcome.STORED: 1})
    assert tally.found_files == 1
    assert outcomes(tmp_path / "l.db") == {"IM001000001": Outcome.STORED}


def cut_off_instance(directory: Path, in_front_bytes: int) -> None:
    """Write an instance that lacks 96 of 4096 bytes of its pixel data, with a number of bytes before them."""
    path = Path(write_instance(directory, 1, rows=64, columns=64).candidate.location)
    data = path.read_bytes()
    at = data.index(b"\xe0\x7f\x10\0")
    private = b"\x29\0\x10\x10OB\0\0" + in_front_bytes.to_bytes(4, "little") + bytes(in_front_bytes)
    path.write_bytes((data[:at] + private + data[at:])[:-96])


@pytest.mark.parametrize("is_taken", [True, False])
@pytest.mark.parametrize("conflicts", ["report", "newest"])
@pytest.mark.parametrize("in_front_bytes", [0, 100_000], ids=["in the head", "behind it"])
async def test_a_file_that_is_cut_off_says_so(
    tmp_path: Path, is_taken: bool, conflicts: str, in_front_bytes: int
) -> None:
    """It is sent. A success says so if the head shows it, a refusal always; with --skip-truncated it is not sent."""
    cut_off_instance(tmp_path / "archive", in_front_bytes)
    note = "pixel data cut off: 96 of 4096 bytes missing"
    server = Server() if is_taken else Server(lambda *_: Response(400, b""))

    async def reasons(ledger: Path, **changes: object) -> list[tuple[Outcome, str]]:
        await upload(tmp_path / "archive", server, ledger, on_conflict=conflicts, **changes)
        return [(e.result.outcome, e.result.reason) for e in read_entries(ledger)]

    if is_taken:
        assert await reasons(tmp_path / "l.db") == [(Outcome.STORED, "" if in_front_bytes else note)]
    else:
        assert await reasons(tmp_path / "l.db") == [(Outcome.REFUSED, f"HTTP 400 (no reason given); {note}")]
    sent = len(server.batches)
    assert await reasons(tmp_path / "other.db", skip_truncated=True) == [(Outcome.UNREADABLE, note)]
    assert len(server.batches) == sent


async def test_junk_is_in_the_report(tmp_path: Path) -> None:
    """Every file that is not sent has its outcome and its reason."""
    archive = tmp_path / "archive"
    write_instance(archive, 1)
    (archive / "empty").touch()
    (archive / "notes.txt").write_text("hello")
    (archive / "cut").write_bytes(part10(header(2))[:200])
    (archive / "nowhere").symlink_to("gone")
    os.mkfifo(archive / "fifo")
    tally = await upload(archive, Server(), tmp_path / "l.db")
    assert {
        Path(e.result.candidate.location).name: (e.result.outcome, e.result.reason)
        for e in read_entries(tmp_path / "l.db")
    } == {
        "IM001000001": (Outcome.STORED, ""),
        "empty": (Outcome.SKIPPED, "empty"),
        "notes.txt": (Outcome.SKIPPED, "not DICOM"),
        "cut": (Outcome.UNREADABLE, "cut off in its head"),
        "nowhere": (Outcome.UNREADABLE, "a link to nothing: gone"),
        "fifo": (Outcome.SKIPPED, "a FIFO, not a regular file"),
    }
    assert tally.found_files == tally.settled_files == 6
    assert tally.failed == 2


async def test_batch_with_a_spoiled_file(archive: Path, tmp_path: Path) -> None:
    """One file that changed does not fail the others of its batch, and costs them no attempt."""
    bad = str(archive / "study1" / "IM001000003")

    def spoil(batch: Batch, _number: int) -> Exchange:
        source_changed = [i.header.sop_instance_uid for i in batch.instances if i.candidate.location == bad]
        return SourceChanged(dict.fromkeys(source_changed, "changed")) if source_changed else stored(batch)

    tally = await upload(archive, Server(spoil), tmp_path / "l.db", retries=0)
    assert tally.outcomes == Counter({Outcome.STORED: 59, Outcome.UNREADABLE: 1})


async def run_through(
    archive: Path, server: Server, ledger: Path, *, probe_cap_s: float = 60.0, **changes: object
) -> Tally:
    """Carry out a run that probes the server quickly."""
    settings = UploadSettings(ledger=ledger, **changes)  # type: ignore[arg-type]
    tally = Tally()
    with Ledger(ledger, URL) as opened:
        run = new_run(
            settings,
            FileSource([str(archive)]),
            server,
            opened,
            tally,
            controllers=controllers_for(settings, request_rate=RequestRate(first_per_s=1000)),
            backoff=QUICK,
            breaker=CircuitBreaker(first_probe_s=0.001, cap_s=probe_cap_s, give_up_after_s=settings.give_up_after_s),
            budget=RetryBudget(minimum_per_s=1000),
        )
        await run.carry_out()
    return tally


async def test_an_outage_costs_no_instance(archive: Path, tmp_path: Path) -> None:
    """During an outage that is longer than all attempts, probes are sent, not instances."""
    server = Server()
    server.silent_probes = 6

    def gone_for_a_while(batch: Batch, number: int) -> Exchange:
        if number >= 3 and server.probes <= server.silent_probes:
            return NoResponse(Cause.DISCONNECTED, body_started=True)
        return stored(batch)

    server._answer = gone_for_a_while
    tally = await run_through(archive, server, tmp_path / "l.db", batch_instances=5, retries=2)
    assert tally.outcomes == Counter({Outcome.STORED: 60})
    assert not tally.outage
    assert server.probes == 7
    assert len(server.batches) <= 12 + 4 + 3


async def test_poison_does_not_hold_up_the_run(archive: Path, tmp_path: Path) -> None:
    """An instance that always costs its connection is given up after its attempts, and everything else arrives."""
    poison = header(7, study=2).sop_instance_uid

    def choke(batch: Batch, _number: int) -> Exchange:
        if any(i.header.sop_instance_uid == poison for i in batch.instances):
            return NoResponse(Cause.DISCONNECTED, body_started=True)
        return stored(batch)

    server = Server(choke)
    tally = await run_through(archive, server, tmp_path / "l.db", batch_instances=20)
    assert tally.outcomes == Counter({Outcome.STORED: 59, Outcome.UNCONFIRMED: 1})
    assert max(Counter(i.header.sop_instance_uid for b in server.batches for i in b.instances).values()) <= 5


@pytest.mark.parametrize("response", ["507", "A700"])
async def test_full_disk_costs_no_instance(archive: Path, tmp_path: Path, response: str) -> None:
    """A server without space is tried with one request at intervals; when it has space again everything arrives."""
    refused = 0

    def full(batch: Batch, number: int) -> Exchange:
        nonlocal refused
        if not 3 <= number <= 24:
            return stored(batch)
        refused += 1
        if response == "507":
            return Response(507, b"")
        uids = [i.header.sop_instance_uid for i in batch.instances]
        return Response(
            409, to_json(StoreResponse(failed=tuple(Referenced(SECONDARY_CAPTURE, u, 0xA700) for u in uids)))
        )

    for number in range(200):
        write_instance(archive / "study4", number, study=4)
    server = Server(full)
    tally = await run_through(archive, server, tmp_path / "l.db", batch_instances=2, retries=2, probe_cap_s=0.01)
    assert tally.outcomes == Counter({Outcome.STORED: 260})
    assert refused == 22


async def test_gone_for_too_long(archive: Path, tmp_path: Path) -> None:
    """With --give-up-after the run stops during a long outage, and says what to do."""
    server = Server(lambda _batch, _number: NoResponse(Cause.UNREACHABLE, body_started=False))
    server.silent_probes = 10**9
    with pytest.raises(DestinationRefused, match=r"has not answered for .*: run again when it is back"):
        await run_through(archive, server, tmp_path / "l.db", give_up_after_s=0.02)
    assert outcomes(tmp_path / "l.db") == {}


async def test_hopeless_answer_stops_the_run(archive: Path, tmp_path: Path) -> None:
    """A wrong URL stops the run with the server's reason; what was settled before is in the ledger."""

    def move_away(batch: Batch, number: int) -> Exchange:
        return stored(batch) if number <= 2 else Response(404, b"")

    with pytest.raises(DestinationRefused, match="no STOW-RS service at this URL"):
        await upload(archive, Server(move_away), tmp_path / "l.db", concurrency=Span(1, 1), batch_instances=5)
    assert Counter(outcomes(tmp_path / "l.db").values()) == Counter({Outcome.STORED: 10})


async def test_ledger_that_cannot_be_written_stops_the_run(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the ledger cannot be written, nothing more is sent."""

    def full(_ledger: Ledger, _results: object) -> None:
        raise LedgerError("the ledger cannot be used: database or disk is full")

    monkeypatch.setattr(Ledger, "record", full)
    with pytest.raises(RunStopped, match="disk is full"):
        await upload(archive, Server(), tmp_path / "l.db", batch_instances=1)


async def test_drained_run_is_completed_by_the_next(archive: Path, tmp_path: Path) -> None:
    """A drain finishes and records the requests under way, starts nothing more, and the next run sends the rest."""
    server = Server()
    tally = Tally()
    settings = UploadSettings(ledger=tmp_path / "l.db", concurrency=Span(2, 2), batch_instances=2)
    with Ledger(tmp_path / "l.db", URL) as ledger:
        run = new_run(settings, FileSource([str(archive)]), server, ledger, tally)

        def drain_in_the_middle(batch: Batch, number: int) -> Exchange:
            if number == 5:
                run.drain()
            return stored(batch)

        server._answer = drain_in_the_middle
        await run.carry_out()
        assert run.is_draining

    first = {i.header.sop_instance_uid for b in server.batches for i in b.instances}
    assert 10 <= len(first) <= 14
    assert tally.outcomes == Counter({Outcome.STORED: len(first)})
    rest = Server()
    done = await upload(archive, rest, tmp_path / "l.db")
    second = {i.header.sop_instance_uid for b in rest.batches for i in b.instances}
    assert first.isdisjoint(second)
    assert len(first | second) == 60
    assert done.outcomes == Counter({Outcome.STORED: 60})


async def test_cancelled_run_keeps_what_the_server_said(archive: Path, tmp_path: Path) -> None:
    """A cancelled run still records every outcome that had arrived."""
    answered = 0
    tally = Tally()
    settings = UploadSettings(ledger=tmp_path / "l.db", concurrency=Span(1, 1), batch_instances=2)
    with Ledger(tmp_path / "l.db", URL) as ledger:
        with anyio.CancelScope() as scope:

            def cancel_in_the_middle(batch: Batch, number: int) -> Exchange:
                nonlocal answered
                if number == 5:
                    scope.cancel()
                else:
                    answered += len(batch.instances)
                return stored(batch)

            await new_run(settings, FileSource([str(archive)]), Server(cancel_in_the_middle), ledger, tally).carry_out()
        assert scope.cancelled_caught
    assert len(outcomes(tmp_path / "l.db")) >= answered


async def test_413_lowers_the_ceiling_for_this_run_and_the_next(archive: Path, tmp_path: Path) -> None:
    """A body that was too large is halved, later ones are smaller from the start, and the next run begins there."""
    for number in range(6):
        write_instance(archive / "study4", number, study=4, rows=1024, columns=1024)
    limit_bytes = 2_500_000

    def nginx(batch: Batch, _number: int) -> Exchange:
        return stored(batch) if batch.size_bytes <= limit_bytes else Response(413, b"<html>")

    tally = await upload(archive, Server(nginx), tmp_path / "l.db", concurrency=Span(1, 1))
    assert tally.outcomes == Counter({Outcome.STORED: 66})
    with Ledger(tmp_path / "l.db", URL) as ledger:
        assert ledger.ceiling_bytes is not None
        assert ledger.ceiling_bytes > limit_bytes // 2
    for number in range(6, 12):
        write_instance(archive / "study4", number, study=4, rows=1024, columns=1024)
    server = Server(nginx)
    await upload(archive, server, tmp_path / "l.db", concurrency=Span(1, 1))
    assert max(b.size_bytes for b in server.batches) <= 3_200_000


async def test_a_ceiling_is_kept_when_the_bound_is_found(archive: Path, tmp_path: Path) -> None:
    """The limit that an earlier run learned from a 413 holds for the first request of this one, with any setting."""
    with Ledger(tmp_path / "l.db", URL) as ledger:
        ledger.learn_ceiling(2**18)
        for settings in (UploadSettings(), UploadSettings(batch_bytes=None), UploadSettings(batch_bytes=2**30)):
            assert controllers_for(settings, ceiling_bytes=ledger.ceiling_bytes).batch_limits.size_bytes == 2**18
        smaller = controllers_for(UploadSettings(batch_bytes=99), ceiling_bytes=ledger.ceiling_bytes)
    assert smaller.batch_limits.size_bytes == 99


class Told(BatchSize):
    """Limits of ten instances, and of three after the first response; records the samples."""

    def __init__(self) -> None:
        super().__init__(None, None)
        self.samples: list[tuple[int, int, float]] = []

    @property
    def limits(self) -> BatchLimits:
        """The limits of a request."""
        return BatchLimits(None, 3 if self.samples else 10)

    def ended(
        self, size_bytes: int, instances: int, elapsed_s: float, *, is_plenty: bool = False, is_settled: bool = True
    ) -> None:
        """Record a sample."""
        self.samples.append((size_bytes, instances, elapsed_s))


async def test_what_requests_took_bounds_those_to_come(archive: Path, tmp_path: Path) -> None:
    """Every request with a 2xx is reported with its size and time, and later batches keep the new limits."""

    inner_times_s: list[float] = []

    class Slow(Server):
        async def send(self, batch: Batch) -> Exchange:
            began_s = anyio.current_time()
            await anyio.sleep(0.002)
            inner_times_s.append(anyio.current_time() - began_s)
            return await super().send(batch)

    def fail_once(batch: Batch, number: int) -> Exchange:
        return Response(503, b"") if number == 2 else stored(batch)

    for number in range(240):
        write_instance(archive / "study4", number, study=4)
    server, told = Slow(fail_once), Told()
    settings = UploadSettings(ledger=tmp_path / "l.db", concurrency=Span(1, 1))
    with Ledger(tmp_path / "l.db", URL) as ledger:
        controllers = controllers_for(settings).with_batch_size(told)
        budget = RetryBudget(minimum_per_s=1000)
        run = new_run(
            settings,
            FileSource([str(archive)], list_length=20),
            server,
            ledger,
            Tally(),
            controllers=controllers,
            backoff=QUICK,
            budget=budget,
        )
        await run.carry_out()
    del server.batches[1], inner_times_s[1]  # the 503
    assert [sample[:2] for sample in told.samples] == [(b.size_bytes, len(b.instances)) for b in server.batches]
    assert all(sample[2] >= inner_s for sample, inner_s in zip(told.samples, inner_times_s, strict=True))
    assert len(server.batches[0].instances) == 10
    assert len(server.batches[-1].instances) <= 3


async def test_first_request_of_each_study_is_alone(archive: Path, tmp_path: Path) -> None:
    """No request of a study starts before its first one has ended, for any number of free senders."""
    under_way: Counter[str] = Counter()
    ended: set[str] = set()
    overlaps: list[str] = []

    class Watching(Server):
        async def send(self, batch: Batch) -> Exchange:
            study = batch.instances[0].header.study_uid
            if under_way[study] and study not in ended:
                overlaps.append(study)
            under_way[study] += 1
            exchange = await super().send(batch)
            under_way[study] -= 1
            ended.add(study)
            return exchange

    await upload(archive, Watching(), tmp_path / "l.db", concurrency=Span(8, 8), batch_instances=2)
    assert overlaps == []
