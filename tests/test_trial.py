"""Model files that could take the process along: they are tried in another one first."""

import json
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from clinex_edge.errors import ModelError
from clinex_edge.llama import trial
from clinex_edge.llama.trial import try_out
from clinex_edge.models import vetting
from clinex_edge.models.fingerprint import sha256_of
from clinex_edge.models.registry import find
from tests.cli_runner import ROOT, run, spawn
from tests.conftest import EXAMPLES

EMBEDDED = find("clinex-demo").path
DYING = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGABRT)"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copy(EMBEDDED, tmp_path / "copy.gguf"))


@pytest.fixture
def other(copy: Path) -> Path:
    """A good model that nobody vouches for."""
    with copy.open("ab") as file:
        file.write(b"behind the last tensor")
    return copy


def test_a_whole_model_passes(copy: Path) -> None:
    try_out(copy)


def test_what_clinex_edge_refuses_itself_is_told_in_its_words(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"x\.gguf is not a GGUF file") as caught:
        try_out(tmp_path / "x.gguf")
    assert caught.value.hint


def test_what_llama_cpp_refuses_is_told(copy: Path) -> None:
    content = copy.read_bytes()
    copy.write_bytes(content.replace(b"blk.0.attn_q.weight", b"blk.0.attn_x.weight", 1))
    with pytest.raises(ModelError, match=r"llama\.cpp cannot load"):
        try_out(copy)


def test_a_crash_becomes_an_error_with_advice(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.run
    monkeypatch.setattr(trial.subprocess, "run", lambda command, **options: real(DYING, **options))
    with pytest.raises(ModelError, match=rf"copy\.gguf cannot be used: .*\(signal {signal.SIGABRT.value}\)") as caught:
        try_out(copy)
    assert "trust" in caught.value.hint


def test_one_that_never_ends_is_given_up(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.run
    waiting = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(trial, "_SECONDS", 0.5)
    monkeypatch.setattr(trial.subprocess, "run", lambda command, **options: real(waiting, **options))
    with pytest.raises(ModelError, match="was not done"):
        try_out(copy)


def test_a_file_is_tried_once_and_vouched_files_never(other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Path] = []
    monkeypatch.setattr(vetting, "try_out", tried.append)
    vetting.vet(find("clinex-demo"), sha256_of(EMBEDDED))
    assert tried == []
    for _ in range(2):
        vetting.vet(find(str(other)), sha256_of(other))
    assert tried == [other]


def test_a_file_that_failed_is_tried_again(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Path] = []

    def fail(path: Path) -> None:
        tried.append(path)
        raise ModelError("no")

    monkeypatch.setattr(vetting, "try_out", fail)
    for _ in range(2):
        with pytest.raises(ModelError, match="no"):
            vetting.vet(find(str(copy)), "sha of no known file")
    assert tried == [copy, copy]


def test_a_good_file_that_nobody_vouches_for_is_used(other: Path, home: Path) -> None:
    (home / "config").mkdir()
    (home / "config/models.toml").write_text(f"[models.other]\nfile = {json.dumps(str(other))}\nprofile = 'compact'\n")
    done = spawn("extract", str(EXAMPLES / "call-02.en.txt"), "--model", "other", "--format", "jsonl")
    assert done.status == 0
    assert len(json.loads((home / "cache/tried.json").read_text())) == 1
    assert done.records[0]["provenance"]["extractor"]["file"] == "copy.gguf"


def test_a_model_that_kills_llama_cpp_does_not_kill_the_command(capsys: pytest.CaptureFixture[str], copy: Path) -> None:
    one, two = (struct.pack("<Q", 1) + character for character in (b"!", b'"'))
    copy.write_bytes(copy.read_bytes().replace(two, one, 1))  # the vocabulary has a token twice: llama.cpp aborts
    done = run(capsys, "extract", str(EXAMPLES / "call-02.en.txt"), "--model", str(copy))
    assert done.status == 4
    assert f"{copy} cannot be used: llama.cpp failed on it (signal {signal.SIGABRT.value})" in done.stderr
    assert "get it again" in done.stderr


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="forks")
@pytest.mark.parametrize(("seed", "count"), [(7, 150), pytest.param(8, 2000, marks=pytest.mark.slow)])
def test_damaged_files_are_refused_or_usable_but_never_anything_else(copy: Path, seed: int, count: int) -> None:
    command = [sys.executable, "-m", "tests.mutants", str(copy), str(seed), str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=1800, check=True)
    outcomes = json.loads(done.stdout)["outcomes"]
    assert sum(outcomes.values()) == count
    assert outcomes["refused by us"] > count / 5
    assert outcomes["fine"] > count / 5  # the vocabulary holds any bytes
    assert "another exception" not in outcomes
