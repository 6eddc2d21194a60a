"""What a system says of a labelled set, as arrays."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clinex_edge.bench.data import Example, LabelledSet
from clinex_edge.errors import InputError

Array = npt.NDArray[np.float64]
Told = Callable[[str], None]


@dataclass(frozen=True)
class Predictions:
    """The answers of one system: arrays of documents x fields.

    `gold` and `said` hold 1 for yes and 0 for no; nan stands for no label in `gold` and for a missing answer in `said`. `p_yes` is the
    probability of yes, nan where there is none. `groups` holds a number for each document, the same for those that belong together.
    """

    name: str
    ids: tuple[str, ...]
    fields: tuple[str, ...]
    gold: Array
    said: Array
    p_yes: Array
    groups: npt.NDArray[np.int64]

    @classmethod
    def missing(cls, name: str, labelled: LabelledSet) -> "Predictions":
        """Those of a system that has not answered anything."""
        examples, fields = labelled.examples, labelled.fields
        gold = np.array([[example.labels.get(field, np.nan) for field in fields] for example in examples], np.float64)
        shape = len(examples), len(fields)
        return cls(
            name, tuple(example.id for example in examples), fields, gold.reshape(shape), np.full(shape, np.nan), np.full(shape, np.nan),
            _groups(examples),
        )  # fmt: skip

    @classmethod
    def of(cls, name: str, labelled: LabelledSet, records: Iterable[dict[str, Any]], told: Told = lambda text: None) -> "Predictions":
        """Join records in their JSON form to the labelled documents by id.

        An answer is missing where the document has no record, its record failed, or the field is unanswered; `told` hears how many
        records there are, and how many are of other documents. Raises InputError where a document has two records, or none of some
        records is of a labelled document.
        """
        predictions = cls.missing(name, labelled)
        join = Join(name, labelled)
        failed = 0
        for number, record in enumerate(records, 1):
            if (at := join.row(record["id"], f"record {number}")) is None:
                continue
            failed += record["status"] == "failed"
            features = record.get("features", {})
            for column, field in enumerate(labelled.fields):
                feature = features.get(field)
                if feature and feature["value"] is not None:
                    predictions.said[at, column] = feature["value"] == "yes"
                    predictions.p_yes[at, column] = np.nan if feature["p_yes"] is None else feature["p_yes"]
        join.close(told, failed)
        return predictions


class Join:
    """Finds the labelled document of each id that a system names."""

    def __init__(self, name: str, labelled: LabelledSet):
        self._name, self._labelled = name, labelled
        self._rows = {example.id: row for row, example in enumerate(labelled.examples)}
        self._places: dict[str, str] = {}  # by id
        self._strangers = 0
        self.repeated: list[str] = []  # those that have the id of an earlier one, in words

    def row(self, identifier: str, place: str) -> int | None:
        """The document's row in the arrays; None where there is none, or an earlier place had it."""
        if identifier in self._places:
            self.repeated.append(f"{place} has the id of {self._places[identifier]}")
            return None
        self._places[identifier] = place
        if identifier not in self._rows:
            self._strangers += 1
        return self._rows.get(identifier)

    def close(self, told: Told, failed: int = 0) -> None:
        """Say what was found and what was not. Raises InputError for ids that are there twice, or where none is known."""
        if self.repeated:
            more = f", and {len(self.repeated) - 1:,} others" if len(self.repeated) > 1 else ""
            raise InputError(f"{self._name}: {self.repeated[0]}{more}.", "A document can have one record only.")
        known = len(self._places) - self._strangers
        if self._places and not known:
            raise InputError(
                f"{self._name}: none of its {self._strangers:,} ids is one of {self._labelled.name}.",
                "Both must call the documents by the same ids; --id-column names the column that holds them.",
            )
        documents = len(self._labelled.examples)
        if known < documents or failed:
            told(f"{self._name}: of {documents:,} documents {documents - known:,} absent, {failed:,} failed; what is missing counts as no.")
        if self._strangers:
            told(f"{self._name}: documents that are not in {self._labelled.name}, left out: {self._strangers:,}.")


def _groups(examples: Iterable[Example]) -> npt.NDArray[np.int64]:
    """A document without a group is one of its own."""
    numbers: dict[tuple[str, str], int] = {}
    keys = [("id", example.id) if example.group is None else ("group", example.group) for example in examples]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
