"""Text of .docx and .pdf files: all of it, or an error that says what to do."""

import io
import subprocess
import sys
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
from cli_runner import environment
from pdf import codes, pdf, persian, shown, stream

from clinex_edge.errors import InputError
from clinex_edge.files import office
from clinex_edge.files.office import text_of

LINES = (
    "Nurse: how is the pain \\ today (or now)?",
    "Patient: my flank burns, and I cannot sleep at night.",
    "Nurse: since when? Patient: Monday.",
)
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="{}"/></Relationships>'
)


def docx(body, main="word/document.xml", **parts):
    """The bytes of a Word file with this body."""
    data = io.BytesIO()
    with ZipFile(data, "w", ZIP_DEFLATED) as archive:
        archive.writestr("_rels/.rels", RELATIONS.format(main))
        archive.writestr(main, f'<w:document xmlns:w="{W}" xmlns:mc="urn:mc"><w:body>{body}</w:body></w:document>')
        for name, content in parts.items():
            archive.writestr(f"word/{name}.xml", f'<w:{name} xmlns:w="{W}">{content}</w:{name}>')
    return data.getvalue()


def p(*runs):
    return f"<w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr>{''.join(runs)}</w:p>"


def r(text):
    return f'<w:r><w:rPr><w:b/></w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


@pytest.fixture
def read(tmp_path):
    def read(data, suffix):
        path = tmp_path / f"call{suffix}"
        path.write_bytes(data)
        return text_of(path)

    return read


@pytest.fixture
def refused(read):
    def refused(data, suffix, *said):
        with pytest.raises(InputError) as error:
            read(data, suffix)
        message = f"{error.value} {error.value.hint}"
        assert all(part in message for part in (f"call{suffix}", *said)), message
        assert "flank" not in message

    return refused


# --- .docx ---------------------------------------------------------------------------------------------------------


def sdt(content):
    return f"<w:sdt><w:sdtPr/><w:sdtContent>{content}</w:sdtContent></w:sdt>"


def row(*cells):
    return "<w:tbl><w:tr>" + "".join(f"<w:tc><w:tcPr/>{cell}</w:tc>" for cell in cells) + "</w:tr></w:tbl>"


CHANGES = f"<w:ins>{r('added')}</w:ins><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:moveFrom>{r('from')}</w:moveFrom>"
BOX = f"<mc:AlternateContent><mc:Choice>{r('box')}</mc:Choice><mc:Fallback>{r('box')}</mc:Fallback></mc:AlternateContent>"
WORD = {
    "paragraphs": (p(r("بیمار: "), r("درد &amp; تب")) + p() + p(r("b")), "بیمار: درد & تب\n\nb\n"),
    "marks": (p(r("a"), "<w:r><w:tab/><w:br/><w:noBreakHyphen/></w:r>", r("b")), "a\t\n-b\n"),
    "links and fields": (p(f"<w:hyperlink>{r('link')}</w:hyperlink>", f"<w:fldSimple>{r('field')}</w:fldSimple>"), "linkfield\n"),
    "changes": (p(CHANGES), "added\n"),
    "content controls": (sdt(p(sdt(r("filled in")))), "filled in\n"),
    "table": (row(p(r("1")), p(), p(r("2")) + p(r("3"))) + p(r("4")), "1\t\t2\n3\n4\n"),
    "alternatives": (p(BOX), "box\n"),
    "instructions": (p("<w:r><w:instrText>PAGE</w:instrText></w:r>", r("a")) + "<w:sectPr/>", "a\n"),
}


@pytest.mark.parametrize(("body", "text"), WORD.values(), ids=WORD)
def test_a_word_file_gives_all_its_text_in_order(read, body, text):
    assert read(docx(body), ".docx") == text
    assert read(docx(body, main="word/document2.xml"), ".docm") == text


