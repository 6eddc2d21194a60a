"""Tuning: what is tried, what is kept, and that it is used."""

import json
import os
from collections.abc import Iterator

import pytest

from clinex_edge.llama import machine, memory
from clinex_edge.llama import tune as llama_tune
from clinex_edge.llama.gguf import GgufHeader, read_header
from clinex_edge.llama.model import LoadOptions, Model, Tuning
from clinex_edge.models import tuned
from clinex_edge.models.registry import find
from clinex_edge.paths import state_dir
from clinex_edge.pipeline.pipeline import Pipeline
from tests.cli_runner import run

TUNING = Tuning(threads=1, batch_threads=1, ubatch=64, flash_attention=True, kv_type="q8_0")


@pytest.fixture
def model() -> Iterator[Model]:
    model = Model(find(None).path, LoadOptions(threads=1))
    yield model
    model.close()


def test_the_fastest_setting_of_each_kind_is_kept(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(model: Model, size: int) -> float:
        tuning = model.tuning
        return 10 - (tuning.ubatch == 128) * 2 - (tuning.batch_threads == 1) - (tuning.kv_type == "q8_0") * 0.1

    monkeypatch.setattr(llama_tune, "_work", seconds)
    monkeypatch.setattr(machine, "physical_cores", lambda: 2)
    trials = list(llama_tune.tune(model, 60))
    assert model.tuning == Tuning(batch_threads=1, ubatch=128)  # an eightieth is no gain
    assert {t.setting for t in trials} == {"defaults", "repack", "batch_threads", "threads", "ubatch", "flash_attention", "kv_type"}
    assert [(t.setting, t.value) for t in trials if t.kept] == [("defaults", ""), ("batch_threads", 1), ("ubatch", 128)]


def test_a_setting_that_llama_cpp_refuses_is_not_kept(model: Model) -> None:
    impossible = Tuning(flash_attention=False, kv_type="q8_0")
    assert llama_tune._timed(model, impossible, 24) == float("inf")
    model.compute_with(Tuning())
    assert len(model.prefill([1, 2, 3])) == model.n_vocab


def test_weights_are_read_again_where_their_order_changes(model: Model) -> None:
    before = model.prefill([1, 2, 3])
    model.compute_with(Tuning(repack=not model.repacked))
    assert model.held == []
    assert model.prefill([1, 2, 3]) == pytest.approx(before, abs=0.1)


@pytest.mark.parametrize(
    ("features", "quantization", "pays"),
    [("AVX512_VNNI = 1", "Q4_K_M", False), ("AVX512_VNNI = 1", "Q8_0", True), ("AVX2 = 1", "Q4_K_M", True), ("NEON = 1", "Q4_K_M", True)],
)
def test_weights_keep_the_files_order_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, features: str, quantization: str, pays: bool
) -> None:
    monkeypatch.setattr(machine, "build_info", lambda: features)
    assert machine.repacking_pays(quantization) is pays


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
def test_a_process_bound_to_one_core_counts_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3})
    assert (machine.physical_cores(), machine.logical_cores()) == (1, 1)


def test_the_time_given_is_kept(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 100_000, 4))
    monkeypatch.setattr(llama_tune.time, "monotonic", lambda: next(clock))
    assert len(list(llama_tune.tune(model, 20))) < 6


def test_the_command_shows_and_remembers_what_it_found(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run(capsys, "tune", "--seconds", "5")
    assert shown.status == 0
    assert shown.stdout.splitlines()[0].startswith("defaults\t\t")
    assert "remembered for this machine" in shown.stderr
    (by_model,) = json.loads((state_dir() / "tunings.json").read_text()).values()
    assert len(by_model) == 1
    run(capsys, "tune", "--forget")
    assert json.loads((state_dir() / "tunings.json").read_text())[machine.description()] == {}
    assert "was not tuned" in run(capsys, "tune", "--forget").stderr


def test_the_pipeline_computes_as_tuned_and_an_option_overrides_it() -> None:
    from clinex_edge.models.fingerprint import sha256_of

    tuned.remember(sha256_of(find(None).path), TUNING)
    with Pipeline() as pipeline:
        record = pipeline.extract("Nurse: Is he in pain?\nSon: Yes, a lot.")
        (model,) = pipeline._models.values()
    assert record.status == "complete"
    assert model.tuning == TUNING
    with Pipeline(options=LoadOptions(threads=2)) as pipeline:
        pipeline.extract("Nurse: Is he in pain?")
        (model,) = pipeline._models.values()
    assert (model.tuning.threads, model.tuning.batch_threads, model.tuning.ubatch) == (2, 2, 64)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"x": 1}', "null"])
def test_a_damaged_memory_of_tunings_is_ignored(content: str) -> None:
    state_dir().mkdir(parents=True)
    (state_dir() / "tunings.json").write_text(content)
    assert tuned.remembered("sha") is None
    tuned.remember("sha", TUNING)
    assert tuned.remembered("sha") == TUNING


def test_another_machine_is_tuned_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    tuned.remember("sha", TUNING)
    monkeypatch.setattr(machine, "description", lambda: "another")
    assert tuned.remembered("sha") is None


def header(gigabytes: float = 4.0) -> GgufHeader:
    metadata = {
        "general.architecture": "llama", "llama.block_count": 32, "llama.embedding_length": 4096, "llama.context_length": 8192,
        "llama.attention.head_count": 32, "llama.attention.head_count_kv": 8,
    }  # fmt: skip
    return GgufHeader(find(None).path, metadata, int(gigabytes * 2**30), 128_000)


def test_memory_is_weights_cache_and_one_batch_of_logits() -> None:
    cache = 8192 * 32 * 8 * 128 * 2 * 2  # 1 GiB for Llama 3.1 8B at 8k in half precision
    assert memory.needed(header(), 8192, 512) == 4 * 2**30 + cache + 64 * 2**20 + 512 * 128_000 * 4


def test_layers_go_to_the_gpu_as_its_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_cpp.llama_supports_gpu_offload", lambda: True)
    layers = []
    for free in (0, 3 * 2**30, 24 * 2**30):
        monkeypatch.setattr(machine, "free_gpu_memory", lambda free=free: free)
        layers.append(memory.layers_for_gpu(header(), 8192, 512))
    assert layers == [0, pytest.approx(15, abs=1), 33]
    assert memory.needed(header(), 8192, 512, 33) < 2**30 < memory.needed(header(), 8192, 512, 16) < memory.needed(header(), 8192, 512)


def test_a_build_without_gpu_offloads_nothing() -> None:
    assert LoadOptions().layers(read_header(find(None).path)) == 0


@pytest.mark.parametrize("value", ["some", "1.5", "--2"])
def test_gpu_layers_are_a_number_or_auto(capsys: pytest.CaptureFixture[str], value: str) -> None:
    done = run(capsys, "tune", f"--gpu-layers={value}")
    assert done.status == 2
    assert "auto" in done.stderr
