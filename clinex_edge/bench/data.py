"""A labelled set: documents, and what a person says they contain."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clinex_edge.atomic import replaced_privately, write_private
from clinex_edge.errors import InputError, OutputError


@dataclass(frozen=True)
class Example:
    """A labelled document. A field without a label is not in `labels`. Examples of one `group` (a patient) are not independent.

    `reference` is a translation into English made by a person, where there is one.
    """

    id: str
    text: str
    labels: dict[str, bool]
    group: str | None = None
    reference: str | None = None


@dataclass(frozen=True)
class LabelledSet:
    """`name` and `sha256` are those of the file that it was read from; `fields` are those that any example is labelled for."""

    name: str
    sha256: str
    fields: tuple[str, ...]
    examples: tuple[Example, ...]


def write_data(labelled: LabelledSet, path: Path) -> None:
    """Write one JSON object a document to `path`, and beside it, in a file named .json, what holds for all of them.

    Both are readable by their owner only. Raises OutputError.
    """
    digest = hashlib.sha256()
    try:
        with replaced_privately(path) as draft, draft.open("wb") as file:
            for line in _lines(labelled):
                digest.update(line)
                file.write(line)
        heading = {"name": labelled.name, "sha256": labelled.sha256, "fields": labelled.fields, "data_sha256": digest.hexdigest()}
        write_private(path.with_suffix(".json"), json.dumps(heading, indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or type(error).__name__}.", "Name another folder.") from error


def _lines(labelled: LabelledSet) -> Iterator[bytes]:
    for example in labelled.examples:
        row = {name: value for name, value in asdict(example).items() if value is not None}
        yield json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def read_data(path: Path) -> LabelledSet:
    """What `write_data` has written. Raises InputError where it is not there, or not as it was written."""
    try:
        heading: dict[str, Any] = json.loads(path.with_suffix(".json").read_bytes())
        lines = path.read_bytes().split(b"\n")[:-1]
        digest = hashlib.sha256()
        for line in lines:
            digest.update(line + b"\n")
        if digest.hexdigest() != heading["data_sha256"]:
            raise InputError(f"{path} was changed since it was written.", "Run the benchmark again in another folder.")
        examples = tuple(Example(**json.loads(line)) for line in lines)
        return LabelledSet(heading["name"], heading["sha256"], tuple(heading["fields"]), examples)
    except OSError as error:
        raise InputError(f"{path} holds no labelled set that can be read: {error.strerror}.", "Name the folder of a benchmark.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}).", "Run the benchmark again in another folder.") from None
