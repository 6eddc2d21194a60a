"""Records into an Excel workbook: a sheet with a row for each document, and one that explains the columns."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clinex_edge.errors import OutputError
from clinex_edge.files.wide import AFTER, BEFORE, Cell, Row, cells, columns

MAX_ROWS, MAX_COLUMNS = 1_048_576, 16_384  # of a sheet
MAX_UNITS = 32_767  # of UTF-16 in a cell
_CUT = " … [cut here]"
_WIDTHS = {"id": 24, "source": 24, "error": 32, "unanswered": 32, "task": 16, "document_sha256": 16, "doubtful_turns": 16}  # characters
_MEANINGS = {
    "id": "The document's name in this run.",
    "source": "Where it was read from.",
    "language": "The language that it is in: fa is Persian, en is English.",
    "status": "complete: every field has an answer. partial: some have none. failed: the document could not be read; see error.",
    "error": "Why a document failed. It has no answers, which does not mean no.",
    "unanswered": "Which fields have no answer, and why.",
    "doubtful_turns": "Numbers of the turns whose translation should not be trusted. Read these in the source.",
    "task": "The set of questions that was asked.",
    "document_sha256": "The fingerprint of the document's text. The same text always has the same fingerprint.",
}
_READING = (
    ("How to read a probability", "It is the model's own, of yes, from 0 to 1. Near 0.5 it is undecided: read the document yourself."),
    ("", "The darker the cell, the higher the probability."),
    ("A hatched cell", "There is no answer. It never means no: ask a person, or read the document."),
    ("A status in bold", "Not everything was answered."),
)


def write_workbook(draft: Path, records: Iterable[Row], fields: Sequence[str], labels: Mapping[str, str]) -> None:
    """Write row by row; memory does not grow with their number. Where most records are Persian the sheet runs from right to left.

    What is kept on disk meanwhile lies in a folder beside `draft` that only its owner can enter, and that is removed at the end.
    Raises OSError, and OutputError where a sheet cannot hold all.
    """
    from xlsxwriter import Workbook
    from xlsxwriter.exceptions import FileCreateError, FileSizeError

    with TemporaryDirectory(dir=draft.parent, prefix=draft.name) as private:
        book = Workbook(str(draft), {"constant_memory": True, "tmpdir": private})
        answers, explained = book.add_worksheet("answers"), book.add_worksheet("columns")
        try:
            _answers(book, answers, records, fields)
            _explain(book, explained, fields, labels)
            book.close()
        except FileCreateError as error:
            raise error.args[0] from None
        except FileSizeError:
            raise _too_much() from None
        finally:
            answers.row_data_fh.close()
            explained.row_data_fh.close()


def _answers(book: Any, sheet: Any, records: Iterable[Row], fields: Sequence[str]) -> None:
    names = columns(fields)
    if len(names) > MAX_COLUMNS:
        raise _too_much()
    bold, probability = book.add_format({"bold": True}), book.add_format({"num_format": "0.00"})
    upright = book.add_format({"bold": True, "rotation": 90})
    nothing = _hatched(book)
    answered = range(len(BEFORE), len(names) - len(AFTER))
    for at, name in enumerate(names):
        sheet.set_column(at, at, 6 if at in answered else _WIDTHS.get(name, 10))
        sheet.write_string(0, at, name, upright if at in answered else bold)
    sheet.set_row(0, min(6 * max(map(len, names)) + 20, 400))  # points
    row = persian = 0
    for row, record in enumerate(records, 1):
        if row >= MAX_ROWS:
            raise _too_much()
        persian += record.get("language") == "fa"
        for at, cell in enumerate(cells(record, fields)):
            if isinstance(cell, float | int):
                sheet.write_number(row, at, cell, probability)
            elif text := _text(cell):
                emphatic = text == "yes" if at in answered else names[at] == "status" and text != "complete"
                sheet.write_string(row, at, text, bold if emphatic else None)
            elif at in answered:
                sheet.write_blank(row, at, None, nothing)
    if 2 * persian > row:
        sheet.right_to_left()
    sheet.freeze_panes(1, 1)
    _print_on_one_width(sheet)
    sheet.autofilter(0, 0, row, len(names) - 1)
    sheet.ignore_errors({"number_stored_as_text": f"A1:XFD{MAX_ROWS}"})
    shade = {"type": "2_color_scale", "min_type": "num", "min_value": 0, "max_type": "num", "max_value": 1}
    for at in answered[1::2]:
        sheet.conditional_format(1, at, max(row, 1), at, {**shade, "min_color": "#FFFFFF", "max_color": "#74A9CF"})


def _explain(book: Any, sheet: Any, fields: Sequence[str], labels: Mapping[str, str]) -> None:
    bold, wrapped = book.add_format({"bold": True, "valign": "top"}), book.add_format({"text_wrap": True, "valign": "top"})
    of_fields = (
        line
        for field in fields
        for line in (
            (field, f"{labels.get(field, field)}: yes or no. Hatched where there is no answer."),
            (f"p_{field}", f"{labels.get(field, field)}: the probability of yes."),
        )
    )
    lines = chain(
        [("Column", "What it holds")],
        ((name, _MEANINGS[name]) for name in BEFORE),
        of_fields,
        ((name, _MEANINGS[name]) for name in AFTER),
        [("", "")],
        _READING,
    )
    sheet.set_column(0, 0, 32)
    sheet.set_column(1, 1, 80)
    sheet.freeze_panes(1, 0)
    _print_on_one_width(sheet)
    for row, (name, meaning) in enumerate(lines):
        sheet.write_string(row, 0, name, _hatched(book) if name == "A hatched cell" else bold)
        sheet.write_string(row, 1, _text(meaning), bold if row == 0 else wrapped)


def _print_on_one_width(sheet: Any) -> None:
    sheet.set_landscape()
    sheet.set_paper(9)  # A4
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(0)


def _hatched(book: Any) -> Any:
    return book.add_format({"pattern": 14, "fg_color": "#BFBFBF", "bg_color": "#FFFFFF"})


def _text(cell: Cell) -> str:
    """What a text cell shows; a text too long for one is cut where it can be seen."""
    text = " ".join(map(str, cell)) if isinstance(cell, list) else str(cell or "")
    if text.startswith("<r>") and text.endswith("</r>"):
        text += "\u200b"  # XlsxWriter would take the text for markup
    units = text.encode("utf-16-le")
    if len(units) > 2 * MAX_UNITS:
        return units[: 2 * (MAX_UNITS - len(_CUT))].decode("utf-16-le", "ignore") + _CUT
    return text


def _too_much() -> OutputError:
    return OutputError("These records do not fit an Excel sheet.", "Write CSV or Parquet instead.")
