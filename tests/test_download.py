"""`models pull` against a hub on this machine that also lies, stops and cuts: what is installed, told and kept."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest
from cli_runner import command, environment, run, spawn
from hub import COMMIT, OLDER_COMMIT, Hub

from clinex_edge.models.registry import find

BODY = find("clinex-demo").path.read_bytes()
OTHER = BODY[:-1] + bytes([BODY[-1] ^ 1])  # another whole GGUF
MIDDLE = 3_000_000
ENTRY = """
[models.tiny]
repo = "{repo}"
file = "tiny.gguf"
profile = "compact"
translation_profile = "compact"
licence = "Apache-2.0"
notice = "A licence to mind."
"""


def sha256(body):
    return hashlib.sha256(body).hexdigest()


@pytest.fixture
def hub(home):
    with Hub(BODY) as hub:
        register(home, hub.repo)
        yield hub


def register(home, repo, more=""):
    """The user's own models.toml with the model "tiny"."""
    (home / "config").mkdir(exist_ok=True)
    (home / "config" / "models.toml").write_text(ENTRY.format(repo=repo) + more, encoding="utf-8")


@pytest.fixture
def variables(home, hub):
    return {**hub.env, "HF_HOME": str(home / "hf")}


@pytest.fixture
def pull(variables):
    return lambda *args, **more: spawn("models", "pull", "tiny", *args, env={**variables, **more})


@pytest.fixture
def folder(home):
    return home / "data" / "models" / "tiny"


@pytest.fixture
def start(variables):
    """Start a pull in the background."""
    running = []

    def start():
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command("models", "pull", "tiny"), stdout=pipe, stderr=pipe, env=environment(**variables)))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def files(folder):
    return sorted(path.name for path in folder.glob("*"))


def part(folder):
    """The one file whose download has begun."""
    (path,) = folder.glob("*.part")
    return path


def is_installed(folder, body=BODY):
    return files(folder) == ["entry.json", "tiny.gguf"] and (folder / "tiny.gguf").read_bytes() == body


def says(done, status, *words):
    """An error of one line and its advice, no traceback, and nothing on stdout."""
    assert (done.status, done.stdout) == (status, ""), done
    assert "Traceback" not in done.stderr and "Internal error" not in done.stderr
    for word in words:
        assert word in done.stderr


# --- all goes well -------------------------------------------------------------------------------------------------


def test_a_pull_installs_a_model_that_all_commands_agree_about(capsys, hub, pull, folder):
    done = pull()
    assert done.status == 0, done.stderr
    assert done.stdout == f"tiny\t{folder / 'tiny.gguf'}\tsha256 {sha256(BODY)}\tcommit {COMMIT}\n"
    assert "A licence to mind." in done.stderr
    assert is_installed(folder)
    entry = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
    assert (entry["name"], entry["path"], entry["size"], entry["sha256"]) == ("tiny", "tiny.gguf", len(BODY), sha256(BODY))
    assert entry["origin"] == {"kind": "hub", "repo": hub.repo, "file": hub.file, "revision": COMMIT}
    assert entry["spec"]["profile"] == "compact" and entry["spec"]["licence"] == "Apache-2.0"
    assert ["tiny", "here"] in [line.split("\t")[:2] for line in run(capsys, "models", "list").stdout.splitlines()]
    assert run(capsys, "models", "path", "tiny").stdout == f"{folder / 'tiny.gguf'}\n"
    assert run(capsys, "models", "verify", "tiny").stdout == f"tiny\tok\tsha256 {sha256(BODY)}\n"
    assert f"came from\thub, {hub.repo}, {hub.file}, {COMMIT}" in run(capsys, "models", "info", "tiny").stdout


def test_a_second_pull_asks_the_hub_and_fetches_nothing(hub, pull, folder):
    first = pull()
    hub.requests.clear()
    assert pull() == first
    assert [(request.server, request.method) for request in hub.requests] == [("hub", "HEAD")]
    assert is_installed(folder)


def test_only_the_file_is_asked_for_and_nothing_is_told_about_who_asks(hub, pull):
    assert pull(HF_TOKEN="hf_secret").status == 0
    head, get = hub.requests
    assert (head.server, head.method, head.path) == ("hub", "HEAD", f"/{hub.repo}/resolve/main/{hub.file}")
    assert (get.server, get.method) == ("cdn", "GET")
    assert head.headers["authorization"] == "Bearer hf_secret"
    assert "hf_secret" not in str(get)
    told = {"host", "accept", "accept-encoding", "connection", "user-agent", "x-amzn-trace-id", "authorization"}
    for request in hub.requests:
        assert set(request.headers) <= told
        assert re.fullmatch(r"unknown/None; hf_hub/[\w.]+; python/[\w.+]+", request.headers["user-agent"])
        assert re.fullmatch(r"[0-9a-f-]{36}", request.headers["x-amzn-trace-id"])
    assert head.headers["x-amzn-trace-id"] != get.headers["x-amzn-trace-id"]  # chance, and no number of this machine


