"""The registry of models, and the commands that list, describe, add, check and remove them."""

import hashlib
import json
import re
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_runner import run

from clinex_edge.errors import ModelError, UsageError
from clinex_edge.llama.gguf import GgufHeader, read_header
from clinex_edge.llama.memory import needed
from clinex_edge.llama.model import BATCH_SIZE, LoadOptions
from clinex_edge.models import store
from clinex_edge.models.add import add
from clinex_edge.models.registry import find, known
from clinex_edge.pipeline.pipeline import Pipeline

DEMO = find("clinex-demo")
STUDY = ["aya-expanse-8b", "qwen2.5-7b", "qwen2.5-1.5b", "llama-3.1-8b", "llama-3.2-3b", "gemma-3-1b"]
CALL = "Nurse: Any pain?\nPatient: Yes, my back hurts.\n"


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture
def file(tmp_path):
    """A model file on a stick, as it were."""
    path = tmp_path / "stick" / "Our Own_Model v1.gguf"
    path.parent.mkdir()
    shutil.copyfile(DEMO.path, path)
    return path


@pytest.fixture
def registry(home):
    """Write the user's own models.toml."""

    def write(text):
        (home / "config").mkdir(exist_ok=True)
        (home / "config" / "models.toml").write_text(text, encoding="utf-8")

    return write


def says(done, status, *words):
    assert done.status == status, done
    assert "Traceback" not in done.stderr and "Internal error" not in done.stderr
    for word in words:
        assert str(word) in done.stdout + done.stderr


def flip(path, at=-1):
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


# --- the registry --------------------------------------------------------------------------------------------------


def test_the_study_s_models_are_known_with_everything_needed_to_fetch_them():
    assert [spec.name for spec in known()] == ["clinex-demo", *STUDY]
    for name in STUDY:
        spec = find(name)
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", spec.source.repo) and spec.source.file.lower().endswith("-q4_k_m.gguf")
        assert re.fullmatch(r"[0-9a-f]{40}", spec.source.revision)
        assert re.fullmatch(r"[0-9a-f]{64}", spec.source.sha256) and spec.sha256 == spec.source.sha256
        assert spec.facts["memory"] > spec.source.size > 10**8
        assert spec.facts["licence"] and spec.facts["licence_url"].startswith("https://")
        assert set(spec.facts["published"]) == {"macro_f1", "mcc", "sensitivity", "specificity", "precision"}
        assert {"parameters", "quantization", "context", "gated", "alternatives"} <= set(spec.facts)
        assert spec.profile == spec.translation_profile == "full"
        assert not spec.path.exists()
    assert [name for name in STUDY if "translator" in find(name).roles] == ["aya-expanse-8b"]


def test_files_and_checksums_of_the_registry_are_all_different():
    sources = [find(name).source for name in STUDY]
    assert len({source.sha256 for source in sources}) == len({source.size for source in sources}) == len({s.file for s in sources}) == 6


def test_the_registry_states_the_embedded_model_as_it_is():
    header = read_header(DEMO.path)
    assert sha256(DEMO.path) == DEMO.sha256
    assert (DEMO.facts["quantization"], DEMO.facts["context"]) == (header.quantization, header.context_length)


@pytest.mark.parametrize("name", STUDY)
def test_the_memory_that_is_stated_is_what_the_loader_predicts(name):
    shapes = pytest.importorskip("benchmarks.speed.shapes", reason="needs the gguf package")
    spec, shape = find(name), shapes.SHAPES[name]
    numbers = {
        "block_count": shape.layers,
        "embedding_length": shape.width,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.key_length": shape.head_width,
        "attention.value_length": shape.head_width,
    }
    metadata = {"general.architecture": shape.architecture} | {f"{shape.architecture}.{key}": n for key, n in numbers.items()}
    header = GgufHeader(spec.path, metadata, spec.source.size, shape.vocabulary)
    assert spec.facts["memory"] == pytest.approx(needed(header, 8192, BATCH_SIZE), rel=0.005)
    assert spec.facts["context"] == shape.context


