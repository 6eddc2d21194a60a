"""Bundles: models written to a folder, carried, and installed elsewhere; and every way in which such a folder can be wrong."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from cli_runner import environment, run

from clinex_edge.errors import BundleError, ModelError, OutputError, UsageError
from clinex_edge.llama.model import LoadOptions
from clinex_edge.models import bundle, store, wheels
from clinex_edge.models.add import add
from clinex_edge.models.bundle import export, install
from clinex_edge.models.registry import find
from clinex_edge.pipeline.pipeline import Pipeline

PART = 2_000_000
NAMES = ["clinex-demo", "second"]
FIRST = "clinex-demo.gguf.001"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(bundle, "PART_BYTES", PART)


@pytest.fixture
def moved(tmp_path, monkeypatch):
    """Call it to be on another machine: one without any model but the embedded one."""

    def move():
        monkeypatch.setenv("CLINEX_HOME", str(tmp_path / "elsewhere"))

    return move


@pytest.fixture
def packed(tmp_path, moved):
    """A bundle of the embedded model and the same model under another name, seen from another machine."""
    add(embedded(), "second")
    folder = tmp_path / "clinex.bundle"
    export(NAMES, folder)
    moved()
    return folder


def embedded():
    return find("clinex-demo").path


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def edit(folder, change):
    data = manifest(folder)
    change(data)
    (folder / "manifest.json").write_text(json.dumps(data), encoding="utf-8")


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def refused(folder, *mentions):
    """The bundle is refused with these words, and leaves nothing."""
    with pytest.raises(BundleError) as caught:
        install(folder)
    for mention in mentions:
        assert mention in str(caught.value)
    assert caught.value.hint and caught.value.exit_code == 4
    assert store.installed() == {}
    assert not any(store.stated(name) for name in NAMES)


# --- there and back ------------------------------------------------------------------------------------------------


def test_models_arrive_as_they_were(packed):
    assert [model.name for model in install(packed)] == NAMES
    for name in NAMES:
        model = store.get(name)
        assert model.path.read_bytes() == (Path(bundle.__file__).parents[1] / "data" / model.path.name).read_bytes()
        assert model.path.parent == store.folder(name)
        assert model.origin == {"kind": "bundle", "bundle": "clinex.bundle", "file": model.path.name}
        assert sorted(path.name for path in model.path.parent.iterdir()) == sorted(["entry.json", model.path.name])
    assert store.get("clinex-demo").spec["profile"] == "compact"


def test_a_bundle_holds_parts_licences_and_how_to_import(packed):
    rows = manifest(packed)["models"]
    assert [part["size"] for part in rows[0]["parts"]] == [PART, PART, PART, rows[0]["size"] - 3 * PART]
    for row in rows:
        data = [(packed / part["name"]).read_bytes() for part in row["parts"]]
        assert [sha256(part) for part in data] == [part["sha256"] for part in row["parts"]]
        assert sha256(b"".join(data)) == row["sha256"]
    assert "Apache-2.0" in (packed / "LICENCES.txt").read_text(encoding="utf-8")
    assert "Not for clinical use" in (packed / "LICENCES.txt").read_text(encoding="utf-8")
    assert "clinex-edge models import" in (packed / "README.txt").read_text(encoding="utf-8")
    names = [part["name"] for row in rows for part in row["parts"]]
    assert sorted(files(packed)) == sorted([*names, "LICENCES.txt", "README.txt", "manifest.json"])


def test_an_imported_model_extracts(tmp_path, moved):
    spec = {"roles": ["translator", "extractor"], "profile": "compact", "translation_profile": "compact", "threads": 1}
    model, _ = add(embedded(), "ours", copy=True)
    store.write(store.Installed("ours", model.path, model.size, model.sha256, model.origin, spec))
    export(["ours"], tmp_path / "b")
    moved()
    install(tmp_path / "b")
    with Pipeline("ours", "ours", options=LoadOptions(threads=1)) as pipeline:
        record = pipeline.extract("پرستار: تب داره؟\nهمراه: نه، تب نداره.")
    assert record.status == "complete"
    assert record.provenance["extractor"]["name"] == "ours"


def test_a_bundle_says_nothing_of_the_machine(tmp_path):
    owned = tmp_path / "jane.doe" / "model one.bin"
    owned.parent.mkdir()
    shutil.copyfile(embedded(), owned)
    add(owned, "private")
    export(["private", "clinex-demo"], tmp_path / "b")
    for name in ("manifest.json", "README.txt", "LICENCES.txt"):
        text = (tmp_path / "b" / name).read_text(encoding="utf-8")
        assert "jane.doe" not in text and str(tmp_path) not in text and os.environ["CLINEX_HOME"] not in text
    assert manifest(tmp_path / "b")["models"][0]["file"] == "private.gguf"


def test_an_origin_on_the_hub_is_carried_from_bundle_to_bundle(tmp_path, moved, monkeypatch):
    model, _ = add(embedded(), "second", copy=True)
    origin = {"repo": "someone/models", "file": "m.gguf", "revision": "abc"}
    store.write(store.Installed("second", model.path, model.size, model.sha256, {"kind": "hub", **origin}, model.spec))
    export(["second"], tmp_path / "one")
    moved()
    assert install(tmp_path / "one")[0].origin == {"kind": "bundle", "bundle": "one", **origin}
    export(["second"], tmp_path / "two")
    monkeypatch.setenv("CLINEX_HOME", str(tmp_path / "third"))
    assert install(tmp_path / "two")[0].origin == {"kind": "bundle", "bundle": "two", **origin}


def test_named_models_only(packed):
    assert [model.name for model in install(packed, ["second"])] == ["second"]
    assert list(store.installed()) == ["second"]
    with pytest.raises(UsageError, match="no model in this bundle 'secnd'") as caught:
        install(packed, ["secnd"])
    assert "second" in caught.value.hint


def test_other_files_in_a_bundle_are_ignored(packed):
    (packed / "notes.txt").write_text("from the IT department")
    assert len(install(packed)) == 2


def test_another_file_of_the_same_name_is_replaced(packed, tmp_path):
    other = tmp_path / "other.gguf"
    other.write_bytes(embedded().read_bytes() + bytes(32))
    add(other, "second")
    install(packed)
    assert store.get("second").sha256 == manifest(packed)["models"][1]["sha256"]


# --- export --------------------------------------------------------------------------------------------------------


def test_an_interrupted_export_goes_on(tmp_path, monkeypatch):
    folder = tmp_path / "b"
    with monkeypatch.context() as patch:
        original, count = bundle._replaced, iter(range(99))

        def interrupted(path):
            if path.name.startswith("clinex-demo") and next(count) == 2:
                raise KeyboardInterrupt
            return original(path)

        patch.setattr(bundle, "_replaced", interrupted)
        with pytest.raises(KeyboardInterrupt):
            export(["clinex-demo"], folder)
    assert not (folder / "manifest.json").exists()
    with pytest.raises(BundleError, match=r"manifest\.json"):
        install(folder)
    before = {name: (folder / name).stat().st_ino for name in (FIRST, "clinex-demo.gguf.002")}
    (folder / "clinex-demo.gguf.003.part").write_bytes(b"half")
    export(["clinex-demo"], folder)
    assert {name: (folder / name).stat().st_ino for name in before} == before
    assert not list(folder.glob("*.part"))
    assert len(install(folder)) == 1


def test_export_writes_damaged_parts_again(packed, monkeypatch, home):
    monkeypatch.setenv("CLINEX_HOME", str(home))
    kept = (packed / "clinex-demo.gguf.002").stat().st_ino
    (packed / FIRST).write_bytes(bytes(PART))
    export(NAMES, packed)
    assert (packed / "clinex-demo.gguf.002").stat().st_ino == kept
    assert len(install(packed)) == 2


def test_export_adds_to_a_bundle_and_clears_what_no_model_needs(tmp_path, moved, monkeypatch):
    folder = tmp_path / "b"
    add(embedded(), "second")
    export(["clinex-demo"], folder)
    export(["second"], folder)
    assert [row["name"] for row in manifest(folder)["models"]] == NAMES
    monkeypatch.setattr(bundle, "PART_BYTES", 2 * PART)
    export(["second"], folder)
    assert len(list(folder.glob("clinex-demo.gguf.*"))) == 4
    assert len(list(folder.glob("second.gguf.*"))) == 2
    moved()
    assert len(install(folder)) == 2


def test_export_follows_no_link_in_its_folder(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    export(["clinex-demo"], tmp_path / "b")
    for name in (FIRST, FIRST + ".part", "README.txt"):
        (tmp_path / "b" / name).unlink(missing_ok=True)
        (tmp_path / "b" / name).symlink_to(precious)
    export(["clinex-demo"], tmp_path / "b")
    assert precious.read_text() == "kept"
    assert not (tmp_path / "b" / FIRST).is_symlink()


def test_export_refuses_what_is_no_bundle(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty and no bundle"):
        export(["clinex-demo"], tmp_path)
    with pytest.raises(OutputError, match="not empty and no bundle"):
        export(["clinex-demo"], tmp_path / "thesis.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.txt"]


def test_export_refuses_an_altered_model(tmp_path):
    file = tmp_path / "m.gguf"
    shutil.copyfile(embedded(), file)
    add(file, "second")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelError, match="it should have"):
        export(["clinex-demo", "second"], tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_export_needs_the_file_here(tmp_path):
    with pytest.raises(ModelError, match="not on this machine"):
        export(["qwen2.5-7b"], tmp_path / "b")
    shutil.copyfile(embedded(), tmp_path / "Our Model.gguf")
    with pytest.raises(UsageError, match="cannot name a model") as caught:
        export([str(tmp_path / "Our Model.gguf")], tmp_path / "b")
    assert "models add" in caught.value.hint


def full(monkeypatch, free):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - free, free))


def test_a_full_disk_is_predicted(packed, tmp_path, monkeypatch):
    full(monkeypatch, 10_000_000)
    with pytest.raises(OutputError, match="are free"):
        install(packed)
    assert not store.folder("").exists()
    assert len(install(packed, ["second"])) == 1
    full(monkeypatch, 1_000_000)
    with pytest.raises(OutputError, match="are free"):
        export(["clinex-demo"], tmp_path / "b")
    assert not (tmp_path / "b").exists()


# --- damage --------------------------------------------------------------------------------------------------------


def test_a_flipped_byte_is_found(packed):
    path = packed / "second.gguf.002"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    refused(packed, "second.gguf.002", "sha256", sha256(data), "it should have")


def test_a_truncated_part_is_found(packed):
    os.truncate(packed / FIRST, PART - 1)
    refused(packed, FIRST, "1,999,999 bytes; 2,000,000 were exported")


def test_a_missing_part_is_found(packed):
    (packed / "second.gguf.004").unlink()
    refused(packed, "second.gguf.004 is missing")


def test_right_parts_of_a_wrong_whole_are_found(packed):
    edit(packed, lambda data: data["models"][1].update(sha256="0" * 64))
    refused(packed, "'second'", "0" * 64)


def test_parts_in_another_order_are_found(packed):
    edit(packed, lambda data: data["models"][1]["parts"].reverse())
    refused(packed, "'second'", "it should have")


def test_a_part_that_is_no_file_is_refused(packed):
    (packed / FIRST).unlink()
    (packed / FIRST).mkdir()
    refused(packed, FIRST, "no ordinary file")
    (packed / FIRST).rmdir()
    os.mkfifo(packed / FIRST)
    refused(packed, FIRST, "no ordinary file")


def test_what_is_no_model_is_refused_before_any_is_placed(packed):
    data = b"MZ" + bytes(100)
    (packed / "second.gguf.001").write_bytes(data)
    part = {"name": "second.gguf.001", "size": len(data), "sha256": sha256(data)}
    edit(packed, lambda m: m["models"][1].update(size=len(data), sha256=sha256(data), parts=[part]))
    refused(packed, "'second'", "not a GGUF file")


# --- hostile bundles -----------------------------------------------------------------------------------------------

ESCAPES = ["../x.gguf", "/etc/x.gguf", "a/b.gguf", "a\\b.gguf", "C:x.gguf", "..", ".", "", "CON.gguf", "nul.x.gguf", "x\n.gguf", ".x.gguf",
           "x.gguf.", "x.gguf ", "x:y.gguf", "é.gguf", "x" * 300 + ".gguf"]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_are_not_plain_are_refused(packed, name):
    (packed.parent / "x.gguf").write_bytes((packed / FIRST).read_bytes())
    edit(packed, lambda data: data["models"][0]["parts"][0].update(name=name))
    refused(packed, "manifest.json")
    edit(packed, lambda data: data["models"][0]["parts"][0].update(name=FIRST) or data["models"][0].update(file=name))
    refused(packed, "manifest.json")
    edit(packed, lambda data: data["models"][0].update(file="x.gguf", name=name))
    refused(packed, "manifest.json")
    edit(packed, lambda data: data["models"][0].update(name="x") or data["wheels"].append({"name": name, "size": 1, "sha256": "0" * 64}))
    refused(packed, "manifest.json")


@pytest.mark.parametrize("file", ["entry.json", "x.gguf.part", "x.txt"])
def test_a_model_is_a_gguf_file(packed, file):
    edit(packed, lambda data: data["models"][0].update(file=file))
    refused(packed, file, ".gguf")


@pytest.mark.parametrize("link", [FIRST, "manifest.json", "wheels", "wheels/deep"])
def test_links_are_refused(packed, link):
    path = packed / link
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.rename(packed.parent / "outside")
    else:
        (packed.parent / "outside").mkdir()
    path.symlink_to(packed.parent / "outside")
    refused(packed, link)


def again(key):
    def change(data):
        data["models"][1][key] = data["models"][0][key]

    return change


@pytest.mark.parametrize(
    ("change", "mention"),
    [
        (again("name"), "model 'clinex-demo' twice"),
        (again("parts"), "part 'clinex-demo.gguf.001' twice"),
        (lambda m: m["models"][1]["parts"][0].update(name=FIRST.upper()), "twice"),
        (lambda m: m.update(wheels=[{"name": "a.whl", "size": 1, "sha256": "0" * 64}] * 2), "wheel 'a.whl' twice"),
        (lambda m: m.update(schema=2), "schema 2"),
        (lambda m: m.update(schema=True), "'schema'"),
        (lambda m: m.pop("schema"), "'schema'"),
        (lambda m: m.update(models={}), "'models'"),
        (lambda m: m.update(models=[]), "no model"),
        (lambda m: m.update(models=["clinex-demo"]), "'name'"),
        (lambda m: m.pop("wheels"), "'wheels'"),
        (lambda m: m["models"][0].update(name="Clinex"), "cannot name a model"),
        (lambda m: m["models"][0].update(name="con"), "cannot name a model"),
        (lambda m: m["models"][0].update(size="6412960"), "'size'"),
        (lambda m: m["models"][0].update(size=-1), "bytes together"),
        (lambda m: m["models"][0].update(size=m["models"][0]["size"] + 1), "bytes together"),
        (lambda m: m["models"][0].update(size=10**30), "64 bits"),
        (lambda m: m["models"][0].update(size=1e300), "64 bits"),
        (lambda m: m["models"][0].update(size=float("nan")), "64 bits"),
        (lambda m: m["models"][0].update(parts=[]), "bytes together"),
        (lambda m: m["models"][0]["parts"][0].update(size=0), "0 bytes"),
        (lambda m: m["models"][0]["parts"][0].update(sha256="0" * 63), "no sha256"),
        (lambda m: m["models"][0].update(sha256=None), "'sha256'"),
        (lambda m: m["models"][0].update(spec=[]), "'spec'"),
        (lambda m: m["models"][0].update(origin={"repo": ["x"]}), "origin"),
        (lambda m: m["models"][0]["spec"].update(roles=["surgeon"]), "roles"),
        (lambda m: m["models"][0]["spec"].update(roles=[["extractor"]]), "manifest.json"),
        (lambda m: m["models"][0]["spec"].update(threads="all"), "threads"),
        (lambda m: m["models"][0]["spec"].update(threads=0), "threads"),
        (lambda m: m["models"][0]["spec"].update(threads=100_000), "threads is at most 512"),
        (lambda m: m["models"][0]["spec"].update(notice="\x1b[2Jboo"), "control characters"),
        (lambda m: m["models"][0]["spec"].update(notice="\ud800"), "control characters"),
    ],
)
def test_manifests_that_no_export_writes_are_refused(packed, change, mention):
    edit(packed, change)
    refused(packed, mention)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"schema"',
        b"[" * 200_000,
        b'{"schema": 1, "wheels": [], "models": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"schema": ' + b"9" * 5000 + b"}",
        b" " * 10_000_001,
    ],
    ids=["empty", "cut off", "no text", "list", "null", "string", "deep", "fairly deep", "long number", "large"],
)
def test_what_is_no_manifest_is_refused(packed, text):
    (packed / "manifest.json").write_bytes(text)
    refused(packed, "manifest.json")


def test_what_is_no_bundle_is_refused(tmp_path, moved):
    moved()
    refused(tmp_path / "absent", "not a folder")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "not a folder")
    refused(tmp_path, "manifest.json")


def test_only_what_the_registry_knows_of_a_row_is_kept(packed):
    edit(packed, lambda data: data["models"][0]["spec"].update(repo="evil/model", path="/etc", surprise=[1]))
    assert not {"repo", "path", "surprise", "file"} & set(install(packed)[0].spec)


# --- interruptions and company -------------------------------------------------------------------------------------


def test_an_interrupted_import_goes_on_with_the_models_that_are_missing(packed, monkeypatch):
    with monkeypatch.context() as patch:
        write = store.write

        def interrupted(model):
            if model.name == "second":
                raise KeyboardInterrupt
            write(model)

        patch.setattr(store, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            install(packed)
    assert list(store.installed()) == ["clinex-demo"]
    first = store.get("clinex-demo").path.stat().st_ino
    heard = []
    assert [model.name for model in install(packed, told=heard.append)] == NAMES
    assert store.get("clinex-demo").path.stat().st_ino == first
    assert not any("clinex-demo" in text for text in heard)


def test_a_copy_cut_off_is_made_again_and_a_whole_one_is_used(packed, monkeypatch):
    with monkeypatch.context() as patch:
        original = bundle._join

        def interrupted(folder, model):
            if model.name == "second":
                store.folder("second").mkdir()
                bundle._draft(model).write_bytes(b"GGUF")
                raise KeyboardInterrupt
            original(folder, model)

        patch.setattr(bundle, "_join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            install(packed)
    assert store.installed() == {}
    whole = next(store.folder("clinex-demo").glob("*.part")).stat().st_ino
    assert len(install(packed)) == 2
    assert store.get("clinex-demo").path.stat().st_ino == whole
    assert not list(store.folder("second").glob("*.part"))


def test_a_model_whose_file_is_gone_or_short_is_installed_again(packed):
    install(packed)
    store.get("clinex-demo").path.unlink()
    os.truncate(store.get("second").path, 100)
    install(packed)
    for name in NAMES:
        assert sha256(store.get(name).path.read_bytes()) == store.get(name).sha256


def test_two_processes_import_at_once(packed):
    code = "import sys; from pathlib import Path; from clinex_edge.models.bundle import install; print(len(install(Path(sys.argv[1]))))"
    command = [sys.executable, "-c", code, str(packed)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True) for _ in range(2)]
    assert [(process.communicate(timeout=120), process.returncode) for process in both] == [(("2\n", ""), 0)] * 2
    for name in NAMES:
        assert sha256(store.get(name).path.read_bytes()) == store.get(name).sha256
        assert len(list(store.folder(name).iterdir())) == 2


# --- wheels --------------------------------------------------------------------------------------------------------


@pytest.fixture
def pip(monkeypatch):
    """Stands in for pip: notes its command lines, and writes two wheels unless told to fail."""
    calls = []

    def pretend(command, **options):
        calls.append(command)
        folder = Path(command[command.index("--wheel-dir") + 1])
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("clinex_edge-0.1.0-py3-none-any.whl", "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"):
            (folder / name).write_bytes(name.encode())
        return subprocess.CompletedProcess(command, pretend.status)

    pretend.status = 0
    pretend.calls = calls
    monkeypatch.setattr(wheels.subprocess, "run", pretend)
    return pretend


def test_wheels_are_made_listed_and_checked(tmp_path, moved, pip):
    folder = tmp_path / "b"
    export(["clinex-demo"], folder, with_wheels=True)
    project = str(Path(bundle.__file__).parents[2])
    assert pip.calls == [[sys.executable, "-m", "pip", "wheel", "--wheel-dir", str(folder / "wheels.part"), f"{project}[files]"]]
    listed = manifest(folder)["wheels"]
    assert [wheel["name"] for wheel in listed] == sorted(path.name for path in (folder / "wheels").iterdir())
    assert not (folder / "wheels.part").exists()
    export(["clinex-demo"], folder)
    assert manifest(folder)["wheels"] == listed
    export(["clinex-demo"], folder, with_wheels=True)
    moved()
    (folder / "wheels" / listed[0]["name"]).write_bytes(b"another, of the same size as the name"[: listed[0]["size"]])
    refused(folder, listed[0]["name"])


def test_an_installed_clinex_edge_is_asked_of_the_index(tmp_path, monkeypatch, pip):
    monkeypatch.setattr(wheels, "__file__", str(tmp_path / "site-packages" / "clinex_edge" / "models" / "wheels.py"))
    wheels.make(tmp_path / "wheels")
    assert re.fullmatch(r"clinex-edge\[files\]==\d+\.\d+\.\d+\S*", pip.calls[0][-1])


def test_a_failing_pip_is_told(tmp_path, pip):
    pip.status = 1
    with pytest.raises(OutputError, match="exit status 1") as caught:
        export(["clinex-demo"], tmp_path / "b", with_wheels=True)
    assert "compiler" in caught.value.hint
    assert not (tmp_path / "b" / "manifest.json").exists()


@pytest.mark.slow
def test_the_wheels_install_without_an_index(tmp_path):
    wheels.make(tmp_path / "wheels")
    assert sum(path.stat().st_size for path in (tmp_path / "wheels").iterdir()) < wheels.BYTES
    options = ["--no-index", "--find-links", str(tmp_path / "wheels"), "--target", str(tmp_path / "there")]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "clinex-edge[files]"], check=True)
    environ = {**environment(), "PYTHONPATH": str(tmp_path / "there")}
    done = subprocess.run([sys.executable, "-m", "clinex_edge", "--version"], env=environ, cwd=tmp_path, capture_output=True, check=True)
    assert b"clinex-edge, version" in done.stdout


# --- the commands --------------------------------------------------------------------------------------------------


def test_the_commands_print_rows(capsys, tmp_path, moved):
    size, digest = embedded().stat().st_size, find("clinex-demo").sha256
    done = run(capsys, "models", "export", "clinex-demo", "--to", tmp_path / "b")
    assert (done.status, done.stdout) == (0, f"clinex-demo\t4\t{size}\t{digest}\n")
    assert "clinex-demo" in done.stderr
    moved()
    done = run(capsys, "models", "import", tmp_path / "b")
    assert (done.status, done.stdout) == (0, f"clinex-demo\t{store.get('clinex-demo').path}\t{digest}\n")
    assert "Not for clinical use" in done.stderr
    assert run(capsys, "models", "import", tmp_path / "b", "clinex-demo").stdout == done.stdout


def test_the_commands_say_what_is_wrong(capsys, packed, tmp_path):
    (packed / FIRST).unlink()
    done = run(capsys, "models", "import", packed)
    assert (done.status, done.stdout) == (4, "")
    assert f"{packed / FIRST} is missing" in done.stderr and "models export" in done.stderr
    assert run(capsys, "models", "import", tmp_path / "absent").status == 4
    assert run(capsys, "models", "import", packed, "third").status == 2
    assert run(capsys, "models", "export", "clinex-demo").status == 2
    assert run(capsys, "models", "export", "qwen2.5-7b", "--to", tmp_path / "b").status == 4
    (tmp_path / "thesis.txt").write_text("mine")
    assert run(capsys, "models", "export", "clinex-demo", "--to", tmp_path).status == 1


def test_a_file_other_than_the_registry_names_is_mentioned(capsys, packed):
    edit(packed, lambda data: data["models"][1].update(name="qwen2.5-7b"))
    done = run(capsys, "models", "import", packed)
    assert done.status == 0 and "qwen2.5-7b is not the file that models.toml names" in done.stderr