def test_another_commit_replaces_the_file(home, hub, pull, folder):
    assert pull().status == 0
    hub.serve(OTHER, OLDER_COMMIT)
    done = pull("--revision", OLDER_COMMIT)
    assert done.status == 0 and f"commit {OLDER_COMMIT}" in done.stdout
    assert hub.requests[-2].path == f"/{hub.repo}/resolve/{OLDER_COMMIT}/{hub.file}"
    assert is_installed(folder, OTHER)


def test_two_pulls_at_once_fetch_the_file_once(hub, start, folder):
    hub.breaks = [("pause", MIDDLE)]
    both = [start(), start()]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0] == outputs[1] != b""
    assert len(hub.ranges_asked) == 1 and is_installed(folder)


def test_a_gated_model_is_sent_to_who_has_the_token(hub, pull, folder):
    hub.token = "hf_right"
    assert pull(HF_TOKEN="hf_right").status == 0 and is_installed(folder)


# --- what the hub refuses ------------------------------------------------------------------------------------------


def closed_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


REFUSALS = {
    "gated": ({"token": "hf_right"}, {}, "someone/tiny-GGUF is gated", "HF_TOKEN"),
    "gated, another's token": ({"token": "hf_right"}, {"HF_TOKEN": "hf_wrong"}, "someone/tiny-GGUF is gated", "Accept it"),
    "no such repository": ({"repo": "someone/else"}, {}, "knows no repository someone/tiny-GGUF", "models.toml"),
    "no such file": ({"file": "other.gguf"}, {}, "no file tiny.gguf of someone/tiny-GGUF", "models.toml"),
    "401": ({"refusal": 401}, {}, "HTTP 401", "HF_TOKEN"),
    "403": ({"refusal": 403}, {}, "HTTP 403", "HF_TOKEN"),
    "429": ({"refusal": 429}, {}, "asks to wait", "in a few minutes"),
    "500": ({"refusal": 500}, {}, "HTTP 500", "again later"),
    "403 of the CDN": ({"cdn_refusal": 403}, {}, "HTTP 403", "run the same command again"),
    "500 of the CDN": ({"cdn_refusal": 500}, {}, "HTTP 500", "again later"),
    "no sha256": ({"sha256": None}, {}, "states no commit, size and sha256", "models add FILE"),
    "no sha256 but git's": ({"sha256": "a" * 40}, {}, "states no commit, size and sha256"),
    "no size": ({"size": None}, {}, "states no commit, size and sha256"),
    "no commit": ({"commit": None}, {}, "states no commit, size and sha256"),
    "a full disk": ({"size": 10**17}, {}, "100,000,000,000 MB are needed", "are free", "CLINEX_HOME"),
    "offline": ({}, {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set", "Unset"),
    "nobody": ({}, {"HF_ENDPOINT": f"http://127.0.0.1:{closed_port()}"}, "connection to the Hub failed", "(ConnectError)", "HTTPS_PROXY"),
    "no address": ({}, {"HF_ENDPOINT": "hub.example"}, "connection to the Hub failed"),
}


@pytest.mark.parametrize(("faults", "env", "words"), [(f, e, w) for f, e, *w in REFUSALS.values()], ids=list(REFUSALS))
def test_a_refusal_is_told_and_leaves_nothing(hub, pull, folder, faults, env, words):
    for name, value in faults.items():
        setattr(hub, name, value)
    says(pull(**env), 1, *words)
    assert files(folder) in ([], [f"tiny.gguf.{sha256(BODY)[:12]}.part"])
    assert all(path.stat().st_size == 0 for path in folder.glob("*"))


def test_an_unknown_commit_is_named(hub, pull, folder):
    says(pull("--revision", "nowhere"), 1, "someone/tiny-GGUF has no commit nowhere", "--revision")
    assert not folder.exists()


@pytest.mark.parametrize("repo", ["https://huggingface.co/someone/tiny-GGUF", "a/b/c", "no such thing"])
def test_what_cannot_be_a_repository_is_told(home, hub, pull, repo):
    register(home, repo)
    says(pull(), 1, f"'{repo}' cannot name a repository", "OWNER/NAME")
    assert hub.requests == []


def test_another_sha256_than_in_models_toml_is_refused_until_the_hub_is_trusted(home, hub, pull, folder):
    register(home, hub.repo, f'sha256 = "{sha256(OTHER)}"\n')
    says(pull(), 1, sha256(BODY), sha256(OTHER), "--trust-hub")
    assert hub.ranges_asked == [] and files(folder) == []
    assert pull("--trust-hub").status == 0 and is_installed(folder)


def test_a_sha256_may_be_written_in_capitals(home, hub, pull, folder):
    register(home, hub.repo, f'sha256 = "{sha256(BODY).upper()}"\n')
    assert pull().status == 0 and is_installed(folder)


def test_only_models_with_a_source_can_be_pulled(capsys):
    says(run(capsys, "models", "pull", "tinny"), 2, "There is no model 'tinny'", "Known: clinex-demo")
    says(run(capsys, "models", "pull", "clinex-demo"), 1, "no place to fetch 'clinex-demo'", "models add")


# --- what is cut off -----------------------------------------------------------------------------------------------


def test_a_cut_download_goes_on_where_it_stopped(hub, pull, folder):
    hub.breaks = [("reset", MIDDLE)]
    says(pull(), 1, "connection to the Hub failed", "What has arrived is kept", "Run the same command again")
    begun = part(folder).stat().st_size
    assert 0 < begun <= MIDDLE and part(folder).read_bytes() == BODY[:begun]
    assert pull().status == 0 and is_installed(folder)
    assert hub.ranges_asked == [None, f"bytes={begun}-"]


def test_a_cut_connection_is_opened_again_by_itself(hub, pull, folder):
    hub.breaks = [("cut", MIDDLE)]
    assert pull().status == 0 and is_installed(folder)
    first, second = hub.ranges_asked
    assert first is None and 0 < int(second.removeprefix("bytes=").rstrip("-")) <= MIDDLE


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_ends_in_the_middle_can_be_followed_by_another(hub, start, pull, folder, ending):
    hub.breaks = [("hold", MIDDLE)]
    process = start()
    deadline = time.monotonic() + 30
    while not (folder.is_dir() and any(path.stat().st_size for path in folder.glob("*.part"))):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(ending)
    _, stderr = process.communicate(timeout=30)
    if ending == signal.SIGINT:
        assert process.returncode == 130 and stderr.decode().endswith("Interrupted.\n") and b"Traceback" not in stderr
    begun = part(folder).stat().st_size
    assert 0 < begun <= MIDDLE and files(folder) == [part(folder).name]
    assert pull().status == 0 and is_installed(folder)
    assert hub.ranges_asked == [None, f"bytes={begun}-"]


def test_a_server_that_sends_no_parts_sends_the_whole(hub, pull, folder):
    hub.breaks, hub.ranges = [("reset", MIDDLE)], False
    assert pull().status == 1 and part(folder).stat().st_size > 0
    assert pull().status == 0 and is_installed(folder)


def test_what_was_begun_of_another_version_is_not_gone_on_with(hub, pull, folder):
    hub.breaks = [("reset", MIDDLE)]
    assert pull().status == 1
    hub.serve(OTHER, OLDER_COMMIT)
    assert pull().status == 0 and is_installed(folder, OTHER)
    assert hub.ranges_asked == [None, None]


def test_a_download_that_was_begun_is_no_model(capsys, hub, pull, folder):
    hub.breaks = [("reset", MIDDLE)]
    assert pull().status == 1
    assert "tiny\t-\t" in run(capsys, "models", "list").stdout
    assert "tiny" not in run(capsys, "models", "verify").stdout
    says(run(capsys, "models", "path", "tiny"), 4, "The model 'tiny' is not on this machine", "models pull tiny")
    assert run(capsys, "models", "rm", "tiny").status == 0 and not folder.exists()


# --- wrong bytes ---------------------------------------------------------------------------------------------------


def test_a_wrong_byte_never_becomes_a_model(hub, pull, folder):
    hub.sent = OTHER
    says(pull(), 4, "is not what the Hub states", sha256(OTHER), sha256(BODY), "Nothing was kept", "models pull tiny")
    assert files(folder) == []
    hub.sent = BODY
    assert pull().status == 0 and is_installed(folder)


def test_a_wrong_byte_in_what_was_begun_is_found(hub, pull, folder):
    hub.breaks = [("reset", MIDDLE)]
    assert pull().status == 1
    with part(folder).open("r+b") as file:
        file.write(b"g")
    says(pull(), 4, "is not what the Hub states")
    assert files(folder) == []


@pytest.mark.parametrize("more", [-1, 1])
def test_a_file_of_another_size_than_stated_is_refused(hub, pull, folder, more):
    hub.size += more
    says(pull(), 4, f"{len(BODY):,} bytes", f"instead of {len(BODY) + more:,} bytes")
    assert files(folder) == []


def test_what_is_no_gguf_is_refused(hub, pull, folder):
    hub.serve(b"<html>Please sign in.</html>" * 9, COMMIT)
    says(pull(), 4, "is not a GGUF file")
    assert files(folder) == []


def test_an_installed_model_stays_when_its_successor_is_refused(hub, pull, folder):
    assert pull().status == 0
    hub.serve(OTHER, OLDER_COMMIT)
    hub.sent = BODY
    assert pull().status == 4
    assert is_installed(folder)


# --- the disk ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no /dev/full")
def test_a_disk_that_fills_up_is_told(pull, folder):
    folder.mkdir(parents=True)
    (folder / f"tiny.gguf.{sha256(BODY)[:12]}.part").symlink_to("/dev/full")
    says(pull(), 1, "cannot be kept: No space left on device", "Free some space")


def test_a_folder_that_cannot_be_made_is_told(home, pull):
    (home / "data").write_text("in the way")
    says(pull(), 1, "cannot be changed", "permissions")
