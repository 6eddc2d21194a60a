"""Benchmark folders with invented answers, written by the same code as real ones but without a model."""

import hashlib
import json
import os

import numpy as np

from clinex_edge.bench.data import Example, LabelledSet
from clinex_edge.bench.folder import Plan, System, begin_bench
from clinex_edge.runs.run import Run
from clinex_edge.tasks import load_task

SECRET = "دیروز تا صبح از درد نخوابید و فقط نام مادرش را می‌گفت."
SECRET_TRANSLATION = "He did not sleep for pain until morning and only said his mother's name."


def labelled_set(documents, fields=None, seed=0, groups=2, unlabelled=0.03, one_class=()):
    """Invented labels; `groups` documents are of one patient, the fields of `one_class` are never yes. Ids look like names."""
    random = np.random.default_rng(seed)
    fields = fields or load_task("palliative-call").field_ids
    prevalence = random.uniform(0.05, 0.3, len(fields))
    examples = []
    for number in range(documents):
        is_yes = random.random(len(fields)) < prevalence
        is_known = random.random(len(fields)) >= unlabelled
        labels = {field: bool(yes) and field not in one_class for field, yes, known in zip(fields, is_yes, is_known, strict=True) if known}
        text = f"پرستار: سلام {number}\nهمراه بیمار: {SECRET}"
        examples.append(Example(f"rahimi-{number}", text, labels, f"patient {number // groups}" if groups else None))
    return LabelledSet("calls.csv", "ab" * 32, tuple(fields), tuple(examples))


def records(labelled, skill, seed, decoder="joint", seconds=2.0, translated=True, lost=()):
    """Answers that are better the higher `skill` is; those of "free" have no probability and are missing now and then."""
    random = np.random.default_rng(seed)
    for number, example in enumerate(labelled.examples):
        head = {"schema": 1, "id": example.id, "source": "data.jsonl", "language": "fa", "task": "palliative-call"}
        head["document_sha256"] = hashlib.sha256(example.text.encode()).hexdigest()
        if number in lost:
            yield {**head, "status": "failed", "error": "The document was lost."}
            continue
        features = {}
        for field in labelled.fields:
            leaning = skill * (1 if example.labels.get(field) else -1) + random.normal(0, 1.2) - 0.6
            value, p_yes = "yes" if leaning > 0 else "no", round(float(1 / (1 + np.exp(-2 * leaning))), 4)
            if decoder == "free" and random.random() < 0.05:
                features[field] = {"value": None, "p_yes": None, "status": "unanswered", "reason": "no answer", "evidence": []}
            else:
                features[field] = {"value": value, "p_yes": None if decoder == "free" else p_yes, "status": "answered", "evidence": []}
        took = random.lognormal(np.log(seconds), 0.3)
        timings = {"load_s": 0.5 if number == 0 else 0.0, "translate_s": round(0.7 * took, 3) if translated else 0.0}
        timings |= {"extract_s": round(0.3 * took, 3), "prompt_tokens": 400, "cached_tokens": 100, "generated_tokens": 60}
        yield {
            **head,
            "status": "complete" if all(feature["value"] for feature in features.values()) else "partial",
            "features": features,
            "translation": [{"turn": 1, "text": SECRET_TRANSLATION, "mean_logprob": -0.2}] if translated else [],
            "windows": [[1, 1]],
            "provenance": {"clinex_edge": "0.1.0", "decoder": decoder, "extractor": {"name": "a-model", "quantization": "Q4_K_M"}},
            "timings": timings,
        }


def made_bench(folder, labelled, models=("clinex-demo",), conditions=("translated", "native"), decoders=("joint",), baselines=(), lost=()):
    """A whole benchmark; model and baseline i have skill 0.4, 0.8, 1.2, ... in turn."""
    systems = tuple(System(model, model, condition, decoder) for model in models for condition in conditions for decoder in decoders)
    plan = Plan(models, conditions=conditions, decoders=decoders)
    bench = begin_bench(folder, plan, systems, labelled, "2026-11-21T12:00:00+00:00")
    for number, system in enumerate(systems):
        with Run(bench.run_folder(system), {"task": "palliative-call"}, {}, len(labelled.examples)) as run:
            found = records(
                labelled, 0.4 * (number % 5 + 1), number, system.decoder, 1.5 ** (number % 7), system.condition == "translated", lost
            )
            for record in found:
                run.keep(record)
            run.note_use({"process": 1, "documents": len(labelled.examples), "seconds": 9.0, "cpu_s": 12.5, "peak_bytes": 3_000_000_000})
    for number, name in enumerate(baselines):
        bench.baseline_file(name).parent.mkdir(exist_ok=True, mode=0o700)
        lines = (json.dumps({**row, "timings": {}}) for row in records(labelled, 0.4 * (number + 1), 100 + number, translated=False))
        bench.baseline_file(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return bench


def without_waiting(monkeypatch):
    """Thousands of records are written without waiting for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
