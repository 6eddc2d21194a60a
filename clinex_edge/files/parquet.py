"""Records into Parquet: texts, probabilities as doubles, doubtful turns as a list of numbers; what is missing is null."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from clinex_edge.files.wide import Cell, Row, cells, columns

_AT_ONCE = 1024  # rows


def write_parquet(draft: Path, records: Iterable[Row], fields: Sequence[str], labels: Mapping[str, str]) -> None:
    """Write a thousand rows at a time. Raises OSError, and OutputError where a column would be there twice."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    probabilities = {f"p_{field}": pyarrow.float64() for field in fields}
    types = {"doubtful_turns": pyarrow.list_(pyarrow.int32()), **probabilities}
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in columns(fields)])
    rows = (cells(record, fields) for record in records)
    with draft.open("wb") as file, ParquetWriter(file, schema, write_page_checksum=True) as writer:
        for some in _in_parts(rows):
            arrays = [pyarrow.array(column, type) for column, type in zip(zip(*some, strict=True), schema.types, strict=True)]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def _in_parts(rows: Iterable[list[Cell]]) -> Iterator[list[list[Cell]]]:
    remaining = iter(rows)
    while some := list(islice(remaining, _AT_ONCE)):
        yield some