def test_notes_at_the_foot_are_read_and_headers_are_not(read):
    assert read(docx(p(r("a")), footnotes=f"<w:footnote>{p(r('b'))}</w:footnote>", header1=p(r("c"))), ".docx") == "a\nb\n"


def test_what_python_docx_writes_is_read(read):
    document = pytest.importorskip("docx").Document()
    document.add_heading("Call", 1)
    document.add_paragraph("Nurse: درد دارید؟")
    document.add_table(1, 2).rows[0].cells[1].text = "cell"
    data = io.BytesIO()
    document.save(data)
    assert read(data.getvalue(), ".docx") == "Call\nNurse: درد دارید؟\n\tcell\n"


def test_a_word_file_with_text_elsewhere_is_refused(refused):
    refused(docx(p(r("flank")) + "<w:altChunk/>"), ".docx", "has another document embedded")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (docx(p(r("flank")))[:-30], "damaged"),
        (docx(p(r("flank")) + "<w:p>"), "damaged"),
        (docx(p()), "holds no text"),
        (b"", "damaged"),
        (b"My flank burns.", "damaged"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1flank", "protected by a password, or in an older format"),
    ],
    ids=["cut", "broken XML", "empty", "no bytes", "text", "password"],
)
def test_a_word_file_that_cannot_be_read_is_refused(refused, data, said):
    refused(data, ".docx", said)


def test_a_byte_that_changed_is_noticed(refused):
    data = bytearray(docx(p(r("My flank burns."))))
    data[data.index(b"word/document.xml") + 60] ^= 1
    refused(bytes(data), ".docx", "damaged")


def test_what_unpacks_to_too_much_is_refused_before_it_is_unpacked(refused, monkeypatch):
    monkeypatch.setattr(office, "_UNPACKED", 1_000_000)
    refused(docx(p(r("flank " * 200_000))), ".docx", "larger than 1 MB unpacked")
    billion = (
        '<!DOCTYPE l [<!ENTITY a "flank">'
        + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True))
        + "]>"
    )
    data = io.BytesIO()
    with ZipFile(data, "w") as archive:
        archive.writestr("_rels/.rels", RELATIONS.format("word/document.xml"))
        archive.writestr("word/document.xml", f'{billion}<w:document xmlns:w="{W}"><w:t>&j;</w:t></w:document>')
    refused(data.getvalue(), ".docx", "damaged")


# --- .pdf ----------------------------------------------------------------------------------------------------------

pytest.importorskip("pdfminer")
PICTURE = "/XObject << /I 4 0 R >>"


def test_a_pdf_gives_the_text_of_all_pages(read):
    assert read(pdf(shown(*LINES[:2]), shown(LINES[2])), ".pdf").split("\n") == list(LINES)


def test_an_empty_page_is_no_reason_to_refuse_the_others(read):
    assert read(pdf(shown(LINES[0]), "q Q", ""), ".pdf").split() == LINES[0].split()


