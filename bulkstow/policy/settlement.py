"""What an exchange proves: what became of each instance, and what has to be sent or asked again.

This is the heart. `settle` and `settle_asked` are pure functions; together they keep these promises:

- *Stored* is said only of an instance that the server named in ReferencedSOPSequence and not in FailedSOPSequence, that
  it called already stored after a request of ours without its word, that a QIDO-RS query found, or whose 2xx the user
  chose to trust. A status alone proves nothing: Orthanc answers 200 with nothing listed, and 400 with instances stored.
- The outcomes and what is to be done again partition the batch: no instance is lost, none is counted twice.
- An exception is raised only for what no repetition mends (login, wrong URL), and it ends the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bulkstow.errors import DestinationRefused, LoginRefused, StoreResponseError
from bulkstow.model import (
    Attempt,
    Batch,
    Cause,
    Fate,
    Instance,
    Interruption,
    Outcome,
    Referenced,
    Reply,
    Spoiled,
    StoreResponse,
)
from bulkstow.policy.errands import (
    Ask,
    Later,
    Pressure,
    Rules,
    Send,
    Settlement,
    after_fault,
    gather,
    halves,
    singly,
)
from bulkstow.policy.retry import Delay
from bulkstow.wire import store_response
from bulkstow.wire.dialects import FailureClass, classify, meaning
from bulkstow.wire.resource_path import instances_path
from bulkstow.wire.server_text import error_text, is_html, printable, text_of

AMBIGUOUS_TRIES = 3
"""Code 272 is bad content at one server and a lost race for a database row at another; a race is won by the third."""

LONGEST_WORD_BYTES = 200
"""dcmjs answers `success`; what is longer, or HTML, was not written by a STOW-RS service."""

ASKS = 3
"""Servers index late; what QIDO-RS does not find at once it is asked for again, with growing pauses."""


def settle(attempt: Attempt, rules: Rules, *, outage: bool = False, admitted: bool = False) -> Settlement:
    """Decide what one exchange settles.

    `outage` says that the destination counts as gone: what fails meanwhile is not the instances' doing, and burns no
    attempt. `admitted` says that it has stored something for us already: then a batch that is not authorised speaks of
    its study, not of our login. Raises LoginRefused (401, 403, every instance of a batch not authorised) and
    DestinationRefused (a redirect, 404, 405, 406, 411, 501). Source: PS3.18 §10.5.3 and Annex I; RFC 9110 §15.
    """
    batch = replace(attempt.batch, requests=attempt.batch.requests + 1)
    match attempt.result:
        case Spoiled() as spoiled:
            return _settle_spoiled(batch, spoiled)
        case Interruption() as interruption:
            return _settle_interruption(batch, interruption, rules, outage=outage)
        case Reply() as reply:
            batch = replace(batch, may_be_stored=batch.may_be_stored or reply.is_replayed)
            settlement = _settle_reply(batch, reply, rules, outage=outage, admitted=admitted)
            return _without_changed(settlement, reply.changed) if reply.changed else settlement


def is_absence(result: Reply | Interruption) -> bool:
    """Say whether an exchange shows that the destination is gone: nobody answers, or a proxy answers in its stead."""
    match result:
        case Interruption(cause=cause):
            return cause is not Cause.OVERLONG
        case Reply(status=status):
            return status in _OUT_OF_SERVICE


_OUT_OF_SERVICE = (502, 503, 504)


def settle_asked(
    ask: Ask, answer: frozenset[str] | Reply | Interruption, rules: Rules, *, outage: bool = False
) -> Settlement:
    """Decide what a QIDO-RS query settles: the SOP Instance UIDs that are there, or how the query failed.

    What the server neither named nor has was not stored: it is sent again, as often as a failure without a clear
    reason.
    A server that stores for us may not let us ask, or have nobody to ask: that says nothing of its health.
    Instances that cannot be asked for are `unconfirmed`: no query was made for them.
    """
    unasked = tuple(i for i in ask.batch.instances if instances_path(i.header) is None)
    if unasked:
        asked = tuple(i for i in ask.batch.instances if i not in unasked)
        outcomes = _outcomes(ask.batch, unasked, Fate.UNCONFIRMED, f"{ask.reason}; {_UNASKED}")
        if not asked:
            return Settlement(outcomes, pressure=Pressure.NONE)
        ask = replace(ask, batch=replace(ask.batch, instances=asked))
        settlement = settle_asked(ask, answer, rules, outage=outage)
        return replace(settlement, outcomes=outcomes + settlement.outcomes)
    batch = ask.batch
    asked_once_more = ask.asked + 1
    at_least_s = None
    match answer:
        case Interruption() as interruption if _is_excused(interruption, outage=outage):
            return Settlement(again=(Later(ask, Delay.BACKOFF),), pressure=Pressure.GONE)
        case Interruption() as interruption:
            missing, answered = batch.instances, f"gave no answer ({interruption.cause})"
            pressure = _felt(interruption)
        case Reply() as reply:
            missing, answered, pressure = batch.instances, f"answers {_status_reason(reply)}", Pressure.NONE
            at_least_s = reply.retry_after_s
            if reply.status < 500 and reply.status not in (408, 425, 429):
                asked_once_more = ASKS  # a service that is not there will not be there next time
        case found:
            missing = tuple(i for i in batch.instances if i.header.sop_instance_uid not in found)
            answered, pressure = _NOT_FOUND, Pressure.EASED
    there = [i for i in batch.instances if i not in missing]
    outcomes = _outcomes(batch, there, Fate.STORED, f"{ask.reason}; QIDO-RS finds it")
    if missing and asked_once_more < ASKS:
        again = replace(ask, batch=replace(batch, instances=missing), asked=asked_once_more)
        return Settlement(outcomes, (Later(again, Delay.BACKOFF, at_least_s),), pressure)
    reason = f"{ask.reason}; QIDO-RS {answered}"
    doubted = replace(batch, instances=missing, doubts=batch.doubts + 1)
    is_lost = bool(missing) and answered == _NOT_FOUND and ask.otherwise is Fate.UNCONFIRMED
    if is_lost and batch.faults < rules.attempts and doubted.doubts < min(AMBIGUOUS_TRIES, rules.attempts):
        return Settlement(outcomes, (Later(Send(doubted), Delay.BACKOFF),), pressure)
    fate = ask.otherwise if answered == _NOT_FOUND else Fate.UNCONFIRMED
    return Settlement(outcomes + _outcomes(batch, missing, fate, reason), pressure=pressure)


_NOT_FOUND = "does not find it"
_UNASKED = "QIDO-RS cannot be asked for it: its Study Instance UID is not a UID"


def _settle_spoiled(batch: Batch, spoiled: Spoiled) -> Settlement:
    """One file was not what the scan had found: the others go again and pay no attempt for it."""
    rest = tuple(i for i in batch.instances if i != spoiled.instance)
    again = (Later(Send(replace(batch, instances=rest, may_be_stored=True))),) if rest else ()
    outcomes = _outcomes(batch, [spoiled.instance], Fate.UNREADABLE, spoiled.reason)
    return Settlement(outcomes, again, Pressure.NONE)


def _without_changed(settlement: Settlement, changed: Mapping[str, str]) -> Settlement:
    """Claim nothing for files that were written to while their bytes left; the next run sends them as they are then."""

    def is_changed(of: Instance | Outcome) -> bool:
        return of.header is not None and of.header.sop_instance_uid in changed

    def spoilt(outcome: Outcome) -> Outcome:
        if not outcome.fate.is_success or outcome.header is None or not is_changed(outcome):
            return outcome
        reason = f"{changed[outcome.header.sop_instance_uid]}; what the server has may be a mixture"
        return replace(outcome, fate=Fate.UNREADABLE, reason=reason)

    outcomes, again = settlement.outcomes, []
    for later in settlement.again:
        batch = later.errand.batch
        if isinstance(later.errand, Ask) and any(map(is_changed, batch.instances)):
            # That the server has it would prove nothing.
            outcomes += _outcomes(batch, filter(is_changed, batch.instances), Fate.STORED, "")
            rest = tuple(i for i in batch.instances if not is_changed(i))
            later = replace(later, errand=replace(later.errand, batch=replace(batch, instances=rest)))
        if later.errand.batch.instances:
            again.append(later)
    return replace(settlement, outcomes=tuple(map(spoilt, outcomes)), again=tuple(again))


def _settle_interruption(batch: Batch, interruption: Interruption, rules: Rules, *, outage: bool) -> Settlement:
    batch = replace(batch, may_be_stored=batch.may_be_stored or interruption.body_started)
    if _is_excused(interruption, outage=outage):
        return Settlement(again=(Later(Send(batch), Delay.BACKOFF),), pressure=Pressure.GONE)
    reason = f"{interruption.cause}{f' ({interruption.detail})' if interruption.detail else ''}"
    return Settlement(again=after_fault(batch, rules, reason, halve_from=2), pressure=_felt(interruption))


def _is_excused(result: Reply | Interruption, *, outage: bool) -> bool:
    """Say whether the destination's absence explains it, so that nobody pays an attempt."""
    unreachable = isinstance(result, Interruption) and result.cause is Cause.UNREACHABLE
    return unreachable or (outage and is_absence(result))


