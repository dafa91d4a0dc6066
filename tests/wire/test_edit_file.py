"""Rules of `--edit` as values, and everything that is not understood."""

from __future__ import annotations

import tomllib

import pytest

from bulkstow.errors import ConfigurationError
from bulkstow.model import Header
from bulkstow.wire.edit_file import parse_edits
from bulkstow.wire.edit_rules import (
    Action,
    AppendToUids,
    Attribute,
    Edits,
    Extend,
    Private,
    Regenerate,
    Remove,
    Rules,
    SetTo,
    Table,
)

KEY = b"0123456789abcdef"
TABLES = {
    "ids.csv": [["ward", "old", "new", "issuer"], ["x", "1", "N1", "NORTH"], [], ["y", " 2 ", "N2", ""]],
    "twice.csv": [["old", "new"], ["1", "SECRET-A"], ["1", "SECRET-B"]],
    "same.csv": [["old", "new"], ["1", "A"], ["1", "A"]],
    "nothing.csv": [["old", "new"], ["", "SECRET"]],
    "short.csv": [["old", "new"], ["SECRET"]],
    "long.csv": [["old", "new"], ["SECRET", "X" * 65]],
    "empty.csv": [],
}
PATIENT_ID, ISSUER, STUDY_ID = 0x0010_0020, 0x0010_0021, 0x0020_0010


def parse(text: str, key: bytes = KEY) -> Edits:
    """Return the edits in a text."""
    return parse_edits(tomllib.loads(text), "edits.toml", TABLES.__getitem__, lambda _name: key)


def test_all_rules() -> None:
    """Attributes are named by keyword, tag or creator, at the top or in the items of sequences."""
    edits = parse(
        """
        remove = ["OtherPatientIDs", "0029,ACME 1.0,10", "(0010,1010)"]
        [set]
        InstitutionName = "Clinic North"
        "0028,0010" = 12
        ImageType = ["DERIVED", "PRIMARY"]
        "RequestAttributesSequence/(0040,0009)" = ""
        "RequestAttributesSequence/RequestedProcedureCodeSequence/CodeMeaning" = "x"
        [prefix]
        StudyID = "N-"
        [suffix]
        StudyID = "-2"
        AccessionNumber = "X"
        [[map]]
        file = "ids.csv"
        by = "PatientID"
        new = { PatientID = "new", IssuerOfPatientID = "issuer" }
        missing = "keep"
        [uids]
        method = "regenerate"
        """
    )
    rows = {"1": ("N1", "NORTH"), "2": ("N2", "")}
    inner = Rules({0x0040_0009: SetTo("")}, (), {0x0032_1064: Rules({0x0008_0104: SetTo("x")})})
    actions: dict[Attribute, Action] = {
        0x0010_1000: Remove(),
        Private(0x0029, "ACME 1.0", 0x10): Remove(),
        0x0010_1010: Remove(),
        0x0008_0080: SetTo("Clinic North"),
        0x0028_0010: SetTo((12,)),
        0x0008_0008: SetTo("DERIVED\\PRIMARY"),
        STUDY_ID: Extend("N-", "-2"),
        0x0008_0050: Extend("", "X"),
    }
    table = Table("ids.csv", PATIENT_ID, (PATIENT_ID, ISSUER), rows, keeps_missing=True)
    assert edits.rules == Rules(actions, (table,), {0x0040_0275: inner})
    assert edits.uids == Regenerate(KEY)


def test_a_suffix_for_uids() -> None:
    """UIDs can get a suffix instead of being regenerated."""
    assert parse('[uids]\nmethod = "suffix"\nsuffix = ".1.20"').uids == AppendToUids(".1.20")


