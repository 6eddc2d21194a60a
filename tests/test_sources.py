"""What paths stand for: each document once, under an id of its own that stays, and what cannot be read as an error in its place."""

import inspect
import io
import os
import sys

import pytest

from clinex_edge.errors import InputError, UsageError
from clinex_edge.files.sources import Reading, sources

NOTE = "Patient: my flank burns."


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(*names, text=NOTE):
    for name in names:
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)


def found(*paths, told=None, **reading):
    """(id, name, text or message) of every source; its document must have the same id and source."""
    result = []
    for source in sources(paths, Reading(**reading), told or (lambda text: None)):
        try:
            document = source.read()
            assert (document.id, document.source) == (source.id, source.name)
            result.append((source.id, source.name, document.text))
        except InputError as error:
            assert error.hint and NOTE not in f"{error} {error.hint}"
            result.append((source.id, source.name, str(error)))
    assert len({name for name, *_ in result}) == len(result)
    return result


def ids(*paths, **reading):
    return [name for name, *_ in found(*paths, **reading)]


# --- ids -----------------------------------------------------------------------------------------------------------


def test_a_file_is_named_up_to_its_first_dot_and_by_its_path_where_two_would_be_alike():
    write("call-01.fa.txt", "call-02.txt", "a/call-02.txt", ".hidden")
    assert ids("call-01.fa.txt", ".hidden") == ["call-01", ".hidden"]
    assert ids("call-01.fa.txt", "call-02.txt", "a/call-02.txt", "./call-01.fa.txt") == [
        "call-01.fa.txt",
        "call-02.txt",
        "a/call-02.txt",
        "./call-01.fa.txt",
    ]
    assert ids("call-02.txt", "call-02.txt", "call-02.txt") == ["call-02.txt", "call-02.txt#2", "call-02.txt#3"]


def test_a_member_of_a_folder_is_named_by_its_path_there():
    write("calls/b.fa.txt", "calls/2024/call.txt", "calls/B.TXT", "calls/a.md")
    assert found("calls/")[0] == ("2024/call.txt", "call.txt", NOTE)
    assert ids("calls") == ids("./calls/") == ["2024/call.txt", "B.TXT", "a.md", "b.fa.txt"]


def test_the_members_of_several_folders_are_named_by_their_whole_paths():
    write("a/x.txt", "b/x.txt", "b/y.txt")
    assert ids("a", "b/") == ["a/x.txt", "b/x.txt", "b/y.txt"]
    assert ids("b", "b") == ["b/x.txt", "b/y.txt", "b/x.txt#2", "b/y.txt#2"]


def test_ids_stay_when_files_are_added():
    write("calls/b.txt", "calls/sub/d.txt")
    write("calls/e.csv", text="text\nfirst text\n")
    before = {name: text for name, _, text in found("calls")}
    write("calls/a.txt", "calls/sub/b.txt", "calls/c/d.txt", text="another text")
    write("calls/aa/e.csv", text="text\nanother text\n")
    after = {name: text for name, _, text in found("calls")}
    assert len(after) == len(before) + 4 and before.items() <= after.items()
    assert {"e.csv:2", "aa/e.csv:2"} <= set(after)


def test_a_row_is_named_by_its_id_or_its_number_and_ids_that_repeat_are_numbered():
    write("c.csv", text="id,text\nx,a a\n,b b\nx,c c\nx#2,d d\nx,e e\n")
    expected = [("x", "c.csv:2"), ("c:3", "c.csv:3"), ("x#2", "c.csv:4"), ("x#2#2", "c.csv:5"), ("x#3", "c.csv:6")]
    assert [(name, place) for name, place, _ in found("c.csv")] == expected
    assert found("c.csv") == found("c.csv")


