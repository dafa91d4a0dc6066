"""A plan as text and as values for JSON."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bulkstow.cli.uid_names import name_of_uid
from bulkstow.model import Outcome
from bulkstow.pipeline.plan import Amount, Group, Groups, Plan
from bulkstow.printing import shown
from bulkstow.progress.closing import empty_parts_lines
from bulkstow.quantities import counted, show_duration, show_size

SHOWN_GROUPS = 20
"""Groups in each part of the table; JSON has them all."""

NAME_COLUMNS = 64
"""The longest UID; a longer name is cut off."""


def lines_of(plan: Plan, ledger: Path) -> Iterator[str]:
    """Yield the lines of a plan."""
    yield from _totals(plan)
    yield from _groups("modality", plan.by_modality, _or_none)
    yield from _groups("SOP class", plan.by_sop_class, name_of_uid)
    yield from _groups("transfer syntax", plan.by_transfer_syntax, name_of_uid)
    yield from _groups("study date", plan.by_year, _or_none)
    yield from _not_stored_before(plan)
    if plan.first_failures:
        yield ""
        yield "first failures:"
        for failure in plan.first_failures:
            yield f"  {failure.outcome} {shown(failure.location)}: {shown(failure.reason)}"
    yield from empty_parts_lines(plan.empty_sources)
    yield ""
    yield from _conclusion(plan, ledger)


def _totals(plan: Plan) -> Iterator[str]:
    studies = counted(plan.studies, "study", "studies")
    instances = (
        f"{counted(plan.sop_instances, 'SOP instance')} in {studies}, {counted(plan.series, 'series', 'series')}"
    )
    yield f"{'state':<20} {'files':>9} {'size':>9}"
    yield _row("found", plan.found)
    yield _row("instances", plan.instances, instances)
    yield _row("to send", plan.to_send, counted(plan.studies_to_send, "study", "studies"))
    for outcome, files in plan.settled.items():
        yield f"{f'{outcome} before':<20} {files:>9,}"
    for name, amount in (("copies", plan.copies), (Outcome.CONFLICT.value, plan.conflicts)):
        if amount.files:
            yield _row(name, amount)
    for reason in plan.not_sent:
        yield _row(reason.outcome.value, reason.found, shown(reason.reason))
    if plan.other_reasons.files:
        yield _row("for other reasons", plan.other_reasons)
    for name, files in plan.left_out.items():
        yield f"{'left out':<20} {files:>9,} {'':>9}  --{name}"
    if plan.pruned_directories:
        directories = counted(plan.pruned_directories, "directory", "directories")
        yield f"{'left out':<20} {'':>9} {'':>9}  {directories} not entered: --exclude"


def _row(name: str, amount: Amount, note: str = "") -> str:
    return f"{name:<20} {amount.files:>9,} {show_size(amount.size_bytes):>9}  {note}".rstrip()


def _groups(title: str, groups: Groups, name_of: Callable[[str | None], str]) -> Iterator[str]:
    if not groups.largest:
        return
    yield ""
    yield _line(title, "files", "size", "to send")
    for group in groups.largest[:SHOWN_GROUPS]:
        yield _group_row(shown(name_of(group.value)), group.found, group.to_send)
    others = groups.largest[SHOWN_GROUPS:]
    if count := len(others) + groups.others:
        yield _group_row(
            f"{count:,} others",
            _sum([*(group.found for group in others), groups.found]),
            _sum([*(group.to_send for group in others), groups.to_send]),
        )


def _group_row(name: str, found: Amount, to_send: Amount) -> str:
    return _line(name, f"{found.files:,}", show_size(found.size_bytes), f"{to_send.files:,}")


def _line(name: str, files: str, size: str, to_send: str) -> str:
    """Return a line of a group; a long name moves the figures to the right, up to a limit."""
    name = name if len(name) <= NAME_COLUMNS else f"{name[: NAME_COLUMNS - 1]}…"
    return f"{name:<44} {files:>9} {size:>9} {to_send:>9}"


def _sum(amounts: Sequence[Amount]) -> Amount:
    return Amount(sum(amount.files for amount in amounts), sum(amount.size_bytes for amount in amounts))


def _or_none(value: str | None) -> str:
    return "not known" if value is None else value or "none"


def _not_stored_before(plan: Plan) -> Iterator[str]:
    if not plan.not_stored_before:
        return
    yield ""
    yield _line("not stored by earlier runs", "files", "", "to send")
    for kind in plan.not_stored_before[:SHOWN_GROUPS]:
        name = f"{kind.outcome}: {name_of_uid(kind.sop_class_uid)}"
        yield _line(shown(name), f"{kind.files:,}", "", f"{kind.to_send:,}")
        yield f"  {shown(name_of_uid(kind.transfer_syntax_uid))}"
    if (others := len(plan.not_stored_before) - SHOWN_GROUPS) > 0:
        yield f"{others:,} other kinds"


def _conclusion(plan: Plan, ledger: Path) -> Iterator[str]:
    if plan.at_server is not None:
        at = plan.at_server
        if at.studies:
            yield (
                f"the server has instances of {at.there:,} of {counted(at.studies, 'study', 'studies')} to send "
                f"({at.whole:,} with all instances), {counted(at.instances, 'instance')} in all"
            )
        if at.unknown:
            studies = counted(at.unknown, "study", "studies")
            yield f"the server gave no number for {studies}: {shown(at.reason)}"
    if plan.destination:
        yield f"ledger {shown(shlex.quote(str(ledger)))}: its outcomes for {shown(plan.destination)} are used"
    yield from _time(plan)


def _time(plan: Plan) -> Iterator[str]:
    if not plan.to_send.files:
        yield "nothing to send"
        return
    amount = f"{counted(plan.to_send.files, 'file')}, {show_size(plan.to_send.size_bytes)}"
    if plan.rate is None or plan.duration_s is None:
        yield f"to send: {amount}; time unknown: give a rate such as --rate 50MiB/s, or the ledger of an earlier upload"
        return
    speed = f"{show_size(plan.rate.bytes_per_s)}/s"
    if plan.rate.instances_per_s is not None:
        speed += (
            f" and {plan.rate.instances_per_s:,.0f} instances/s, as the upload of {plan.rate.measured_at} UTC "
            f"({counted(plan.rate.measured_instances, 'instance')} in {show_duration(plan.rate.measured_s)})"
        )
    yield f"to send: {amount}, in about {show_duration(plan.duration_s)} at {speed}"


def as_fields(plan: Plan) -> dict[str, Any]:
    """Return a plan as values for JSON."""
    rate = plan.rate
    return {
        "destination": plan.destination or None,
        "found": _amount(plan.found),
        "instances": _amount(plan.instances),
        "sop_instances": plan.sop_instances,
        "studies": plan.studies,
        "series": plan.series,
        "to_send": _amount(plan.to_send) | {"studies": plan.studies_to_send},
        "settled": {outcome.value: files for outcome, files in plan.settled.items()},
        "copies": _amount(plan.copies),
        "conflicts": _amount(plan.conflicts),
        "not_sent": [
            {"outcome": reason.outcome.value, "reason": reason.reason} | _amount(reason.found)
            for reason in plan.not_sent
        ],
        "other_reasons": _amount(plan.other_reasons),
        "left_out": dict(plan.left_out),
        "pruned_directories": plan.pruned_directories,
        "failures": plan.failures,
        "accepted": plan.accepted,
        "first_failures": [
            {"outcome": failure.outcome.value, "path": failure.location, "reason": failure.reason}
            for failure in plan.first_failures
        ],
        "empty_sources": list(plan.empty_sources),
        "by_modality": _group_fields(plan.by_modality, "modality"),
        "by_sop_class": _group_fields(plan.by_sop_class, "sop_class_uid", name_of_uid),
        "by_transfer_syntax": _group_fields(plan.by_transfer_syntax, "transfer_syntax_uid", name_of_uid),
        "by_year": _group_fields(plan.by_year, "year"),
        "not_stored_before": [
            {
                "outcome": kind.outcome.value,
                "sop_class_uid": kind.sop_class_uid,
                "transfer_syntax_uid": kind.transfer_syntax_uid,
                "files": kind.files,
                "to_send": kind.to_send,
            }
            for kind in plan.not_stored_before
        ],
        "at_server": None
        if plan.at_server is None
        else {
            "studies": plan.at_server.studies,
            "there": plan.at_server.there,
            "whole": plan.at_server.whole,
            "instances": plan.at_server.instances,
            "unknown": plan.at_server.unknown,
            "reason": plan.at_server.reason,
        },
        "rate": None
        if rate is None
        else {
            "bytes_per_s": round(rate.bytes_per_s, 1),
            "instances_per_s": None if rate.instances_per_s is None else round(rate.instances_per_s, 1),
            "measured_at": rate.measured_at or None,
        },
        "duration_s": None if plan.duration_s is None else round(plan.duration_s, 1),
        "exit_status": plan.exit_status,
    }


def _amount(amount: Amount) -> dict[str, Any]:
    return {"files": amount.files, "size_bytes": amount.size_bytes}


def _group_fields(
    groups: Groups, name: str, name_of: Callable[[str | None], str] | None = None
) -> list[dict[str, Any]]:
    """Return the groups; the last one adds up all groups that are not listed, with their number."""

    def fields(group: Group) -> dict[str, Any]:
        named = {} if name_of is None else {"name": name_of(group.value)}
        return {name: group.value} | named | _amount(group.found) | {"to_send": _amount(group.to_send)}

    listed = [fields(group) for group in groups.largest]
    if groups.others:
        listed.append({"others": groups.others} | _amount(groups.found) | {"to_send": _amount(groups.to_send)})
    return listed
