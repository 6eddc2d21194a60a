"""Labelled sets and predictions as people have them: each label is what the table says, or everything that is wrong is said at once."""

import csv
import io
import json
import math
import stat
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_write import failed, record

from clinex_edge.bench.answers import answer, is_blank, label, probability
from clinex_edge.bench.columns import Asked
from clinex_edge.bench.data import Example, LabelledSet, read_data, write_data
from clinex_edge.bench.labelled import read_labelled
from clinex_edge.bench.predicted import read_predictions
from clinex_edge.bench.predictions import Predictions
from clinex_edge.errors import InputError, RunError, UsageError
from clinex_edge.files.tables import AMBIGUOUS, ERROR
from clinex_edge.files.write import FORMATS, write_records
from clinex_edge.models.fingerprint import hash_file
from clinex_edge.tasks import load_task

TASK = load_task("palliative-call")
FIELDS = TASK.field_ids
CALL = "بیمار: پهلویم هنوز می‌سوزد"
NAN = math.nan


@pytest.fixture
def table(tmp_path):
    def write(content, name="calls.csv"):
        path = tmp_path / name
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif name.endswith(".csv"):
            with path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows(content)
        elif name.endswith(".xlsx"):
            book = openpyxl.Workbook()
            for row in content:
                book.active.append(row)
            book.save(path)
        else:
            columns = {column: list(values) for column, *values in zip(*content, strict=True)}
            pyarrow.parquet.write_table(pyarrow.table(columns), path)
        return path

    return write


def read(path, asked=None, **options):
    return read_labelled(path, TASK, asked or Asked(), **options)


def refused(path, asked=None, **options):
    """The problems of a table, line by line; none shows a word of a document."""
    with pytest.raises(InputError) as error:
        read(path, asked, **options)
    return lines_of(error.value)


def lines_of(error):
    for word in ("می‌سوزد", "hurts", "Zamanzadeh"):
        assert word not in f"{error} {error.hint}"
    return [line.strip() for line in str(error).splitlines()[1:]]


def labels_of(path, asked=None, **options):
    return [example.labels for example in read(path, asked, **options).examples]


# --- what a cell says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell",
    [
        "yes", "YES", " Yes ", "y", "true", "TRUE", "t", "1", "1.0", "1,0", "۱", "١", "بله", "بلی", "\u200fبله\u200f", "بلي", "آری",
        "دارد", "مثبت", "درست", 1, 1.0, True, Decimal("1.0"),
    ],
)  # fmt: skip
def test_a_cell_that_says_yes(cell):
    assert label(cell) is True


@pytest.mark.parametrize(
    "cell",
    ["no", "No", "n", "false", "FALSE", "f", "0", "0.0", "-0", "۰", "خیر", "خير", "نه", "ندارد", "منفی", "غلط", 0, 0.0, False, Decimal(0)],
)
def test_a_cell_that_says_no(cell):
    assert label(cell) is False