def _felt(result: Reply | Interruption) -> Pressure:
    return Pressure.GONE if is_absence(result) else Pressure.EASED


def _settle_reply(batch: Batch, reply: Reply, rules: Rules, *, outage: bool, admitted: bool) -> Settlement:
    _stop_if_hopeless(reply)
    try:
        response = store_response.read(reply.body)
    except StoreResponseError:
        response = StoreResponse()
    named, again, unnamed, pressure = _settle_named(
        batch, response, rules, reply.warning, outage=outage, admitted=admitted
    )
    again = tuple(replace(later, at_least_s=reply.retry_after_s) for later in again)
    if not unnamed:
        return Settlement(named, again, pressure)
    rest = replace(batch, instances=tuple(unnamed))
    if _is_excused(reply, outage=outage):
        later = Later(Send(replace(rest, may_be_stored=True)), Delay.BACKOFF, reply.retry_after_s)
        return Settlement(named, (*again, later), Pressure.GONE)
    lists_any = bool(response.stored or response.warned or response.failed or response.other_failures)
    left = _settle_unnamed(rest, reply, rules, response.comment, sent=batch, lists_any=lists_any, outage=outage)
    return Settlement(named + left.outcomes, again + left.again, left.pressure, left.too_large_bytes)


def _stop_if_hopeless(reply: Reply) -> None:
    said = _said(reply)
    match reply.status:
        case 401:
            raise LoginRefused(f"the server refuses our login (401): check --user, --header or the bearer token{said}")
        case 403:
            raise LoginRefused(f"the server forbids this user to store (403): ask for the right to STOW-RS there{said}")
        case 404 | 405 | 406 | 501:
            raise DestinationRefused(
                f"no STOW-RS service at this URL (HTTP {reply.status}): --url is the DICOMweb root, "
                f"to which /studies is added{said}"
            )
        case 411:
            raise DestinationRefused(
                f"the server misses a Content-Length that we send (411): look for a proxy that takes it away{said}"
            )
        case status if 300 <= status < 400:
            where = f" to {printable(reply.location)}" if reply.location else ""
            raise DestinationRefused(f"the server redirects{where} (HTTP {status}): give that URL's root as --url")
        case _:
            return


