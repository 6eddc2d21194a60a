"""clinex-edge doctor: what it finds, what it advises, its exit status, and that its JSON names nobody."""

import contextlib
import json
import platform
import re
import shutil
import subprocess
import sys
import types

import pytest
from cli_runner import run

from clinex_edge import paths
from clinex_edge.llama import features, machine
from clinex_edge.llama import model as llama_model
from clinex_edge.models import checkup, store
from clinex_edge.models.add import add
from clinex_edge.models.registry import find

DEMO = "clinex-demo"
X86_BUILD = "CPU : SSE3 = 1 | SSSE3 = 1 | AVX = 1 | AVX2 = 1 | F16C = 1 | FMA = 1 | LLAMAFILE = 1 | REPACK = 1 | "
OLD_BUILD = "CPU : SSE3 = 1 | SSSE3 = 1 | AVX = 1 | REPACK = 1 | "
ARM_BUILD = "CPU : NEON = 1 | ARM_FMA = 1 | DOTPROD = 1 | SVE_CNT = 16 | REPACK = 1 | "
X86 = "processor\t: 0\nmodel name\t: A Processor\nflags\t\t: fpu sse2 pni ssse3 fma avx f16c avx2 bmi2\n"
OLD_X86 = "processor\t: 0\nflags\t\t: fpu sse2 pni ssse3 avx\n"
NEW_X86 = X86.replace("avx2", "avx2 avx512f avx512_vnni avx_vnni")
ARM = "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp\n"
NEW_ARM = ARM.replace("asimddp", "asimddp i8mm sve")


@pytest.fixture
def machine_of(tmp_path, monkeypatch):
    """A function that puts another processor and another build of llama.cpp in the place of this machine's."""

    def put(cpuinfo, build, status=0, stderr=""):
        path = tmp_path / "cpuinfo"
        if cpuinfo is not None:
            path.write_text(cpuinfo)
        done = subprocess.CompletedProcess([], status, build, stderr)
        fake = types.SimpleNamespace(run=lambda *_, **__: done, TimeoutExpired=subprocess.TimeoutExpired)
        monkeypatch.setattr(features, "_CPUINFO", path)
        monkeypatch.setattr(features, "subprocess", fake)

    return put


@pytest.fixture
def ready(machine_of, monkeypatch):
    """A machine with nothing to complain of."""
    machine_of(X86, X86_BUILD)
    monkeypatch.setattr(machine, "free_memory", lambda: 4 * 10**9)
    monkeypatch.setattr(checkup, "_total_memory", lambda: 8 * 10**9)
    monkeypatch.setattr(checkup, "_busy", lambda: 0.0)


@pytest.fixture
def added(tmp_path):
    """A copy of the embedded model, added where it lies as `our-own`."""
    path = tmp_path / "our-own.gguf"
    shutil.copy(find(DEMO).path, path)
    return add(path, "our-own")[0]


def examine(**options):
    return {finding.topic: finding for finding in checkup.checkup(**options)}


# --- the processor -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpuinfo", "build", "state", "words"),
    [
        (X86, X86_BUILD, "ok", "AVX2, FMA, F16C"),
        (X86, OLD_BUILD, "warning", "has AVX2, FMA, F16C, unused"),
        (NEW_X86, X86_BUILD, "warning", "has AVX_VNNI, AVX512, AVX512_VNNI, unused"),
        (OLD_X86, X86_BUILD, "problem", "compiled for AVX2, FMA, F16C, which this processor lacks"),
        (OLD_X86, OLD_BUILD, "ok", "none of the fast ones"),
        (ARM, ARM_BUILD, "ok", "NEON, DOTPROD"),
        (NEW_ARM, ARM_BUILD, "warning", "has MATMUL_INT8, unused"),
        (ARM.replace("asimddp", ""), ARM_BUILD, "problem", "compiled for DOTPROD"),
        (None, ARM_BUILD, "note", "not known"),
        ("processor\t: 0\nisa\t: rv64imafdc\n", "CPU : RISCV_V = 1 | ", "note", "not known"),
    ],
)
def test_features_of_the_build_are_compared_with_the_processors(machine_of, cpuinfo, build, state, words):
    machine_of(cpuinfo, build)
    finding = checkup._processor()
    assert finding.state == state
    assert words in finding.text
    assert (features.COMPILE in finding.advice) == (state in ("warning", "problem"))


def test_this_builds_features_are_found():
    assert features.used() & {"SSE3", "NEON"}


@pytest.mark.parametrize(
    ("status", "stderr", "words"),
    [
        (-4, "", "illegal instruction"),
        (0xC000001D, "", "illegal instruction"),
        (1, "Traceback\nOSError: libgomp.so.1: not found\n", "libgomp"),
        (-11, "", "status -11"),
    ],
)
def test_a_build_that_does_not_start_is_one_problem_and_not_loaded(capsys, machine_of, status, stderr, words):
    machine_of(X86, "", status, stderr)
    done = run(capsys, "doctor", "--probe")
    assert done.status == 1
    (problem,) = (line for line in done.stdout.splitlines() if line.startswith("problem"))
    assert words in problem
    assert features.COMPILE in problem
    assert "data folder" in done.stdout
    assert DEMO not in done.stdout


