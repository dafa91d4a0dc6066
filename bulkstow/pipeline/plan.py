"""The figures of a plan, added up from its inventory: the files found, and the files that would be sent."""

# ruff: noqa: S608 - the queries are built from constants

from __future__ import annotations

from dataclasses import dataclass, field

from bulkstow.model import Outcome
from bulkstow.pipeline.inventory import IS_COPY, IS_FAILURE, IS_FOUND, IS_SETTLED, IS_TO_SEND, Inventory
from bulkstow.policy.forecast import Rate

MOST_GROUPS = 200
"""Groups that are listed, the largest ones; the others are added up. In a damaged archive each file may have its own
modality."""

SHOWN_FAILURES = 5
"""Failures of each outcome that are shown."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Files and their size."""

    files: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """Files with a value in common."""

    value: str | None
    """Empty if the files have none; None if it is not known, as in rows of an older ledger."""
    found: Amount
    to_send: Amount


@dataclass(frozen=True, slots=True)
class Groups:
    """The largest groups, the largest first, and all others together."""

    largest: tuple[Group, ...] = ()
    others: int = 0
    """The number of the other groups."""
    found: Amount = Amount()
    """Their files."""
    to_send: Amount = Amount()


@dataclass(frozen=True, slots=True)
class Reason:
    """Files that are not sent for one reason."""

    outcome: Outcome
    reason: str
    """Up to its first colon; the text after it may name the file."""
    found: Amount


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that would be a failure of the upload."""

    outcome: Outcome
    location: str
    reason: str


@dataclass(frozen=True, slots=True)
class NotStoredBefore:
    """Instances of one kind that the server refused or did not confirm in earlier runs."""

    sop_class_uid: str
    transfer_syntax_uid: str
    outcome: Outcome
    files: int
    """The number of such files in the ledger."""
    to_send: int = 0
    """The number of files of this kind that would be sent."""


@dataclass(frozen=True, slots=True)
class AtServer:
    """The answers of the server about the studies with files to send."""

    studies: int = 0
    """Studies for which the server answered the query."""
    there: int = 0
    """Studies of which it has instances."""
    whole: int = 0
    """Studies of which it has at least as many instances as the sources."""
    instances: int = 0
    """Instances that it has of all of them."""
    unknown: int = 0
    """Studies without an answer, or with an answer that lacks the number of instances."""
    reason: str = ""
    """The reason for the first of those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The figures of the sources, and of the files that an upload would send."""

    found: Amount
    instances: Amount
    """Files with an instance: their head could be read, or the ledger has them as instances."""
    sop_instances: int
    """Different SOP Instance UIDs."""
    studies: int
    series: int
    to_send: Amount
    studies_to_send: int
    by_modality: Groups
    by_sop_class: Groups
    by_transfer_syntax: Groups
    by_year: Groups
    not_sent: tuple[Reason, ...]
    """Skipped and unreadable files by reason, without copies."""
    other_reasons: Amount
    """Files of further reasons."""
    copies: Amount
    conflicts: Amount
    settled: dict[Outcome, int]
    """Files that an earlier run settled, by outcome."""
    accepted: int
    """Failures among all files that a user has accepted."""
    failures: int
    """Files that would make the upload end with exit status 1."""
    first_failures: tuple[Failure, ...]
    destination: str = ""
    """The server whose ledger rows count; empty if none is known."""
    empty_sources: tuple[str, ...] = ()
    """The first sources without any file, unless `--allow-empty` was given; they count as failures."""
    rate: Rate | None = None
    not_stored_before: tuple[NotStoredBefore, ...] = ()
    at_server: AtServer | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    """Files that filters leave out, by the filter's name."""
    pruned_directories: int = 0
    """Directories that were not entered because of a filter."""

    @property
    def duration_s(self) -> float | None:
        """How long the upload will take; None if no rate is known."""
        return None if self.rate is None else self.rate.duration_s(self.to_send.size_bytes, self.to_send.files)

    @property
    def exit_status(self) -> int:
        """1 if the upload would have failures, as far as can be known before it."""
        return 1 if self.failures or self.empty_sources else 0