def test_a_role_that_a_model_does_not_have_is_refused():
    with pytest.raises(ModelError, match=r"'qwen2\.5-7b' is no translator") as refused:
        find("qwen2.5-7b", "translator")
    assert "clinex-demo, aya-expanse-8b" in refused.value.hint


def test_the_user_s_own_registry_adds_and_replaces(registry, file):
    registry(f"""
        [defaults]
        extractor = "mine"
        [models.mine]
        file = '{file}'
        roles = ["extractor"]
        [models."gemma-3-1b"]
        repo = "another/repository"
        file = "folder/another.gguf"
    """)
    assert find(None).path == file and find("mine").roles == ("extractor",)
    gemma = find("gemma-3-1b")
    assert (gemma.source.repo, gemma.source.revision, gemma.source.sha256) == ("another/repository", "main", None)
    assert gemma.path == store.folder("gemma-3-1b") / "another.gguf"
    assert gemma.notice == "" and gemma.unconfirmed == ()
    assert find("qwen2.5-7b").source.repo.startswith("bartowski/")


WRONG = {
    "size = '5 GB'": "models.mine.size must be a number",
    "size = 0": "models.mine.size must be a number",
    "repo = 5": "models.mine.repo must be a text",
    "gated = 'no'": "models.mine.gated must be a true or false",
    "published = 0.9": "models.mine.published must be a table",
    "unconfirmed = 'gated'": "models.mine.unconfirmed must be a list",
    "roles = ['judge']": "models.mine.roles must be a list of translator and extractor",
    "roles = []": "models.mine.roles must be a list of translator and extractor",
    "sha256 = 12": "models.mine.sha256 must be a text",
}


@pytest.mark.parametrize(("line", "message"), WRONG.items(), ids=list(WRONG))
def test_a_wrong_value_is_named_with_its_key(capsys, home, registry, line, message):
    registry(f"[models.mine]\nfile = 'x.gguf'\n{line}\n")
    says(run(capsys, "models", "list"), 4, home / "config" / "models.toml", message)


@pytest.mark.parametrize("name", ["Mine", "..", ".hidden", "a/b", "a b", "mine.", "x" * 65])
def test_a_name_that_cannot_name_a_folder_is_refused(capsys, registry, file, name):
    registry(f"[models.'{name}']\nfile = 'x.gguf'\n")
    says(run(capsys, "models", "list"), 4, f"models.{name}: a name is made of small letters")
    registry("")
    says(run(capsys, "models", "add", file, "--name", name), 2, f"'{name}' cannot name a model")


# --- list, info, path ----------------------------------------------------------------------------------------------


def test_list_says_what_is_here_and_what_no_document_confirms(capsys):
    header, *lines = run(capsys, "models", "list").stdout.splitlines()
    assert header.split("\t") == ["NAME", "HERE", "ROLES", "SIZE", "MEMORY", "LICENCE", "UNCONFIRMED"]
    rows = {row[0]: row for row in (line.split("\t") for line in lines)}
    assert list(rows) == ["clinex-demo", *STUDY]
    assert rows["clinex-demo"] == ["clinex-demo", "here", "translator+extractor", "6.4 MB", "-", "Apache-2.0", "-"]
    assert rows["gemma-3-1b"] == ["gemma-3-1b", "-", "extractor", "0.8 GB", "1.6 GB", "Gemma Terms of Use", "-"]
    assert rows["qwen2.5-7b"][-1] == "gated"


def test_list_as_json_holds_everything(capsys):
    rows = {row["name"]: row for row in run(capsys, "models", "list", "--json").records}
    assert list(rows) == ["clinex-demo", *STUDY]
    assert (rows["clinex-demo"]["here"], rows["clinex-demo"]["size"]) == (True, DEMO.path.stat().st_size)
    llama, qwen = rows["llama-3.2-3b"], rows["qwen2.5-7b"]
    assert llama["here"] is False and llama["revision"] == find("llama-3.2-3b").source.revision
    assert llama["published"]["macro_f1"] == 0.866
    assert "unconfirmed" not in llama and qwen["unconfirmed"] == ["gated"]


