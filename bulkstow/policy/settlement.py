"""What an exchange proves: what became of each instance, and what has to be sent or asked again.

This is the heart. `settle` and `settle_query` (`asking`) are pure functions; together they keep these promises:

- *Stored* is said only of an instance that the server named in ReferencedSOPSequence and not in FailedSOPSequence, and
  that after the whole body had left; that it called already stored after a request of ours without its word; that a
  QIDO-RS query found; or whose 2xx the user chose to trust. A status alone proves nothing: Orthanc answers 200 with
  nothing listed, and 400 with instances stored.
- The outcomes and what is to be done again partition the batch: no instance is lost, none is counted twice.
- *Refused* is said of an instance that the server may have, because an earlier request was not answered or ended with
  an ambiguous failure, only after a QIDO-RS query; where nobody answers that, the server's last word counts.
- An exception is raised only for what no repetition mends (login, wrong URL), and it ends the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bulkstow.errors import LoginRefused, StoreResponseError
from bulkstow.model import (
    Attempt,
    Batch,
    Cause,
    FileResult,
    Instance,
    NoResponse,
    Outcome,
    Referenced,
    Response,
    SourceChanged,
    StoreResponse,
)
from bulkstow.policy.exchange import health_signal_of, is_absence, status_reason, stop_if_hopeless, words_of
from bulkstow.policy.retry import Delay
from bulkstow.policy.work_items import (
    AMBIGUOUS_TRIES,
    HealthSignal,
    Query,
    Rules,
    Scheduled,
    Settlement,
    Store,
    after_excuse,
    after_fault,
    gather,
    halves,
    results_of,
    singly,
)
from bulkstow.wire import store_response
from bulkstow.wire.failure_reasons import FailureClass
from bulkstow.wire.server_text import printable

LONGEST_WORD_BYTES = 200
"""dcmjs answers `success`; what is longer, or HTML, was not written by a STOW-RS service."""


def settle(attempt: Attempt, rules: Rules, *, outage: bool = False, has_stored: bool = False) -> Settlement:
    """Decide what one exchange settles.

    `outage` says that the destination counts as gone: what fails meanwhile is not the instances' doing, and burns no
    attempt. `has_stored` says that it has stored something in this run: then a batch that is not authorised speaks of
    its study, not of our login. Raises LoginRefused (401, 403, every instance of a batch not authorised) and
    DestinationRefused (a redirect, 404, 405, 406, 411, 501). Source: PS3.18 §10.5.3 and Annex I; RFC 9110 §15.
    """
    batch = replace(attempt.batch, requests=attempt.batch.requests + 1)
    match attempt.exchange:
        case SourceChanged(is_begun=False) as source_changed:
            return _settle_source_changed(attempt.batch, source_changed)
        case SourceChanged() as source_changed:
            return _settle_source_changed(replace(batch, may_be_stored=True), source_changed)
        case NoResponse() as no_response:
            return _settle_no_response(batch, no_response, rules, outage=outage)
        case Response() as response:
            batch = replace(batch, may_be_stored=batch.may_be_stored or response.is_replayed)
            settlement = _settle_response(batch, response, rules, outage=outage, has_stored=has_stored)
            return _without_changed(settlement, response.changed) if response.changed else settlement


def _settle_source_changed(batch: Batch, source_changed: SourceChanged) -> Settlement:
    """Files were not what the scan had found: the others are sent again and pay no attempt for it."""
    mixed = [i for i in batch.instances if i.header.sop_instance_uid in source_changed.changed]
    rest = tuple(i for i in batch.instances if i.header.sop_instance_uid not in source_changed.changed)
    results = tuple(
        result
        for instance in mixed
        for result in results_of(
            batch, [instance], Outcome.UNREADABLE, source_changed.changed[instance.header.sop_instance_uid]
        )
    )
    again = (Scheduled(Store(replace(batch, instances=rest))),) if rest else ()
    return Settlement(results, again, HealthSignal.NONE)


def _without_changed(settlement: Settlement, changed: Mapping[str, str]) -> Settlement:
    """Claim nothing for files that were written to while their bytes left; the next run sends them as they are then."""

    def is_changed(of: Instance | FileResult) -> bool:
        return of.header is not None and of.header.sop_instance_uid in changed

    def mixed(result: FileResult) -> FileResult:
        if not result.outcome.is_success or result.header is None or not is_changed(result):
            return result
        reason = f"{changed[result.header.sop_instance_uid]}; what the server has may be a mixture"
        return replace(result, outcome=Outcome.UNREADABLE, reason=reason)

    results, again = settlement.results, []
    for later in settlement.again:
        batch = later.item.batch
        if isinstance(later.item, Query) and any(map(is_changed, batch.instances)):
            # That the server has it would prove nothing.
            results += results_of(batch, filter(is_changed, batch.instances), Outcome.STORED, "")
            rest = tuple(i for i in batch.instances if not is_changed(i))
            later = replace(later, item=replace(later.item, batch=replace(batch, instances=rest)))
        if later.item.batch.instances:
            again.append(later)
    return replace(settlement, results=tuple(map(mixed, results)), again=tuple(again))


def _settle_no_response(batch: Batch, no_response: NoResponse, rules: Rules, *, outage: bool) -> Settlement:
    batch = replace(batch, may_be_stored=batch.may_be_stored or no_response.body_started)
    if no_response.cause is Cause.UNREACHABLE:
        return Settlement(again=(Scheduled(Store(batch), Delay.BACKOFF),), health_signal=HealthSignal.GONE)
    reason = f"{no_response.cause}{f' ({no_response.detail})' if no_response.detail else ''}"
    if outage and is_absence(no_response):
        return Settlement(again=after_excuse(batch, reason), health_signal=HealthSignal.GONE)
    # An answer may grow with the request: a half of it has nearly the same limit.
    halve_from = 1 if no_response.cause is Cause.OVERLONG else 2
    again = after_fault(batch, rules, reason, halve_from=halve_from)
    return Settlement(again=again, health_signal=health_signal_of(no_response))


def _settle_response(batch: Batch, response: Response, rules: Rules, *, outage: bool, has_stored: bool) -> Settlement:
    stop_if_hopeless(response)
    try:
        listed = store_response.read(response.body, rules.profile)
    except StoreResponseError:
        listed = StoreResponse()
    if not response.is_whole:
        # No server has stored what has not left us; which instances had left is not known.
        listed = replace(listed, stored=(), warned=())
    named, again, unnamed, health_signal = _settle_named(
        batch, listed, rules, response.warning, outage=outage, has_stored=has_stored
    )
    again = tuple(replace(later, at_least_s=response.retry_after_s) for later in again)
    if not unnamed:
        return Settlement(named, again, health_signal)
    rest = replace(batch, instances=tuple(unnamed))
    lists_any = bool(listed.stored or listed.warned or listed.failed or listed.other_failures)
    left = _settle_unnamed(rest, response, rules, listed.comment, sent=batch, lists_any=lists_any, outage=outage)
    return Settlement(named + left.results, again + left.again, left.health_signal, left.too_large_bytes)


def _settle_unnamed(
    batch: Batch, response: Response, rules: Rules, comment: str, *, sent: Batch, lists_any: bool, outage: bool
) -> Settlement:
    """Settle instances of the batch `sent` that the answer does not name, though it may list others."""
    alone = len(sent.instances) == 1
    reason = status_reason(response, comment)
    told = rules.profile.classify(None, words_of(response, comment))
    if 200 <= response.status < 300:
        return _settle_unlisted(batch, response, rules, alone=alone, lists_any=lists_any)
    match response.status:
        case 413:
            larger = Settlement(too_large_bytes=sent.size_bytes, health_signal=HealthSignal.BUSY)
            if alone:
                done, again = _refuse(batch, f"{reason}: {batch.size_bytes} bytes are more than the server takes")
                return replace(larger, results=done, again=again)
            return replace(larger, again=singly(batch) if lists_any else halves(batch))
        case 408 | 424 | 425 | 429 | 502 | 503 | 504 | 507:
            return _settle_busy(batch, response, rules, reason, outage=outage)
        case status if status >= 500:
            again = after_fault(replace(batch, may_be_stored=True), rules, reason, response.retry_after_s, halve_from=1)
            return Settlement(again=again)
        case 409 if alone and told is not FailureClass.AMBIGUOUS:
            return Settlement(*_settle_failed(batch, batch.instances[0], told, reason, rules, outage=outage))
        case _ if alone:
            # A bare 409 is not 'duplicate', but after a request without an answer it may mean just that.
            return Settlement(*_refuse(batch, reason))
        case _ if lists_any:
            return Settlement(again=singly(batch))
        case _:
            return Settlement(again=halves(batch))


def _settle_busy(batch: Batch, response: Response, rules: Rules, reason: str, *, outage: bool) -> Settlement:
    """Settle instances that a server without time, room or service answered."""
    at_least_s, maybe_stored = response.retry_after_s, replace(batch, may_be_stored=True)
    match response.status:
        case 507 if outage:
            return Settlement(again=(Scheduled(Store(batch), Delay.LONG, at_least_s),), health_signal=HealthSignal.FULL)
        case 507:
            return Settlement(
                again=after_fault(maybe_stored, rules, reason, at_least_s), health_signal=HealthSignal.FULL
            )
        case 425 | 429 | 503:
            # Too many, not too large: the server has not tried the instances, so this is no attempt.
            return Settlement(again=after_excuse(maybe_stored, reason, at_least_s), health_signal=HealthSignal.REJECTED)
        case 502 | 504 if outage:
            return Settlement(again=after_excuse(maybe_stored, reason, at_least_s), health_signal=HealthSignal.GONE)
        case _:
            again = after_fault(maybe_stored, rules, reason, at_least_s, halve_from=2)
            return Settlement(
                again=again, health_signal=HealthSignal.GONE if is_absence(response) else HealthSignal.BUSY
            )


def _settle_unlisted(batch: Batch, response: Response, rules: Rules, *, alone: bool, lists_any: bool) -> Settlement:
    """Settle instances that a 2xx does not name: alone first, then by QIDO-RS; the status proves nothing."""
    if rules.trust_status and response.is_whole and not lists_any and _is_plain(response.body):
        return Settlement(results_of(batch, batch.instances, Outcome.STORED, f"HTTP {response.status}, trusted"))
    if alone:
        return Settlement(again=(Scheduled(Query(batch, f"HTTP {response.status} without naming it")),))
    return Settlement(again=singly(replace(batch, may_be_stored=True)))


def _settle_named(
    batch: Batch, listed: StoreResponse, rules: Rules, warning: str, *, outage: bool, has_stored: bool
) -> tuple[tuple[FileResult, ...], tuple[Scheduled, ...], list[Instance], HealthSignal]:
    """Settle instances that the answer names; return outcomes, what goes again, who is not named, and the pressure."""
    by_uid = {instance.header.sop_instance_uid: instance for instance in batch.instances}
    failed = {item.sop_instance_uid: item for item in listed.failed if item.sop_instance_uid in by_uid}
    warned = {item.sop_instance_uid: item for item in listed.warned}
    stored = {item.sop_instance_uid for item in listed.stored} | warned.keys()
    unnamed = [i for uid, i in by_uid.items() if uid not in failed and uid not in stored]
    anonymous = [i for i in listed.failed if i.sop_instance_uid not in by_uid] + list(listed.other_failures)
    if len(unnamed) == 1 and anonymous:
        # By elimination: dcm4chee makes a UID up for what it cannot read, Azure leaves it out. Never by position:
        # of several that do not agree, none is known to be its own.
        failed[unnamed.pop().header.sop_instance_uid] = _agreed(anonymous)
    if listed.comment and len(failed) == 1 and len(listed.failed) + len(listed.other_failures) == 1:
        # Beside the sequences it can only speak of the one failure.
        failed = {uid: replace(item, comment=item.comment or listed.comment) for uid, item in failed.items()}

    classes = {uid: rules.profile.classify(item.code, item.comment) for uid, item in failed.items()}
    if not has_stored:
        _stop_if_not_authorised(batch, classes)
    results: list[FileResult] = []
    again: list[Scheduled] = []
    for uid, instance in by_uid.items():
        if uid in failed:
            item = failed[uid]
            reason = rules.profile.meaning(item.code, item.comment or listed.comment)
            done, later = _settle_failed(batch, instance, classes[uid], reason, rules, outage=outage)
            results += done
            again += later
        elif uid in warned:
            told = f" ({printable(warning)})" if warning else ""
            reason = rules.profile.meaning(warned[uid].code, warned[uid].comment) + told
            results += results_of(batch, [instance], Outcome.WARNED, reason)
        elif uid in stored:
            results += results_of(batch, [instance], Outcome.STORED, "")
    full = bool(failed) and all(failure is FailureClass.BUSY for failure in classes.values())
    health_signal = HealthSignal.FULL if full and len(failed) == len(batch.instances) else HealthSignal.EASED
    return tuple(results), gather(again), unnamed, health_signal


def _agreed(failures: Sequence[Referenced]) -> Referenced:
    """Return the code and the words that several failures have in common."""
    codes = {failure.code for failure in failures}
    comments = {failure.comment for failure in failures} if len(codes) == 1 else set()
    return Referenced("", "", codes.pop() if len(codes) == 1 else None, comments.pop() if len(comments) == 1 else "")


def _stop_if_not_authorised(batch: Batch, failed: Mapping[str, FailureClass]) -> None:
    is_whole = len(failed) == len(batch.instances)
    if is_whole and all(failure is FailureClass.NOT_AUTHORISED for failure in failed.values()):
        raise LoginRefused("the server says of every instance that we may not store it (0124): ask for that right")


def _settle_failed(
    batch: Batch, instance: Instance, failure: FailureClass, reason: str, rules: Rules, *, outage: bool
) -> tuple[tuple[FileResult, ...], tuple[Scheduled, ...]]:
    """Settle one instance that the server named as failed."""
    one = replace(batch, instances=(instance,))
    match failure:
        case FailureClass.DUPLICATE if batch.may_be_stored and not instance.conflicting_file:
            return results_of(one, [instance], Outcome.STORED, f"{reason}, by an earlier request of ours"), ()
        case FailureClass.DUPLICATE:
            return results_of(one, [instance], Outcome.DUPLICATE, reason), ()
        case FailureClass.OTHER_CONTENT:
            return results_of(one, [instance], Outcome.REFUSED, reason), ()
        case FailureClass.PERMANENT | FailureClass.NOT_AUTHORISED:
            return _refuse(one, reason)
        case FailureClass.AMBIGUOUS:
            one = replace(one, was_ambiguous=True)
            if len(batch.instances) > 1:
                return (), (Scheduled(Store(one)),)
            one = replace(one, ambiguous_failures=batch.ambiguous_failures + 1)
            if one.ambiguous_failures >= min(AMBIGUOUS_TRIES, rules.attempts):
                return _refuse(one, reason)
            return (), (Scheduled(Store(one), Delay.BACKOFF),)
        case FailureClass.BUSY if outage:
            return (), (Scheduled(Store(one), Delay.LONG),)
        case FailureClass.RETRY | FailureClass.RETRY_SLOWLY | FailureClass.BUSY:
            one = replace(one, failed_attempts=batch.failed_attempts + 1)
            if one.failed_attempts >= rules.attempts:
                return _give_up(one, reason, Outcome.UNCONFIRMED)
            return (), (Scheduled(Store(one), Delay.BACKOFF if failure is FailureClass.RETRY else Delay.LONG),)


def _refuse(batch: Batch, reason: str) -> tuple[tuple[FileResult, ...], tuple[Scheduled, ...]]:
    return _give_up(batch, reason, Outcome.REFUSED)


def _give_up(batch: Batch, reason: str, outcome: Outcome) -> tuple[tuple[FileResult, ...], tuple[Scheduled, ...]]:
    """Settle a batch as failed; ask first whether it is there, if an earlier request may have stored it."""
    if batch.may_be_stored or batch.was_ambiguous:
        return (), (Scheduled(Query(batch, reason, otherwise=outcome)),)
    return results_of(batch, batch.instances, outcome, reason), ()


def _is_plain(body: bytes) -> bool:
    """Say whether a body that lists nothing is empty, a bare word, or a response: not somebody's login page."""
    try:
        store_response.read(body)
    except StoreResponseError:
        return len(body) < LONGEST_WORD_BYTES and b"<" not in body
    return True
