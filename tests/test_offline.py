"""No command but `models pull` reaches the network: the guard, packages that phone home, and what the kernel sees of the main job."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading

import click
import pytest
from cli_runner import ROOT, command, environment, spawn

from clinex_edge.cli.main import cli
from clinex_edge.cli.offline import GuardedCommand
from clinex_edge.errors import ModelError, OfflineError
from clinex_edge.offline import guarded, reaching

CALL = ROOT / "examples" / "call-02.en.txt"
PERSIAN = ROOT / "examples" / "call-01.fa.txt"
NOWHERE = "192.0.2.1"  # an address kept for documentation: nobody answers
VARIABLES = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"]


# --- which commands ------------------------------------------------------------------------------------------------


def leaves(group, words=()):
    """Each command with its words, groups opened."""
    for name, item in group.commands.items():
        if isinstance(item, click.Group):
            yield from leaves(item, (*words, name))
        else:
            yield " ".join((*words, name)), item


def test_every_command_but_models_pull_is_guarded():
    commands = dict(leaves(cli))
    assert {"extract", "translate", "tune", "tasks check", "cache info", "models list", "models pull"} <= set(commands)
    assert [words for words, item in commands.items() if not isinstance(item, GuardedCommand)] == ["models pull"]


def test_a_command_runs_under_the_guard_and_gives_its_value():
    def offline():
        return os.environ["HF_HUB_OFFLINE"]

    assert GuardedCommand("one", callback=offline).main([], standalone_mode=False) == "1"
    with pytest.raises(OfflineError):
        GuardedCommand("two", callback=socket.socket).main([], standalone_mode=False)


# --- the guard -----------------------------------------------------------------------------------------------------


@pytest.fixture
def sockets():
    """A stream and a datagram socket from before the guard, as a package could have opened at its import."""
    opened = [socket.socket(), socket.socket(type=socket.SOCK_DGRAM)]
    yield opened
    for each in opened:
        each.close()


ATTEMPTS = {
    "a socket": lambda: socket.socket(socket.AF_INET),
    "an IPv6 socket": lambda: socket.socket(socket.AF_INET6),
    "a datagram socket": lambda: socket.socket(type=socket.SOCK_DGRAM),
    "a connection": lambda: socket.create_connection((NOWHERE, 443), timeout=1),
    "a server": lambda: socket.create_server(("127.0.0.1", 0)),
    "a lookup": lambda: socket.getaddrinfo("patient-ali.example", 443),
    "a lookup of one name": lambda: socket.gethostbyname("patient-ali.example"),
    "a lookup of all names": lambda: socket.gethostbyname_ex("patient-ali.example"),
    "a lookup of an address": lambda: socket.gethostbyaddr(NOWHERE),
    "a lookup of a service": lambda: socket.getnameinfo((NOWHERE, 443), 0),
}


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_what_leads_to_the_internet_is_refused(attempt):
    with pytest.raises(OfflineError) as refused, guarded():
        attempt()
    assert "'test_offline'" in str(refused.value) and "docs/privacy.md" in refused.value.hint
    assert not re.search(rf"{re.escape(NOWHERE)}|ali|443|127", str(refused.value) + refused.value.hint)


def test_sockets_that_were_opened_before_are_of_no_use(sockets):
    tcp, udp = sockets
    attempts = [
        lambda: tcp.connect((NOWHERE, 443)),
        lambda: tcp.connect_ex((NOWHERE, 443)),
        lambda: tcp.bind(("0.0.0.0", 0)),
        lambda: udp.sendto(b"", (NOWHERE, 53)),
        lambda: udp.sendmsg([b""], [], 0, (NOWHERE, 53)),
    ]
    for attempt in attempts:
        with pytest.raises(OfflineError), guarded():
            attempt()


def test_unix_sockets_and_pairs_work(tmp_path):
    with guarded(), socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        client.connect(str(tmp_path / "socket"))
        accepted, _ = server.accept()
        accepted.close()
        asyncio.run(asyncio.sleep(0))


def test_loopback_is_this_machine_only(sockets):
    _, udp = sockets
    with guarded(loopback=True), socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1]), timeout=5).close()
    for attempt in (
        lambda: socket.create_connection((NOWHERE, 443), timeout=1),
        lambda: socket.create_server(("", 0)),
        lambda: socket.create_server(("0.0.0.0", 0)),
        lambda: socket.getaddrinfo("localhost.example.org", 80),
        lambda: socket.gethostbyname("example.org"),
        lambda: udp.sendto(b"", (NOWHERE, 53)),
    ):
        with pytest.raises(OfflineError), guarded(loopback=True):
            attempt()


def test_loopback_inside_a_strict_guard_is_refused():
    with pytest.raises(OfflineError), guarded(), guarded(loopback=True):
        socket.create_server(("127.0.0.1", 0))


@pytest.fixture
def listening():
    """The port of a server on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_one_port_of_one_host_can_be_reached_under_the_guard(listening):
    with guarded(), reaching("localhost", listening):
        for host in ("localhost", "127.0.0.1"):
            with socket.create_connection((host, listening), timeout=5) as connection:
                connection.sendall(b"1")
                if hasattr(connection, "sendmsg"):
                    connection.sendmsg([b"2"])


