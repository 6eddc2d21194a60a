"""Bad files, thousands of them: every reader gives a document or an InputError, soon, and never a text that was not in the file.

`pytest -m slow tests/test_fuzz_readers.py -s` tries many more and prints how they ended.
"""

import io
import json
import random
import signal
import struct
import warnings
from collections import Counter
from contextlib import contextmanager
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import openpyxl
import pytest
from pdf import codes, pdf, persian, shown, stream

from clinex_edge.errors import InputError, UsageError
from clinex_edge.files.sources import KNOWN, Reading, sources

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("pdfminer")

SECONDS = 10  # for one input
MARK = "Zamanzadeh"  # in every text; must be in no message
TEXTS = [f'Nurse: is it worse, {MARK}?\nPatient {n}: "yes"; بیمار {n} پهلویم می‌سوزد' for n in range(8)]
LATIN = [f"Nurse: is it worse, {MARK}? Patient {n}: yes, my flank burns and I cannot sleep at all." for n in range(3)]
PERSIAN = "\n".join(f"پرستار: از دیروز که درد دارد (پهلو) بدتر است؟\nبیمار: بله، {MARK[::-1]} {n} را دیدم" for n in range(3))
CHECKED = {".xlsx", ".docx", ".pdf", ".parquet"}  # formats with checksums of their content, and so no excuse for a changed text
SEEDS, MANY_SEEDS = 25, 700  # for each good file


def delimited(delimiter, encoding="utf-8"):
    quoted = (text.replace('"', '""') for text in TEXTS)
    return "".join(["id", delimiter, "text\r\n", *(f'row-{n}{delimiter}"{text}"\r\n' for n, text in enumerate(quoted))]).encode(encoding)


def json_lines():
    return "".join(json.dumps({"id": f"row-{n}", "text": text}, ensure_ascii=False) + "\n" for n, text in enumerate(TEXTS)).encode()


def workbook(cells=TEXTS):
    book, data = openpyxl.Workbook(), io.BytesIO()
    for row in [["id", "text"], *([f"row-{n}", cell] for n, cell in enumerate(cells))]:
        book.active.append(row)
    book.save(data)
    return data.getvalue()


def column_file(cells=TEXTS):
    data = io.BytesIO()
    table = pyarrow.table({"id": [f"row-{n}" for n in range(len(cells))], "text": cells})
    parquet.write_table(table, data, write_page_checksum=True, compression="snappy")
    return data.getvalue()


def archive(compression=ZIP_DEFLATED, **members):
    data = io.BytesIO()
    with ZipFile(data, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return data.getvalue()


RELATIONS = '<R><Relationship Type="x/officeDocument" Target="word/document.xml"/></R>'


def word(body):
    return archive(**{"_rels/.rels": RELATIONS, "word/document.xml": f'<w:d xmlns:w="w"><w:body>{body}</w:body></w:d>'})


def word_file():
    return word("".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for text in TEXTS for line in text.split("\n")))


def persian_file():
    shapes = sorted({*PERSIAN})
    lines = (codes(*line[::-1], shapes=shapes) for line in PERSIAN.split("\n"))
    return persian(f"BT /P 12 Tf 16 TL 50 700 Td {' Tj T* '.join(lines)} Tj ET", shapes=shapes, packed=True)


GOOD = {
    "comma.csv": delimited(","),
    "semicolon.csv": delimited(";"),
    "wide.csv": delimited(",", "utf-16"),
    "tab.tsv": delimited("\t"),
    "lines.jsonl": json_lines(),
    "book.xlsx": workbook(),
    "columns.parquet": column_file(),
    "letter.docx": word_file(),
    "print.pdf": pdf(*(shown(text) for text in LATIN), packed=True),
    "persian.pdf": persian_file(),
    "plain.txt": "\n".join(TEXTS).encode(),
}


class TooSlow(BaseException):
    """No reader may take it for an error of the file."""


@contextmanager
def limited():
    """Raises TooSlow where the block takes longer than SECONDS."""

    def ring(*_):
        raise TooSlow

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read(path, **reading):
    """What a file gives, as (id, text or None, message or None); fails for anything else that a reader might do."""
    found = []
    try:
        with limited():
            for source in sources([str(path)], Reading(**reading)):
                try:
                    found.append((source.id, source.read().text, None))
                except InputError as error:
                    assert MARK not in f"{error} {error.hint}", error
                    found.append((source.id, None, str(error)))
    except UsageError as error:
        assert reading.get("text_column") or reading.get("id_column"), error
        assert MARK not in f"{error} {error.hint}", error
        return None
    assert found and len({name for name, *_ in found}) == len(found)
    return found


