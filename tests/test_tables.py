"""Rows of tables: each gives its text exactly, or says why it cannot; a wrong text is never given in place of an error."""

import datetime
import json
import tracemalloc

import openpyxl
import pytest

from clinex_edge.errors import InputError, UsageError
from clinex_edge.files.columns import entries
from clinex_edge.files.tables import rows

CALL = "بیمار: پهلویم، هنوز می‌سوزد؛ «شب‌ها» نمی‌خوابم"
NOTE = 'Nurse: "better", or worse?\nPatient: worse; much worse'


def read(path, *, encoding="utf-8", ids=None, texts=None):
    """What a table gives: (place, id, text), with the message in place of the text where there is none."""
    found = entries(path, encoding, ids, texts)
    return [(entry.place, entry.id, str(entry.text)) for entry in found]


def refused(path, **options):
    with pytest.raises(InputError) as error:
        read(path, **options)
    return f"{error.value} {error.value.hint}"


@pytest.fixture
def csv_file(tmp_path):
    def write(content, name="calls.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write


@pytest.fixture
def workbook(tmp_path):
    def write(*sheets, name="calls.xlsx"):
        book = openpyxl.Workbook()
        book.remove(book.active)
        for number, content in enumerate(sheets, 1):
            sheet = book.create_sheet(f"Sheet{number}")
            for row in content:
                sheet.append(row)
        book.save(tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def parquet_file(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def write(columns, **options):
        arrays, names = zip(*((values, name) for name, values in columns), strict=True)
        table = pyarrow.Table.from_arrays([pyarrow.array(values) for values in arrays], names)
        parquet.write_table(table, tmp_path / "calls.parquet", **options)
        return tmp_path / "calls.parquet"

    return write


# --- all formats ---------------------------------------------------------------------------------------------------


def test_every_format_gives_the_same_documents(csv_file, workbook, parquet_file):
    quoted = NOTE.replace('"', '""')
    records = [{"call_id": "a", "transcript": CALL}, {"call_id": "b", "transcript": NOTE}]
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    for delimiter in (",", ";", "\t"):
        path = csv_file(f'call_id{delimiter}transcript\na{delimiter}"{CALL}"\nb{delimiter}"{quoted}"\n')
        assert read(path) == [("2", "a", CALL), ("3", "b", NOTE)]
    assert read(csv_file(f'call_id\ttranscript\na\t{CALL}\nb\t"{quoted}"\n', "calls.tsv")) == [("2", "a", CALL), ("3", "b", NOTE)]
    assert read(csv_file(lines, "calls.jsonl")) == read(csv_file(lines, "calls.ndjson")) == [("1", "a", CALL), ("2", "b", NOTE)]
    table = [["call_id", "transcript"], ["a", CALL], ["b", NOTE]]
    assert read(workbook(table)) == [("2", "a", CALL), ("3", "b", NOTE)]
    assert read(parquet_file([("call_id", ["a", "b"]), ("transcript", [CALL, NOTE])])) == [("1", "a", CALL), ("2", "b", NOTE)]


@pytest.mark.parametrize(("name", "encoding"), [("utf-8-sig", "utf-8"), ("utf-16", "utf-16"), ("windows-1256", "windows-1256")])
def test_the_encoding_that_is_named_is_used(csv_file, name, encoding):
    text = "Patient: پهلوي من درد دارد"
    assert read(csv_file(f"id;text\r\n1;{text}\r\n", encoding=name), encoding=encoding) == [("2", "1", text)]
    assert read(csv_file(f'{{"id": 1, "text": "{text}"}}\n', "a.jsonl", name), encoding=encoding) == [("1", "1", text)]


@pytest.mark.parametrize(
    ("content", "encoding", "said"),
    [
        (f"id,text\n1,{CALL}\n".encode("utf-16"), "utf-8", "is UTF-16"),
        (f"id,text\n1,{CALL}\n".encode(), "utf-16", "is UTF-8, not UTF-16"),
        (f"id,text\n1,{CALL}\n".encode(), "windows-1256", "is UTF-8, not WINDOWS-1256"),
        ("شناسه,متن\n1,پهلوي من\n".encode("windows-1256"), "utf-8", "--encoding windows-1256"),
        (b"PK\x03\x04\0\0\0\0", "utf-8", "is a binary file"),
        (b"", "utf-8", "has no rows"),
        (b"id,text\n", "utf-8", "has no rows"),
        (b"id,text\n,\n\n , \n", "utf-8", "has no rows"),
    ],
)
def test_a_table_that_cannot_be_read_at_all_is_one_error(csv_file, content, encoding, said):
    assert said in refused(csv_file(content), encoding=encoding)


# --- columns -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "ids", "texts"),
    [
        ("Call ID,Transcript,remark", "a", CALL),
        ("شناسه,متن,remark", "a", CALL),
        ("شناسه تماس,متن تماس,remark", "a", CALL),
        ("name,what was said,remark", None, CALL),
        ("رديف,گفت‌وگو,remark", "a", CALL),
    ],
)
def test_columns_are_known_by_their_names_or_by_their_texts(csv_file, header, ids, texts):
    assert read(csv_file(f'{header}\na,"{CALL}",short but of four words\n')) == [("2", ids, texts)]


def test_columns_that_are_asked_for_are_read_and_what_is_read_is_told(csv_file):
    told = []
    path = csv_file("id,text,other\n1,first text,the second\n")
    (entry,) = entries(path, "utf-8", "text", "other", told.append)
    assert (entry.id, entry.text, told) == ("first text", "the second", ["calls.csv: text from column 'other', ids from column 'text'."])
    list(entries(csv_file("text\nfirst text\n"), "utf-8", None, None, told.append))
    assert told[1:] == ["calls.csv: text from column 'text', ids from the numbers of the rows."]


def test_the_column_that_most_lines_have_is_the_one_that_is_read(csv_file):
    lines = '{"Text": "one is fine"}\n{"text": "two is fine"}\n{"text": "three is fine"}\n'
    assert [text for *_, text in read(csv_file(lines, "calls.jsonl"))][1:] == ["two is fine", "three is fine"]


def test_a_text_in_the_column_of_ids_is_no_id(csv_file):
    assert read(csv_file(f'id,text\n"{CALL * 6}",one is fine\n"a\u200cb",two is fine\n')) == [
        ("2", None, "one is fine"),
        ("3", "a\u200cb", "two is fine"),
    ]


@pytest.mark.parametrize("option", ["ids", "texts"])
def test_a_column_that_is_not_there_is_wrong_usage_and_those_there_are_named(csv_file, option):
    with pytest.raises(UsageError, match=f"no column 'nothing' .--{option.removesuffix('s')}-column") as error:
        read(csv_file("id,text\n1,first text\n"), **{option: "nothing"})
    assert error.value.hint == "Its columns: id, text."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text,text\nfirst text here,second text here\n", "two columns 'text'"),
        ("id,id,text\n1,2,second text here\n", "two columns 'id'"),
        (f'1,"{CALL}"\n2,"{NOTE.replace(chr(34), "")}"\n', "no header"),
        ("id,,more\n1,the patient says that it hurts,2\n", "no header"),
        ("id,state\n1,done\n2,open\n", "no column with texts"),
        ("id,sha256\n1," + "a" * 64 + "\n", "no column with texts"),
    ],
)
def test_columns_that_are_not_certain_are_not_guessed(csv_file, content, said):
    message = refused(csv_file(content))
    assert said in message and "می‌سوزد" not in message


