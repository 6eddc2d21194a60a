"""The commands when all goes well: what they print, write and leave behind."""

import csv
import fcntl
import hashlib
import io
import json
import os
import pty
import re
import signal
import stat
import struct
import subprocess
import sys
import termios

import pytest
from cli_runner import ROOT, command, environment, run, spawn

from clinex_edge.files.read import read_document
from clinex_edge.llama.model import Model
from clinex_edge.models.registry import find
from clinex_edge.pipeline.pipeline import BATCH, Pipeline
from clinex_edge.tasks import load_task

EXAMPLES = ROOT / "examples"
CALL = "پرستار: درد دارید؟\nبیمار: بله، خیلی درد دارم.\nپرستار: تب چطور؟\nبیمار: نه، تب ندارم.\n"
ENGLISH = "Nurse: Any pain?\nPatient: Yes, my back hurts.\nNurse: Fever?\nPatient: No.\n"
FEATURES = [
    "doctor_visit_request", "psychological_complaints", "sleep_disorders", "appetite_loss", "seizures", "weakness_fatigue",
    "decreased_consciousness", "fever", "respiratory_complaints", "insurance_cost_issues", "urinary_issues", "pain",
    "gastrointestinal_issues",
]  # fmt: skip
RECORD_KEYS = [
    "schema", "id", "source", "document_sha256", "language", "task", "status", "features", "translation", "windows", "provenance",
    "timings",
]  # fmt: skip
MODEL_KEYS = {"name", "file", "sha256", "quantization", "settings"}


@pytest.fixture
def call(tmp_path):
    """A short Persian call."""
    path = tmp_path / "call.fa.txt"
    path.write_text(CALL, encoding="utf-8")
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- help ----------------------------------------------------------------------------------------------------------


HELP = {
    "": ["extract", "translate", "tasks", "Exit status", "130 interrupted"],
    "extract": ["--model", "--decoder", "--no-translate", "--output", "--encoding", "--ctx-size", "examples/call-01.fa.txt"],
    "translate": ["--translator", "--encoding", "tabs"],
    "tasks": ["list", "show", "check"],
    "tasks list": ["List the tasks"],
    "tasks show": ["--profile", "--language", "--gbnf"],
    "tasks check": ["file and line"],
}


@pytest.mark.parametrize("words", HELP)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_goes_to_stdout_and_names_what_can_be_done(capsys, words, option):
    done = run(capsys, *words.split(), option)
    assert (done.status, done.stderr) == (0, "")
    assert f"{words} [OPTIONS]" in done.stdout.splitlines()[0]
    for mention in HELP[words]:
        assert mention in done.stdout


def test_version_is_printed(capsys):
    done = run(capsys, "--version")
    assert done.status == 0 and re.fullmatch(r"clinex-edge, version \d+\.\d+\.\d+\S*\n", done.stdout)


def test_the_command_line_starts_without_the_heavy_packages():
    code = "import sys, clinex_edge.cli.main; print(sorted({'llama_cpp', 'numpy', 'rich', 'pandas', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout == "[]\n"


# --- extract: the record -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["call-01.fa.txt", "note-01.fa.txt", "call-02.en.txt", "call-03.fa.txt"])
def test_an_example_in_a_pipe_gives_one_json_line_of_the_documented_shape(capsys, name):
    path = EXAMPLES / name
    language = name.split(".")[1]
    turns = [turn.number for turn in read_document(str(path)).turns]
    done = run(capsys, "extract", path)
    assert done.status == 0
    assert done.stdout.count("\n") == 1
    (record,) = done.records

    assert list(record) == RECORD_KEYS
    assert record["schema"] == 1
    assert (record["id"], record["source"], record["language"]) == (name.split(".")[0], name, language)
    assert (record["task"], record["status"]) == ("palliative-call", "complete")
    assert record["document_sha256"] == sha256(path)

    assert list(record["features"]) == FEATURES
    for feature in record["features"].values():
        assert set(feature) == {"value", "p_yes", "status", "evidence"}
        assert feature["status"] == "answered"
        assert 0 <= feature["p_yes"] <= 1
        assert feature["value"] == ("yes" if feature["p_yes"] >= 0.5 else "no")

    assert [turn["turn"] for turn in record["translation"]] == (turns if language == "fa" else [])
    for turn in record["translation"]:
        assert set(turn) - {"doubtful"} == {"turn", "text", "mean_logprob"}
        assert turn["text"].strip() and turn["mean_logprob"] <= 0

    assert {turn for first, last in record["windows"] for turn in range(first, last + 1)} == set(turns)

    provenance = record["provenance"]
    translated = {"translator"} if language == "fa" else set()
    wanted = {"clinex_edge", "llama_cpp", "decoder", "profile", "task_sha256", "prompt_sha256", "extractor"}
    assert set(provenance) == wanted | translated
    assert (provenance["decoder"], provenance["profile"]) == ("joint", "compact.en")
    model = find(None, "extractor").path
    assert set(provenance["extractor"]) == MODEL_KEYS
    for role in {"extractor"} | translated:
        assert (provenance[role]["file"], provenance[role]["sha256"]) == (model.name, sha256(model))
    if translated:
        assert set(provenance["translator"]) == MODEL_KEYS | {"prompt_sha256"}

    assert set(record["timings"]) == {"load_s", "translate_s", "extract_s", "prompt_tokens", "cached_tokens", "generated_tokens"}
    assert all(value >= 0 for value in record["timings"].values())