@pytest.mark.parametrize("cell", [None, "", " \t", "\u200f", "nan", "NaN", "NULL", "None", "NA", "n/a", "<NA>", math.nan])
def test_an_empty_cell_says_nothing(cell):
    assert is_blank(cell) and label(cell) is None and answer(cell) is None and probability(cell) is None


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("2", "'2'"), ("-1", "'-1'"), (0.5, "'0.5'"), ("0.5", "'0.5'"), ("?", "'?'"), ("-", "'-'"), ("x", "'x'"), ("100%", "'100%'"),
        (7, "'7'"), ("maybe", "a text of 5 characters"), ("+98912345", "a text of 9 characters"), (912345678, "a number"),
        ("yes no", "a text of 6 characters"), ([1], "a list"), ({}, "a list"), (ERROR, "an error"), (AMBIGUOUS, "two values"),
        ("inf", "a text of 3 characters"), (math.inf, "a number"), (10**400, "a number"), (Decimal("0.25"), "'0.25'"), ("\x07" * 2, None),
    ],
)  # fmt: skip
def test_a_cell_that_is_no_label_is_shown_only_where_it_cannot_be_text(cell, shown):
    if shown is None:
        assert label(cell) is None
        return
    with pytest.raises(ValueError, match="neither yes nor no") as error:
        label(cell)
    assert str(error.value) == f"holds {shown}, which is neither yes nor no"


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.one_of(st.text(), st.floats(), st.integers(), st.decimals(allow_nan=False), st.dates(), st.lists(st.text()), st.binary()))
def test_any_cell_is_a_label_or_is_refused_without_its_words(cell):
    for read_cell in (label, answer, probability):
        try:
            said = read_cell(cell)
        except ValueError as error:
            words = cell if isinstance(cell, str) else ""
            assert not any(c.isalpha() for c in words) or len(words) == 1 or f"'{words.strip()}'" not in str(error)
        else:
            assert said is None or said in (True, False) or (read_cell is not label and 0 <= said <= 1)


@pytest.mark.parametrize(
    ("cell", "said"),
    [("0.25", 0.25), ("0,25", 0.25), ("۰٫۲۵", 0.25), ("1e-3", 0.001), (1, 1.0), (f"0.{'3' * 40}", 1 / 3)],
)
def test_a_number_from_0_to_1_is_a_probability(cell, said):
    assert probability(cell) == answer(cell) == said


@pytest.mark.parametrize("cell", ["yes", True, "1.01", -0.1, "87%", "half"])
def test_what_is_no_probability(cell):
    with pytest.raises(ValueError, match="no probability from 0 to 1"):
        probability(cell)


# --- every format --------------------------------------------------------------------------------------------------

ROWS = [
    ["id", "text", "patient", "reference", "pain", "fever"],
    ["1", CALL, "p1", "It still burns", True, False],
    ["2", "Patient: all is well", "p1", None, False, None],
    ["3", CALL + " دوباره", None, None, None, True],
]
EXAMPLES = (
    Example("1", CALL, {"fever": False, "pain": True}, "p1", "It still burns"),
    Example("2", "Patient: all is well", {"pain": False}, "p1"),
    Example("3", CALL + " دوباره", {"fever": True}),
)


@pytest.mark.parametrize("name", ["calls.csv", "calls.tsv", "calls.xlsx", "calls.parquet", "calls.jsonl", "nested.jsonl"])
def test_the_same_set_comes_out_of_every_format(table, name):
    content = ROWS
    if name == "calls.tsv":
        content = "".join("\t".join("" if cell is None else str(cell) for cell in row) + "\n" for row in ROWS)
    elif name == "calls.jsonl":
        content = "".join(json.dumps(dict(zip(ROWS[0], row, strict=True))) + "\n" for row in ROWS[1:])
    elif name == "nested.jsonl":
        rows = [dict(zip(ROWS[0], row, strict=True)) for row in ROWS[1:]]
        content = "".join(json.dumps({**row, "labels": {f: row.pop(f) for f in ("pain", "fever")}}) + "\n" for row in rows)
    path = table(content, name)
    assert read(path) == LabelledSet(name, hash_file(path), ("fever", "pain"), EXAMPLES)


def test_the_encoding_is_the_one_that_is_named(tmp_path):
    path = tmp_path / "calls.csv"
    path.write_bytes("شناسه,متن,درد,تب\n1,بیمار: پهلویم درد دارد,بله,خیر\n".encode("utf-16"))
    assert labels_of(path, encoding="UTF-16") == [{"fever": False, "pain": True}]
    with pytest.raises(InputError) as error:
        read(path)
    assert error.value.hint == "Read it with: --encoding utf-16"
    with pytest.raises(UsageError):
        read(path, encoding="latin")