def test_a_small_picture_is_no_scan(read):
    assert "flank" in read(pdf(shown(*LINES * 2) + " q 50 0 0 50 0 0 cm /I Do Q", resources=PICTURE), ".pdf")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            pdf(shown("no picture here"), "q 595 0 0 842 0 0 cm /I Do Q", resources=PICTURE),
            ("page 2 is not blank, but holds no text", "OCR"),
        ),
        (pdf(shown("Scanned on Monday") + " /I Do", resources=PICTURE), ("page 1 seems to be a scanned picture", "OCR")),
        (pdf(shown(*LINES), "0 0 m 9 9 l S"), ("page 2 is not blank",)),
        (pdf(shown(*LINES), "").replace(b"/Contents 8 0 R", b""), ("damaged",)),
        (pdf(shown(*LINES), "").replace(b"/Contents 8 0 R", b"/Gone     8 0 R"), ("page 2 is not blank",)),
        (pdf("q Q"), ("holds no text",)),
        (pdf(shown(*LINES), page="/Annots [<< /Subtype /FreeText /Contents (flank) >>]"), ("page 1 has text in fields", "print it")),
        (pdf(shown(*LINES), page="/Annots [<< /Subtype /Widget /FT /Tx /V (flank) >>]"), ("page 1 has text in fields", "print it")),
        (pdf(shown(*LINES), page="/Annots [<< /Subtype /Widget /Parent << /FT /Tx /V (flank) >> >>]"), ("page 1 has text in fields",)),
        (pdf(shown("Please wait"), catalog="/AcroForm << /XFA [] >>"), ("only some programs can show", "print it")),
        (pdf("BT /F 12 Tf (\x01\x02\x03\x04 flank) Tj ET"), ("which letters",)),
        (pdf(shown(*LINES))[:-200], ("damaged",)),
        (pdf(shown(*LINES)).replace(b"/Count 1", b"/Count 2"), ("damaged",)),
        (pdf(shown(*LINES), shown(*LINES)).replace(b"/Count 2", b"/Count 1"), ("damaged",)),
        (pdf(shown(*LINES)).replace(b"6 0 R", b"9 0 R"), ("damaged",)),
        (b"%PDF-1.4 flank", ("damaged",)),
        (b"", ("damaged",)),
    ],
)
def test_a_pdf_with_text_that_cannot_be_had_is_refused(refused, capfd, data, said):
    refused(data, ".pdf", *said)
    assert capfd.readouterr() == ("", "")


CYCLE = stream("/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /L 7 0 R >> >>", b"/L Do")
HIDES = pdf(shown(*LINES * 2) + " /L Do", resources="/XObject << /L 7 0 R >>", more=[CYCLE])


def test_what_pdfminer_passes_over_is_an_error(refused):
    refused(HIDES, ".pdf", "may hide some of its text")


def test_libraries_say_nothing_on_stderr(tmp_path):
    import openpyxl

    (tmp_path / "a.pdf").write_bytes(HIDES)
    book = openpyxl.Workbook()
    book.active.append(["id", "text"])
    book.active.append([10**12, "flank"])
    book.active["A2"].number_format = "yyyy-mm-dd"
    book.save(tmp_path / "a.xlsx")
    code = """
import sys
from clinex_edge.errors import InputError
from clinex_edge.files.sources import Reading, sources
for source in sources(sys.argv[1:], Reading()):
    try:
        source.read()
    except InputError as error:
        print(error)
"""
    command = [sys.executable, "-c", code, "a.pdf", "a.xlsx"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env=environment())
    assert done.stdout == "a.pdf is damaged, or made in a way that may hide some of its text.\n" and done.stderr == ""


def test_form_fields_that_hold_no_text_do_not_matter(read):
    page = "/Annots [<< /Subtype /Widget /FT /Btn /V /Off >> << /Subtype /Link >> << /Subtype /Widget /FT /Tx /V () >>]"
    assert "flank" in read(pdf(shown(*LINES), page=page), ".pdf")


def test_a_pdf_with_a_password_is_refused(refused):
    key = "/Filter /Standard /V 1 /R 2 /P -44 /O <{0}> /U <{0}>".format("00" * 32)
    for encryption in (key, key.replace("Standard", "Another")):
        data = pdf(shown(*LINES)).replace(b"/Root", f"/Encrypt << {encryption} >> /Root".encode())
        refused(data, ".pdf", "password", "print it")


# --- .pdf in Persian -----------------------------------------------------------------------------------------------

SHAPES = (" ", "د", "ر", "ت", "ب", "س", "لا", "م", "ی", "خ", "و", "ا", "(", ")", "5", "m", "g", "", "\ufeb3", "\ufefc", "\ufee1")


def seen(*texts):
    return codes(*texts, shapes=SHAPES)


def page(*operations):
    return persian(f"BT /P 12 Tf 16 TL 300 700 Td {' '.join(operations)} ET", shapes=SHAPES)


