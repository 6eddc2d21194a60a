"""Saved prefixes: the same answers, less work, and nothing lost where the cache fails."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clinex_edge.llama.model import LoadOptions, Model
from clinex_edge.llama.prefixes import PrefixStore, prefix_store
from clinex_edge.models.registry import find
from tests.cli_runner import ROOT, environment, run

PREFIX = [5 + i % 200 for i in range(150)]
PROMPT = [*PREFIX, 7, 8, 9]


@pytest.fixture
def model() -> Iterator[Model]:
    model = Model(find(None, "extractor").path, LoadOptions(threads=1))
    yield model
    model.close()


def asked(model: Model, store: PrefixStore, fingerprint: str = "sha") -> np.ndarray:
    """The logits after PROMPT in a model that remembers nothing but the store."""
    model.keep_prefixes(store, fingerprint)
    model.rewind(0)
    model.hold(PREFIX)
    return model.prefill(PROMPT)


def put(store: PrefixStore, key: str, state: bytes) -> None:
    store.save(key, len(state), lambda path: bool(path.write_bytes(state)))


def test_a_saved_prefix_is_not_computed_again_and_answers_the_same(model: Model, tmp_path: Path) -> None:
    model.rewind(0)
    expected = model.prefill(PROMPT)
    store = PrefixStore(tmp_path / "prefixes")
    first = asked(model, store)
    before = model.counters
    second = asked(Model(model.header.path, LoadOptions(threads=1)), store)
    model.rewind(0)
    model.hold(PREFIX)
    model.prefill(PROMPT)
    assert (model.counters - before).prompt == len(PROMPT) - len(PREFIX)
    np.testing.assert_allclose(second, first, atol=1e-4)
    np.testing.assert_allclose(first, expected, atol=0.3)  # computed in batches of another shape


def test_another_model_file_or_context_or_prompt_has_a_prefix_of_its_own(model: Model, tmp_path: Path) -> None:
    store = PrefixStore(tmp_path)
    asked(model, store, "one")
    asked(Model(model.header.path, LoadOptions(threads=1)), store, "two")
    asked(Model(model.header.path, LoadOptions(threads=1, ctx_size=512)), store, "one")
    assert len(store.entries()) == 3


def test_short_prefixes_are_not_worth_a_file(model: Model, tmp_path: Path) -> None:
    store = PrefixStore(tmp_path)
    model.keep_prefixes(store, "sha")
    model.hold([1, 2, 3])
    assert store.entries() == []


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_ignored_and_replaced(model: Model, tmp_path: Path, damage: bytes | None) -> None:
    store = PrefixStore(tmp_path)
    expected = asked(model, store)
    (entry,) = store.entries()
    whole = entry.path.read_bytes()
    entry.path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if damage is None else damage)
    np.testing.assert_allclose(asked(model, store), expected, atol=0.02)
    assert entry.path.read_bytes() == whole


def test_a_state_that_llama_cpp_refuses_is_computed_anew(model: Model, tmp_path: Path) -> None:
    store = PrefixStore(tmp_path)
    expected = asked(model, store)
    (entry,) = store.entries()
    put(store, entry.path.stem, b"\0" * 64)  # whole by its sha256, but no state
    np.testing.assert_allclose(asked(model, store), expected, atol=0.02)


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    store = PrefixStore(tmp_path, limit=1000)
    for second, key in enumerate("abc"):
        put(store, key, b"x" * 200)
        os.utime(tmp_path / f"{key}.prefix", (1000 + second, 1000 + second))
    assert store.load("a", lambda path: True)
    put(store, "d", b"x" * 600)
    assert {entry.path.stem for entry in store.entries()} == {"a", "d"}
    put(store, "too big", b"x" * 2000)
    assert {entry.path.stem for entry in store.entries()} == {"a", "d"}


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_files_are_private(tmp_path: Path) -> None:
    put(PrefixStore(tmp_path), "a", b"x")
    assert (tmp_path / "a.prefix").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_written_costs_time_only(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = PrefixStore(tmp_path / "file" / "prefixes")
    asked(model, store)
    assert store.entries() == []
    assert not store.load("a", lambda path: True)


def test_a_full_disk_costs_time_only(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    store = PrefixStore(tmp_path)
    asked(model, store)
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_cache_is_still_read(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PrefixStore(tmp_path)
    asked(model, store)

    def read_only(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "utime", read_only)
    model.rewind(0)
    before = model.counters
    model.hold(PREFIX)
    assert model.held == PREFIX
    assert model.counters == before


def test_drafts_of_killed_processes_go(tmp_path: Path) -> None:
    old, new = tmp_path / ".a.prefix.0.part", tmp_path / ".b.prefix.0.part"
    old.touch()
    new.touch()
    os.utime(old, (1000, 1000))
    put(PrefixStore(tmp_path), "a", b"x")
    assert not old.exists()
    assert new.exists()


def test_what_an_interrupted_computation_left_is_forgotten(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C arrives when llama.cpp returns: its memory then holds tokens that `held` does not know of."""
    expected = model.prefill(PROMPT)
    submit = model.submit

    def interrupted(entries: list) -> None:
        submit(entries)
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.prefill([*PREFIX[:80], 300, 301])
    monkeypatch.undo()
    np.testing.assert_allclose(model.prefill(PROMPT), expected, atol=0.3)


def test_two_processes_may_save_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from clinex_edge.llama.prefixes import PrefixStore\n"
        "store = PrefixStore(Path(sys.argv[1]), limit=3_000_000)\n"
        "for i in range(60):\n"
        "    key = f'k{i % 7}'; whole = key.encode() * 400_000\n"
        "    store.save(key, len(whole), lambda path: bool(path.write_bytes(whole)))\n"
        "    store.load(key, lambda path: path.read_bytes()[:-32] == whole or sys.exit('torn'))\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment(), cwd=ROOT) for _ in range(2)]
    assert [run.wait(timeout=60) for run in runs] == [0, 0]
    assert sum(entry.size for entry in PrefixStore(tmp_path).entries()) <= 3_000_000
    assert not list(tmp_path.glob(".*"))


def test_cache_info_and_clear(capsys: pytest.CaptureFixture[str]) -> None:
    put(prefix_store(), "a" * 64, b"x" * 5_000_000)
    shown = run(capsys, "cache", "info")
    assert shown.status == 0
    assert "1 prompts\t5.0 MB" in shown.stdout
    assert str(prefix_store().folder) in shown.stdout
    assert run(capsys, "cache", "clear").status == 0
    assert prefix_store().entries() == []
    assert "0 prompts" in run(capsys, "cache", "info").stdout