def test_sheets_about_something_else_are_left_out_and_told(tmp_path):
    book = openpyxl.Workbook()
    for row in ROWS:
        book.active.append(row)
    more, legend = book.create_sheet("more"), book.create_sheet("legend")
    more.append(["id", "text", "pain"])
    more.append(["4", "it hurts", "2"])
    more.append(["1", "it hurts", "1"])
    legend.append(["word", "meaning"])
    legend.append(["pain", "any pain"])
    book.save(tmp_path / "calls.xlsx")
    told = []
    assert refused(tmp_path / "calls.xlsx", told=told.append) == [
        "row more!2: column 'pain' holds '2', which is neither yes nor no",
        "row more!3: its id is that of row 2",
    ]
    assert "calls.xlsx: sheet 'legend' has no column 'text' and is left out." in told


# --- which column is what ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "gastrointestinal_issues", "Gastrointestinal issue", "GASTROINTESTINAL ISSUES", "gastrointestinal-issue", "GastrointestinalIssues",
        "مشکل گوارشی", "مشکل‌گوارشی", "مشكل_گوارشي", " digestive problem ", "مشکل گوارش",
    ],
)  # fmt: skip
def test_a_field_is_recognised_by_its_id_and_its_labels_in_both_languages(table, name):
    path = table([["id", "text", name], ["1", CALL, "بله"]])
    assert labels_of(path) == [{"gastrointestinal_issues": True}]


@pytest.mark.parametrize("label_of", [lambda f: f.id, lambda f: f.label["en"], lambda f: f.label["fa"], lambda f: f.label["en"].upper()])
def test_all_fields_of_the_task_are_recognised(table, label_of):
    answers = [index % 3 == 0 for index in range(len(FIELDS))]
    path = table([["id", "text", *map(label_of, TASK.fields)], ["1", CALL, *answers]])
    assert labels_of(path) == [dict(zip(FIELDS, answers, strict=True))]


@pytest.mark.parametrize("group", ["patient", "Patient ID", "group", "شماره پرونده", "بیمار", "كد بيمار", "MRN"])
@pytest.mark.parametrize("reference", ["reference", "Translation", "english", "ترجمه", "ترجمهٔ مرجع"])
def test_groups_and_references_are_recognised(table, group, reference):
    path = table([["شناسه", "متن تماس", group, reference, "تب"], ["1", CALL, 12.0, "It still burns", "1"]])
    assert read(path).examples == (Example("1", CALL, {"fever": True}, "12.0", "It still burns"),)


def test_the_text_is_guessed_among_the_columns_that_are_nothing_else(table):
    rows = [["id", "en", "what was said", "remarks of the nurse", "pain"], ["1", "It still burns and burns, more and more", CALL, "", "1"]]
    (example,) = read(table(rows)).examples
    assert (example.text, example.reference) == (CALL, "It still burns and burns, more and more")


def test_a_field_may_be_called_as_other_columns_usually_are(table):
    task = replace(TASK, fields=(replace(TASK.fields[0], id="group"), replace(TASK.fields[1], id="note")), profiles={})
    path = table([["id", "note", "group", "what was said"], ["1", "no", "yes", CALL + " و نمی‌خوابم"]])
    assert read_labelled(path, task).examples == (Example("1", CALL + " و نمی‌خوابم", {"group": True, "note": False}),)


def test_columns_that_are_asked_for_win(table):
    rows = [["id", "name", "text", "words", "pain", "hurts", "group", "ward", "english", "en"], list("abcdefghij")]
    rows[1][3:6] = ["a call of words", "0", "yes"]
    asked = Asked(id="name", text="words", group="ward", reference="en", fields={"pain": "hurts"})
    assert read(table(rows), asked).examples == (Example("b", "a call of words", {"pain": True}, "h", "j"),)


