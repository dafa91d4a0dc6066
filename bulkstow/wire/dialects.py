"""What differs between servers, as data: what a FailureReason or WarningReason means, and to whom.

Owns a table of codes, a table of words that servers say beside a vague code, and the classes of failures. Refuses to
decide: when and how often to send again is `policy`'s, and so is what a class does to an instance. A new server is a
row here, never a branch there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class FailureClass(StrEnum):
    """What a FailureReason says of sending the same instance again."""

    RETRY = "retry"
    """It passes by itself."""
    RETRY_SLOWLY = "retry slowly"
    """It passes, but not within seconds."""
    BUSY = "busy"
    """The server is out of resources: stop sending to it for a while (opens the circuit breaker)."""
    AMBIGUOUS = "ambiguous"
    """The content or the moment: send it alone, and a few times only."""
    PERMANENT = "permanent"
    """The same bytes fail again."""
    DUPLICATE = "duplicate"
    """The server has the instance."""
    OTHER_CONTENT = "other content"
    """The server has another instance of this UID, and keeps it: permanent, and QIDO-RS would find the other one."""
    NOT_AUTHORISED = "not authorised"
    """Permanent; where every instance gets it, the login is at fault."""


@dataclass(frozen=True, slots=True)
class FailureWords:
    """A pattern of the server's own words, and what they mean."""

    pattern: re.Pattern[str]
    failure: FailureClass


@dataclass(frozen=True, slots=True)
class FailureReason:
    """Codes `first` to `last`, both included, and what they mean."""

    first: int
    last: int
    failure: FailureClass
    meaning: str


FAILURE_REASONS = (
    # dcm4chee-arc: the patient conflict and rejection codes sit inside the A7xx of PS3.4.
    FailureReason(0xA77A, 0xA77A, FailureClass.RETRY_SLOWLY, "study is being deleted"),
    FailureReason(0xA770, 0xA77B, FailureClass.PERMANENT, "rejected by the archive's rules"),
    # PS3.18 Table I.2-2, PS3.4 Table B.2-1; Orthanc with a full disk.
    FailureReason(0xA700, 0xA7FF, FailureClass.BUSY, "out of resources"),
    # PS3.4 Table B.2-1; Azure: the data set fails validation (A900), is of another study (A901).
    FailureReason(0xA900, 0xA9FF, FailureClass.PERMANENT, "data set does not match SOP class"),
    # Azure, among the warnings of PS3.4 and yet failures: in a 202 or 409.
    FailureReason(0xB00E, 0xB00E, FailureClass.DUPLICATE, "already stored"),
    FailureReason(0xB00F, 0xB00F, FailureClass.RETRY, "being stored by another request"),
    # PS3.18 Table I.2-2.
    FailureReason(0xC122, 0xC122, FailureClass.PERMANENT, "transfer syntax not supported"),
    # PS3.4 Table B.2-1.
    FailureReason(0xC000, 0xCFFF, FailureClass.PERMANENT, "cannot understand"),
    # PS3.7 Annex C, from here on.
    FailureReason(0x0106, 0x0106, FailureClass.PERMANENT, "invalid attribute value"),
    # Bad content at Google, a race in the database at dcm4chee, a study other than the URL's at Orthanc.
    FailureReason(0x0110, 0x0110, FailureClass.AMBIGUOUS, "processing failure"),
    FailureReason(0x0111, 0x0111, FailureClass.DUPLICATE, "duplicate SOP instance"),
    # "No such SOP instance" in PS3.7, "SOP class not supported" in PS3.4 for storage.
    FailureReason(0x0112, 0x0112, FailureClass.PERMANENT, "no such SOP class or instance"),
    FailureReason(0x0117, 0x0117, FailureClass.PERMANENT, "invalid SOP instance"),
    FailureReason(0x0118, 0x0118, FailureClass.PERMANENT, "no such SOP class"),
    FailureReason(0x0119, 0x0119, FailureClass.PERMANENT, "class and instance conflict"),
    FailureReason(0x0120, 0x0120, FailureClass.PERMANENT, "missing attribute"),
    FailureReason(0x0121, 0x0121, FailureClass.PERMANENT, "missing attribute value"),
    FailureReason(0x0122, 0x0122, FailureClass.PERMANENT, "SOP class not supported"),
    FailureReason(0x0117, 0x0122, FailureClass.PERMANENT, "invalid SOP instance or class"),
    FailureReason(0x0124, 0x0124, FailureClass.NOT_AUTHORISED, "not authorised"),
    # A DIMSE archive behind a DICOMweb proxy.
    FailureReason(0x0210, 0x0212, FailureClass.PERMANENT, "protocol error behind a proxy"),
    FailureReason(0x0213, 0x0213, FailureClass.RETRY, "resource limitation"),
    # PS3.2 Table N.7-42 prints 0214 where PS3.7 has 0124.
    FailureReason(0x0214, 0x0214, FailureClass.NOT_AUTHORISED, "not authorised"),
)
"""The first row that holds a code is the one that counts: what is special stands above the range that it is in."""