def _settle_unnamed(
    batch: Batch, reply: Reply, rules: Rules, comment: str, *, sent: Batch, lists_any: bool, outage: bool
) -> Settlement:
    """Settle instances of the batch `sent` that the answer does not name, though it may list others."""
    alone = len(sent.instances) == 1
    reason = _status_reason(reply, comment)
    if 200 <= reply.status < 300:
        return _settle_unlisted(batch, reply, rules, alone=alone, lists_any=lists_any)
    match reply.status:
        case 413:
            larger = Settlement(too_large_bytes=sent.size_bytes, pressure=Pressure.BUSY)
            if alone:
                reason = f"{reason}: {batch.size_bytes} bytes are more than the server takes"
                return replace(larger, outcomes=_outcomes(batch, batch.instances, Fate.REFUSED, reason))
            return replace(larger, again=singly(batch) if lists_any else halves(batch))
        case 507 if outage:
            return Settlement(again=(Later(Send(batch), Delay.LONG, reply.retry_after_s),), pressure=Pressure.FULL)
        case 425 | 429 | 503 | 507:
            # Too much, not too large: in pieces it would only be more.
            again = after_fault(replace(batch, may_be_stored=True), rules, reason, reply.retry_after_s)
            felt = {503: Pressure.GONE, 507: Pressure.FULL}
            return Settlement(again=again, pressure=felt.get(reply.status, Pressure.BUSY))
        case 408 | 424 | 502 | 504:
            again = after_fault(replace(batch, may_be_stored=True), rules, reason, reply.retry_after_s, halve_from=2)
            return Settlement(again=again, pressure=Pressure.GONE if is_absence(reply) else Pressure.BUSY)
        case status if status >= 500:
            again = after_fault(replace(batch, may_be_stored=True), rules, reason, reply.retry_after_s, halve_from=1)
            return Settlement(again=again)
        case 409 if alone and (told := classify(None, _words(reply, comment))) is not FailureClass.AMBIGUOUS:
            done, again = _settle_failed(batch, batch.instances[0], told, reason, rules, outage=outage)
            return Settlement(done, again)
        case 409 if alone and batch.may_be_stored:
            # A bare 409 is not 'duplicate', but after a request without an answer it may mean just that.
            return Settlement(again=(Later(Ask(batch, reason, otherwise=Fate.REFUSED)),))
        case _ if alone:
            return Settlement(_outcomes(batch, batch.instances, Fate.REFUSED, reason))
        case _ if lists_any:
            return Settlement(again=singly(batch))
        case _:
            return Settlement(again=halves(batch))