def test_info_shows_the_registry_and_the_file(capsys, file):
    embedded = run(capsys, "models", "info", "clinex-demo").stdout
    for line in ("licence\tApache-2.0", "here\tyes", "file quantization\tQ8_0", f"sha256\t{DEMO.sha256}", "file vocabulary\t4,096 tokens"):
        assert line in embedded.splitlines()
    assert "file quantization\tQ8_0" in run(capsys, "models", "info", file).stdout
    absent = run(capsys, "models", "info", "gemma-3-1b").stdout
    assert "here\tno" in absent and "published\tmacro_f1 0.74, mcc 0.502" in absent and "file architecture" not in absent


def test_info_of_what_is_no_model_is_an_error(capsys, tmp_path):
    says(run(capsys, "models", "info", tmp_path / "none.gguf"), 4, "There is no model file", tmp_path / "none.gguf")
    (tmp_path / "text.gguf").write_text("no model")
    says(run(capsys, "models", "info", tmp_path / "text.gguf"), 4, "is not a GGUF file")
    says(run(capsys, "models", "info", "qwen"), 2, "There is no model 'qwen'", "Did you mean 'qwen2.5-7b'")


def test_path_is_for_scripts(capsys, home):
    assert run(capsys, "models", "path").stdout == f"{home / 'data' / 'models'}\n"
    assert run(capsys, "models", "path", "clinex-demo").stdout == f"{DEMO.path}\n"
    absent = run(capsys, "models", "path", "gemma-3-1b")
    assert absent.stdout == ""
    says(absent, 4, "The model 'gemma-3-1b' is not on this machine")


# --- add -----------------------------------------------------------------------------------------------------------


def test_a_file_is_added_where_it_lies(capsys, home, file):
    done = run(capsys, "models", "add", file)
    assert (done.status, done.stdout) == (0, f"our-own_model-v1\t{file}\tsha256 {sha256(file)}\n")
    assert find("our-own_model-v1").path == file
    assert [path.name for path in (home / "data" / "models" / "our-own_model-v1").iterdir()] == ["entry.json"]
    assert "our-own_model-v1\there\ttranslator+extractor" in run(capsys, "models", "list").stdout


def test_a_copy_survives_its_original(capsys, home, file):
    done = run(capsys, "models", "add", file, "--name", "mine", "--copy")
    copy = home / "data" / "models" / "mine" / file.name
    assert (done.status, done.stdout) == (0, f"mine\t{copy}\tsha256 {DEMO.sha256}\n")
    file.unlink()
    assert find("mine").path == copy and run(capsys, "models", "verify", "mine").status == 0
    assert sorted(path.name for path in copy.parent.iterdir()) == [file.name, "entry.json"]


def test_what_a_data_folder_holds_can_be_moved(capsys, home, file, monkeypatch):
    run(capsys, "models", "add", file, "--name", "mine", "--copy")
    monkeypatch.setenv("CLINEX_HOME", str(home.rename(home.with_name(f"{home.name}-moved"))))
    assert run(capsys, "models", "verify", "mine").status == 0


def test_another_file_under_a_known_name_is_noticed(capsys, file):
    done = run(capsys, "models", "add", file, "--name", "qwen2.5-7b")
    says(done, 0, "is not the file that models.toml names for 'qwen2.5-7b'")
    spec = find("qwen2.5-7b")
    assert (spec.path, spec.sha256, spec.roles) == (file, DEMO.sha256, ("extractor",))


def test_the_file_that_the_registry_names_is_confirmed(capsys, registry, file):
    registry(f"[models.mine]\nrepo = 'a/b'\nfile = 'c.gguf'\nsha256 = '{DEMO.sha256}'\nprofile = 'compact'\n")
    done = run(capsys, "models", "add", file, "--name", "mine")
    assert done.stdout.endswith("\tas in models.toml\n") and done.stderr == ""
    assert find("mine").profile == "compact"
    registry("")
    assert find("mine").profile == "compact"  # an installed model needs no registry


