"""Documents that share batches against the same documents one by one. A sample is of all of them, divided by their number."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import click

from benchmarks.speed.timing import Sample, measure
from benchmarks.speed.ways import Ours, Translation, load
from benchmarks.speed.workload import NOTE_TOKENS, SHORT_TURNS, Workload, documents, persian_calls
from clinex_edge.documents import Document
from clinex_edge.llama.model import LoadOptions
from clinex_edge.pipeline.pipeline import BATCH, Pipeline

Samples = dict[str, list[Sample]]
Item = TypeVar("Item")


def answers(path: Path, rounds: int, options: LoadOptions) -> Samples:
    """The 13 answers about calls, and about notes, of which a batch of tokens holds several."""
    ours = Ours(load(path, options), Workload())
    calls = documents(BATCH * rounds, ours.model.tokenize)
    notes = documents(BATCH * rounds, ours.model.tokenize, NOTE_TOKENS)
    ours.answer("joint", calls[0])  # computes the constant prefix
    samples: Samples = defaultdict(list)
    for number in range(rounds):
        _compare(samples, "calls", lambda texts: ours.answer("joint", *texts), _batch(calls, number))
        _compare(samples, "notes", lambda texts: ours.answer("joint", *texts), _batch(notes, number))
    ours.model.close()
    return samples


def translations(path: Path, rounds: int, options: LoadOptions) -> Samples:
    """Calls of a few turns; each translation is as long as the right one."""
    translation = Translation(load(path, options))
    tokenize = translation.model.tokenize
    calls = persian_calls(BATCH * rounds, SHORT_TURNS)
    jobs = [translation.jobs([t.fa for t in call.turns], [len(tokenize(t.en)) for t in call.turns]) for call in calls]
    translation.model.hold(translation.prefix)
    samples: Samples = defaultdict(list)
    for number in range(rounds):
        _compare(samples, "translations", translation.run, _batch(jobs, number))
    translation.model.close()
    return samples


def pipeline(rounds: int, options: LoadOptions) -> Samples:
    """Persian calls from end to end, with the embedded model."""
    texts = [Document.from_text(call.text("fa")) for call in persian_calls(BATCH * rounds)]
    samples: Samples = defaultdict(list)
    with Pipeline(options=replace(options, ctx_size=None)) as pipeline:
        pipeline.extract(texts[0])
        for number in range(rounds):
            _compare(samples, "embedded", lambda batch: measure(lambda: list(pipeline.extract_batches([batch]))), _batch(texts, number))
    return samples


def _batch(items: list[Item], number: int) -> list[Item]:
    return items[number * BATCH : (number + 1) * BATCH]


def _compare(samples: Samples, kind: str, run: Callable[[list[Item]], Sample], items: list[Item]) -> None:
    """Time both; which of them comes first takes turns."""
    ways = {f"{kind}_together": [items], f"{kind}_one_by_one": [[item] for item in items]}
    for name in sorted(ways, reverse=len(samples[f"{kind}_together"]) % 2 == 0):
        samples[name].append(Sample(sum(run(batch).seconds for batch in ways[name]) / len(items)))
        click.echo(f"{name}: {samples[name][-1].seconds:.2f} s a document", err=True)