def test_a_process_of_its_own_prints_the_same_answers(capsys, call):
    own, here = spawn("extract", call), run(capsys, "extract", call)
    assert own.status == here.status == 0
    for key in set(RECORD_KEYS) - {"timings"}:
        assert own.records[0][key] == here.records[0][key]


def test_the_embedded_model_says_on_stderr_that_it_is_a_demonstration(capsys, call):
    for name in ("extract", "translate"):
        done = run(capsys, name, call)
        assert "Not for clinical use" in done.stderr and "Not for clinical use" not in done.stdout


def test_standard_input_is_read_for_a_dash(capsys, call):
    (record,) = run(capsys, "extract", "-", stdin=CALL.encode()).records
    (from_file,) = run(capsys, "extract", call).records
    assert (record["id"], record["source"], record["document_sha256"]) == ("stdin", "-", sha256(call))
    assert record["features"] == from_file["features"]


def test_files_of_one_stem_get_distinct_ids_and_keep_their_order(capsys, tmp_path):
    paths = [tmp_path / "one" / "call.fa.txt", tmp_path / "two" / "call.fa.txt", tmp_path / "two" / "call.en.txt", tmp_path / "other.txt"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text(ENGLISH, encoding="utf-8")
    done = run(capsys, "extract", *paths)
    assert done.status == 0
    assert [record["id"] for record in done.records] == [*map(str, paths[:3]), "other"]
    assert [record["source"] for record in done.records] == [path.name for path in paths]


def test_no_translate_reads_the_source_and_asks_in_its_language(capsys, call):
    done = run(capsys, "extract", call, "--no-translate")
    (record,) = done.records
    assert done.status == 0 and record["translation"] == []
    assert record["provenance"]["profile"] == "compact.fa" and "translator" not in record["provenance"]
    assert list(record["features"]) == FEATURES


def test_a_language_given_overrides_the_one_detected(capsys, call):
    (record,) = run(capsys, "extract", call, "--language", "en").records
    assert record["language"] == "en" and record["translation"] == []


@pytest.mark.parametrize("decoder", ["joint", "independent", "gbnf", "free"])
def test_every_decoder_gives_thirteen_features(capsys, call, decoder):
    done = run(capsys, "extract", call, "--decoder", decoder)
    (record,) = done.records
    assert record["provenance"]["decoder"] == decoder
    assert list(record["features"]) == FEATURES
    unanswered = [f for f in record["features"].values() if f["status"] == "unanswered"]
    assert all(f["value"] is None and f["p_yes"] is None and f["reason"] for f in unanswered)
    if decoder == "free":  # the only one that may miss an answer
        assert (done.status, record["status"]) == ((3, "partial") if unanswered else (0, "complete"))
    else:
        assert (done.status, record["status"], unanswered) == (0, "complete", [])


# --- extract: formats and files ------------------------------------------------------------------------------------


def test_json_is_one_array_of_all_records(capsys, call, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(ENGLISH, encoding="utf-8")
    done = run(capsys, "extract", call, other, "--format", "json")
    assert done.status == 0
    assert [(record["id"], list(record)) for record in json.loads(done.stdout)] == [("call", RECORD_KEYS), ("other", RECORD_KEYS)]


def test_csv_has_one_row_a_document_and_two_columns_a_field(capsys, call):
    (record,) = run(capsys, "extract", call).records
    done = run(capsys, "extract", call, "--format", "csv")
    assert done.status == 0
    head, row = csv.reader(io.StringIO(done.stdout, newline=""))
    before = ["id", "source", "language", "status", "error", "unanswered", "doubtful_turns"]
    assert head == [*before, *(c for f in FEATURES for c in (f, f"p_{f}")), "task", "document_sha256"]
    cells = dict(zip(head, row, strict=True))
    assert [cells[k] for k in ("id", "source", "language", "status", "error")] == ["call", "call.fa.txt", "fa", "complete", ""]
    for name, feature in record["features"].items():
        assert (cells[name], float(cells[f"p_{name}"])) == (feature["value"], feature["p_yes"])


def test_a_csv_file_opens_in_a_spreadsheet_as_utf8_and_without_running_formulas(capsys, tmp_path):
    names = ["=1+1.txt", "+1.txt", "-1.txt", "@SUM(A1).txt", "تماس.txt"]
    for name in names:
        (tmp_path / name).write_text(ENGLISH, encoding="utf-8")
    output = tmp_path / "answers.csv"
    assert run(capsys, "extract", *(tmp_path / name for name in names), "--output", output).status == 0
    assert output.read_bytes().startswith(b"\xef\xbb\xbfid,source,")
    rows = list(csv.DictReader(io.StringIO(output.read_text(encoding="utf-8-sig"), newline="")))
    assert [row["source"] for row in rows] == ["'=1+1.txt", "'+1.txt", "'-1.txt", "'@SUM(A1).txt", "تماس.txt"]
    assert not [row["id"] for row in rows if row["id"][0] in "=+-@"]


@pytest.mark.parametrize("name", ["out.jsonl", "out.json", "out.csv"])
def test_an_output_file_is_readable_by_its_owner_only(capsys, call, tmp_path, name):
    output = tmp_path / "new" / "folder" / name
    done = run(capsys, "extract", call, "--output", output)
    assert (done.status, done.stdout) == (0, "")
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert os.listdir(output.parent) == [name]


def test_the_name_of_the_output_chooses_the_format_and_an_option_overrides_it(capsys, call, tmp_path):
    run(capsys, "extract", call, "--output", tmp_path / "a.json")
    assert [record["id"] for record in json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))] == ["call"]
    run(capsys, "extract", call, "--output", tmp_path / "b.json", "--format", "jsonl")
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))["id"] == "call"