def plan_of(inventory: Inventory) -> Plan:
    """Return the figures of an inventory. Blocks."""
    inventory.add_up()
    rows = inventory.rows
    ((studies, series),) = rows(
        "SELECT count(DISTINCT study_uid), count(DISTINCT study_uid || ' ' || series_uid) "
        "FROM total JOIN header ON header.id = header"
    )
    ((sop_instances,),) = rows("SELECT count(DISTINCT uid_key) FROM file")
    not_sent, other_reasons = _reasons(inventory)
    return Plan(
        found=_amount(inventory, "true"),
        instances=_amount(inventory, "header IS NOT NULL"),
        sop_instances=sop_instances,
        studies=studies,
        series=series,
        to_send=_amount(inventory, IS_TO_SEND),
        studies_to_send=inventory.count_studies_to_send(),
        by_modality=_groups(inventory, "modality"),
        by_sop_class=_groups(inventory, "sop_class_uid"),
        by_transfer_syntax=_groups(inventory, "transfer_syntax_uid"),
        by_year=_groups(inventory, "substr(study_date, 1, 4)"),
        not_sent=not_sent,
        other_reasons=other_reasons,
        copies=_amount(inventory, f"{IS_FOUND} AND {IS_COPY}"),
        conflicts=_amount(inventory, f"{IS_FOUND} AND outcome = '{Outcome.CONFLICT}'"),
        settled={
            Outcome(outcome): files
            for outcome, files in rows(f"SELECT outcome, sum(files) FROM total WHERE {IS_SETTLED} GROUP BY outcome")
        },
        accepted=_amount(inventory, f"{IS_FAILURE} AND is_accepted").files,
        failures=_amount(inventory, f"{IS_FAILURE} AND NOT is_accepted").files,
        first_failures=_first_failures(inventory),
    )


def _amount(inventory: Inventory, condition: str) -> Amount:
    """Return the files that meet a condition, one of this module's constants."""
    query = f"SELECT coalesce(sum(files), 0), coalesce(sum(size_bytes), 0) FROM total WHERE {condition}"
    ((files, size_bytes),) = inventory.rows(query)
    return Amount(files, size_bytes)


def _groups(inventory: Inventory, value: str) -> Groups:
    """Return the files of instances grouped by an expression over `header`."""
    query = f"""
        WITH grouped AS (
            SELECT {value} AS value, sum(files) AS files, sum(size_bytes) AS size_bytes,
                coalesce(sum(files) FILTER (WHERE {IS_TO_SEND}), 0) AS files_to_send,
                coalesce(sum(size_bytes) FILTER (WHERE {IS_TO_SEND}), 0) AS bytes_to_send
            FROM total JOIN header ON header.id = header GROUP BY 1
        ), ranked AS (SELECT *, row_number() OVER (ORDER BY files DESC, value) AS rank FROM grouped)
        SELECT max(rank), CASE WHEN rank <= ? THEN value END, count(*), sum(files), sum(size_bytes),
            sum(files_to_send), sum(bytes_to_send)
        FROM ranked GROUP BY min(rank, ?) ORDER BY 1"""
    largest: list[Group] = []
    for rank, value_of, count, *amounts in inventory.rows(query, (MOST_GROUPS, MOST_GROUPS + 1)):
        found, to_send = Amount(*amounts[:2]), Amount(*amounts[2:])
        if rank > MOST_GROUPS:
            return Groups(tuple(largest), count, found, to_send)
        largest.append(Group(value_of, found, to_send))
    return Groups(tuple(largest))


def _reasons(inventory: Inventory) -> tuple[tuple[Reason, ...], Amount]:
    """Return the most frequent reasons of files that are skipped or unreadable, and the files of all others."""
    query = f"""
        SELECT outcome, substr(reason, 1, instr(reason || ':', ':') - 1), count(*), sum(size_bytes) FROM file
        WHERE {IS_FOUND} AND NOT {IS_COPY} AND outcome <> '{Outcome.CONFLICT}'
        GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT ?"""
    rows = inventory.rows(query, (MOST_GROUPS,))
    reasons = tuple(Reason(Outcome(row[0]), row[1], Amount(*row[2:])) for row in rows)
    every = _amount(inventory, f"{IS_FOUND} AND NOT {IS_COPY} AND outcome <> '{Outcome.CONFLICT}'")
    named = [reason.found for reason in reasons]
    return reasons, Amount(
        every.files - sum(found.files for found in named), every.size_bytes - sum(found.size_bytes for found in named)
    )


def _first_failures(inventory: Inventory) -> tuple[Failure, ...]:
    query = f"""
        SELECT outcome, path, reason FROM (
            SELECT *, row_number() OVER (PARTITION BY outcome ORDER BY number) AS rank FROM file
            WHERE {IS_FAILURE} AND NOT is_accepted
        ) WHERE rank <= ? ORDER BY outcome, rank"""
    return tuple(
        Failure(Outcome(outcome), path.decode(errors="surrogatepass"), reason)
        for outcome, path, reason in inventory.rows(query, (SHOWN_FAILURES,))
    )