def test_what_is_read_as_what_is_told_in_a_few_lines(table):
    long = "the patient said that it hurts all over again"
    header = ["ID", "text", "patient", "درد", "fever", "Seizure", "age", long]
    rows = [header, ["1", CALL, "p", "1", "", "", "70", ""], ["2", CALL, "", "0", "1", "", "", ""]]
    told = []
    read(table(rows), told=told.append)
    assert told == [
        "calls.csv: id <- 'ID'; text <- 'text'; group <- 'patient'.",
        "calls.csv: seizures <- 'Seizure'; pain <- 'درد'; columns of that name hold fever.",
        f"calls.csv: no column for {', '.join(f for f in FIELDS if f not in ('pain', 'fever', 'seizures'))}.",
        "calls.csv: columns that are not read: 'age', 1 whose names could be texts.",
        "calls.csv: documents: 2; labels: 3; empty, not scored: 1; groups: 1; documents without one: 1.",
        "calls.csv: fields that nobody has labelled, left out: seizures.",
    ]


def test_without_a_column_of_ids_rows_are_called_by_their_numbers(table):
    told = []
    found = read(table([["text", "pain"], [CALL, "1"], [CALL, "0"]]), told=told.append)
    assert [example.id for example in found.examples] == ["2", "3"]
    assert told[0] == "calls.csv: id <- the number of the row; text <- 'text'."


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(id="nothing", fields={"pain": "none", "fever": "fever"}), "no column 'nothing' (--id-column), 'none' (--column pain)"),
        (Asked(fields={"pian": "pain"}), "no field 'pian'"),
        (Asked(fields={"pain": "pain", "fever": "pain"}), "asked for twice (--column pain, --column fever)"),
        (Asked(id="text", text="text"), "asked for twice"),
        (Asked(text="text", file="id"), "exclude each other"),
    ],
)
def test_what_is_asked_for_and_cannot_be_is_wrong_usage(table, asked, said):
    with pytest.raises(UsageError) as error:
        read(table([["id", "text", "pain", "fever"], ["1", CALL, "1", "0"]]), asked)
    assert said in str(error.value) and error.value.hint


# --- a file for each row -------------------------------------------------------------------------------------------


def test_texts_may_stand_in_files_of_any_kind(table, tmp_path):
    from docx import Document

    (tmp_path / "calls").mkdir()
    (tmp_path / "calls" / "1.txt").write_text(CALL, encoding="utf-8")
    document = Document()
    document.add_paragraph("Patient: it burns")
    document.save(tmp_path / "calls" / "2.docx")
    path = table([["file", "pain"], ["calls/1.txt", "1"], ["calls/2.docx", "0"]])
    found = read(path)
    assert [(e.id, e.text.strip(), e.labels) for e in found.examples] == [
        ("calls/1.txt", CALL, {"pain": True}),
        ("calls/2.docx", "Patient: it burns", {"pain": False}),
    ]
    elsewhere = table([["document_name", "pain"], ["1.txt", "1"]], "other.csv")
    assert read(elsewhere, Asked(file="document_name"), files_folder=tmp_path / "calls").examples[0].text == CALL


def test_files_that_are_no_documents_are_all_named(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("it hurts"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)))
    (tmp_path / "rows.csv").write_text("id,text\n1,it hurts\n")
    names = ["absent.txt", "folder", "empty.txt", "binary.txt", "rows.csv", "", "-", "absent.docx"]
    (tmp_path / "set.csv").write_text("id,file,pain\n" + "".join(f"{n},{name},1\n" for n, name in enumerate(names)))
    problems = refused(Path("set.csv"))
    said = ["no file", "a folder, not one", "is empty", "binary", "a table, not one", "names no file", "no file", "no file"]
    for row, (problem, part) in enumerate(zip(problems, said, strict=True), 2):
        assert problem.startswith(f"row {row}: ") and part in problem


# --- everything that is wrong, at once -----------------------------------------------------------------------------