WARNING_REASONS = {
    # PS3.18 Table I.2-1; all three are stored.
    0xB000: "coerced",
    0xB006: "elements discarded",
    # Azure too, where an optional attribute fails validation.
    0xB007: "data set does not match SOP class",
}


_EXISTS = (
    r"(?:(?<!study[ _])(?<!series[ _])\b(?:SOP[ _]?)?instance(?:[ _]?UID)?[ =:'\"]*[0-9.]*['\"]?(?: has)?"
    r" already (?:exists|stored|been stored)|^already[ _]exists)"
)
_PLACE = r"(?: in (?:this |the )?(?:DICOM )?(?:data ?)?(?:store|server|archive|database|system|PACS)(?: [\w./:-]+)?)?"
_NAME = r"(?:[:,]? (?:with the same [\w/ ]{1,40} UIDs?|(?:SOP ?Instance ?UID[ =:]*)?[0-9.]+))?"

FAILURE_WORDS = (
    # Google, FailureDetail beside 0110: "An instance already exists in this DICOM Store with the same
    # Study/Series/SOPInstance UID, but the DICOM files differ (checksum mismatch)."
    FailureWords(
        re.compile(rf"{_EXISTS}.*\b(?:differ\w*|(?:checksum|content|hash) mismatch)\b", re.IGNORECASE),
        FailureClass.OTHER_CONTENT,
    ),
    # Google, and error.status of its APIs: ALREADY_EXISTS.
    FailureWords(
        re.compile(rf"{_EXISTS}{_PLACE}{_NAME}\W*$", re.IGNORECASE),
        FailureClass.DUPLICATE,
    ),
)
"""Only an instance that exists is a duplicate: a study or a patient that exists says nothing of the instance, and words
that go on in an unknown way are not understood. The first row that matches counts."""

_VAGUE_CODE = 0xC000
"""Cannot understand: beside the codes without a class of their own, the one that servers give for anything."""


def classify(code: int | None, comment: str = "") -> FailureClass:
    """Return what a FailureReason (0008,1197) says of sending again; None and 0 are AMBIGUOUS: nothing was told.

    A code that is in no table is AMBIGUOUS too. To call it permanent could refuse for good what the next second would
    have stored; to ask again costs three small requests at most. `comment`, the server's own words, decides where the
    code does not.
    """
    row = _row(code)
    failure = row.failure if row else FailureClass.AMBIGUOUS
    if comment and (failure is FailureClass.AMBIGUOUS or code == _VAGUE_CODE):
        return next((words.failure for words in FAILURE_WORDS if words.pattern.search(comment)), failure)
    return failure


def meaning(code: int | None, comment: str = "") -> str:
    """Return a reason as four hexadecimal digits, as the standard prints it, in short English, and the server's words.

    Warnings and failures alike: "B000 coerced", "A700 out of resources: disk full"; "no reason given" for None and 0.
    """
    if not code:
        return comment or "no reason given"
    row = _row(code)
    short = f"{code:04X} {row.meaning if row else WARNING_REASONS.get(code, 'unknown reason')}"
    return f"{short}: {comment}" if comment else short


def _row(code: int | None) -> FailureReason | None:
    return next((row for row in FAILURE_REASONS if code is not None and row.first <= code <= row.last), None)
