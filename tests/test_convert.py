"""clinex-edge convert: what it makes of records, what it refuses, and that it never shows a word of them."""

import csv
import io
import json
import os
import sys
import zipfile

import openpyxl
import pytest
from cli_runner import run
from test_write import FIELDS, TABLES, failed, held_by_tables, record

from clinex_edge.errors import InputError
from clinex_edge.files.records import read_records
from clinex_edge.files.write import FORMATS, write_records
from clinex_edge.runs.history import RECORDS
from clinex_edge.runs.history import read_records as read_run

ROWS = [
    record(),
    record("call-02", fever="the document does not fit the context"),
    failed("=secret\n Zamanzadeh", id="call-03"),
    record("۰۰۷ Zamanzadeh"),
]


def json_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def records(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text(json_lines(ROWS))
    return path


def says(done, status, *parts):
    """The command ended with `status`, said all `parts` on stderr, printed nothing and showed no word of the records."""
    assert (done.status, done.stdout) == (status, ""), done.stderr
    for part in parts:
        assert str(part) in done.stderr, done.stderr
    for word in ("Traceback", "Internal error", "Zamanzadeh", "secret", "Good day"):
        assert word not in done.stderr, done.stderr


# --- conversion ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_records_go_into_every_format_and_back(capsys, records, tmp_path, format):
    there, back = tmp_path / f"there.{format}", tmp_path / "back.jsonl"
    assert run(capsys, "convert", records, "--to", there) == (0, "", "")
    done = run(capsys, "convert", there, "--to", back)
    assert (done.status, done.stdout) == (0, "")
    assert ("holds no translations, windows, provenance, timings" in done.stderr) == (format in TABLES)
    assert list(read_records(back)) == ([held_by_tables(row) for row in ROWS] if format in TABLES else ROWS)


def test_a_format_without_a_name_goes_to_stdout(capsys, records):
    assert run(capsys, "convert", records, "--to", "jsonl").records == ROWS
    assert json.loads(run(capsys, "convert", records, "--to", "json").stdout) == ROWS
    head, *rows = csv.reader(io.StringIO(run(capsys, "convert", records, "--to", "csv").stdout, newline=""))
    assert head[:2] == ["id", "source"] and [row[0] for row in rows] == [row["id"] for row in ROWS]


def test_a_file_may_have_the_name_of_a_format(capsys, records, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "convert", records, "--to", "./csv.csv") == (0, "", "")
    assert sorted(os.listdir(tmp_path)) == ["csv.csv", "records.jsonl"]


def test_a_run_is_converted(capsys, tmp_path):
    folder = tmp_path / "calls"
    (folder).mkdir()
    (folder / "call-01.txt").write_text("Nurse: How is the pain?\nPatient: It still burns.\n")
    (folder / "call-02.txt").write_bytes(b"\0")
    run(capsys, "extract", folder, "--run", tmp_path / "run")
    expected = list(read_run(tmp_path / "run"))
    assert len(expected) == 2
    assert run(capsys, "convert", tmp_path / "run", "--to", "jsonl").records == expected
    assert run(capsys, "convert", tmp_path / "run", "--to", tmp_path / "run" / "answers.xlsx").status == 0
    assert list(read_records(tmp_path / "run" / "answers.xlsx")) == list(map(held_by_tables, expected))


def test_fields_of_all_tasks_have_columns_in_the_order_in_which_they_occur(capsys, tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text(json_lines([failed("unreadable"), record(), record(thirst=("yes", 0.9))]))
    head, *rows = csv.reader(io.StringIO(run(capsys, "convert", path, "--to", "csv").stdout, newline=""))
    assert [name for name in head if f"p_{name}" in head] == [*FIELDS, "thirst"]
    assert [row[head.index("unanswered")] for row in rows] == ["", "thirst: not asked", ""]


def test_the_workbook_explains_fields_by_the_labels_of_the_task(capsys, records, tmp_path):
    run(capsys, "convert", records, "--to", tmp_path / "answers.xlsx")
    explained = dict(openpyxl.load_workbook(tmp_path / "answers.xlsx")["columns"].iter_rows(values_only=True))
    assert explained["pain"].startswith("Pain · ")


@pytest.mark.parametrize("task", ["unknown", "", "\0", "../palliative-call"])
def test_a_task_that_is_not_installed_does_not_matter(capsys, tmp_path, task):
    path = tmp_path / "records.jsonl"
    path.write_text(json_lines([{**record(), "task": task}]))
    assert run(capsys, "convert", path, "--to", tmp_path / "answers.xlsx") == (0, "", "")


def test_json_that_others_have_set_out_differently_is_read(capsys, tmp_path):
    path = tmp_path / "records.json"
    for text in (json.dumps(ROWS), "\ufeff \n" + json.dumps(ROWS, indent="\t").replace("\n", " \r\n") + " \n"):
        path.write_bytes(text.encode())
        assert list(read_records(path)) == ROWS


def test_json_lines_with_blank_lines_and_without_a_last_line_end_are_read(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json_lines(ROWS).replace("\n", "\r\n\r\n").strip().encode())
    assert list(read_records(path)) == ROWS


def test_a_workbook_that_was_saved_by_another_program_is_read(tmp_path):
    path = tmp_path / "records.xlsx"
    write_records(path, "xlsx", ROWS, FIELDS)
    book = openpyxl.load_workbook(path)
    book.move_sheet("columns", -1)
    book.save(path)
    assert list(read_records(path)) == list(map(held_by_tables, ROWS))


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["xlsx", "parquet"])
def test_a_workbook_does_not_go_to_stdout(capsys, records, to):
    says(run(capsys, "convert", records, "--to", to), 2, f"--to answers.{to}")


@pytest.mark.parametrize("to", ["answers.txt", "answers", "tables.xls", ""])
def test_a_name_of_no_format_is_refused(capsys, records, to):
    says(run(capsys, "convert", records, "--to", to), 2, ".xlsx")


def test_the_records_are_not_replaced(capsys, records, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.csv").symlink_to(records)
    before = records.read_bytes()
    for to in (records, "records.jsonl", "./x/../records.jsonl", "link.csv"):
        (tmp_path / "x").mkdir(exist_ok=True)
        says(run(capsys, "convert", records, "--to", to), 1, "would replace the records themselves", "nothing was changed")
        assert records.read_bytes() == before


def test_the_records_of_a_run_are_not_replaced(capsys, tmp_path):
    folder = tmp_path / "calls"
    folder.mkdir()
    (folder / "call-01.txt").write_text("Nurse: How is the pain?\n")
    run(capsys, "extract", folder, "--run", tmp_path / "run")
    before = (tmp_path / "run" / RECORDS).read_bytes()
    says(run(capsys, "convert", tmp_path / "run", "--to", tmp_path / "run" / RECORDS), 1, "would replace the records themselves")
    assert (tmp_path / "run" / RECORDS).read_bytes() == before


def test_no_records_at_all_are_no_table(capsys, tmp_path):
    for name, text in {"a.jsonl": "", "b.json": " [ ]\n"}.items():
        (tmp_path / name).write_text(text)
        says(run(capsys, "convert", tmp_path / name, "--to", "csv"), 1, "There are no records")


def test_parquet_without_its_library_names_what_to_install(capsys, tmp_path, monkeypatch):
    write_records(tmp_path / "records.parquet", "parquet", ROWS, FIELDS)
    for module in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, module, None)
    says(run(capsys, "convert", tmp_path / "records.parquet", "--to", "csv"), 1, "pyarrow is not installed", "clinex-edge[files]")


def test_what_is_not_there_is_named(capsys, tmp_path):
    says(run(capsys, "convert", tmp_path / "none.csv", "--to", "csv"), 1, "There is no file", "none.csv")
    (tmp_path / "folder").mkdir()
    says(run(capsys, "convert", tmp_path / "folder", "--to", "csv"), 1, "holds no run")
    (tmp_path / "notes.txt").write_text("Zamanzadeh")
    says(run(capsys, "convert", tmp_path / "notes.txt", "--to", "csv"), 1, "notes.txt", ".jsonl, .json")


# --- damaged records: (what is changed of the second row, what is said) --------------------------------------------

DAMAGED = {
    "no object": (["Zamanzadeh"], "it is no record"),
    "no schema": ({"schema": None}, "it is no record"),
    "newer": ({"schema": 2}, "schema 2; this version knows 1"),
    "no id": ({"id": 7}, "its id is no text"),
    "no task": ({"task": None}, "its task is no text"),
    "language": ({"language": 1}, "its language"),
    "digest": ({"document_sha256": "Zamanzadeh"}, "its document_sha256"),
    "failed and answered": ({"status": "failed", "error": "x"}, "failed record"),
    "status": ({"status": "complete"}, "its status"),
    "status of no kind": ({"status": "Zamanzadeh"}, "its status"),
    "answers": ({"features": ["Zamanzadeh"]}, "an answer"),
    "maybe": ({"features": {"pain": {"value": "Zamanzadeh", "p_yes": 0.5, "status": "answered"}}}, "an answer"),
    "field": ({"features": {"=Zamanzadeh": {"value": "no", "p_yes": 0.1, "status": "answered"}}}, "an answer"),
    "no probability": ({"features": {"pain": {"value": "no", "p_yes": None, "status": "answered"}}}, "an answer"),
    "probability": ({"features": {"pain": {"value": "no", "p_yes": float("nan"), "status": "answered"}}}, "an answer"),
    "no reason": ({"features": {"pain": {"value": None, "p_yes": None, "status": "unanswered"}}}, "an answer"),
    "turns": ({"translation": [{"turn": "Zamanzadeh"}]}, "a turn"),
    "many turns": ({"doubtful_turns": [2**40]}, "a turn"),
    "turn": ({"translation": "Zamanzadeh"}, "a turn"),
}


@pytest.mark.parametrize("format", ["jsonl", "json"])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_row_that_is_no_record_is_named_and_nothing_is_written(capsys, tmp_path, name, format):
    change, wrong = DAMAGED[name]
    rows = [ROWS[0], {**ROWS[1], **change} if isinstance(change, dict) else change, ROWS[2]]
    path = tmp_path / f"records.{format}"
    path.write_text(json_lines(rows) if format == "jsonl" else json.dumps(rows))
    for to in ("csv", tmp_path / "answers.csv"):
        says(run(capsys, "convert", path, "--to", to), 1, path, "row 2: ", wrong)
    assert os.listdir(tmp_path) == [path.name]


def test_a_newer_record_asks_for_an_update(capsys, tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text(json_lines([{"schema": 2, "text": "Zamanzadeh"}]))
    says(run(capsys, "convert", path, "--to", "csv"), 1, "row 1: it is a record of schema 2", "Update clinex-edge.")


CELLS = {  # what a cell of the second record becomes, and what is said
    "status": ("finished", "its status"),
    "document_sha256": ("", "its document_sha256"),
    "pain": ("perhaps", "an answer"),
    "p_pain": ("2", "an answer"),
    "fever": ("no", "an answer"),  # without a probability
    "sleep_disorders": ("", "an answer"),  # without a reason
    "unanswered": ("", "an answer"),
    "doubtful_turns": ("2 Zamanzadeh", "a turn"),
    "task": ("", "its task"),
}


@pytest.mark.parametrize("column", CELLS)
def test_a_cell_that_was_changed_is_noticed(capsys, tmp_path, column):
    path, (value, wrong) = tmp_path / "records.csv", CELLS[column]
    write_records(path, "csv", ROWS, FIELDS)
    head, *rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
    rows[1][head.index(column)] = value
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    says(run(capsys, "convert", path, "--to", "jsonl"), 1, path, "row 3: ", wrong)


COLUMNS = {  # from a header, what it becomes, and what is said
    "one is missing": (lambda head: head[1:], "no column 'id'"),
    "one is strange": (lambda head: [*head, "Zamanzadeh"], "column 16 is neither a field nor a probability"),
    "a probability is missing": (lambda head: [name for name in head if name != "p_fever"], "column 10 is neither"),
    "one is there twice": (lambda head: [*head, "id"], "a column twice"),
    "other data": (lambda head: ["Zamanzadeh", "secret"], "no column 'id'"),
    "nothing": (lambda head: [], "no column 'id'"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_that_are_not_those_of_records_are_refused(capsys, tmp_path, name):
    path, (change, wrong) = tmp_path / "records.csv", COLUMNS[name]
    write_records(path, "csv", ROWS, FIELDS)
    head, *rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([change(head), *rows])
    says(run(capsys, "convert", path, "--to", "jsonl"), 1, path, "row 1: ", wrong)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_was_cut_off_anywhere_is_refused_or_lacks_whole_records(tmp_path, format):
    whole = tmp_path / f"whole.{format}"
    write_records(whole, format, ROWS, FIELDS)
    expected, data = list(read_records(whole)), whole.read_bytes()
    path, refused = tmp_path / f"cut.{format}", 0
    for size in range(0, len(data) - 2, max(1, len(data) // 300)):  # the last two bytes are a line end
        path.write_bytes(data[:size])
        found = []
        try:
            for row in read_records(path):
                found.append(row)
        except InputError as error:
            refused += 1
            assert not [word for word in ("Zamanzadeh", "secret", "Good day") if word in f"{error}{error.hint}"]
        assert found == expected[: len(found)]
    assert refused > (150 if format in ("jsonl", "csv") else 290)


@pytest.mark.parametrize("format", FORMATS)
def test_other_data_under_a_name_of_ours_is_refused(capsys, tmp_path, format):
    path = tmp_path / f"records.{format}"
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr("Zamanzadeh.txt", "secret")
    for data in (
        b"Zamanzadeh secret\n",
        "Zamanzadeh".encode("utf-16"),
        b"\xff\0" * 50,
        b"[" * 100_000,
        (tmp_path / "archive").read_bytes(),
    ):
        path.write_bytes(data)
        says(run(capsys, "convert", path, "--to", "csv"), 1, path)


@pytest.mark.parametrize("format", ["xlsx", "parquet"])
def test_a_byte_that_was_changed_gives_an_error_or_the_same_records(tmp_path, format):
    path = tmp_path / f"records.{format}"
    write_records(path, format, ROWS, FIELDS)
    data, expected, refused = path.read_bytes(), list(map(held_by_tables, ROWS)), 0
    for at in range(0, len(data), len(data) // 150):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        try:
            assert list(read_records(path)) == expected
        except InputError as error:
            refused += 1
            assert "Zamanzadeh" not in f"{error}{error.hint}"
    assert refused > 50