def test_all_problems_are_said_at_once_with_their_rows(table):
    content = (
        "id,text,patient,reference,pain,fever\n"
        f"1,{CALL},p,,1,0\n"
        f"1,{CALL},p,12,maybe,2\n"
        ",,,,0,0\n"
        "4,it hurts\n"
        f"5,nan,{'p' * 300},,1,0\n"
        f"6,{CALL},,,hurts,Zamanzadeh\n"
        f"1,{CALL},,,,\n"
    )
    assert refused(table(content)) == [
        "row 3: its id is that of row 2",
        "row 3: column 'fever' holds '2', which is neither yes nor no",
        "row 3: column 'pain' holds a text of 5 characters, which is neither yes nor no",
        "row 3: column 'reference' holds no words",
        "row 4: column 'id' holds no id",
        "row 4: column 'text' is empty",
        "row 5 has another number of cells than the header (2, not 6), so its text may be cut",
        "row 6: column 'text' holds no words",
        "row 6: column 'patient' holds no name of a group",
        "row 7: column 'fever' holds a text of 10 characters, which is neither yes nor no",
        "row 7: column 'pain' holds a text of 5 characters, which is neither yes nor no",
        "row 8: its id is that of row 2",
    ]


def test_twenty_problems_are_shown_and_the_rest_is_counted(table):
    path = table([["id", "text", "pain"], *([str(n), CALL, "x"] for n in range(1_042))])
    with pytest.raises(InputError, match=r"calls.csv has 1,042 problems:") as error:
        read(path)
    lines = lines_of(error.value)
    assert len(lines) == 21 and lines[19].startswith("row 21: ") and lines[20] == "and 1,022 more"
    assert error.value.hint == "Correct them, then run the same command again."


@pytest.mark.parametrize(
    ("rows", "problems"),
    [
        ([["id", "text"], ["1", CALL]], ["no column is named like a field of palliative-call (name one with --column FIELD=COLUMN)"]),
        ([["id", "pain"], ["1", "1"]], ["{path} has no column with texts of several words"]),
        ([["id", "text", "pain"], ["1", CALL, ""]], ["no row has a label"]),
        (
            [["id", "text", "pain", "درد", "fever"], ["1", CALL, "1", "0", "0"]],
            ["columns 'pain' and 'درد' could all be pain (choose with --column pain=COLUMN)"],
        ),
        (
            [["id", "text", "pain", "pain"], ["1", CALL, "1", "1"]],
            ["row 2: column 'pain' holds two values, which is neither yes nor no"],
        ),
    ],
)
def test_missing_and_doubtful_columns_are_problems(table, rows, problems):
    path = table(rows)
    assert refused(path) == [problem.format(path=path) for problem in problems]


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        ("id,text,pain\n", "calls.csv", "has no rows"),
        ("", "calls.csv", "has no rows"),
        ("", "calls.jsonl", "has no rows"),
        ("[]", "calls.json", "no table that can be read"),
        ("id,text,pain\n", "calls.txt", "no table that can be read"),
        ("id,text,pain\n", "calls.xlsx", "damaged"),
        ("id,text,pain\n", "calls.parquet", "damaged"),
        ("not json\n", "calls.jsonl", "no JSON object"),
    ],
)
def test_a_file_without_rows_is_refused(table, content, name, said):
    with pytest.raises(InputError, match=said) as error:
        read(table(content, name))
    assert error.value.hint


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no file"):
        read(tmp_path / "calls.csv")


def test_one_row_and_one_class_are_a_set(table):
    found = read(table([["id", "text", "pain"], ["1", CALL, "yes"]]))
    assert (found.fields, len(found.examples)) == (("pain",), 1)