def test_an_old_output_is_replaced_and_loses_its_open_mode(capsys, call, tmp_path):
    output = tmp_path / "out.jsonl"
    output.write_text("old\n")
    output.chmod(0o644)
    assert run(capsys, "extract", call, "--output", output).status == 0
    assert json.loads(output.read_text(encoding="utf-8"))["id"] == "call"
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


def test_a_pipe_carries_utf8_whatever_the_locale(tmp_path):
    path = tmp_path / "تماس.txt"
    path.write_text(ENGLISH, encoding="utf-8")
    done = spawn("extract", path, env={"PYTHONIOENCODING": "cp1252"})
    assert done.status == 0, done.stderr
    assert done.records[0]["source"] == "تماس.txt"


# --- a terminal ----------------------------------------------------------------------------------------------------


def in_terminal(*args, columns=80):
    """Exit status and the plain text that a command shows on a terminal."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = environment(TERM="xterm")
    env.pop("COLUMNS", None)
    process = subprocess.Popen(command(*args), stdout=follower, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=env)
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:
        pass  # Linux says so when the other side is closed
    finally:
        os.close(leader)
    return process.wait(60), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r\n", "\n")


def test_a_terminal_shows_a_table_of_all_fields_within_eighty_columns(call):
    status, text = in_terminal("extract", call)
    labels = [field.label["en"] for field in load_task("palliative-call").fields]
    assert status == 0 and len(labels) == 13
    rows = {cells[1].strip(): cells[2:4] for line in text.splitlines() if len(cells := line.split("│")) > 4}
    assert set(rows) == set(labels)
    for answer, probability in rows.values():
        assert answer.strip() == ("yes" if float(probability) >= 0.5 else "no")
    assert max(map(len, text.splitlines())) <= 80
    assert "call · fa" in text
    assert "درد" not in text


def test_a_table_shows_a_name_with_square_brackets_as_it_is(capsys, tmp_path):
    path = tmp_path / "call[a].txt"
    path.write_text(ENGLISH, encoding="utf-8")
    assert "call[a] · en" in run(capsys, "extract", path, "--format", "table").stdout


def test_translate_in_a_terminal_shows_numbered_lines_without_tabs(call):
    status, text = in_terminal("translate", call)
    assert status == 0
    assert [line[:4].strip() for line in text.splitlines()] == ["1", "2", "3", "4"]
    assert "\t" not in text


# --- translate -----------------------------------------------------------------------------------------------------


def test_translate_in_a_pipe_prints_turn_text_and_reason_between_tabs(capsys):
    path = EXAMPLES / "call-01.fa.txt"
    done = run(capsys, "translate", path)
    rows = [line.split("\t") for line in done.stdout.rstrip("\n").split("\n")]
    assert done.status == 0
    assert [row[0] for row in rows] == [str(number) for number, _ in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)]
    (record,) = run(capsys, "extract", path).records
    assert [[str(t["turn"]), t["text"], t.get("doubtful", "")] for t in record["translation"]] == rows


def test_translate_reads_standard_input(capsys, call):
    assert run(capsys, "translate", "-", stdin=CALL.encode()).stdout == run(capsys, "translate", call).stdout


# --- tasks and models ----------------------------------------------------------------------------------------------


def test_tasks_list_names_each_task_with_its_fields_and_profiles(capsys):
    done = run(capsys, "tasks", "list")
    name, fields, profiles, folder = done.stdout.rstrip("\n").split("\t")
    assert (done.status, name, fields) == (0, "palliative-call", "13 fields")
    assert {"compact.en", "compact.fa"} <= set(profiles.split())
    assert os.path.isfile(os.path.join(folder, "task.toml"))


@pytest.mark.parametrize("options", [[], ["--language", "fa"], ["--decoder", "independent"], ["--profile", "compact"]], ids=" ".join)
def test_tasks_show_prints_the_messages_with_a_place_for_the_document(capsys, options):
    done = run(capsys, "tasks", "show", "palliative-call", *options)
    assert done.status == 0, done.stderr
    assert done.stdout.startswith("[system]\n")
    assert done.stdout.count("{document}") == 1
    assert done.stdout.rindex("[user]") < done.stdout.index("{document}")


def test_tasks_show_gbnf_prints_a_grammar_that_llama_cpp_accepts(capsys, demo: Model):
    grammar = run(capsys, "tasks", "show", "palliative-call", "--profile", "compact", "--gbnf").stdout
    assert grammar.startswith("root ::= ") and grammar.count('" yes" | " no"') == 13
    with demo.grammar_sampler(grammar):
        pass


def test_tasks_check_passes_all_that_is_built_in(capsys):
    done = run(capsys, "tasks", "check")
    assert done.status == 0
    assert re.match(r"palliative-call: 13 fields, \d+ profiles, no errors\n", done.stdout)
    assert "translation/compact: no errors\n" in done.stdout


def test_tasks_check_names_file_and_line_of_every_broken_task_and_goes_on(capsys, home, tmp_path):
    for name in ("first", "second"):
        folder = home / "config" / "prompts" / name
        folder.mkdir(parents=True)
        (folder / "task.toml").write_text('name = "x"\ntitle = "x"\n[[fields]]\nid = "thirst"\nkind = "number"\n', encoding="utf-8")
    done = run(capsys, "tasks", "check")
    assert done.status == 2
    for name in ("first", "second"):
        assert f"{home / 'config' / 'prompts' / name / 'task.toml'}:4:" in done.stderr
    assert "palliative-call: 13 fields" in done.stdout
    assert run(capsys, "tasks", "check", home / "config" / "prompts" / "first").status == 2


def test_tasks_check_names_file_and_line_of_a_broken_translation_prompt(capsys, home):
    path = home / "config" / "prompts" / "translation" / "compact.toml"
    path.parent.mkdir(parents=True)
    path.write_text('system = "translate"\nturn = "no slot"\nmin_mean_logprob = -1.0\n', encoding="utf-8")
    done = run(capsys, "tasks", "check")
    assert done.status == 2 and f"{path}:2: " in done.stderr


def test_tasks_check_names_the_line_of_the_field_itself(capsys, tmp_path):
    first = '[[fields]]\nid = "fever"\nkind = "yes_no"\nlabel.en = "fever"\nmeaning.en = "Hot, with or without pain."\n'
    (tmp_path / "task.toml").write_text(f'name = "x"\ntitle = "x"\n{first}[[fields]]\nid = "pain"\nkind = "number"\n', encoding="utf-8")
    assert f"{tmp_path / 'task.toml'}:9: field 'pain'" in run(capsys, "tasks", "check", tmp_path).stderr


def test_a_task_of_the_users_own_is_listed_and_answered(capsys, home, call):
    folder = home / "config" / "prompts" / "only-pain"
    folder.mkdir(parents=True)
    (folder / "task.toml").write_text(
        'name = "only-pain"\ntitle = "Pain"\n[[fields]]\nid = "pain"\nkind = "yes_no"\nlabel.en = "pain"\nmeaning.en = "Pain."\n',
        encoding="utf-8",
    )
    profile = 'system = "extract"\ndocument = "{document}"\nline = " {label} {value}"\nyes = "yes"\nno = "no"\n'
    (folder / "compact.en.toml").write_text(profile, encoding="utf-8")
    assert "only-pain\t1 fields\tcompact.en\t" in run(capsys, "tasks", "list").stdout
    (record,) = run(capsys, "extract", call, "--task", "only-pain").records
    assert (record["task"], list(record["features"]), record["status"]) == ("only-pain", ["pain"], "complete")


def test_a_models_toml_of_the_users_own_adds_a_model_by_name(capsys, home, call):
    (home / "config").mkdir()
    (home / "config" / "demo-copy.gguf").write_bytes(find(None, "extractor").path.read_bytes())
    entry = '[models.mine]\nfile = "demo-copy.gguf"\nprofile = "compact"\ntranslation_profile = "compact"\nnotice = "My own."\n'
    (home / "config" / "models.toml").write_text(entry, encoding="utf-8")
    done = run(capsys, "extract", call, "--model", "mine")
    extractor, translator = done.records[0]["provenance"]["extractor"], done.records[0]["provenance"]["translator"]
    assert done.status == 0
    assert (extractor["name"], extractor["file"]) == ("mine", "demo-copy.gguf")
    assert translator["name"] == "clinex-demo" and translator["sha256"] == extractor["sha256"]
    assert "My own." in done.stderr


# --- interruption and debugging ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_an_interruption_leaves_the_old_output_whole_and_nothing_beside_it(capsys, monkeypatch, call, tmp_path, name):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / name).write_text("old")
    translate = Pipeline._translate

    def stop_at_the_second(self, documents):
        if "second" in [document.id for document in documents]:
            raise KeyboardInterrupt
        return translate(self, documents)

    monkeypatch.setattr(Pipeline, "_translate", stop_at_the_second)
    second = tmp_path / "second.txt"
    second.write_text(call.read_text(encoding="utf-8"), encoding="utf-8")
    done = run(capsys, "extract", call, second, "--output", folder / name)
    assert (done.status, done.stdout) == (130, "")
    assert done.stderr.endswith("Interrupted.\n") and "Traceback" not in done.stderr
    assert os.listdir(folder) == [name] and (folder / name).read_text() == "old"


def test_ctrl_c_ends_the_process_with_130_after_whole_lines_only(call, tmp_path):
    waiting = tmp_path / "pipe.txt"
    os.mkfifo(waiting)  # opening it waits for a writer that never comes
    batch = [call] * BATCH
    process = subprocess.Popen(command("extract", *batch, waiting), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    lines = [process.stdout.readline() for _ in batch]
    process.send_signal(signal.SIGINT)
    rest, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert len({json.loads(line)["id"] for line in lines}) == BATCH and rest == b""
    assert stderr.decode().endswith("Interrupted.\n") and b"Traceback" not in stderr


def test_a_reader_that_goes_away_is_no_error_message(call):
    process = subprocess.Popen(command("extract", call), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    process.stdout.close()
    stderr = process.stderr.read().decode()
    assert process.wait(60) == 1
    assert "Error" not in stderr and "Traceback" not in stderr


def test_a_model_too_big_for_the_memory_is_refused_with_advice(capsys, monkeypatch, call):
    monkeypatch.setattr("clinex_edge.llama.machine.free_memory", lambda: 10 * 2**20)
    done = run(capsys, "extract", call)
    assert (done.status, done.stdout) == (1, "")
    assert "needs about" in done.stderr
    assert "smaller" in done.stderr
    assert "Traceback" not in done.stderr


def test_clinex_debug_shows_where_an_error_arose(call):
    quiet = spawn("extract", call, "--model", "nothing")
    debug = spawn("extract", call, "--model", "nothing", env={"CLINEX_DEBUG": "1"})
    assert quiet.status == 2 and "Traceback" not in quiet.stderr
    assert debug.status == 1 and "Traceback" in debug.stderr and "registry.py" in debug.stderr
