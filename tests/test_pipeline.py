"""Documents to records through the public API, on the embedded model."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import clinex_edge
from clinex_edge.decoding import DECODERS, Decision
from clinex_edge.documents import Document
from clinex_edge.errors import InputError, NotEnoughMemoryError
from clinex_edge.llama.model import LoadOptions, Model
from clinex_edge.models.registry import find
from clinex_edge.paths import config_dir
from clinex_edge.pipeline.extract import Extractor, _any
from clinex_edge.pipeline.pipeline import Pipeline
from clinex_edge.pipeline.record import Record
from clinex_edge.tasks import load_task
from tests.cli_runner import ROOT, environment

CALL = "پرستار: تب داره؟\nهمراه: نه، تب نداره.\nپرستار: درد چی؟\nهمراه: بله، از دیشب خیلی درد داره."


def test_the_three_lines_of_the_readme() -> None:
    with clinex_edge.Pipeline(options=LoadOptions(threads=1)) as pipeline:
        record = pipeline.extract(CALL)
    assert record.status == "complete"
    assert record.language == "fa"
    assert [turn.turn for turn in record.translation] == [1, 2, 3, 4]


def test_english_is_not_translated(pipeline: Pipeline) -> None:
    record = pipeline.extract("Nurse: Does he have a fever?\nSon: No, he does not have a fever.")
    assert record.language == "en"
    assert record.translation == []
    assert "translator" not in record.provenance


def test_persian_can_be_read_directly() -> None:
    with Pipeline(translate=False, options=LoadOptions(threads=1)) as pipeline:
        record = pipeline.extract(CALL)
    assert record.translation == []
    assert record.provenance["profile"] == "compact.fa"


def untimed(records: Iterable[Record]) -> list[dict[str, Any]]:
    """What must be the same in every run."""
    rows = []
    for record in records:
        row = {key: value for key, value in record.to_dict().items() if key != "timings"}
        rows.append(row | {"logprobs": [turn.mean_logprob for turn in record.translation]})
    return rows


def calls(count: int) -> list[Document]:
    """Hand-written calls, every fourth of them in English."""
    rows = map(json.loads, (ROOT / "benchmarks/corpus/handwritten.jsonl").read_text(encoding="utf-8").splitlines()[:count])
    return [Document.from_text(row["en" if number % 4 == 3 else "fa"], id=str(number)) for number, row in enumerate(rows)]


def test_a_record_is_the_same_whatever_was_read_before(pipeline: Pipeline) -> None:
    batches = [calls(6)[first : first + 2] for first in (0, 2, 4)]
    expected = [untimed(pipeline.extract_batches([batch])) for batch in batches]
    pipeline.extract(CALL)
    backwards = [untimed(pipeline.extract_batches([batch])) for batch in reversed(batches)]
    assert backwards == expected[::-1]
    assert untimed(pipeline.extract_batches(batches)) == [row for rows in expected for row in rows]


@pytest.mark.parametrize(("decoder", "translate"), [*((decoder, True) for decoder in DECODERS), ("joint", False)])
def test_a_record_is_the_same_in_every_process(decoder: str, translate: bool) -> None:
    code = (
        "import json, sys; from tests.test_pipeline import LoadOptions, Pipeline, calls, untimed\n"
        "with Pipeline(decoder=sys.argv[1], translate=bool(int(sys.argv[2])), options=LoadOptions(threads=1)) as pipeline:\n"
        "    batches = [calls(6)[:3], calls(6)[3:]][int(sys.argv[3]):]\n"
        "    print(json.dumps([untimed(pipeline.extract_batches([batch])) for batch in batches]))\n"
    )

    def run(first: int) -> list[Any]:
        command = [sys.executable, "-c", code, decoder, str(int(translate)), str(first)]
        return json.loads(subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, check=True).stdout)

    whole, resumed = run(0), run(1)
    assert len(whole) == 2
    assert resumed == whole[1:]


def test_documents_of_several_batches_come_in_order(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clinex_edge.pipeline.pipeline.BATCH", 2)
    documents = calls(5)
    records = list(pipeline.extract_all(documents))
    assert [record.id for record in records] == [document.id for document in documents]
    assert untimed(records) == untimed(pipeline.extract_batches([documents[:2], documents[2:4], documents[4:]]))
    assert list(pipeline.extract_all([])) == []


def test_one_that_cannot_be_read_stops_no_other_of_its_batch() -> None:
    long = "Son: Hello.\nSon: " + "he has pain and fever and " * 40
    foreign = "همراه: " + "تب دارد و " * 150
    with Pipeline(options=LoadOptions(ctx_size=256, threads=1)) as pipeline:
        records = list(pipeline.extract_all(["Son: He has a lot of pain.", long, foreign, CALL]))
    assert [record.status for record in records] == ["complete", "partial", "partial", "complete"]
    assert "Turn 2" in (records[1].features["pain"].reason or "")
    assert "translator" in (records[2].features["pain"].reason or "")


def test_documents_that_are_computed_together_share_the_time(pipeline: Pipeline) -> None:
    pipeline.extract(CALL)
    batch = calls(4)
    started = time.perf_counter()
    records = list(pipeline.extract_batches([batch]))
    taken = time.perf_counter() - started
    spent = sum(record.timings["translate_s"] + record.timings["extract_s"] for record in records)
    assert 0.8 * taken < spent <= taken + 0.001
    assert [record.timings["translate_s"] > 0 for record in records] == [True, True, True, False]


def test_loading_is_told_before_it_begins() -> None:
    told: list[tuple[str, int, int]] = []
    with Pipeline(options=LoadOptions(threads=1), progress=lambda *step: told.append(step)) as pipeline:
        pipeline.extract(CALL)
    assert told[0] == ("loading", 0, 0)
    assert [step for step in told if step[0] == "translating"] == [("translating", done, 4) for done in range(1, 5)]
    assert [step for step in told if step[0] == "extracting"] == [("extracting", done, 3) for done in range(1, 4)]


def test_shared_prompt_tokens_are_not_computed_again(pipeline: Pipeline) -> None:
    before = pipeline.counters
    pipeline.extract(CALL)
    used = pipeline.counters - before
    assert used.cached > 0
    assert used.prompt > 0


def test_models_that_do_not_fit_together_take_turns(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    documents = [CALL, "Nurse: Does he sleep?\nSon: No, he does not sleep at night.", "همراه: از دیشب تب داره."]
    expected = [pipeline.extract(document) for document in documents]
    copy = tmp_path / "translator.gguf"
    shutil.copy(find(None, "translator").path, copy)
    in_memory: list[Path] = []
    load, close = Model.__init__, Model.close

    def loading(self: Model, path: Path, options: LoadOptions) -> None:
        assert not in_memory, "two models at once"
        load(self, path, options)
        in_memory.append(path)

    def closing(self: Model) -> None:
        in_memory.remove(self.header.path)
        close(self)

    monkeypatch.setattr(Model, "__init__", loading)
    monkeypatch.setattr(Model, "close", closing)
    entry = f"[models.separate]\nfile = '{copy}'\ntranslation_profile = 'compact'\n"
    (config_dir() / "models.toml").parent.mkdir(parents=True)
    (config_dir() / "models.toml").write_text(entry, encoding="utf-8")
    one = LoadOptions().memory(copy)
    with Pipeline(translator="separate", options=LoadOptions(threads=1)) as alternating:
        monkeypatch.setattr("clinex_edge.llama.machine.free_memory", lambda: int(one * (1.5 if not in_memory else 0.5)))
        records = list(alternating.extract_all(documents))
    for record, alone in zip(records, expected, strict=True):
        assert {f: a.value for f, a in record.features.items()} == {f: a.value for f, a in alone.features.items()}
        assert [t.text for t in record.translation] == [t.text for t in alone.translation]
    assert records[0].provenance["translator"]["name"] == "separate"
    assert records[0].timings["translate_s"] > 0
    assert records[1].timings["translate_s"] == 0


def test_a_model_too_big_for_the_memory_is_refused_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clinex_edge.llama.machine.free_memory", lambda: 10 * 2**20)
    monkeypatch.setattr("llama_cpp.llama_model_load_from_file", None)
    with pytest.raises(NotEnoughMemoryError, match=r"needs about 0\.1 GB of memory; 0\.0 GB is free") as refused, Pipeline() as pipeline:
        pipeline.extract(CALL)
    assert "smaller" in refused.value.hint


def test_plain_strings_are_checked_like_files(pipeline: Pipeline) -> None:
    with pytest.raises(InputError, match="empty"):
        pipeline.extract("  \n ")


def test_windows_are_recorded_and_cover_the_document(pipeline: Pipeline) -> None:
    record = pipeline.extract("\n".join(f"Son: He drank a glass of water at {n} o'clock." for n in range(1, 8)))
    assert record.windows[0][0] == 1
    assert record.windows[-1][1] == 7
    assert all(b[0] <= a[1] for a, b in zip(record.windows, record.windows[1:], strict=False))


def test_a_turn_that_cannot_fit_leaves_every_field_unanswered() -> None:
    with Pipeline(options=LoadOptions(ctx_size=160, threads=1)) as pipeline:
        record = pipeline.extract("Son: Hello.\nSon: " + "he has pain and fever and " * 40)
    assert record.status == "partial"
    assert {feature.value for feature in record.features.values()} == {None}
    assert all("Turn 2" in (feature.reason or "") for feature in record.features.values())


def test_a_small_context_reads_more_windows_and_finds_the_same_symptom() -> None:
    task = load_task("palliative-call")
    text = "\n".join(["Son: The weather is good today."] * 6 + ["Son: My father has a lot of pain in his back."])
    with Pipeline(options=LoadOptions(threads=1)) as wide, Pipeline(options=LoadOptions(ctx_size=128, threads=1)) as narrow:
        turns = [turn.for_model for turn in Document.from_text(text).turns]
        for p in (wide, narrow):
            extractor = Extractor(p._model(p.extractor_spec), task, "compact", "en", "joint")
            assert extractor([turns])[0].decisions["pain"].yes


@pytest.mark.parametrize(
    ("windows", "value"),
    [
        ([Decision(False, 0.1), Decision(True, 0.8)], True),
        ([Decision(False, 0.1), Decision(False, 0.3)], False),
        ([Decision(False, 0.1), Decision(None, None, reason="x")], None),
        ([Decision(True, 0.9), Decision(None, None, reason="x")], True),
        ([Decision(None, None, reason="x")], None),
    ],
)
def test_any_window_says_yes(windows: list[Decision], value: bool | None) -> None:
    assert _any(windows).yes is value
    if value is not None:
        assert _any(windows).p_yes == max(d.p_yes for d in windows if d.p_yes is not None)