def test_no_two_sources_have_one_id_whatever_is_mixed(monkeypatch):
    write("c.txt", "x/c.txt", "c#2", "d/c", "d/c.txt", "d/x/c.txt")
    write("c.csv", text="id,text\nc,a a\nc.txt,b b\nd/c.txt,c c\nstdin,d d\n-,e e\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(NOTE.encode())))
    assert len(ids("c.txt", "-", "x/c.txt", "c.csv", "d", "d/x", "c#2", "c.csv", "d/c.txt", "none")) == 19


def test_standard_input_is_read():
    class Input:
        buffer = io.BytesIO(NOTE.encode())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", Input)
        assert found("-") == [("stdin", "-", NOTE)]


# --- what cannot be read -------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_named_in_its_place_and_the_rest_is_read():
    write("a.txt", "z.txt", "old.doc", "calls.json", "bad.docx", "bad.pdf", "bad.xlsx", "bad.parquet")
    os.mkdir("empty")
    write("bad.csv", text='id,text\n1,good text\n2,"bad" text\n3,more\n')
    names = ["a.txt", "none.txt", "empty", "old.doc", "calls.json", "bad.docx", "bad.pdf", "bad.xlsx", "bad.parquet", "bad.csv", "z.txt"]
    result = {name: text for name, _, text in found(*names)}
    assert result["a"] == result["z"] == NOTE and result["1"] == "good text"
    said = {"none": "There is no file", "empty": "holds no file to read", "old": "is a .doc file", "calls": "is a .json file"}
    said |= {f"bad.{suffix}": "is damaged" for suffix in ("docx", "pdf", "xlsx", "parquet")} | {"bad.csv:3": "from row 3 on"}
    assert {name for name in result if name not in ("a", "z", "1")} == set(said)
    assert all(part in result[name] for name, part in said.items()), result


@pytest.mark.parametrize("reading", [{"encoding": "utf8"}, {"language": "farsi"}])
def test_wrong_usage_is_noticed_before_anything_is_read(reading):
    with pytest.raises(UsageError, match="There is no"):
        sources(["none"], Reading(**reading))


def test_a_column_that_is_not_there_is_wrong_usage():
    write("c.csv", text="id,text\n1,good text\n")
    with pytest.raises(UsageError, match="--text-column"):
        ids("c.csv", text_column="note")


def test_the_language_and_the_columns_that_are_asked_for_reach_the_document():
    write("c.csv", text="id,text,other\n1,good text,another text\n")
    (source,) = sources(["c.csv"], Reading(language="fa", id_column="text", text_column="other", encoding="UTF-8"))
    assert (source.id, source.read().language, source.read().text) == ("good text", "fa", "another text")


def test_an_error_of_the_document_names_its_row():
    write("c.csv", text="id,text\n1," + "word " * 200_001 + "\n")
    ((_, _, message),) = found("c.csv")
    assert message.startswith("c.csv, row 2: The document has 1,000,0")


# --- folders -------------------------------------------------------------------------------------------------------


def test_hidden_files_and_other_kinds_are_left_out_and_the_others_are_told():
    write("calls/a.txt", "calls/.b.txt", "calls/.git/c.txt", "calls/d.jpg", "calls/e.log", "calls/f.LOG", "calls/README")
    told = []
    assert [name for name, *_ in found("calls", told=told.append)] == ["a.txt"]
    assert told == ["calls: files of other kinds that are left out: 4 (.jpg, .log, README)."]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.log", ["b/d.log", "c.log"]),
        ("b/*", ["b/d.log", "b/d.txt"]),
        ("?.txt", ["a.txt", "b/d.txt"]),
        ("*", ["a.txt", "b/d.log", "b/d.txt", "c.log"]),
    ],
)
def test_a_pattern_chooses_by_name_or_by_path(pattern, expected):
    write("calls/a.txt", "calls/b/d.log", "calls/b/d.txt", "calls/c.log", "calls/.hidden.log")
    assert ids("calls", pattern=pattern) == expected


def test_a_pattern_that_fits_nothing_is_an_error():
    write("calls/a.txt")
    ((name, _, message),) = found("calls", pattern="*.log")
    assert name == "calls" and "holds no file to read (*.log)" in message


def test_links_that_go_round_end_and_links_that_lead_out_are_named():
    write("calls/sub/a.txt", "other/b.txt")
    os.symlink("..", "calls/sub/up")
    os.symlink("../..", "calls/sub/above")
    os.symlink("round", "calls/round")
    os.symlink("sub", "calls/again")
    os.symlink("../other", "calls/out")
    os.symlink("../other/b.txt", "calls/b.txt")
    os.symlink("nowhere.txt", "calls/gone.txt")
    result = {name: text for name, _, text in found("calls")}
    assert result["sub/a.txt"] == result["b.txt"] == NOTE
    assert "link to a folder" in result["out"] and "not a file" in result["gone.txt"]
    assert set(result) == {"sub/a.txt", "b.txt", "out", "gone.txt"}


def test_a_pipe_is_not_waited_for():
    write("calls/a.txt")
    os.mkfifo("calls/b.txt")
    assert [text for *_, text in found("calls")] == [NOTE, "calls/b.txt is not a file that can be read."]


def test_a_folder_that_cannot_be_listed_is_named(monkeypatch):
    write("calls/a.txt", "calls/locked/b.txt", "calls/z.txt")
    listdir = os.listdir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert [(name, text) for name, _, text in found("calls")] == [
        ("a.txt", NOTE),
        ("locked", "calls/locked cannot be read: Permission denied."),
        ("z.txt", NOTE),
    ]


def test_folders_in_folders_may_be_deeper_than_calls_in_calls():
    write("calls/" + "d/" * 200 + "a.txt")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert ids("calls") == ["d/" * 200 + "a.txt"]
    finally:
        sys.setrecursionlimit(limit)


# --- streaming -----------------------------------------------------------------------------------------------------


def test_rows_are_read_as_they_are_asked_for():
    write("c.csv", text="id,text\n" + "".join(f"{n},text number {n}\n" for n in range(100_000)))
    remaining = sources(["c.csv", "none"], Reading())
    assert next(remaining).read().text == "text number 0"
    with open("c.csv", "r+") as file:
        file.truncate(50_000)
    assert sum(1 for _ in remaining) < 10_000