def test_twenty_thousand_rows(table):
    rows = [[str(n), f"{CALL} {n}", n // 3, *(n % (3 + i) == 0 for i in range(len(FIELDS)))] for n in range(20_000)]
    found = read(table([["id", "text", "patient", *FIELDS], *rows]))
    assert len(found.examples) == 20_000 and found.fields == tuple(FIELDS)
    assert found.examples[-1].labels == {field: 19_999 % (3 + i) == 0 for i, field in enumerate(FIELDS)}


LABELS = {True: ["yes", "بله", "1", "TRUE"], False: ["no", "نه", "0.0", "False"], None: ["", "NaN", " "]}


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_any_labels_in_any_spelling_and_order_of_columns_are_read_exactly(tmp_path_factory, data):
    answers = st.sampled_from([True, False, None])
    gold = data.draw(st.lists(st.fixed_dictionaries({f: answers for f in FIELDS}), min_size=1, max_size=6))
    labels = [{f: said for f, said in row.items() if said is not None} for row in gold]
    columns = data.draw(st.permutations(["id", "text", *FIELDS]))
    rows = []
    for number, row in enumerate(gold):
        cells = {f: data.draw(st.sampled_from(LABELS[said])) for f, said in row.items()}
        rows.append({"id": f"c{number}", "text": CALL, **cells})
    path = tmp_path_factory.mktemp("any") / "calls.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    if not any(labels):
        assert refused(path) == ["no row has a label"]
        return
    found = read(path)
    assert [example.labels for example in found.examples] == labels
    assert found.fields == tuple(f for f in FIELDS if any(f in row for row in labels))


# --- kept in a benchmark's folder ----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    st.builds(
        LabelledSet, st.text(), st.text(), st.lists(st.text()).map(tuple),
        st.lists(
            st.builds(
                Example, st.text(), st.text(), st.dictionaries(st.text(), st.booleans()), st.none() | st.text(), st.none() | st.text()
            )
        ).map(tuple),
    )
)  # fmt: skip
def test_what_is_written_is_read_back(tmp_path_factory, labelled):
    path = tmp_path_factory.mktemp("bench") / "data.jsonl"
    write_data(labelled, path)
    assert read_data(path) == labelled


def test_half_a_character_is_kept(tmp_path):
    labelled = LabelledSet("calls.csv", "0" * 64, (), (Example("\ud800", "\udfff x", {}),))
    write_data(labelled, tmp_path / "data.jsonl")
    assert read_data(tmp_path / "data.jsonl") == labelled


def test_the_data_are_private_json_lines_that_can_be_read_as_a_labelled_set_again(table, tmp_path):
    labelled = read(table(ROWS))
    path = tmp_path / "bench" / "data.jsonl"
    write_data(labelled, path)
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in (path, path.with_suffix(".json")))
    first, second, _ = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert first == {
        "id": "1", "text": CALL, "labels": {"fever": False, "pain": True}, "group": "p1", "reference": "It still burns",
    }  # fmt: skip
    assert second.keys() == {"id", "text", "labels", "group"}
    assert read(path).examples == labelled.examples


def test_data_that_are_absent_or_changed_are_refused(tmp_path):
    path = tmp_path / "data.jsonl"
    with pytest.raises(InputError, match="no labelled set"):
        read_data(path)
    labelled = LabelledSet("calls.csv", "0" * 64, ("pain",), EXAMPLES)
    write_data(labelled, path)
    path.write_text(path.read_text(encoding="utf-8").replace('"pain": true', '"pain": false'), encoding="utf-8")
    with pytest.raises(InputError, match="was changed"):
        read_data(path)
    write_data(labelled, path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="was changed"):
        read_data(path)
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(InputError, match="damaged"):
        read_data(path)


# --- predictions from records --------------------------------------------------------------------------------------

SET = LabelledSet(
    "calls.csv", "0" * 64, ("pain", "fever"),
    (
        Example("a", CALL, {"pain": True, "fever": False}, "p1"), Example("b", CALL, {"pain": False}),
        Example("c", CALL, {"fever": True}, "p1"), Example("d", CALL, {"pain": True}, "b"),
    ),
)  # fmt: skip