def _settle_unlisted(batch: Batch, reply: Reply, rules: Rules, *, alone: bool, lists_any: bool) -> Settlement:
    """Settle instances that a 2xx does not name: alone first, then by QIDO-RS; the status proves nothing."""
    if rules.trust_status and reply.is_whole and not lists_any and _is_plain(reply.body):
        return Settlement(_outcomes(batch, batch.instances, Fate.STORED, f"HTTP {reply.status}, trusted"))
    if alone:
        return Settlement(again=(Later(Ask(batch, f"HTTP {reply.status} without naming it")),))
    return Settlement(again=singly(replace(batch, may_be_stored=True)))


def _settle_named(
    batch: Batch, response: StoreResponse, rules: Rules, warning: str, *, outage: bool, admitted: bool
) -> tuple[tuple[Outcome, ...], tuple[Later, ...], list[Instance], Pressure]:
    """Settle instances that the answer names; return outcomes, what goes again, who is not named, and the pressure."""
    by_uid = {instance.header.sop_instance_uid: instance for instance in batch.instances}
    failed = {item.sop_instance_uid: item for item in response.failed if item.sop_instance_uid in by_uid}
    warned = {item.sop_instance_uid: item for item in response.warned}
    stored = {item.sop_instance_uid for item in response.stored} | warned.keys()
    unnamed = [i for uid, i in by_uid.items() if uid not in failed and uid not in stored]
    anonymous = [i for i in response.failed if i.sop_instance_uid not in by_uid] + list(response.other_failures)
    if len(unnamed) == 1 and anonymous:
        # By elimination: dcm4chee makes a UID up for what it cannot read, Azure leaves it out. Never by position:
        # of several that do not agree, none is known to be its own.
        failed[unnamed.pop().header.sop_instance_uid] = _agreed(anonymous)
    if response.comment and len(failed) == 1 and len(response.failed) + len(response.other_failures) == 1:
        # Beside the sequences it can only speak of the one failure.
        failed = {uid: replace(item, comment=item.comment or response.comment) for uid, item in failed.items()}

    if not admitted:
        _stop_if_not_authorised(batch, failed)
    outcomes: list[Outcome] = []
    again: list[Later] = []
    for uid, instance in by_uid.items():
        if uid in failed:
            item = failed[uid]
            reason = meaning(item.code, item.comment or response.comment)
            done, later = _settle_failed(batch, instance, _class_of(item), reason, rules, outage=outage)
            outcomes += done
            again += later
        elif uid in warned:
            told = f" ({printable(warning)})" if warning else ""
            reason = meaning(warned[uid].code, warned[uid].comment) + told
            outcomes += _outcomes(batch, [instance], Fate.WARNED, reason)
        elif uid in stored:
            outcomes += _outcomes(batch, [instance], Fate.STORED, "")
    full = bool(failed) and all(_class_of(i) is FailureClass.BUSY for i in failed.values())
    pressure = Pressure.FULL if full and len(failed) == len(batch.instances) else Pressure.EASED
    return tuple(outcomes), gather(again), unnamed, pressure


