"""Every document that the paths of a command line stand for: files, members of folders, rows of tables, standard input."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from clinex_edge.documents import LANGUAGES, Document, as_text
from clinex_edge.errors import InputError, unknown_name
from clinex_edge.files import columns, office, tables
from clinex_edge.files.read import check_encoding, read_document, short_name, unreadable

Told = Callable[[str], None]
_TEXT = (".txt", ".text", ".md")
_SAVE_AS = {
    ".doc": "a .docx file, or plain text", ".rtf": "a .docx file, or plain text", ".odt": "a .docx file, or plain text",
    ".xls": "an .xlsx file, or CSV", ".xlsb": "an .xlsx file, or CSV", ".ods": "an .xlsx file, or CSV",
    ".json": "JSON Lines (.jsonl): one object a line",
}  # fmt: skip
KNOWN = (*_TEXT, *tables.SUFFIXES, *office.SUFFIXES)


@dataclass(frozen=True)
class Reading:
    """How files are read; None leaves a choice to us."""

    encoding: str = "utf-8"
    language: str | None = None
    pattern: str | None = None  # of the members of a folder: their names, or their paths in it
    id_column: str | None = None
    text_column: str | None = None


@dataclass(frozen=True)
class Source:
    """One document that can be read: `read` raises InputError. `name` says where it comes from."""

    id: str
    name: str
    read: Callable[[], Document]


def sources(paths: Sequence[str], reading: Reading, told: Told = lambda text: None) -> Iterator[Source]:
    """The documents of all paths, in order, each with an id of its own; rows of a table are read as they are asked for.

    What cannot be read is a source too, whose `read` says why. `told` hears which columns of a table are read, and what is left out.
    Memory grows with the ids only, and with the texts of an .xlsx file while it is open.
    Raises UsageError for an unknown encoding, language or column.
    """
    check_encoding(reading.encoding)
    if reading.language is not None and reading.language not in LANGUAGES:
        raise unknown_name("language", reading.language, list(LANGUAGES))
    return _told_apart(_found(paths, replace(reading, encoding=reading.encoding.lower()), told))


def _told_apart(found: Iterator[Source]) -> Iterator[Source]:
    """The second source of an id gets "#2", and so on."""
    taken: set[str] = set()
    times: Counter[str] = Counter()
    for source in found:
        identifier = base = as_text(source.id)
        while identifier in taken:
            times[base] += 1
            identifier = f"{base}#{times[base] + 1}"
        taken.add(identifier)
        yield Source(identifier, source.name, partial(_read_as, source.read, identifier, source.name))


def _read_as(read: Callable[[], Document], identifier: str, name: str) -> Document:
    return replace(read(), id=identifier, source=name)


def _found(paths: Sequence[str], reading: Reading, told: Told) -> Iterator[Source]:
    folders = {path for path in paths if path != "-" and os.path.isdir(path)}
    short = Counter(short_name(path) for path in paths if path not in folders)
    several = sum(path in folders for path in paths) > 1
    for path in paths:
        if path in folders:
            yield from _of_folder(Path(path), reading, told, several)
        else:
            name = short_name(path)
            yield from _of_file(path, path if short[name] > 1 else name, reading, told)


def _of_folder(folder: Path, reading: Reading, told: Told, several: bool) -> Iterator[Source]:
    """Members are named by their path in the folder; where there are several folders, so that ids stay as they are when files are
    added, by the folder as well."""
    empty = True
    others: Counter[str] = Counter()
    for path, error in _members(folder):
        relative = path.relative_to(folder).as_posix()
        identifier = path.as_posix() if several or path == folder else relative
        if error and (os.path.isdir(path) or _is_wanted(relative, reading.pattern)):
            yield _failing(identifier, path, error)
        elif _is_wanted(relative, reading.pattern):
            yield from _of_file(str(path), identifier, reading, told)
        else:
            others[path.suffix.lower() or path.name] += 1
            continue
        empty = False
    if empty:
        wanted = reading.pattern or ", ".join(f"*{suffix}" for suffix in KNOWN)
        error = InputError(f"{folder} holds no file to read ({wanted}).", "Name the files with --pattern, for example: --pattern '*.log'")
        yield _failing(folder.as_posix(), folder, error)
    elif others and not reading.pattern:
        kinds = ", ".join(sorted(others)[:10])
        told(f"{folder}: files of other kinds that are left out: {others.total()} ({kinds}).")


def _is_wanted(relative: str, pattern: str | None) -> bool:
    if pattern:
        return fnmatch(relative, pattern) or fnmatch(Path(relative).name, pattern)
    return Path(relative).suffix.lower() in (*KNOWN, *_SAVE_AS)


def _members(folder: Path) -> Iterator[tuple[Path, InputError | None]]:
    """All files below a folder that are not hidden, by name, and what can not be read there with the reason.

    A link to a folder is not followed: what it leads to is either met anyway or named as an error.
    """
    top = Path(os.path.realpath(folder))
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        if path == folder or (os.path.isdir(path) and not path.is_symlink()):
            try:
                names = os.listdir(path)
                os.stat(os.path.join(path, "."))  # a folder may be listed and yet not be entered
            except OSError as error:
                yield path, unreadable(path, error)
            else:
                waiting += [path / name for name in sorted(names, reverse=True) if not name.startswith(".")]
        elif os.path.isdir(path):
            target = Path(os.path.realpath(path))
            if not (target.is_relative_to(top) or top.is_relative_to(target)):
                yield path, InputError(f"{path} is a link to a folder, which is not followed.", f"Name that folder too: {target}")
        elif os.path.isfile(path):
            yield path, None
        else:
            yield path, InputError(f"{path} is not a file that can be read.", "It is a link that leads nowhere, a pipe or a device.")


def _of_file(path: str, identifier: str, reading: Reading, told: Told) -> Iterator[Source]:
    file = Path(path)
    suffix = file.suffix.lower() if path != "-" else ""
    if suffix in tables.SUFFIXES:
        yield from _of_table(file, identifier, reading, told)
    elif suffix in office.SUFFIXES:
        yield Source(identifier, file.name, partial(_office_document, file, reading.language))
    elif suffix in _SAVE_AS:
        error = InputError(f"{path} is a {suffix} file, which cannot be read.", f"Save it as {_SAVE_AS[suffix]}.")
        yield _failing(identifier, file, error)
    else:
        yield Source(identifier, "-" if path == "-" else file.name, partial(read_document, path, reading.encoding, reading.language))


def _of_table(path: Path, base: str, reading: Reading, told: Told) -> Iterator[Source]:
    try:
        for entry in columns.entries(path, reading.encoding, reading.id_column, reading.text_column, told):
            name = f"{path.name}:{entry.place}"
            read = partial(_row_document, entry.text, f"{path}, row {entry.place}", reading.language)
            yield Source(entry.id or f"{base}:{entry.place}", name, read)
    except InputError as error:
        yield _failing(base, path, error)


def _failing(identifier: str, path: Path, error: InputError) -> Source:
    return Source(identifier, path.name or str(path), partial(_row_document, error, str(path), None))


def _row_document(text: str | InputError, name: str, language: str | None) -> Document:
    if isinstance(text, InputError):
        raise text
    return _document(text, name, language)


def _office_document(path: Path, language: str | None) -> Document:
    return _document(office.text_of(path), str(path), language)


def _document(text: str, name: str, language: str | None) -> Document:
    try:
        return Document.from_text(text, language=language)
    except InputError as error:
        raise InputError(f"{name}: {error}", error.hint) from None