@pytest.mark.parametrize(
    "attempt",
    [
        *(ATTEMPTS[name] for name in ("a datagram socket", "a server", "a connection", "a lookup", "a lookup of a service")),
        lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
        lambda: socket.create_connection(("127.0.0.2", 443), timeout=1),
        lambda: socket.socket().connect((NOWHERE, 443)),
    ],
)
def test_nothing_else_can_be_reached(attempt, listening):
    with pytest.raises(OfflineError), guarded(), reaching("127.0.0.1", listening):
        attempt()


def test_what_a_package_tries_besides_is_reported_at_the_end(listening):
    with pytest.raises(OfflineError, match="test_offline"), guarded(), reaching("127.0.0.1", listening):
        swallow()


def test_nothing_can_be_reached_afterwards(listening):
    with pytest.raises(OfflineError), guarded():
        with reaching("127.0.0.1", listening):
            pass
        socket.create_connection(("127.0.0.1", listening), timeout=1)


def test_a_name_leads_to_where_it_led_at_first(listening, monkeypatch):
    looked_up = socket.getaddrinfo
    with pytest.raises(OfflineError), guarded(), reaching("localhost", listening):
        moved = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (NOWHERE, listening))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: looked_up(*args, **kwargs) and moved)
        socket.create_connection(("localhost", listening), timeout=1)


def test_an_unknown_host_is_no_refusal():
    with guarded(), pytest.raises(OSError), reaching("nobody.invalid", 8786):
        pass


def swallow():
    try:
        socket.create_connection((NOWHERE, 443), timeout=1)
    except Exception:
        return


def test_a_refusal_that_was_swallowed_is_reported_at_the_end():
    reached = []
    with pytest.raises(OfflineError, match="test_offline"), guarded():
        swallow()
        reached.append("the end")
    assert reached == ["the end"]


def test_a_refusal_in_another_thread_is_reported():
    with pytest.raises(OfflineError, match="test_offline"), guarded():
        thread = threading.Thread(target=swallow)
        thread.start()
        thread.join()


def test_leaving_by_exit_reports_a_refusal_too():
    with pytest.raises(OfflineError), guarded():
        swallow()
        sys.exit(0)


def test_an_error_of_its_own_goes_on_and_one_that_a_refusal_caused_does_not():
    with pytest.raises(ModelError), guarded():
        swallow()
        raise ModelError("missing")
    with pytest.raises(OfflineError) as caused, guarded():
        try:
            socket.socket()
        except Exception as error:
            raise RuntimeError("no update found") from error
    assert isinstance(caused.value.__cause__, RuntimeError)
    with pytest.raises(KeyboardInterrupt), guarded():
        swallow()
        raise KeyboardInterrupt


def test_an_inner_guard_whose_refusal_was_dealt_with_leaves_the_outer_one_clean():
    with guarded(), pytest.raises(OfflineError), guarded():
        swallow()


def test_the_nearest_package_is_named_and_clinex_edge_never(tmp_path, monkeypatch):
    (tmp_path / "chatty").mkdir()
    (tmp_path / "chatty" / "__init__.py").write_text("")
    (tmp_path / "chatty" / "beacon.py").write_text("from urllib.request import urlopen\ndef send():\n    urlopen('http://192.0.2.1/')\n")
    monkeypatch.syspath_prepend(tmp_path)
    from chatty.beacon import send

    with pytest.raises(OfflineError, match="The package 'chatty' tried"), guarded():
        send()
    for name in ("clinex_edge.anything", "__main__"):
        with pytest.raises(OfflineError, match="An unknown part of the program tried"), guarded():
            exec("import socket; socket.socket()", {"__name__": name})


