"""Records in every format: what is written is read back, a spreadsheet runs nothing of it, and a failure leaves no trace."""

import csv
import errno
import gc
import io
import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import tracemalloc
import zipfile
from contextlib import contextmanager

import openpyxl
import pyarrow.parquet
import pytest
from cli_runner import ROOT, environment
from hypothesis import given, settings
from hypothesis import strategies as st

from clinex_edge.errors import InputError, OutputError
from clinex_edge.files import spreadsheet
from clinex_edge.files.records import read_records
from clinex_edge.files.write import FORMATS, format_of, formula_restored, write_records, write_stream

FIELDS = ["pain", "fever", "sleep_disorders"]
TABLES = ("csv", "xlsx", "parquet")
SHA256 = "0123456789abcdef" * 4
HOSTILE = [
    "=1+1", " \t=cmd|' /C calc'!A0", "＝1", "+1", "-1", "@SUM(A1)", "\u200f=1", "\tx", "\rx", "-", "--", "'", "'=1", "''=1", "'-",
    'a,b;c\t"d"', "line\nbreak\r\nand\rmore", "\u200fبیمار\u200e", "می\u200cخوابد", "😀👩‍⚕️", "a\u2028b\x85c", " both ends ", "",
    "007", "12.50", "2024-01-05", "1e5", "TRUE", "nan", "NULL", "_x0041_", "_x005F_", "<r><t>&</t></r", "<f>1</f>", "]]>", "#REF!",
    "https://example.org", "mailto:a@example.org", "{=1}",
]  # fmt: skip
UNFIT = {"\0\x07\x1f": "\ufffd" * 3, "\ud800x": "\ufffdx", "\ufffe\uffff": "\ufffd" * 2}


def record(id="call-01", language="fa", **answers):
    """A record in its JSON form; an answer is (value, probability) or the reason why there is none."""
    features = {}
    for name, answer in {"pain": ("yes", 0.97), "fever": ("no", 0.0726), "sleep_disorders": ("no", 0.0), **answers}.items():
        if isinstance(answer, str):
            features[name] = {"value": None, "p_yes": None, "status": "unanswered", "reason": answer, "evidence": []}
        else:
            features[name] = {"value": answer[0], "p_yes": answer[1], "status": "answered", "evidence": []}
    return {
        "schema": 1, "id": id, "source": "call.txt", "document_sha256": SHA256, "language": language, "task": "palliative-call",
        "status": "complete" if all(f["value"] for f in features.values()) else "partial", "features": features,
        "translation": [{"turn": 1, "text": "Good day \ud800\u2028.", "mean_logprob": -0.1}, {"turn": 2, "text": "", "doubtful": "empty"}],
        "windows": [[1, 2]], "provenance": {"clinex_edge": "0.1.0"}, "timings": {"load_s": 0.1},
    }  # fmt: skip


def failed(error, id="call-02"):
    return {
        "schema": 1, "id": id, "source": "bad.txt", "document_sha256": None, "language": None, "task": "palliative-call",
        "status": "failed", "error": error,
    }  # fmt: skip


def held_by_tables(row):
    """What a table keeps of a record."""
    if row["status"] == "failed":
        return row
    features = {name: {k: v for k, v in f.items() if k != "evidence"} for name, f in row["features"].items()}
    turns = [turn["turn"] for turn in row["translation"] if "doubtful" in turn]
    return {k: v for k, v in row.items() if k not in ("translation", "windows", "provenance", "timings")} | {
        "features": features,
        "doubtful_turns": turns,
    }


def cells_of(path):
    """The cells of the sheet "answers", each row a dict by column."""
    names, *rows = openpyxl.load_workbook(path)["answers"].iter_rows()
    return [dict(zip([cell.value for cell in names], row, strict=True)) for row in rows]


def part(path, name):
    with zipfile.ZipFile(path) as archive:
        return archive.read(name).decode()