@pytest.mark.parametrize("copy", [[], ["--copy"]])
def test_a_damaged_file_is_not_added(capsys, home, file, copy):
    file.write_bytes(DEMO.path.read_bytes()[:-1000])
    says(run(capsys, "models", "add", file, *copy), 4, "is damaged", "cut off")
    says(run(capsys, "models", "add", file.parent, *copy), 2, "is a directory")
    says(run(capsys, "models", "add", file.parent / "none.gguf", *copy), 4, "There is no model file")
    assert not list(home.rglob("entry.json"))


def test_a_name_stands_for_one_file(capsys, file, tmp_path):
    says(run(capsys, "models", "add", file, "--name", "clinex-demo"), 2, "'clinex-demo' is the name of another model", "--name")
    run(capsys, "models", "add", file, "--name", "mine")
    other = tmp_path / "other.gguf"
    shutil.copyfile(file, other)
    flip(other)
    for option in ([], ["--copy"]):
        done = run(capsys, "models", "add", other, "--name", "mine", *option)
        says(done, 2, f"'mine' is the name of another file already ({file})", "models rm mine")
    assert find("mine").path == file
    assert run(capsys, "models", "add", file, "--name", "mine", "--copy").status == 0  # the same file, now copied
    assert find("mine").path == store.folder("mine") / file.name


def test_a_disk_without_room_is_told_before_the_copy(capsys, home, file, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2_000_000))
    says(run(capsys, "models", "add", file, "--copy"), 1, "6 MB are needed", "2 MB are free", "CLINEX_HOME")
    assert not list(home.rglob("*.gguf"))


# --- verify, rm ----------------------------------------------------------------------------------------------------


def test_verify_checks_all_that_is_here(capsys, file):
    assert run(capsys, "models", "verify").stdout == f"clinex-demo\tok\tsha256 {DEMO.sha256}\n"
    run(capsys, "models", "add", file, "--name", "mine")
    assert [line.split("\t")[:2] for line in run(capsys, "models", "verify").stdout.splitlines()] == [["clinex-demo", "ok"], ["mine", "ok"]]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {
    "a flipped bit": (flip, "it should have"),
    "a byte less": (cut, "were checked in"),
    "no file": (Path.unlink, "There is no model file"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=list(DAMAGES))
@pytest.mark.parametrize("copy", [[], ["--copy"]], ids=["in place", "copied"])
def test_verify_finds_damage(capsys, file, damage, message, copy):
    run(capsys, "models", "add", file, "--name", "mine", *copy)
    damage(find("mine").path)
    done = run(capsys, "models", "verify")
    says(done, 4, "clinex-demo\tok", "mine\twrong\t", message, find("mine").path)
    says(run(capsys, "models", "verify", "mine"), 4, "mine\twrong\t")


def test_a_known_model_that_is_gone_is_told_with_how_to_get_it(capsys, file):
    run(capsys, "models", "add", file, "--name", "gemma-3-1b")
    file.unlink()
    says(run(capsys, "models", "verify"), 4, "gemma-3-1b\twrong\t", "is not on this machine", "models pull gemma-3-1b")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1, "name": "other"}', '{"schema": 2}'])
def test_a_damaged_entry_is_no_model_and_verify_tells(capsys, home, file, content):
    run(capsys, "models", "add", file, "--name", "mine")
    (home / "data" / "models" / "mine" / "entry.json").write_text(content)
    says(run(capsys, "models", "path", "mine"), 2, "There is no model 'mine'")
    says(run(capsys, "models", "verify"), 4, "mine\twrong\tIts entry cannot be read", "models rm mine")
    assert run(capsys, "models", "rm", "mine").status == 0 and run(capsys, "models", "verify").status == 0


def test_an_entry_with_impossible_values_is_no_model(capsys, home, file):
    run(capsys, "models", "add", file, "--name", "mine")
    entry = home / "data" / "models" / "mine" / "entry.json"
    entry.write_text(json.dumps({**json.loads(entry.read_text()), "spec": {"roles": ["judge"]}}))
    says(run(capsys, "models", "verify"), 4, "mine\twrong\tIts entry cannot be read")