def test_outside_the_guard_nothing_is_refused():
    with guarded():
        pass
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()


def test_libraries_are_told_to_stay_offline_and_the_environment_is_restored(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    before = dict(os.environ)
    with pytest.raises(ModelError), guarded():
        assert {os.environ[name] for name in VARIABLES} == {"1"}
        raise ModelError("missing")
    assert dict(os.environ) == before


# --- a dependency that phones home ---------------------------------------------------------------------------------

PSUTIL = """
import atexit, socket, threading, types

def phone_home():
    {attempt}

def cpu_count(logical=True):
    return 1

def virtual_memory():
    {when}
    return types.SimpleNamespace(available=8 * 2**30)
"""
SWALLOWED = "try: socket.create_connection(('192.0.2.1', 443), 1)\n    except Exception: pass"
TOLD = "try: socket.create_connection(('192.0.2.1', 443), 1)\n    except BaseException as error: print('At exit:', type(error).__name__)"


def with_psutil(folder, attempt, when="phone_home()"):
    """`extract` in a process whose psutil calls home."""
    (folder / "psutil.py").write_text(PSUTIL.format(attempt=attempt, when=when))
    return spawn("extract", CALL, env={"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])})


THREAD = "thread = threading.Thread(target=phone_home); thread.start(); thread.join()"


@pytest.mark.parametrize(
    ("attempt", "when"),
    [
        (SWALLOWED, "phone_home()"),
        ("socket.create_connection(('192.0.2.1', 443), 1)", "phone_home()"),
        ("socket.getaddrinfo('192.0.2.1', 443)", "phone_home()"),
        (SWALLOWED, THREAD),
    ],
    ids=["swallowed", "raised", "a lookup", "in a thread"],
)
def test_a_package_that_phones_home_is_stopped_and_named(tmp_path, attempt, when):
    done = with_psutil(tmp_path, attempt, when)
    assert done.status == 1
    assert "The package 'psutil' tried to use the network and was stopped" in done.stderr
    assert "Traceback" not in done.stderr and NOWHERE not in done.stderr


def test_a_package_that_phones_home_when_the_process_ends_is_stopped(tmp_path):
    done = with_psutil(tmp_path, TOLD, "atexit.register(phone_home)")
    assert done.status == 0
    assert done.stdout.splitlines()[1:] == ["At exit: OfflineError"]


# --- what the kernel sees ------------------------------------------------------------------------------------------

JOBS = {"extract": ("extract", PERSIAN), "translate": ("translate", PERSIAN), "models list": ("models", "list")}


def works(*args):
    """Whether a program is there and may do its work here."""
    try:
        return subprocess.run(args, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="module")
def unshare():
    """A command line's beginning that leaves it no network interface."""
    if not works("unshare", "-rn", "true"):
        pytest.skip("`unshare -rn` is missing or not permitted here, so the network cannot be taken away")
    return ["unshare", "-rn"]


@pytest.fixture
def seen(tmp_path):
    """A function that runs a command line and gives its network system calls, of all threads and children."""
    if not works("strace", "-f", "-e", "trace=network", "-o", os.devnull, "true"):
        pytest.skip("strace is missing or may not trace here, so system calls cannot be seen")

    def run(*args):
        log = tmp_path / "calls"
        traced = ["strace", "-f", "-qq", "-e", "trace=network", "-o", log, *args]
        subprocess.run(traced, capture_output=True, env=environment(), timeout=300, check=True)
        return log.read_text()

    return run


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_the_job_needs_no_network(unshare, job):
    alone = subprocess.run([*unshare, *command(*job)], capture_output=True, env=environment(), timeout=300, check=False)
    assert alone.returncode == 0, alone.stderr.decode()
    assert alone.stdout


def test_answers_are_the_same_without_a_network(unshare):
    alone = subprocess.run([*unshare, *command("extract", CALL)], capture_output=True, env=environment(), timeout=300, check=True)
    (record,) = spawn("extract", CALL).records
    assert json.loads(alone.stdout)["features"] == record["features"]


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_no_system_call_of_the_job_concerns_the_internet(seen, job):
    assert "AF_INET" not in seen(*command(*job))


def test_strace_would_see_it(seen):
    code = f"import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('{NOWHERE}', 9))"  # sends nothing
    assert re.search(r"connect\(.*AF_INET", seen(sys.executable, "-c", code))