def test_a_row_may_be_repeated() -> None:
    """The same new value twice is no contradiction."""
    assert parse('[[map]]\nfile = "same.csv"\nby = "PatientID"').rules.tables[0].rows == {"1": ("A",)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it has no rule"),
        ("[sets]", "sets: expected one of map, prefix, remove, set, suffix, uids"),
        ('set = "x"', "set: expected a table"),
        ('remove = "PatientID"', "remove: expected a list of texts"),
        ('remove = ["PatientIDs"]', "remove 'PatientIDs': no attribute 'PatientIDs'"),
        ('remove = ["SOPInstanceUID"]', "remove 'SOPInstanceUID': an instance needs it"),
        ('remove = ["PatientID/StudyID"]', "(0010,0020) PatientID is no sequence"),
        ('remove = ["0009,0010"]', "a private attribute: expected GGGG,CREATOR,EE"),
        ('remove = ["0010,ACME,20"]', "is not a private group: its number is even"),
        ('remove = ["PixelData"]', "(7FE0,0010) PixelData cannot be edited"),
        ('remove = ["0002,0010"]', "(0002,0010) TransferSyntaxUID cannot be edited"),
        ('remove = ["0010,0000"]', "(0010,0000) cannot be edited"),
        ('remove = ["0010,0123"]', "(0010,0123) is not in the dictionary"),
        ('[set]\nSOPClassUID = "1.2"', "(0008,0016) SOPClassUID cannot be edited"),
        ('[set]\nSpecificCharacterSet = "x"', "(0008,0005) SpecificCharacterSet cannot be edited"),
        ('[set]\nStudyInstanceUID = ""', "set.StudyInstanceUID: an instance needs it"),
        ('[set]\nStudyInstanceUID = "1.2.a"', "set.StudyInstanceUID: a UID of more than 64"),
        ('[set]\nPatientSex = "f"', "set.PatientSex: a value that CS does not allow"),
        ('[set]\nPatientBirthDate = "1.1.1950"', "set.PatientBirthDate: a value that DA does not allow"),
        ('[set]\nStudyID = "0123456789abcdefg"', "set.StudyID: a value that SH does not allow"),
        ('[set]\nStudyID = "a\\tb"', "set.StudyID: a character that SH does not allow"),
        ("[set]\nRows = 70000", "set.Rows: a number that US does not allow"),
        ("[set]\nRows = 1.5", "set.Rows: a number that US does not allow"),
        ('[set]\nRows = "x"', "set.Rows: a text, but (0028,0010) Rows is US"),
        ("[set]\nReferencedStudySequence = 1", "is SQ: its value cannot be set, only removed"),
        ("[set]\nStudyID = true", "set.StudyID: expected a text, a number, or a list"),
        ("[set]\nStudyID = []", "set.StudyID: expected a text, a number, or a list"),
        ('[set]\nImageType = ["A", 1]', "set.ImageType: expected a text, a number, or a list"),
        ('[set]\nReferencedStudySequence = "x"', "a text, but (0008,1110) ReferencedStudySequence is SQ"),
        ('[prefix]\nRows = "x"', "prefix.Rows: only a text can have"),
        ("[prefix]\nStudyID = 1", "prefix.StudyID: expected a text"),
        ('[suffix]\nStudyID = ""', "suffix.StudyID: expected a text"),
        ('remove = ["StudyID"]\n[prefix]\nStudyID = "x"', "prefix.StudyID: a second rule for one attribute"),
        ('[set]\nPatientID = "1"\n[[map]]\nfile = "ids.csv"\nby = "PatientID"', "map 1: a second rule"),
        ('[map]\nfile = "ids.csv"', "map: expected [[map]]"),
        ('[[map]]\nfile = "ids.csv"', "map 1: expected the name of a CSV file as `file`, and an attribute"),
        ('[[map]]\nfile = "ids.csv"\nby = "PatientID"\nmissing = "drop"', "map 1.missing: expected 'fail' or 'keep'"),
        ('[[map]]\nfile = "ids.csv"\nby = "PatientID"\nolder = "x"', "map 1.older: expected file, by, old"),
        ('[[map]]\nfile = "ids.csv"\nby = "PatientID"\nold = "number"', "ids.csv: line 1: no column 'number'"),
        ('[[map]]\nfile = "empty.csv"\nby = "PatientID"', "empty.csv: line 1: no column 'old'"),
        ('[[map]]\nfile = "twice.csv"\nby = "PatientID"', "twice.csv: row 3: two new values for one old value"),
        ('[[map]]\nfile = "nothing.csv"\nby = "PatientID"', "nothing.csv: row 2: no old value"),
        ('[[map]]\nfile = "short.csv"\nby = "PatientID"', "short.csv: row 2: 1 columns, the heading has 2"),
        ('[[map]]\nfile = "long.csv"\nby = "PatientID"', "long.csv: row 2: a value that LO does not allow"),
        ('[uids]\nmethod = "random"', "uids.method: expected 'regenerate' or 'suffix'"),
        ('[uids]\nmethod = "suffix"\nkey_file = "x"', "uids.key_file: not a setting of the method 'suffix'"),
        ('[uids]\nmethod = "suffix"\nsuffix = "1"', "uids.suffix: expected dots and numbers such as '.1'"),
        ('[uids]\nmethod = "suffix"\nsuffix = ".01"', "uids.suffix: expected dots and numbers such as '.1'"),
        ('[uids]\nmethod = "regenerate"\nkey_file = 1', "uids.key_file: expected the name of a file"),
    ],
)
def test_what_is_not_understood_is_named(text: str, problem: str) -> None:
    """The message has the file and the key, or the row of a table, and no value of a table."""
    with pytest.raises(ConfigurationError) as raised:
        parse(text)
    assert problem in str(raised.value)
    assert "SECRET" not in str(raised.value)


def test_a_short_key_is_refused() -> None:
    """A key of fewer than 128 bits could be guessed; the message does not show it."""
    with pytest.raises(ConfigurationError, match="the key has 11 bytes, expected 16 or more") as raised:
        parse('[uids]\nmethod = "regenerate"', b"too short k")
    assert "too short" not in str(raised.value)


def test_a_digest_tells_rules_and_keys_apart() -> None:
    """The order of names does not count; values, the key of UIDs, and rows of tables do."""
    one = parse('[set]\nStudyID = "1"\nInstitutionName = "2"\n[uids]\nmethod = "regenerate"')
    same = parse('[set]\nInstitutionName = "2"\nStudyID = "1"\n[uids]\nmethod = "regenerate"')
    other_key = parse(
        '[set]\nStudyID = "1"\nInstitutionName = "2"\n[uids]\nmethod = "regenerate"', b"another key, as long"
    )
    other = parse('[set]\nInstitutionName = "3"\nStudyID = "1"\n[uids]\nmethod = "regenerate"')
    assert one.digest == same.digest
    assert len({one.digest, other.digest, other_key.digest}) == 3
    table = '[[map]]\nfile = "ids.csv"\nby = "PatientID"'
    before = parse(table).digest
    assert (
        parse_edits(tomllib.loads(table), "x", lambda _: [["old", "new"], ["1", "N3"]], lambda _: b"").digest != before
    )


def test_uids_alone_can_be_edited() -> None:
    """Of an instance that is only announced, the new UIDs are known; attributes without a rule stay."""
    edits = parse('[set]\nSeriesInstanceUID = "1.9"\n[suffix]\nStudyInstanceUID = ".7"\n[uids]\nmethod = "regenerate"')
    header = Header("1.1", "1.2", "1.3", "1.4", "1.5", "CT", "20200101")
    new = edits.header(header)
    assert new == Header("1.1.7", "1.9", Regenerate(KEY).new_uid("1.3"), "1.4", "1.5")
    assert (new.modality, new.study_date) == ("CT", "20200101")