def test_a_file_without_a_checksum_says_how_to_get_one(capsys, registry, file):
    registry(f"[models.mine]\nfile = '{file}'\nprofile = 'compact'\n")
    says(run(capsys, "models", "verify", "mine"), 4, "No sha256 is known", f"models add {file} --name mine")
    assert run(capsys, "models", "add", file, "--name", "mine").status == 0
    assert run(capsys, "models", "verify", "mine").status == 0 and find("mine").profile == "compact"


@pytest.mark.parametrize(("copy", "freed"), [([], "0.0 MB freed"), (["--copy"], "6.4 MB freed")])
def test_removing_a_model_frees_its_copy_and_leaves_the_original(capsys, home, file, copy, freed):
    run(capsys, "models", "add", file, "--name", "mine", *copy)
    done = run(capsys, "models", "rm", "mine", "--yes")
    assert (done.status, done.stdout) == (0, "") and freed in done.stderr
    assert file.exists() and not (home / "data" / "models" / "mine").exists()
    says(run(capsys, "models", "path", "mine"), 2, "There is no model 'mine'")


@pytest.mark.parametrize("name", ["mine", "clinex-demo", "gemma-3-1b", "..", "", "../models"])
def test_only_what_was_installed_can_be_removed(capsys, home, file, name):
    run(capsys, "models", "add", file, "--name", "other", "--copy")
    says(run(capsys, "models", "rm", "other", name), 2, f"No model '{name}' was fetched, added or imported", "models list")
    assert find("other").path.exists()


# --- use -----------------------------------------------------------------------------------------------------------


def test_a_known_model_that_is_absent_is_told_with_the_ways_to_get_it(capsys, tmp_path):
    (tmp_path / "call.txt").write_text(CALL)
    done = run(capsys, "extract", tmp_path / "call.txt", "--model", "qwen2.5-7b")
    says(done, 4, "The model 'qwen2.5-7b' is not on this machine", "models pull qwen2.5-7b", "models import", "models add FILE --name")
    assert done.stdout == ""


def test_an_added_model_is_used_by_its_name(registry, file):
    registry("[models.mine]\nrepo = 'a/b'\nfile = 'c.gguf'\nprofile = 'compact'\ntranslation_profile = 'compact'\n")
    add(file, "mine", copy=True)
    with Pipeline("mine", options=LoadOptions(threads=1)) as added, Pipeline(options=LoadOptions(threads=1)) as default:
        record, expected = added.extract(CALL), default.extract(CALL)
    assert record.status == "complete"
    assert {name: feature.value for name, feature in record.features.items()} == {n: f.value for n, f in expected.features.items()}
    extractor = record.provenance["extractor"]
    assert (extractor["name"], extractor["file"], extractor["sha256"]) == ("mine", file.name, DEMO.sha256)


def test_an_unknown_name_is_a_usage_error():
    with pytest.raises(UsageError, match="There is no model 'gemma'"):
        find("gemma")


def test_a_file_that_another_one_replaces_goes():
    """An older file of another name, which nothing names any more."""
    where = store.folder("x")
    for name in ("old.gguf", "new.gguf"):
        where.mkdir(parents=True, exist_ok=True)
        (where / name).write_bytes(b"GGUF")
        store.write(store.Installed("x", where / name, 4, "0" * 64))
    assert sorted(path.name for path in where.iterdir()) == ["entry.json", "new.gguf"]


def test_who_waits_for_another_process_is_told(monkeypatch):
    told, free = threading.Event(), threading.Event()

    def other():
        with store.locked("x", told.set):
            free.set()

    monkeypatch.setattr(store, "_PATIENCE", 0.05)
    waiting = threading.Thread(target=other)
    with store.locked("x"):
        waiting.start()
        assert told.wait(10)
        assert not free.is_set()
    assert free.wait(10)
    waiting.join()