def test_a_first_row_of_texts_is_not_shown_as_names_of_columns(csv_file):
    path = csv_file(f'1,"{CALL * 3}"\n2,"{CALL}"\n')
    with pytest.raises(UsageError) as error:
        read(path, texts="text")
    assert error.value.hint == "Its first row does not seem to name the columns."


# --- single rows ---------------------------------------------------------------------------------------------------


def test_in_a_csv_a_row_that_is_broken_says_so_and_the_others_are_whole(csv_file):
    content = (
        b"id,text,note\n1,one is fine,\n2,two, is cut,by commas\n3,three is\nshort,\n\n4,four \xff has a byte,\n5,,\n6,NaN,\n7,12,\n"
        b'8,eight is fine,,,\n9,"nine\nhas lines",x\n10,2024-01-05,\n11,eleven is fine,\n'
    )
    found = {place: (name, text) for place, name, text in read(csv_file(content))}
    assert {place: value for place, value in found.items() if "calls.csv" not in value[1]} == {
        "2": ("1", "one is fine"),
        "11": ("8", "eight is fine"),
        "12": ("9", "nine\nhas lines"),
        "14": ("11", "eleven is fine"),
    }
    said = {place: text.partition("calls.csv")[2] for place, (_, text) in found.items()}
    assert "(4, not 3)" in said["3"] and "(2, not 3)" in said["4"] and "(2, not 3)" in said["5"]
    assert "row 7 does not fit" in said["7"]
    assert "is empty" in said["8"] and all("no words" in said[place] for place in ("9", "10", "13"))