def test_a_build_for_another_processor_is_not_measured(machine_of):
    machine_of(OLD_X86, X86_BUILD)
    assert examine(probe=True)[DEMO].facts["measured"] is False


# --- the models ----------------------------------------------------------------------------------------------------


def test_a_machine_that_is_ready(capsys, ready):
    done = run(capsys, "doctor")
    assert (done.status, done.stderr) == (0, "")
    states = {line.split("\t")[1]: line.split("\t")[0] for line in done.stdout.splitlines()}
    assert set(states.values()) == {"ok", "note"}
    assert states[DEMO] == states["offline guard"] == states["CPU features"] == "ok"
    assert states["aya-expanse-8b"] == states["speed"] == "note"
    assert "needs 6.7 GB: more than is free now" in done.stdout
    assert "needs 1.7 GB: fits" in done.stdout


def test_a_model_that_can_never_fit_is_a_problem_where_it_is_here(capsys, ready, monkeypatch):
    monkeypatch.setattr(machine, "free_memory", lambda: 10**6)
    later = examine()[DEMO]
    assert (later.state, later.facts["fits"]) == ("warning", "later")
    assert "Close other programs" in later.advice
    assert run(capsys, "doctor").status == 0
    monkeypatch.setattr(checkup, "_total_memory", lambda: 2 * 10**6)
    findings = examine()
    assert (findings[DEMO].state, findings["aya-expanse-8b"].state) == ("problem", "note")
    assert "more than this machine has" in findings["aya-expanse-8b"].text
    assert "seconds_a_call" not in findings[DEMO].facts
    assert run(capsys, "doctor").status == 1


def test_a_changed_file_is_found_by_size_at_once_and_by_bytes_on_demand(capsys, ready, added):
    assert "size right" in examine()["our-own"].text
    assert "sha256 right" in examine(verify=True)["our-own"].text
    data = bytearray(added.path.read_bytes())
    data[-1] ^= 1
    added.path.write_bytes(data)
    assert examine()["our-own"].state == "ok"
    changed = examine(verify=True)["our-own"]
    assert (changed.state, "models rm our-own" in changed.advice) == ("problem", True)
    added.path.write_bytes(data[:-1])
    done = run(capsys, "doctor")
    assert done.status == 1
    assert f"{len(data):,} were checked in" in done.stdout


def test_a_missing_file_is_a_problem_where_it_was_installed(ready, added):
    added.path.unlink()
    finding = examine()["our-own"]
    assert finding.state == "problem"
    assert str(added.path) in finding.text


def test_a_missing_default_model_is_a_problem(ready):
    paths.config_dir().mkdir(parents=True)
    (paths.config_dir() / "models.toml").write_text('[defaults]\nextractor = "qwen2.5-1.5b"\n')
    finding = examine()["qwen2.5-1.5b"]
    assert finding.state == "problem"
    assert "models pull qwen2.5-1.5b" in finding.advice