def same(array, rows):
    np.testing.assert_array_equal(array, np.array(rows, float))


def test_records_are_joined_by_id_and_what_is_missing_stays_missing():
    records = [
        record("c", pain=("no", 0.2), fever=("yes", 0.75)),
        record("a", pain=("yes", 0.9), fever="the document does not fit the context"),
        failed("unreadable", id="b"),
        record("stranger"),
        record("another"),
    ]
    told = []
    found = Predictions.of("demo", SET, iter(records), told.append)
    assert (found.name, found.ids, found.fields) == ("demo", ("a", "b", "c", "d"), ("pain", "fever"))
    same(found.gold, [[1, 0], [0, NAN], [NAN, 1], [1, NAN]])
    same(found.said, [[1, NAN], [NAN, NAN], [0, 1], [NAN, NAN]])
    same(found.p_yes, [[0.9, NAN], [NAN, NAN], [0.2, 0.75], [NAN, NAN]])
    assert found.groups.tolist() == [0, 1, 0, 2]  # a group that is called like a document is not that document
    assert told == [
        "demo: of 4 documents 1 absent, 1 failed; what is missing counts as no.",
        "demo: documents that are not in calls.csv, left out: 2.",
    ]


def test_an_answer_may_have_no_probability_and_a_record_no_such_field():
    row = record("a", pain=("yes", None))
    del row["features"]["fever"]
    found = Predictions.of("demo", SET, [row])
    same(found.said[0], [1, NAN])
    same(found.p_yes[0], [NAN, NAN])


def test_a_system_that_answered_everything_is_told_nothing_about():
    told = []
    Predictions.of("demo", SET, map(record, "abcd"), told.append)
    assert told == []


def test_a_document_cannot_have_two_records():
    with pytest.raises(InputError, match="demo: record 3 has the id of record 1, and 1 others"):
        Predictions.of("demo", SET, [record("a"), record("b"), record("a"), record("a")])


def test_records_of_other_documents_only_are_refused():
    with pytest.raises(InputError, match="none of its 2 ids is one of"):
        Predictions.of("demo", SET, [record("x"), record("y")])


def test_no_records_and_no_documents_give_arrays_all_the_same():
    assert np.isnan(Predictions.of("demo", SET, []).said).all()
    empty = Predictions.of("demo", replace(SET, examples=()), [])
    assert empty.gold.shape == empty.said.shape == empty.p_yes.shape == (0, 2) and empty.groups.shape == (0,)


# --- predictions from files ----------------------------------------------------------------------------------------


def predicted(path, labelled=SET, asked=None, **options):
    return read_predictions(path, labelled, TASK, asked or Asked(), **options)


@pytest.mark.parametrize("format", FORMATS)
def test_our_records_are_read_in_every_format(tmp_path, format):
    rows = [record("c"), record("a", pain=("yes", 0.3), fever="cut off"), failed("unreadable", id="b")]
    path = tmp_path / f"demo.{format}"
    write_records(path, format, rows, ["pain", "fever", "sleep_disorders"])
    found, expected = predicted(path), Predictions.of("demo", SET, rows)
    assert found.name == "demo"
    same(found.said, expected.said)
    same(found.p_yes, expected.p_yes)


def test_a_run_is_read(tmp_path):
    from clinex_edge.runs.run import Run

    with Run(tmp_path / "weekend", {"task": "palliative-call"}, {}, 2) as run:
        run.keep(record("a"))
        run.keep(failed("unreadable", id="b"))
    found = predicted(tmp_path / "weekend")
    assert found.name == "weekend"
    same(found.said, [[1, 0], [NAN, NAN], [NAN, NAN], [NAN, NAN]])
    (tmp_path / "other").mkdir()
    with pytest.raises(RunError):
        predicted(tmp_path / "other")


