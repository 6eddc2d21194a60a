"""Measures the quantised model through the product's own pipeline.

    python -m benchmarks.demo_model.evaluate                  calls made of held-out phrasings
    python -m benchmarks.demo_model.evaluate --handwritten    the hand-written set, whose authors saw no phrasing

Prints the median over the 13 fields of macro-F1 for English, for Persian directly and for Persian through its own
translation, and chrF of the translation (sacrebleu's default: 6 character orders, beta 2).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click
from sacrebleu.metrics import CHRF
from sklearn.metrics import f1_score

from benchmarks.corpus.generate import Generator
from benchmarks.corpus.phrasings import FIELDS
from clinex_edge.documents import Document
from clinex_edge.pipeline.pipeline import Pipeline
from clinex_edge.pipeline.record import Record

HANDWRITTEN = Path(__file__).parent.parent / "corpus" / "handwritten.jsonl"
CONDITIONS = {"english": ("en", False), "persian": ("fa", False), "translated": ("fa", True)}


@dataclass(frozen=True)
class Sample:
    fa: str
    en: str
    labels: dict[str, bool]


def synthetic(split: str, seed: int, count: int) -> list[Sample]:
    generator = Generator(split, seed)
    calls = [generator.call() for _ in range(count)]
    return [Sample(call.text("fa"), call.text("en"), call.labels) for call in calls]


def handwritten() -> list[Sample]:
    rows = [json.loads(line) for line in HANDWRITTEN.read_text(encoding="utf-8").splitlines()]
    return [Sample(row["fa"], row["en"], row["labels"]) for row in rows]


def macro_f1(samples: list[Sample], records: list[Record]) -> dict[str, float]:
    """Per field the mean of the F1 of yes and the F1 of no; an unanswered field counts as no."""
    scores = {}
    for field in FIELDS:
        gold = [sample.labels[field] for sample in samples]
        predicted = [record.features[field].value == "yes" for record in records]
        scores[field] = round(float(f1_score(gold, predicted, average="macro", zero_division=0)), 4)
    return scores


@click.command(help=__doc__)
@click.option("--model", default="clinex-demo", show_default=True)
@click.option("--handwritten", "by_hand", is_flag=True, help="Use the hand-written set.")
@click.option("--count", default=300, show_default=True)
@click.option("--seed", default=7, show_default=True)
@click.option("--split", type=click.Choice(["train", "test"]), default="test", show_default=True)
@click.option("--decoder", default="joint", show_default=True)
def main(model: str, by_hand: bool, count: int, seed: int, split: str, decoder: str) -> None:
    samples = handwritten() if by_hand else synthetic(split, seed, count)
    report: dict[str, object] = {"set": "handwritten" if by_hand else split, "documents": len(samples), "decoder": decoder}
    for condition, (language, translate) in CONDITIONS.items():
        with Pipeline(model, model, decoder=decoder, translate=translate) as pipeline:
            records = [pipeline.extract(Document.from_text(getattr(s, language), language=language)) for s in samples]
        scores = macro_f1(samples, records)
        report[condition] = {"median_macro_f1": round(median(scores.values()), 4), "macro_f1": scores}
        if translate:
            texts = [" ".join(turn.text for turn in record.translation) for record in records]
            references = [" ".join(sample.en.split()) for sample in samples]
            turns = sum(len(record.translation) for record in records)
            report["chrf"] = round(CHRF().corpus_score(texts, [references]).score, 2)
            report["doubtful_turns"] = round(sum(len(record.doubtful_turns) for record in records) / turns, 4)
    click.echo(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