def test_a_file_that_is_no_model_is_a_problem(ready, tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    paths.config_dir().mkdir(parents=True)
    (paths.config_dir() / "models.toml").write_text(f'[models.broken]\nfile = "{tmp_path}/broken.gguf"\n')
    assert examine()["broken"].state == "problem"


def test_an_unchecked_file_a_part_and_an_unreadable_entry_are_warnings(ready, added, tmp_path):
    store.folder("gemma-3-1b").mkdir(parents=True)
    (store.folder("our-own") / "entry.json").write_text("{")
    paths.config_dir().mkdir(parents=True)
    (paths.config_dir() / "models.toml").write_text(f'[models.unchecked]\nfile = "{added.path}"\n')
    findings = examine()
    assert {findings[name].state for name in ("gemma-3-1b", "our-own", "unchecked")} == {"warning"}
    assert findings["gemma-3-1b"].advice.endswith("models pull gemma-3-1b")
    assert "models rm our-own" in findings["our-own"].advice
    assert f"models add {added.path} --name unchecked" in findings["unchecked"].advice


@pytest.mark.parametrize("registry", ["[", '[defaults]\nextractor = "nobody"\n'])
def test_a_broken_registry_is_a_problem(capsys, ready, registry):
    paths.config_dir().mkdir(parents=True)
    (paths.config_dir() / "models.toml").write_text(registry)
    done = run(capsys, "doctor")
    assert done.status == 1
    assert "problem\tmodels\t" in done.stdout


def test_the_probe_measures_what_is_here_and_only_that(capsys, ready):
    done = run(capsys, "doctor", "--probe", "--json")
    assert done.status == 0
    models = {f["topic"]: f["facts"] for f in json.loads(done.stdout)["findings"] if "here" in f["facts"]}
    assert models[DEMO]["measured"] is True
    assert 0 < models[DEMO]["seconds_a_call"] < 20
    assert models["aya-expanse-8b"]["measured"] is False


def test_a_busy_machine_is_told_where_it_is_measured(ready, monkeypatch):
    monkeypatch.setattr(checkup, "_busy", lambda: 50.0)
    assert examine(probe=True)["load"].state == "warning"
    assert "load" not in examine()


def test_the_probe_keeps_its_time(ready, added, monkeypatch):
    monkeypatch.setattr(checkup, "_PROBE", 0.0)
    assert not any(finding.facts.get("measured") for finding in examine(probe=True).values())
    monkeypatch.setattr(checkup, "_PROBE", 1.0)
    budgets = []
    monkeypatch.setattr(checkup, "_measure", lambda spec, budget: budgets.append(budget) or 0.1)
    examine(probe=True)
    assert budgets == [pytest.approx(0.5, abs=0.1), pytest.approx(1.0, abs=0.1)]


def test_a_model_that_cannot_be_loaded_is_a_problem_of_the_probe(ready, monkeypatch):
    monkeypatch.setattr(llama_model.llama_cpp, "llama_model_load_from_file", lambda *_: None)
    assert examine()[DEMO].state == "ok"
    assert examine(probe=True)[DEMO].state == "problem"


def test_estimates_follow_size_and_cores(ready, monkeypatch):
    seconds = []
    for cores in (2, 4, 64):
        monkeypatch.setattr(machine, "physical_cores", lambda cores=cores: cores)
        seconds.append(examine()["qwen2.5-1.5b"].facts["seconds_a_call"])
    assert seconds == pytest.approx([3.35, 1.68, 0.84], abs=0.01)


# --- folders and guard ---------------------------------------------------------------------------------------------


def test_folders_that_cannot_be_made_are_warnings(ready, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLINEX_HOME", str(tmp_path / "file"))
    findings = examine()
    for kind in ("config", "data", "cache", "state"):
        assert findings[f"{kind} folder"].state == "warning"
        assert findings[f"{kind} folder"].facts == {"path": str(tmp_path / "file" / kind), "exists": False, "writable": False}


def test_little_disk_is_a_warning(ready, monkeypatch):
    monkeypatch.setattr(checkup.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=10**8))
    assert examine()["disk"].state == "warning"


def test_a_guard_that_does_not_refuse_is_a_problem(capsys, ready, monkeypatch):
    monkeypatch.setattr(checkup, "guarded", contextlib.nullcontext)
    done = run(capsys, "doctor")
    assert done.status == 1
    assert "problem\toffline guard\t" in done.stdout


# --- what is printed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [X86_BUILD, OLD_BUILD])
def test_lines_fit_a_terminal(capsys, ready, machine_of, added, monkeypatch, build):
    machine_of(NEW_X86, build)
    added.path.unlink()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    done = run(capsys, "doctor")
    lines = re.sub(r"\x1b\[\d*m", "", done.stdout).splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines).split()).count(features.COMPILE) == 1
    assert {line.split(maxsplit=1)[0] for line in lines if not line.startswith(" ")} == {"ok", "note", "warning", "problem"}


def test_the_ticket_names_no_user_home_or_host(capsys, ready, tmp_path, monkeypatch):
    home, stick = tmp_path / "people" / "wintermute", tmp_path / "media" / "wintermute" / "usb"
    stick.mkdir(parents=True)
    home.mkdir(parents=True)
    for name, value in {"HOME": str(home), "USER": "wintermute", "LOGNAME": "wintermute", "CLINEX_HOME": str(home / "clinex")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(platform, "node", lambda: "straylight.example.org")
    for folder, name in ((home, "at-home"), (stick, "on-stick")):
        shutil.copy(find(DEMO).path, folder / f"{name}.gguf")
        add(folder / f"{name}.gguf", name)
    (stick / "on-stick.gguf").unlink()
    done = run(capsys, "doctor", "--json")
    assert done.status == 1
    assert not re.search("wintermute|straylight", done.stdout)
    ticket = json.loads(done.stdout)
    facts = {finding["topic"]: finding["facts"] for finding in ticket["findings"]}
    assert facts["data folder"] == {"path": "~/clinex/data", "exists": True, "writable": True}
    assert facts["at-home"]["path"] == "~/at-home.gguf"
    assert facts["on-stick"]["path"].endswith("/media/…/usb/on-stick.gguf")
    assert facts["memory"] == {"free": 4 * 10**9, "total": 8 * 10**9}
    assert {"schema", "clinex_edge", "python", "system", "findings"} == set(ticket)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/jo/models/x.gguf is damaged", "~/models/x.gguf is damaged"),
        ("/home/jo: full", "~: full"),
        ("/home/joanna/x", "/home/joanna/x"),
        ("/srv/jo/x", "/srv/…/x"),
        ("no joke", "no joke"),
    ],
)
def test_only_whole_names_are_hidden(monkeypatch, text, shown):
    for name, value in {"HOME": "/home/jo", "USER": "jo", "LOGNAME": "jo"}.items():
        monkeypatch.setenv(name, value)
    assert checkup._anonymous({"text": text, "size": 1}) == {"text": shown, "size": 1}