def outcome(found):
    if found is None:
        return "wrong usage"
    read = sum(text is not None for _, text, _ in found)
    return "read" if read == len(found) else "read in part" if read else "refused"


def mutated(data, rng):
    """`data` with one to three pieces of damage."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        end = min(end, at + rng.choice((1, 4, 60, 2000)))
        match rng.randrange(7):
            case 0 | 1 if data:
                data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
            case 2:
                del data[at:end]
            case 3:
                data[at:at] = data[at:end]
            case 4:
                del data[at:]
            case 5:
                data[at:at] = rng.choice((b"\0", b"\xff", b'"', b"\n", b"\r", b"\xed\xa0\x80", b"[" * 5000, b"9" * 5000, rng.randbytes(9)))
            case 6:
                data[at:end] = rng.randbytes(end - at)
    return bytes(data)


def try_mutants(folder, name, seeds):
    """How that many damaged copies of a good file ended."""
    ends = Counter()
    suffix = name[name.index(".") :]
    path = folder / name
    path.write_bytes(GOOD[name])
    encoding = "utf-16" if name == "wide.csv" else "utf-8"
    truth = {text for _, text, _ in read(path, encoding=encoding)}
    assert None not in truth
    for seed in range(seeds):
        rng = random.Random(f"{name} {seed}")
        data = mutated(GOOD[name], rng)
        where = folder / f"x{rng.choice(KNOWN) if rng.random() < 0.2 else suffix}"
        where.write_bytes(data)
        reading = {"encoding": encoding if rng.random() < 0.7 else rng.choice(("utf-8", "utf-16", "windows-1256"))}
        if rng.random() < 0.2:
            reading |= {"text_column": rng.choice(("text", "note")), "id_column": rng.choice((None, "id", "call"))}
        try:
            found = read(where, **reading)
        except BaseException as error:
            raise AssertionError(f"{name}, seed {seed}: {type(error).__name__} {error}") from error
        if where.suffix == suffix and suffix in CHECKED and found:
            assert {text for _, text, _ in found} - {None} <= truth, f"{name}, seed {seed}"
        ends[outcome(found)] += 1
    return ends


@pytest.mark.parametrize("name", GOOD)
def test_a_damaged_file_gives_a_text_or_an_error_and_where_checksums_allow_no_other_text(tmp_path, name):
    assert sum(try_mutants(tmp_path, name, SEEDS).values()) == SEEDS


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_many_damaged_files(tmp_path, name):
    ends = try_mutants(tmp_path, name, MANY_SEEDS)
    print(f"\n{name}: {MANY_SEEDS} damaged files: " + ", ".join(f"{count} {end}" for end, count in sorted(ends.items())))


# --- damage whose extent is known ----------------------------------------------------------------------------------


def try_flips(folder, name, seeds):
    """Change one byte that is part of no quotation mark and no line end: the other rows come back exactly."""
    data = GOOD[name]
    path = folder / name
    ends = Counter()
    for seed in range(seeds):
        rng = random.Random(seed)
        row = rng.randrange(len(TEXTS))
        start = data.index(b"row-%d" % row)
        end = data.index(b"row-%d" % (row + 1)) if row + 1 < len(TEXTS) else len(data)
        end = data.rindex(b"\n", start, end)
        choices = [at for at in range(start, end) if data[at] not in b'"\r\n,{}\\;\t']
        at, byte = rng.choice(choices), rng.choice([byte for byte in range(256) if byte not in b'"\r\n,\\'])
        path.write_bytes(data[:at] + bytes([byte]) + data[at + 1 :])
        if data[at] == byte or byte == 0:
            continue
        found = read(path)
        others = [(f"row-{n}", text) for n, text in enumerate(TEXTS) if n != row]
        assert [(name, text) for n, (name, text, _) in enumerate(found) if n != row] == others, (name, seed)
        ends[outcome([found[row]])] += 1
    return ends


@pytest.mark.parametrize("name", ["comma.csv", "lines.jsonl"])
def test_a_byte_that_changed_in_a_row_leaves_the_others_as_they_are(tmp_path, name):
    assert try_flips(tmp_path, name, 60)["refused"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["comma.csv", "lines.jsonl"])
def test_many_bytes_that_changed(tmp_path, name):
    print(f"\n{name}, the row whose byte changed:", dict(try_flips(tmp_path, name, 1_000)))


NO_TEXT = [None, "", " \n", 12, 1.5, 10**300, -1, True, float("nan"), float("inf"), "nan", "NULL", "12", "2024-01-05", "…", [], ["a text"],
           {"a": "a text"}, "\ud800 a text", "a text\0", "x" * 32_767, "word " * 200_001]  # fmt: skip


@pytest.mark.parametrize("cell", NO_TEXT, ids=lambda cell: f"{type(cell).__name__} {str(cell)[:9]!a}")
def test_a_cell_that_is_no_text_is_an_error_and_leaves_the_others_as_they_are(tmp_path, cell):
    cells = [*TEXTS[:3], cell, *TEXTS[4:]]
    expected = [(f"row-{n}", text if n != 3 else None) for n, text in enumerate(TEXTS)]
    plain = isinstance(cell, str) and "\ud800" not in cell
    files = {"a.jsonl": "".join(json.dumps({"id": f"row-{n}", "text": text}) + "\n" for n, text in enumerate(cells)).encode()}
    if plain or cell is None or isinstance(cell, int | float):
        quoted = ("" if text is None else str(text).replace('"', '""') for text in cells)
        files["a.csv"] = ("id,text\n" + "".join(f'row-{n},"{text}"\n' for n, text in enumerate(quoted))).encode()
        if cell is True:
            del files["a.csv"]  # where "True" is text
    if plain and "\0" not in cell:
        files["a.parquet"] = column_file(cells)
    if cell is None or (plain and "\0" not in cell and len(cell) < 40_000) or (isinstance(cell, int | float) and abs(cell) < 1e300):
        files["a.xlsx"] = workbook(cells)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        assert [(row, text) for row, text, _ in read(tmp_path / name)] == expected, name


def test_a_letter_that_changed_in_a_workbook_is_never_read(tmp_path):
    path = tmp_path / "a.xlsx"
    many = HEAD + "".join(cells(row, f"row-{row}", "a longer text that fills the sheet") for row in range(3, 2_000))
    path.write_bytes(sheet(many, compression=ZIP_STORED).replace(b"is fine", b"is f1ne"))
    assert outcome(read(path)) == "refused"


# --- made by hand --------------------------------------------------------------------------------------------------


def sheet(rows, prolog="", compression=ZIP_DEFLATED):
    """A workbook whose only sheet has these rows in XML."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"

    def relations(type, target):
        inner = f'<Relationship Id="r1" Type="{office}/{type}" Target="{target}"/>'
        return f'<Relationships xmlns="{package}/relationships">{inner}</Relationships>'

    types = f'<Override PartName="/xl/workbook.xml" ContentType="{kind}"/>'
    sheets = '<sheets><sheet name="a" sheetId="1" r:id="r1"/></sheets>'
    return archive(
        compression,
        **{
            "[Content_Types].xml": f'<Types xmlns="{package}/content-types">{types}</Types>',
            "_rels/.rels": relations("officeDocument", "xl/workbook.xml"),
            "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}">{sheets}</workbook>',
            "xl/_rels/workbook.xml.rels": relations("worksheet", "worksheets/sheet1.xml"),
            "xl/worksheets/sheet1.xml": f'{prolog}<worksheet xmlns="{main}"><dimension ref="A1"/><sheetData>{rows}</sheetData></worksheet>',
        },
    )