# --- what is written is read back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_written_is_read_back(tmp_path, format):
    rows = [
        *(record(text) for text in HOSTILE),
        *(failed(text or "?", id=text) for text in HOSTILE),
        record("partial", language=None, fever="the model's text; has: no answer", sleep_disorders="cut, off"),
        record("none", **dict.fromkeys(FIELDS, "the document does not fit the context")),
        record("sure", pain=("yes", 1.0), fever=("no", 0.0001)),
    ]
    path = tmp_path / f"records.{format}"
    write_records(path, format, iter(rows), FIELDS)
    assert list(read_records(path)) == ([held_by_tables(row) for row in rows] if format in TABLES else rows)


@pytest.mark.parametrize("format", FORMATS)
def test_what_a_table_cannot_hold_is_replaced_where_it_can_be_seen(tmp_path, format):
    path = tmp_path / f"records.{format}"
    write_records(path, format, [failed(text) for text in UNFIT], FIELDS)
    assert [row["error"] for row in read_records(path)] == list(UNFIT.values() if format in TABLES else UNFIT)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(texts=st.lists(st.text(), min_size=1, max_size=20))
def test_any_text_comes_back_from_csv_and_none_is_a_formula(texts):
    out = io.StringIO(newline="")
    write_stream(out, "csv", [failed(text) for text in texts], [])
    cells = [row["error"] for row in csv.DictReader(io.StringIO(out.getvalue(), newline=""))]
    assert not [cell for cell in cells if cell != "-" and re.match(r"\s*[=+@＝＋－＠-]", cell)]
    assert list(map(formula_restored, cells)) == [re.sub("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "\ufffd", text) for text in texts]


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(texts=st.lists(st.text(alphabet=st.sampled_from("\n\r\t _x0D5F<>&r/='\ufffe\x0bی😀")), min_size=1, max_size=20))
def test_any_text_comes_back_from_a_workbook(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("book") / "records.xlsx"
    write_records(path, "xlsx", [failed(text) for text in texts], [])
    found = [row["error"] for row in read_records(path)]
    assert found == [re.sub("[\x0b\ufffe]", "\ufffd", text) for text in texts]


@pytest.mark.parametrize("format", TABLES)
def test_a_field_that_a_document_was_not_asked_is_told_from_one_without_an_answer(tmp_path, format):
    other = record("other", thirst="no answer")
    del other["features"]["pain"]
    path = tmp_path / f"records.{format}"
    write_records(path, format, [record(), other], [*FIELDS, "thirst"])
    assert list(read_records(path)) == [held_by_tables(record()), held_by_tables(other)]


@pytest.mark.parametrize("format", TABLES)
def test_a_table_can_be_written_again_from_a_table(tmp_path, format):
    write_records(tmp_path / "first.csv", "csv", [record(fever="cut"), failed("unreadable")], FIELDS)
    write_records(tmp_path / f"second.{format}", format, read_records(tmp_path / "first.csv"), FIELDS)
    assert list(read_records(tmp_path / f"second.{format}")) == list(read_records(tmp_path / "first.csv"))


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.jsonl", "jsonl"),
        ("a.NDJSON", "jsonl"),
        ("a.b.CSV", "csv"),
        ("a.xlsx", "xlsx"),
        ("a.parquet", "parquet"),
        ("a.xls", None),
        ("a", None),
    ],
)
def test_a_name_asks_for_a_format(tmp_path, name, format):
    assert format_of(tmp_path / name) == format


def test_a_field_with_the_name_of_another_column_is_refused(tmp_path):
    for field in ("status", "task"):
        with pytest.raises(OutputError, match=f"two columns '{field}'"):
            write_records(tmp_path / "records.csv", "csv", [record()], [*FIELDS, field])
    with pytest.raises(OutputError, match="two columns 'p_pain'"):
        write_records(tmp_path / "records.csv", "csv", [record()], [*FIELDS, "p_pain"])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("format", TABLES)
def test_an_answer_without_a_column_is_not_dropped(tmp_path, format):
    with pytest.raises(OutputError, match="without a column"):
        write_records(tmp_path / f"records.{format}", format, [record()], FIELDS[:2])
    assert os.listdir(tmp_path) == []


# --- JSON and CSV --------------------------------------------------------------------------------------------------


def test_a_csv_file_is_for_spreadsheets_and_a_stream_is_for_programs(tmp_path):
    path, out = tmp_path / "records.csv", io.StringIO(newline="")
    write_records(path, "csv", [record()], FIELDS)
    write_stream(out, "csv", [record()], FIELDS)
    assert path.read_bytes() == b"\xef\xbb\xbf" + out.getvalue().encode()
    assert out.getvalue().count("\r\n") == out.getvalue().count("\n") == 2


@pytest.mark.parametrize("rows", [[], [record()], [record(), failed("x")]])
def test_json_is_an_array(rows):
    out = io.StringIO()
    write_stream(out, "json", rows, FIELDS)
    assert json.loads(out.getvalue()) == rows
    assert out.getvalue().encode() == (json.dumps(rows, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "backslashreplace")


@pytest.mark.parametrize("format", ["jsonl", "json", "csv"])
def test_a_record_is_on_the_stream_before_the_next_one_is_made(format):
    out = io.BytesIO()
    stream = io.TextIOWrapper(out, encoding="utf-8", newline="")

    def rows():
        yield record("first")
        assert b"first" in out.getvalue()
        yield record("second")

    write_stream(stream, format, rows(), FIELDS)
    assert b"second" in out.getvalue()


# --- Excel ---------------------------------------------------------------------------------------------------------


def test_a_workbook_holds_texts_and_numbers_and_nothing_that_runs_or_links(tmp_path):
    path = tmp_path / "records.xlsx"
    write_records(path, "xlsx", [record(text) for text in HOSTILE], FIELDS)
    for row in cells_of(path):
        assert {name for name, cell in row.items() if cell.data_type == "n" and cell.value is not None} == {f"p_{name}" for name in FIELDS}
        assert {cell.data_type for cell in row.values()} <= {"n", "inlineStr", "s"}
    with zipfile.ZipFile(path) as archive:
        assert not [name for name in archive.namelist() if "_rels/sheet" in name]
        sheet = archive.read("xl/worksheets/sheet1.xml").decode()
    assert "<f>" not in sheet and "hyperlink" not in sheet


def test_a_text_that_looks_like_the_markup_of_xlsxwriter_stays_text(tmp_path):
    path = tmp_path / "records.xlsx"
    write_records(path, "xlsx", [failed("<r><t>1</t></r>"), failed("<r>&</r>")], FIELDS)
    assert [row["error"] for row in read_records(path)] == ["<r><t>1</t></r>\u200b", "<r>&</r>\u200b"]


@pytest.mark.parametrize(("languages", "right_to_left"), [("fa fa en", True), ("fa en", False), ("en", False), ("", False)])
def test_a_sheet_runs_from_right_to_left_where_most_documents_are_persian(tmp_path, languages, right_to_left):
    path = tmp_path / "records.xlsx"
    write_records(path, "xlsx", [record(language=language) for language in languages.split()], FIELDS)
    assert ('rightToLeft="1"' in part(path, "xl/worksheets/sheet1.xml")) == right_to_left
    assert "rightToLeft" not in part(path, "xl/worksheets/sheet2.xml")


def test_what_matters_in_a_workbook_is_seen_without_colour(tmp_path):
    path = tmp_path / "records.xlsx"
    write_records(path, "xlsx", [record(), record(fever="cut"), failed("unreadable")], FIELDS)
    complete, partial, bad = cells_of(path)
    assert complete["pain"].font.b and not complete["fever"].font.b  # yes, no
    assert [row["status"].font.b for row in (complete, partial, bad)] == [False, True, True]
    for cell in (partial["fever"], partial["p_fever"], *(bad[name] for name in FIELDS)):
        assert (cell.value, cell.fill.fill_type) == (None, "lightUp")
    assert complete["pain"].fill.fill_type is None
    assert complete["p_pain"].number_format == "0.00"


def test_a_workbook_is_made_for_looking_through_many_rows(tmp_path):
    path = tmp_path / "records.xlsx"
    write_records(path, "xlsx", [record(), record()], FIELDS)
    sheet = openpyxl.load_workbook(path)["answers"]
    assert (sheet.freeze_panes, sheet.auto_filter.ref) == ("B2", "A1:O3")
    scales = {str(found.sqref): rule.colorScale for found in sheet.conditional_formatting for rule in found.rules}
    assert set(scales) == {"I2:I3", "K2:K3", "M2:M3"}
    for scale in scales.values():
        assert [(end.type, end.val) for end in scale.cfvo] == [("num", 0), ("num", 1)]
        light, dark = (sum(int(colour.rgb[at : at + 2], 16) for at in (2, 4, 6)) for colour in scale.color)
        assert light > dark + 200  # told apart in grey
    assert {c: sheet.column_dimensions[c].width > 20 for c in "AE"} == {"A": True, "E": True}


def test_a_workbook_explains_every_column_and_how_to_read_it(tmp_path):
    path = tmp_path / "records.xlsx"
    write_records(path, "xlsx", [record()], FIELDS, {"pain": "Pain · درد"})
    explained = dict(openpyxl.load_workbook(path)["columns"].iter_rows(values_only=True))
    assert set(cells_of(path)[0]) <= set(explained) and all(explained[name] for name in cells_of(path)[0])
    assert explained["pain"].startswith("Pain · درد: ") and explained["fever"].startswith("fever: ")
    assert "never means no" in explained["A hatched cell"] and "from 0 to 1" in explained["How to read a probability"]


@pytest.mark.parametrize("letter", ["a", "😀"])
def test_a_text_that_is_too_long_for_a_cell_is_cut_where_it_can_be_seen(tmp_path, letter):
    path = tmp_path / "records.xlsx"
    longest = letter * (2 * spreadsheet.MAX_UNITS // len(letter.encode("utf-16-le")))
    write_records(path, "xlsx", [failed(longest), failed(longest + "aa")], FIELDS)
    whole, cut = (row["error"] for row in read_records(path))
    assert whole == longest
    assert cut.endswith(f"{letter} … [cut here]") and len(cut.encode("utf-16-le")) <= 2 * spreadsheet.MAX_UNITS


def test_more_than_a_sheet_holds_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "records.xlsx"
    monkeypatch.setattr(spreadsheet, "MAX_ROWS", 4)
    write_records(path, "xlsx", [record()] * 3, FIELDS)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="do not fit an Excel sheet") as caught:
        write_records(path, "xlsx", [record()] * 4, FIELDS)
    assert "CSV" in caught.value.hint and path.read_bytes() == before and os.listdir(tmp_path) == ["records.xlsx"]
    monkeypatch.setattr(spreadsheet, "MAX_COLUMNS", 14)
    with pytest.raises(OutputError, match="do not fit an Excel sheet"):
        write_records(path, "xlsx", [record()], FIELDS)


# --- Parquet -------------------------------------------------------------------------------------------------------


def test_parquet_has_types_and_nulls(tmp_path):
    path = tmp_path / "records.parquet"
    write_records(path, "parquet", [record(fever="cut"), failed("unreadable")], FIELDS)
    table = pyarrow.parquet.read_table(path)
    types = {field.name: str(field.type) for field in table.schema}
    assert {types[f"p_{name}"] for name in FIELDS} == {"double"} and types["doubtful_turns"].startswith("list<")
    assert {types[name] for name in ("id", "error", "unanswered", *FIELDS)} == {"string"}
    partial, bad = table.to_pylist()
    assert [partial[k] for k in ("pain", "p_pain", "fever", "p_fever", "unanswered")] == ["yes", 0.97, None, None, "fever: cut"]
    assert (partial["doubtful_turns"], bad["doubtful_turns"], bad["pain"], bad["error"]) == ([2], None, None, "unreadable")


def test_parquet_without_its_library_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OutputError, match="pyarrow is not installed") as caught:
        write_records(tmp_path / "records.parquet", "parquet", iter(lambda: pytest.fail("a record was asked for"), None), FIELDS)
    assert "clinex-edge[files]" in caught.value.hint and os.listdir(tmp_path) == []


# --- failures ------------------------------------------------------------------------------------------------------


@contextmanager
def largest_file(size):
    """No file can grow beyond `size` bytes, as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        gc.collect()  # what libraries still hold is closed on the full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("format", FORMATS)
def test_a_disk_that_is_full_at_any_moment_leaves_the_old_file_and_nothing_else(tmp_path, format):
    path = tmp_path / f"records.{format}"
    path.write_text("old")
    refused = 0
    for size in (0, 1, 10, 300, 700, 1000, 1500, 2000, 3000, 4000, 6000, 8000, 10_000, 15_000, 20_000, 30_000, 60_000, 10_000_000):
        with largest_file(size):
            try:
                write_records(path, format, (record(f"call-{number}") for number in range(40)), FIELDS)
                break
            except OutputError as error:
                refused += 1
                message = f"{path} cannot be written: {os.strerror(errno.EFBIG)}."
                assert (str(error), path.read_text(), os.listdir(tmp_path)) == (message, "old", [path.name])
    assert refused >= 7
    assert len(list(read_records(path))) == 40 and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_disk_that_fails_at_the_last_step_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, format, function):
    path = tmp_path / f"records.{format}"
    path.write_text("old")

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OutputError, match="No space left on device"):
        write_records(path, format, [record()], FIELDS)
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", [path.name])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("row 3 is damaged")])
@pytest.mark.parametrize("format", FORMATS)
def test_records_that_break_off_leave_the_old_file_and_nothing_else(tmp_path, format, error):
    path = tmp_path / f"records.{format}"
    path.write_text("old")

    def rows():
        yield record()
        raise error

    with pytest.raises(type(error)):
        write_records(path, format, rows(), FIELDS)
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", [path.name])


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="a place where not even root can create files")
@pytest.mark.parametrize("format", FORMATS)
def test_a_folder_that_cannot_be_written_is_named(tmp_path, format):
    with pytest.raises(OutputError, match=rf"/proc/records\.{format} cannot be written"):
        write_records(tmp_path / f"/proc/records.{format}", format, [record()], FIELDS)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_is_readable_by_its_owner_only_whatever_it_was_before(tmp_path, format):
    path = tmp_path / "new" / f"records.{format}"
    write_records(path, format, [record()], FIELDS)
    path.chmod(0o644)
    write_records(path, format, [record()], FIELDS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


WRITE_AND_WAIT = """
import sys
sys.path.insert(0, "tests")
from pathlib import Path
from test_write import FIELDS, record
from clinex_edge.files.write import write_records
def rows():
    for number in range(3000):
        yield record(f"call-{number}")
    print("waiting", flush=True)
    sys.stdin.read()
write_records(Path(sys.argv[1]), sys.argv[2], rows(), FIELDS)
"""


@pytest.mark.parametrize("format", FORMATS)
def test_a_process_that_is_killed_leaves_the_old_file_and_drafts_that_only_the_owner_can_read(tmp_path, format):
    path, system = tmp_path / "out" / f"records.{format}", tmp_path / "system"
    path.parent.mkdir()
    path.write_text("old")
    system.mkdir()
    command = [sys.executable, "-c", WRITE_AND_WAIT, str(path), format]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment(TMPDIR=str(system)), umask=0o022
    ) as child:
        assert child.stdout.readline() == b"waiting\n"
        child.send_signal(signal.SIGKILL)
    assert path.read_text() == "old" and os.listdir(system) == []
    left = [found for found in path.parent.iterdir() if found != path]
    assert left and {stat.S_IMODE(found.stat().st_mode) & 0o077 for found in left} == {0}


@pytest.mark.parametrize("format", FORMATS)
def test_memory_does_not_grow_with_the_number_of_records(tmp_path, format):
    def peak(number):
        write_records(tmp_path / f"records.{format}", format, (record(f"call-{i}") for i in range(number)), FIELDS)
        tracemalloc.reset_peak()
        write_records(tmp_path / f"records.{format}", format, (record(f"call-{i}") for i in range(number)), FIELDS)
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        assert peak(3000) < 1.2 * peak(1200) + 200_000
        tracemalloc.reset_peak()
        assert sum(1 for _ in read_records(tmp_path / f"records.{format}")) == 1200
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
