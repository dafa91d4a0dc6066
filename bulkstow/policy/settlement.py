"""What an exchange proves: the outcome of each instance, and which of them are sent or queried again.

`settle` and `query_settlement.settle_query` are pure functions. Together they guarantee:

- *Stored* means that the server listed the instance in ReferencedSOPSequence and not in FailedSOPSequence, after the
  whole body was sent; or that it called the instance a duplicate after an earlier request without a response; or that
  a QIDO-RS query found the instance; or that the user trusts a 2xx. A status alone proves nothing: Orthanc answers 200
  with nothing listed, and 400 with instances stored.
- The results and the instances to be sent or queried again partition the batch: no instance is lost or counted twice.
- An instance that the server may have, because an earlier request had no response or an ambiguous failure, is *refused*
  only after a QIDO-RS query; if the query fails, the server's last response counts.
- An exception is raised only for a failure that no retry fixes (login, wrong URL), and it ends the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bulkstow.errors import LoginRefused, StoreResponseError
from bulkstow.model import (
    Batch,
    Cause,
    Exchange,
    FileResult,
    Instance,
    NoResponse,
    Outcome,
    Response,
    SourceChanged,
    StoreResponse,
)
from bulkstow.policy.attribution import Attributed, attribute
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
    result_of,
    results_of,
    singly,
)
from bulkstow.wire import store_response
from bulkstow.wire.failure_reasons import FailureClass
from bulkstow.wire.server_text import printable

LONGEST_WORD_BYTES = 200
"""The longest plain text that counts as a STOW-RS response: dcmjs answers `success`, and login pages are longer."""


def settle(
    sent: Batch, exchange: Exchange, rules: Rules, *, outage: bool = False, has_stored: bool = False
) -> Settlement:
    """Decide what one exchange settles of the batch that was sent.

    During an `outage` failures do not count as attempts of the instances. If the destination `has_stored` something in
    this run, a batch that is not authorised concerns its study, not the login. Raises LoginRefused (401, 403, every
    instance of a batch not authorised) and DestinationRefused (a redirect, 404, 405, 406, 411, 501). Source: PS3.18
    §10.5.3 and Annex I; RFC 9110 §15.
    """
    batch = replace(sent, requests=sent.requests + 1)
    match exchange:
        case SourceChanged(is_begun=False) as source_changed:
            return _settle_source_changed(sent, source_changed)
        case SourceChanged() as source_changed:
            return _settle_source_changed(replace(batch, may_be_stored=True), source_changed)
        case NoResponse() as no_response:
            return _settle_no_response(batch, no_response, rules, outage=outage)
        case Response() as response:
            batch = replace(batch, may_be_stored=batch.may_be_stored or response.is_replayed)
            settlement = _settle_response(batch, response, rules, outage=outage, has_stored=has_stored)
            return _without_changed(settlement, response.changed) if response.changed else settlement


def _settle_source_changed(batch: Batch, source_changed: SourceChanged) -> Settlement:
    """Settle files that changed since the scan; the others are sent again, and this was no attempt of theirs."""
    results: list[FileResult] = []
    rest: list[Instance] = []
    for instance in batch.instances:
        if (why := source_changed.changed.get(instance.header.sop_instance_uid)) is None:
            rest.append(instance)
        else:
            results += results_of(batch, [instance], Outcome.UNREADABLE, why)
    again = (Scheduled(Store(replace(batch, instances=tuple(rest)))),) if rest else ()
    return Settlement(tuple(results), again, HealthSignal.NONE)


def _without_changed(settlement: Settlement, changed: Mapping[str, str]) -> Settlement:
    """Count no file as stored that was written to while it was sent; the next run sends its new content."""

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
            # Finding it at the server would prove nothing.
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
    # The length of a response may grow with the request, and half a request has nearly the same limit.
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
        # No server has stored what was not sent, and which instances were sent is unknown.
        listed = replace(listed, stored=(), warned=())
    attributed = attribute(batch, listed)
    if not has_stored:
        _stop_if_not_authorised(batch, attributed, rules)
    named = _settle_named(batch, attributed, rules, listed.comment, response.warning, outage=outage)
    again = tuple(replace(later, at_least_s=response.retry_after_s) for later in named.again)
    if not attributed.unnamed:
        return replace(named, again=again)
    rest = replace(batch, instances=attributed.unnamed)
    lists_any = bool(listed.stored or listed.warned or listed.failed or listed.other_failures)
    left = _settle_unnamed(rest, response, rules, listed.comment, sent=batch, lists_any=lists_any, outage=outage)
    return replace(left, results=named.results + left.results, again=again + left.again)


def _settle_unnamed(
    batch: Batch, response: Response, rules: Rules, comment: str, *, sent: Batch, lists_any: bool, outage: bool
) -> Settlement:
    """Settle instances of the batch `sent` that the response does not name, though it may list others."""
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
            # A bare 409 is not 'duplicate', but after a request without a response it may mean that.
            return Settlement(*_refuse(batch, reason))
        case _ if lists_any:
            return Settlement(again=singly(batch))
        case _:
            return Settlement(again=halves(batch))


def _settle_busy(batch: Batch, response: Response, rules: Rules, reason: str, *, outage: bool) -> Settlement:
    """Settle instances after a response for overload, a full disk or an outage."""
    at_least_s, maybe_stored = response.retry_after_s, replace(batch, may_be_stored=True)
    match response.status:
        case 507 if outage:
            return Settlement(again=(Scheduled(Store(batch), Delay.LONG, at_least_s),), health_signal=HealthSignal.FULL)
        case 507:
            again = after_fault(maybe_stored, rules, reason, at_least_s)
            return Settlement(again=again, health_signal=HealthSignal.FULL)
        case 425 | 429 | 503:
            # Too many requests: the server has not processed the instances, so this is no attempt.
            return Settlement(again=after_excuse(maybe_stored, reason, at_least_s), health_signal=HealthSignal.REJECTED)
        case 502 | 504 if outage:
            return Settlement(again=after_excuse(maybe_stored, reason, at_least_s), health_signal=HealthSignal.GONE)
        case _:
            again = after_fault(maybe_stored, rules, reason, at_least_s, halve_from=2)
            signal = HealthSignal.GONE if is_absence(response) else HealthSignal.BUSY
            return Settlement(again=again, health_signal=signal)


def _settle_unlisted(batch: Batch, response: Response, rules: Rules, *, alone: bool, lists_any: bool) -> Settlement:
    """Settle instances that a 2xx does not name: each is sent alone, then queried; the status proves nothing."""
    if rules.trust_status and response.is_whole and not lists_any and _is_plain(response.body):
        return Settlement(results_of(batch, batch.instances, Outcome.STORED, f"HTTP {response.status}, trusted"))
    if alone:
        return Settlement(again=(Scheduled(Query(batch, f"HTTP {response.status} without naming it")),))
    return Settlement(again=singly(replace(batch, may_be_stored=True)))


def _stop_if_not_authorised(batch: Batch, attributed: Attributed, rules: Rules) -> None:
    failures = {rules.profile.classify(item.code, item.comment) for item in attributed.failed.values()}
    if failures == {FailureClass.NOT_AUTHORISED} and len(attributed.failed) == len(batch.instances):
        raise LoginRefused("the server says of every instance that we may not store it (0124): ask for that right")


def _settle_named(
    batch: Batch, attributed: Attributed, rules: Rules, comment: str, warning: str, *, outage: bool
) -> Settlement:
    """Settle the instances that a response names; `comment` and the header `warning` concern the whole request."""
    profile = rules.profile
    results: list[FileResult] = []
    again: list[Scheduled] = []
    failures: list[FailureClass] = []
    for instance in batch.instances:
        uid = instance.header.sop_instance_uid
        if item := attributed.failed.get(uid):
            failures.append(profile.classify(item.code, item.comment))
            reason = profile.meaning(item.code, item.comment or comment)
            done, later = _settle_failed(batch, instance, failures[-1], reason, rules, outage=outage)
            results += done
            again += later
        elif item := attributed.warned.get(uid):
            told = f" ({printable(warning)})" if warning else ""
            results.append(result_of(batch, instance, Outcome.WARNED, profile.meaning(item.code, item.comment) + told))
        elif uid in attributed.stored:
            results.append(result_of(batch, instance, Outcome.STORED, ""))
    is_full = len(failures) == len(batch.instances) and set(failures) == {FailureClass.BUSY}
    return Settlement(tuple(results), gather(again), HealthSignal.FULL if is_full else HealthSignal.EASED)


def _settle_failed(
    batch: Batch, instance: Instance, failure: FailureClass, reason: str, rules: Rules, *, outage: bool
) -> tuple[tuple[FileResult, ...], tuple[Scheduled, ...]]:
    """Settle one instance that the server listed as failed."""
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
    """Settle a batch as failed, after a query if an earlier request may have stored it."""
    if batch.may_be_stored or batch.was_ambiguous:
        return (), (Scheduled(Query(batch, reason, otherwise=outcome)),)
    return results_of(batch, batch.instances, outcome, reason), ()


def _is_plain(body: bytes) -> bool:
    """Return whether a body that lists nothing may come from a STOW-RS service: empty, a short text or a response."""
    try:
        store_response.read(body)
    except StoreResponseError:
        return len(body) < LONGEST_WORD_BYTES and b"<" not in body
    return True