def cells(row, *texts):
    inner = "".join(f'<c r="{column}{row}" t="inlineStr"><is><t>{text}</t></is></c>' for column, text in zip("AB", texts, strict=False))
    return f'<row r="{row}">{inner}</row>'


HEAD = cells(1, "id", "text") + cells(2, "row-0", f"{MARK} is fine")
BOMB = (
    "<!DOCTYPE a [<!ENTITY a 'ha'>"
    + "".join(f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in zip("abcdefghi", "bcdefghij", strict=True))
    + "]>"
)
NESTED = "".join('{"text":' for _ in range(50_000))
FORM = stream("/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /L 7 0 R >> >>", b"/L Do /L Do")
LOOP = pdf("/L Do", resources="/XObject << /L 7 0 R >>", more=[FORM])
HAND_MADE = {
    "row numbers far apart.xlsx": sheet(HEAD + cells(1_000_000, "row-1", MARK) + cells(999_999_999_999, "row-2", MARK)),
    "row number that is none.xlsx": sheet(HEAD + HEAD.replace('r="2"', 'r="two"')),
    "column far out.xlsx": sheet(HEAD + '<row r="3"><c r="ZZZ3" t="inlineStr"><is><t>a</t></is></c></row>'),
    "column beyond.xlsx": sheet(HEAD + '<row r="3"><c r="ZZZZZZ3" t="inlineStr"><is><t>a</t></is></c></row>'),
    "string that is not there.xlsx": sheet(HEAD + '<row r="3"><c r="B3" t="s"><v>7</v></c></row>'),
    "number of a million digits.xlsx": sheet(HEAD + f'<row r="3"><c r="B3"><v>{"9" * 1_000_000}</v></c></row>'),
    "number that is infinite.xlsx": sheet(HEAD + '<row r="3"><c r="A3"><v>1e999</v></c><c r="B3"><v>1e999</v></c></row>'),
    "entities.xlsx": sheet(HEAD + cells(3, "row-1", "&j;"), BOMB),
    "deep markup.xlsx": sheet(HEAD + "<row>" * 100_000),
    "no sheets.xlsx": archive(**{"xl/workbook.xml": "<workbook/>"}),
    "not a workbook.xlsx": word_file(),
    "deep markup.docx": word("<w:p>" * 200_000),
    "entities.docx": archive(**{"_rels/.rels": RELATIONS, "word/document.xml": f"{BOMB}<d><t>&j;</t></d>"}),
    "entity of a file.docx": archive(
        **{"_rels/.rels": RELATIONS, "word/document.xml": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><d><t>a &x; b</t></d>'}
    ),
    "entities in relations.docx": archive(**{"_rels/.rels": f"{BOMB}<R>&j;</R>", "word/document.xml": "<d/>"}),
    "no document.docx": archive(**{"_rels/.rels": RELATIONS}),
    "a document elsewhere.docx": archive(**{"_rels/.rels": RELATIONS.replace("word/", "../../../etc/")}),
    "zeros.docx": archive(**{"_rels/.rels": RELATIONS, "word/document.xml": b"\0" * 90_000_000}),
    "larger than it says.docx": word_file().replace(struct.pack("<I", 90), struct.pack("<I", 2**31)),
    "unknown compression.docx": word_file().replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x08", b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x63"),
    "password.docx": word_file().replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
    "many members.docx": archive(ZIP_STORED, **{f"m{n}": "" for n in range(20_000)}),
    "deep.jsonl": NESTED.encode() + b"\n",
    "deep lists.jsonl": (b'{"text":' + b"[" * 500_000 + b"]" * 500_000 + b"}\n") * 3,
    "digits.jsonl": b'{"id": %s, "text": "%s is fine"}\n' % (b"9" * 4_000, MARK.encode()),
    "more digits.jsonl": b'{"id": %s, "text": "%s is fine"}\n' % (b"9" * 400_000, MARK.encode()),
    "one array.jsonl": json.dumps([{"id": 1, "text": MARK}], indent=1).encode(),
    "names.jsonl": json.dumps({f"{MARK} {n}" * 9: "a b c d e f" for n in range(2_000)}).encode(),
    "columns.csv": ("," * 500_000 + "\n").encode() * 3 + b'"',
    "names.csv": (f"{MARK} had a fall on Monday and so on and on and on and on,b\n" * 5).encode(),
    "quotes.csv": b'id,text\n1,"' + b'"' * 300_001 + b"\n",
    "returns.csv": b"id,text\r\r\n1,a b c\r\r\n2,d e f\r",
    "nothing but line ends.csv": b"\n" * 2_000_000,
    "a loop of forms.pdf": LOOP,
    "a loop of pages.pdf": pdf("q Q").replace(b"/Kids [5 0 R]", b"/Kids [2 0 R]"),
    "very deep.pdf": pdf("[" * 100_000),
    "long number.pdf": pdf("9" * 1_000_000 + " 0 Td"),
    "a page of pages.pdf": pdf("q Q").replace(b"/Count 1", b"/Count 999999999"),
    "letters without end.pdf": pdf(f"BT /F 12 Tf ({MARK} {'flank ' * 50_000}) Tj ET"),
    "a header only.parquet": b"PAR1" + b"\xff" * 100 + b"\x64\0\0\0PAR1",
    "a footer too long.parquet": b"PAR1" + b"\xff\xff\xff\x7fPAR1",
    "line without end.txt": MARK.encode() * 500_000,
    "half letters.txt": b"\xed\xa0\x80 a text",
}  # fmt: skip

GOOD_AT_FIRST = [
    name for name in HAND_MADE if name.endswith(".xlsx") and name not in ("entities.xlsx", "no sheets.xlsx", "not a workbook.xlsx")
]


@pytest.mark.parametrize("name", HAND_MADE)
def test_a_hostile_file_gives_a_text_or_an_error(tmp_path, name, capfd):
    path = tmp_path / name
    path.write_bytes(HAND_MADE[name])
    with warnings.catch_warnings(record=True):
        found = read(path)
    if name in GOOD_AT_FIRST:
        assert (found[0][0], found[0][1]) == ("row-0", f"{MARK} is fine")
    assert capfd.readouterr() == ("", "")