def test_a_csv_that_breaks_in_the_middle_gives_its_good_rows_first(csv_file):
    good, bad = read(csv_file('id,text\n1,one is fine\n2,"two" is not\n3,three is lost\n'))
    assert good == ("2", "1", "one is fine")
    assert bad[0] == "3" and "damaged from row 3 on" in bad[2]
    (*_, bad) = read(csv_file('id,text\n1,one is fine\n2,"two never ends\n3,three\n'))
    assert bad[0] == "3" and "damaged from row 3 on" in bad[2]


def test_a_line_that_never_ends_is_not_read_into_memory(csv_file):
    path = csv_file("id,text\n1,one is fine\n2,")
    with path.open("a") as file:
        for _ in range(30):
            file.write("no end " * 150_000)
    tracemalloc.start()
    good, bad = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert good[2] == "one is fine" and "more than 4,000,000 characters" in bad[2] and peak < 25_000_000


def test_in_json_lines_a_line_that_is_broken_says_so_and_the_others_are_whole(csv_file):
    lines = [
        b'{"id": 1, "text": "one is fine"}', b"[1]", b'{"id": 2', b"", b'{"id": 3, "text": 5}', b'{"id": 4, "text": "a", "text": "b"}',
        b'{"id": 5}', b'{"id": 6, "text": "\\ud800 half"}', b'{"id": 7, "text": "\xff"}', b"[" * 100_000, b"9" * 5000,
        b'{"id": 8, "text": ["a list"]}', b'{"id": 9, "text": null}', b'{"id": 10.0, "text": "ten \\u2028is fine"}', b'{"text": "last"}',
    ]  # fmt: skip
    found = read(csv_file(b"\n".join(lines), "calls.jsonl"))
    assert [(place, name, text) for place, name, text in found if "calls.jsonl" not in text] == [
        ("1", "1", "one is fine"),
        ("14", "10", "ten \u2028is fine"),
        ("15", None, "last"),
    ]
    assert [place for place, _, text in found if "calls.jsonl" in text] == [str(n) for n in (2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13)]


def test_in_a_workbook_only_text_is_text(workbook):
    day = datetime.datetime(2024, 1, 5)
    path = workbook(
        [
            ["id", "text"], [12.0, "one is fine"], [None, None], [day, 12], [1.5, day], [True, True], ["x", "#N/A"], [" a  b ", "\t"],
            [7, "_x000D_\nseven is fine", "and more"], [None, "no id"], [9, "x" * 32_767], [10, "=1+1"],
        ]
    )  # fmt: skip
    found = read(path)
    assert [entry for entry in found if "calls.xlsx" not in entry[2]] == [
        ("2", "12", "one is fine"),
        ("9", "7", "\r\nseven is fine"),
        ("10", None, "no id"),
    ]
    said = {place: (name, text) for place, name, text in found}
    assert said["4"][0] == "2024-01-05" and "a number" in said["4"][1]
    assert said["5"][0] == "1.5" and "a date" in said["5"][1] and "true or false" in said["6"][1] and "an error" in said["7"][1]
    assert said["8"][0] == "a b" and "is empty" in said["8"][1] and "cut off" in said["11"][1] and "is empty" in said["12"][1]


