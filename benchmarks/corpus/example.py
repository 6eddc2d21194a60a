"""Writes the labelled set of `clinex-edge bench run --example`: invented Persian calls of held-out phrasings, some of one patient.

python -m benchmarks.corpus.example examples/synthetic-calls.jsonl
"""

import json
import random
from pathlib import Path

import click

from benchmarks.corpus.generate import Generator

CALLS, PATIENTS, SEED = 60, 40, 20
DENSITY = 1.6  # fields a call states, against the study's: so that each is there in some of so few calls


@click.command(help=__doc__)
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
def main(out: Path) -> None:
    generator, patients = Generator("test", SEED, density=DENSITY), random.Random(SEED)
    with out.open("w", encoding="utf-8", newline="\n") as file:
        for number in range(1, CALLS + 1):
            call = generator.call(max_turns=16)
            patient = number if number <= PATIENTS else patients.randint(1, PATIENTS)
            row = {
                "id": f"synthetic-{number:02}",
                "patient": f"patient-{patient:02}",
                "text": call.text("fa"),
                "reference": call.text("en"),
                "labels": call.labels,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