def _agreed(failures: Sequence[Referenced]) -> Referenced:
    """Return the code and the words that several failures have in common."""
    codes = {failure.code for failure in failures}
    comments = {failure.comment for failure in failures} if len(codes) == 1 else set()
    return Referenced("", "", codes.pop() if len(codes) == 1 else None, comments.pop() if len(comments) == 1 else "")


def _class_of(failure: Referenced) -> FailureClass:
    return classify(failure.code, failure.comment)


def _stop_if_not_authorised(batch: Batch, failed: dict[str, Referenced]) -> None:
    everyone = len(failed) == len(batch.instances)
    if everyone and all(_class_of(item) is FailureClass.NOT_AUTHORISED for item in failed.values()):
        raise LoginRefused("the server says of every instance that we may not store it (0124): ask for that right")


def _settle_failed(
    batch: Batch, instance: Instance, failure: FailureClass, reason: str, rules: Rules, *, outage: bool
) -> tuple[tuple[Outcome, ...], tuple[Later, ...]]:
    """Settle one instance that the server named as failed."""
    one = replace(batch, instances=(instance,), faults=batch.faults + 1)

    def give_up(fate: Fate) -> tuple[tuple[Outcome, ...], tuple[Later, ...]]:
        return _outcomes(one, [instance], fate, reason), ()

    match failure:
        case FailureClass.DUPLICATE if batch.may_be_stored:
            return _outcomes(one, [instance], Fate.STORED, f"{reason}, by an earlier request of ours"), ()
        case FailureClass.DUPLICATE:
            return give_up(Fate.DUPLICATE)
        case FailureClass.PERMANENT | FailureClass.NOT_AUTHORISED | FailureClass.OTHER_CONTENT:
            return give_up(Fate.REFUSED)
        case FailureClass.AMBIGUOUS:
            if len(batch.instances) > 1:
                return (), (Later(Send(replace(batch, instances=(instance,)))),)
            doubted = replace(batch, doubts=batch.doubts + 1)
            if doubted.doubts >= min(AMBIGUOUS_TRIES, rules.attempts):
                return give_up(Fate.REFUSED)
            return (), (Later(Send(doubted), Delay.BACKOFF),)
        case FailureClass.BUSY if outage:
            return (), (Later(Send(replace(batch, instances=(instance,))), Delay.LONG),)
        case FailureClass.RETRY | FailureClass.RETRY_SLOWLY | FailureClass.BUSY:
            if one.faults >= rules.attempts:
                return give_up(Fate.UNCONFIRMED)
            return (), (Later(Send(one), Delay.BACKOFF if failure is FailureClass.RETRY else Delay.LONG),)


def _outcomes(batch: Batch, instances: Iterable[Instance], fate: Fate, reason: str) -> tuple[Outcome, ...]:
    return tuple(Outcome(i.candidate, i.header, fate, reason, batch.requests) for i in instances)


def _status_reason(reply: Reply, comment: str = "") -> str:
    return f"HTTP {reply.status} ({_words(reply, comment) or 'no reason given'})"


def _words(reply: Reply, comment: str) -> str:
    """Return what the server says of a whole request."""
    return printable(reply.warning) or comment or error_text(reply.body)


def _said(reply: Reply) -> str:
    """Return the server's words for the end of a message; a page in HTML was not written for this request."""
    words = printable(reply.warning) or ("" if is_html(text_of(reply.body)) else error_text(reply.body))
    return f"; the server says: {words}" if words else ""


def _is_plain(body: bytes) -> bool:
    """Say whether a body that lists nothing is empty, a bare word, or a response: not somebody's login page."""
    try:
        store_response.read(body)
    except StoreResponseError:
        return len(body) < LONGEST_WORD_BYTES and b"<" not in body
    return True
