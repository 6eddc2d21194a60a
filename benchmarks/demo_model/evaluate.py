"""Measures the quantised model through the product's own pipeline on held-out phrasings.

    python -m benchmarks.demo_model.evaluate [--model FILE.gguf] [--count 300]

Prints median macro-F1 over the 13 fields for English, Persian directly and Persian through its own translation, and chrF of
the translation (sacrebleu's default: 6 character orders, beta 2).
"""

import json
from pathlib import Path
from statistics import median

import click
from sacrebleu.metrics import CHRF
from sklearn.metrics import f1_score

from benchmarks.corpus.generate import Generator
from benchmarks.corpus.phrasings import FIELDS
from clinex_edge.documents import Document
from clinex_edge.pipeline.pipeline import Pipeline


@click.command(help=__doc__)
@click.option("--model", default="clinex-demo", show_default=True)
@click.option("--count", default=300, show_default=True)
@click.option("--seed", default=7, show_default=True)
@click.option("--split", type=click.Choice(["train", "test"]), default="test", show_default=True)
@click.option("--decoder", default="joint", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures as JSON.")
def main(model: str, count: int, seed: int, split: str, decoder: str, out: Path | None) -> None:
    calls = [call for generator in [Generator(split, seed)] for call in (generator.call() for _ in range(count))]
    results: dict[str, object] = {"split": split, "calls": count, "seed": seed, "decoder": decoder}
    hypotheses: list[str] = []
    references: list[str] = []
    for condition, language, translate in (("english", "en", False), ("persian", "fa", False), ("translated", "fa", True)):
        with Pipeline(model, model, decoder=decoder, translate=translate) as pipeline:
            records = [pipeline.extract(Document.from_text(call.text(language), language=language)) for call in calls]
        scores = {}
        for field in FIELDS:
            gold = [call.labels[field] for call in calls]
            predicted = [record.features[field].value == "yes" for record in records]
            scores[field] = round(f1_score(gold, predicted, average="macro", zero_division=0), 4)
        results[condition] = {"median_macro_f1": round(median(scores.values()), 4), "macro_f1": scores}
        if translate:
            for call, record in zip(calls, records, strict=True):
                hypotheses.append(" ".join(turn.text for turn in record.translation))
                references.append(" ".join(turn.en for turn in call.turns))
            results["chrf"] = round(CHRF().corpus_score(hypotheses, [references]).score, 2)
            results["doubtful_turns"] = round(sum(len(r.doubtful_turns) for r in records) / sum(len(r.translation) for r in records), 4)
    print(json.dumps(results, indent=1))
    if out:
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