def test_every_visible_sheet_with_the_column_is_read_and_others_are_told(workbook):
    path = workbook([["id", "text"], [1, "first text"]], [["b", "c"], [1, 2], [3, 4]], [["text"], ["third text"]], [["text"], ["hidden"]])
    book = openpyxl.load_workbook(path)
    book["Sheet4"].sheet_state = "hidden"
    book.save(path)
    told = []
    found = [(entry.place, entry.id, entry.text) for entry in entries(path, "utf-8", None, None, told.append)]
    assert found == [("2", "1", "first text"), ("Sheet3!2", None, "third text")]
    assert told[1:] == ["calls.xlsx: sheet 'Sheet2' has no column 'text' and is left out."]


def test_a_sheet_that_states_a_wrong_size_is_read_to_its_end(workbook):
    from zipfile import ZipFile

    path = workbook([["id", "text"], *([n, f"text number {n}"] for n in range(20))])
    with ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["xl/worksheets/sheet1.xml"] = members["xl/worksheets/sheet1.xml"].replace(b'ref="A1:B21"', b'ref="A1:B5"')
    with ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert [text for *_, text in read(path)] == [f"text number {n}" for n in range(20)]


def test_in_parquet_only_text_is_text(parquet_file):
    path = parquet_file([("id", [1, None, 3, 4]), ("text", ["one is fine", "two is fine", None, " "]), ("nested", [[1], [], None, [2]])])
    found = read(path)
    assert found[:2] == [("1", "1", "one is fine"), ("2", None, "two is fine")]
    assert [("is empty" in text, name) for _, name, text in found[2:]] == [(True, "3"), (True, "4")]
    assert all("a list, not text" in text for _, _, text in read(path, texts="nested") if "empty" not in text)
    assert "two columns 'text'" in refused(parquet_file([("text", ["a b c d"]), ("text", ["e f g h"])]))


def test_in_parquet_bytes_are_no_text_and_half_a_letter_spoils_its_row_only(parquet_file):
    import pyarrow

    raw = pyarrow.array([b"one is fine", b"\xff", b"three is fine"])
    assert all("bytes, not text" in text for *_, text in read(parquet_file([("text", raw)])))
    one, two, three = read(parquet_file([("text", raw.view(pyarrow.string()))]))
    assert (one[2], three[2]) == ("one is fine", "three is fine") and "an error" in two[2]


def test_in_parquet_a_letter_that_changed_is_noticed_where_the_file_has_checksums(parquet_file):
    path = parquet_file(
        [("text", ["one is fine"])], write_page_checksum=True, compression="none", use_dictionary=False, write_statistics=False
    )
    assert read(path)[0][2] == "one is fine"
    path.write_bytes(path.read_bytes().replace(b"is fine", b"is f1ne"))
    assert "is damaged" in refused(path)


def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    path = tmp_path / "calls.parquet"
    path.write_bytes(b"PAR1")
    assert refused(path) == f"{path}: pyarrow is not installed. pip install 'clinex-edge[files]'"


# --- size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["calls.csv", "calls.jsonl", "calls.parquet"])
def test_memory_does_not_grow_with_the_number_of_rows(csv_file, parquet_file, name):
    text = NOTE.replace('"', "").replace("\n", " ") * 5

    def peak(count):
        if name == "calls.csv":
            path = csv_file("id,text\n" + "".join(f'{n},"{text}"\n' for n in range(count)))
        elif name == "calls.jsonl":
            path = csv_file("".join(json.dumps({"id": n, "text": text}) + "\n" for n in range(count)), name)
        else:
            path = parquet_file([("id", range(count)), ("text", [f"{text} {n}" for n in range(count)])])
        tracemalloc.start()
        assert sum(1 for _ in rows(path, "utf-8")) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(200)
    assert peak(8_000) < peak(400) + 300_000