PAIN = seen(*"درد"[::-1])
ZWNJ = "/Span << /ActualText <feff200c> >> BDC"


@pytest.mark.parametrize(
    ("operations", "text"),
    [
        ([f"{seen('م', 'لا', 'س')} Tj T* {PAIN} Tj"], "سلام\nدرد"),
        ([f"{seen(*')', *'درد تب'[::-1], *'(')} Tj"], "(درد تب)"),
        ([f"{seen(*'mg 5 ', *'درد'[::-1])} Tj"], "درد 5 mg"),
        ([f"{PAIN} Tj 40 0 Td {seen('ب', 'ت')} Tj"], "تب\tدرد"),
        ([f"{seen(*'خرد'[::-1])} Tj {ZWNJ} {seen(' ')} Tj EMC 18 0 Td [{seen('ی')} 0 {seen('م')}] TJ"], "می\u200cخرد"),
        ([f"{seen('م')} Tj -6 0 Td {seen('ی')} Tj {ZWNJ} EMC -6 0 Td {seen('خ')} Tj -6 0 Td {seen('ر')} Tj"], "می\u200cخر"),
        ([f"{seen('ر')} Tj 6 0 Td {seen('خ')} Tj {ZWNJ} EMC 6 0 Td {seen('ی')} Tj 6 0 Td {seen('م')} Tj"], "می\u200cخر"),
        ([f"/Span << /ActualText <feff062f0631062f> >> BDC {seen('م', 'م')} Tj EMC"], "درد"),
        ([f"/Span /Said BDC {seen('م', 'م')} Tj EMC"], "درد"),
        ([f"{seen(chr(0xFEE1), chr(0xFEFC), chr(0xFEB3))} Tj"], "سلام"),
        ([f"0 1 -1 0 300 400 Tm {seen('ب', 'ت')} Tj 0 -16 Td {PAIN} Tj"], "تب\nدرد"),
        ([f"{seen('ب', 'ت')} Tj 5 Ts {seen(*' 5')} Tj"], "5 تب"),
    ],
    ids=[
        "ligature", "brackets", "dose", "cells", "gap that is drawn", "gap in order of speech", "gap in order of sight", "other text",
        "other text by name", "presentation forms", "turned", "raised",
    ],
)  # fmt: skip
def test_a_pdf_in_persian_is_read_in_the_order_of_speech(read, operations, text):
    said = "/Properties << /Said << /ActualText <feff062f0631062f> >> >>"
    data = persian(f"BT /P 12 Tf 16 TL 300 700 Td {' '.join(operations)} ET", shapes=SHAPES, resources=said)
    assert read(data, ".pdf") == text


@pytest.mark.parametrize(
    ("operations", "said"),
    [
        ([f"{seen(*'را')} Tj"], "from their ends"),
        ([f"{seen('د')} Tj 3 Ts {seen('ر')} Tj 6 Ts {seen('د')} Tj"], "page 1 is in Nastaliq"),
        ([f"{seen('', 'م')} Tj"], "which letters"),
        ([f"{PAIN} Tj <fe> Tj"], "which letters"),
    ],
)
def test_a_pdf_in_persian_whose_letters_or_order_cannot_be_known_is_refused(refused, operations, said):
    refused(page(*operations), ".pdf", said)


def test_a_page_with_too_much_on_it_is_refused(refused, monkeypatch):
    from clinex_edge.files import pdf as reader

    monkeypatch.setattr(reader, "MAX_CHARACTERS", 90)
    refused(pdf(shown(*LINES)), ".pdf", "more than 90 characters")
    monkeypatch.setattr(reader, "MAX_CHARACTERS", 1_000)
    monkeypatch.setattr(reader, "_MOST_DRAWN", 2)
    refused(pdf(shown(*LINES) + " /I Do" * 3, resources=PICTURE), ".pdf", "more than 2 drawings")