@pytest.mark.parametrize("name", ["study.csv", "study.xlsx", "study.parquet"])
def test_a_table_with_columns_called_by_labels_and_true_and_false(table, name):
    told = []
    path = table(
        [["call_id", "Pain", "Fever", "Seizure"], ["b", True, None, True], ["a", False, True, True], ["z", True, True, True]], name
    )
    found = predicted(path, told=told.append)
    assert found.name == "study"
    same(found.said, [[0, 1], [1, NAN], [NAN, NAN], [NAN, NAN]])
    assert np.isnan(found.p_yes).all()
    assert told[-2:] == [
        f"{name}: of 4 documents 2 absent, 0 failed; what is missing counts as no.",
        f"{name}: documents that are not in calls.csv, left out: 1.",
    ]


def test_a_column_with_a_number_between_0_and_1_holds_probabilities(table):
    told = []
    path = table([["id", "pain", "fever"], ["a", "1", "1"], ["b", "0.5", "0"], ["c", "0,49", "بله"], ["d", "", "no"]])
    found = predicted(path, told=told.append)
    same(found.said, [[1, 1], [1, 0], [0, 1], [NAN, 0]])
    same(found.p_yes, [[1, NAN], [0.5, NAN], [0.49, NAN], [NAN, NAN]])
    assert told[-1] == "calls.csv: read as probabilities, yes from 0.5 on: pain."


def test_probabilities_may_have_columns_of_their_own(table):
    rows = [["id", "pain", "p_pain", "P_Fever"], ["a", "no", "0.6", "0.6"], ["b", "", "0.7", "0"], ["c", "yes", "", ""]]
    found = predicted(table([*rows, ["d", "0.8", "0.7", ""]]))
    same(found.said, [[0, 1], [NAN, 0], [1, NAN], [1, NAN]])
    same(found.p_yes, [[0.6, 0.6], [NAN, 0], [NAN, NAN], [0.7, NAN]])


def test_columns_of_predictions_that_are_asked_for_win(table):
    path = table([["number", "hurts", "pain"], ["a", "1", "0"]])
    found = predicted(path, asked=Asked(id="number", fields={"pain": "hurts"}))
    same(found.said[0], [1, NAN])


def test_all_problems_of_predictions_are_said_at_once(table):
    content = "id,pain,p_fever\na,2,0.5\na,yes,yes\n,no,0.1\nb,no\nz,hurts,1.5\n"
    with pytest.raises(InputError, match="has 7 problems") as error:
        predicted(table(content))
    assert sorted(lines_of(error.value)) == [
        "row 2: column 'pain' holds '2', which is neither yes nor no",
        "row 3 has the id of row 2",
        "row 3: column 'p_fever' holds a text of 3 characters, which is no probability from 0 to 1",
        "row 4: column 'id' holds no id",
        "row 5 has another number of cells than the header (2, not 3), so its text may be cut",
        "row 6: column 'p_fever' holds '1.5', which is no probability from 0 to 1",
        "row 6: column 'pain' holds a text of 5 characters, which is neither yes nor no",
    ]


@pytest.mark.parametrize(
    ("rows", "problems"),
    [
        ([["pain"], ["1"]], ["no column holds ids (name one with --id-column)"]),
        ([["id", "seizures"], ["a", "1"]], ["no column is named like a field that calls.csv labels (name one with --column FIELD=COLUMN)"]),
    ],
)
def test_predictions_need_ids_and_a_field(table, rows, problems):
    with pytest.raises(InputError) as error:
        predicted(table(rows))
    assert lines_of(error.value) == problems


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        ("id,pain\nx,1\n", "calls.csv", "none of its 1 ids"),
        ("id,pain\n", "calls.csv", "no rows"),
        ('[{"id": "a", "pain": 1}]', "calls.json", "no record"),
        ("a yes", "calls.txt", "no table"),
    ],
)
def test_files_that_are_no_predictions(table, content, name, said):
    with pytest.raises(InputError, match=said):
        predicted(table(content, name))
