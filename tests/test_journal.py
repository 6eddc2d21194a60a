"""The journal and the audit log: every later change shows, and what tears or fails on the way never breaks the chain."""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from clinex_edge import paths
from clinex_edge.errors import OutputError, RunError
from clinex_edge.runs import audit, journal
from clinex_edge.runs.journal import START, Journal, read

ROOT = Path(__file__).parent.parent
EVENTS = [{"event": "document", "number": number, "word": "تب" * number} for number in range(4)]


@pytest.fixture
def path(tmp_path):
    """A journal of four events."""
    write(tmp_path / "journal.jsonl", EVENTS)
    return tmp_path / "journal.jsonl"


def write(path, events):
    opened = Journal(path)
    for event in events:
        opened.append(event)
    opened.close()


def events(path):
    return [line.event for line in read(path)]


def head(path):
    """The sha256 that the next event would be chained to, and that the audit log keeps; None where the chain is broken."""
    try:
        return list(read(path))[-1].sha256
    except RunError:
        return None


# --- the chain -----------------------------------------------------------------------------------------------------


def test_events_come_back_in_order_each_with_where_its_line_ends(path):
    lines = list(read(path))
    assert [line.event for line in lines] == EVENTS
    data = path.read_bytes()
    assert [data[line.end - 1 : line.end] for line in lines] == [b"\n"] * 4
    assert lines[-1].end == len(data)


def test_each_line_names_the_sha256_of_the_line_before(path):
    previous = [json.loads(line)["previous"] for line in path.read_text().splitlines()]
    assert previous == [START, *(line.sha256 for line in list(read(path))[:-1])]


def test_a_journal_is_readable_by_its_owner_only(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_there_is_given_to_who_opens_it_and_goes_on(path):
    taken = []
    opened = Journal(path, taken.append)
    opened.append({"event": "last"})
    opened.close()
    assert taken == EVENTS
    assert events(path) == [*EVENTS, {"event": "last"}]


def test_every_change_of_a_byte_is_found(path):
    data, written = path.read_bytes(), head(path)
    for position in range(len(data)):
        before, byte, behind = data[:position], data[position], data[position + 1 :]
        for bits in (1, 32):
            path.write_bytes(before + bytes([byte ^ bits]) + behind)
            assert head(path) != written, (position, bits)


def test_every_byte_that_is_deleted_or_inserted_is_found(path):
    data, written = path.read_bytes(), head(path)
    for position in range(len(data)):
        for changed in (data[:position] + data[position + 1 :], data[:position] + b" " + data[position:]):
            path.write_bytes(changed)
            assert head(path) != written, position


def test_a_change_that_the_chain_alone_does_not_show_is_one_of_the_last_line(path):
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines):
        path.write_bytes(b"".join([*lines[:number], line.replace(b'"document"', b'"forged"'), *lines[number + 1 :]]))
        assert (head(path) is None) == (number < 3)


@pytest.mark.parametrize("number", range(3))
def test_a_line_that_is_deleted_repeated_or_swapped_is_found(path, number):
    lines = path.read_bytes().splitlines(keepends=True)
    before, line, rest = lines[:number], lines[number], lines[number + 1 :]
    for changed in ([*before, *rest], [*before, line, line, *rest], [*before, rest[0], line, *rest[1:]]):
        path.write_bytes(b"".join(changed))
        with pytest.raises(RunError, match=rf"line {number + 1 + (changed[number] == line)}, is not as it was written"):
            events(path)


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b"1\n", b"{}\n", b"{", b"[" * 100_000 + b"\n", b"\xff\n"])
def test_a_line_that_is_no_event_is_found_and_not_quoted(path, line):
    path.write_bytes(line + path.read_bytes())
    with pytest.raises(RunError, match="line 1, is not as it was written") as found:
        events(path)
    assert "تب" not in str(found.value) and "evidence" in found.value.hint


# --- power cuts and full disks -------------------------------------------------------------------------------------


def test_a_last_line_torn_anywhere_is_dropped_and_the_next_event_takes_its_place(path):
    data = path.read_bytes()
    whole = list(read(path))[-2].end
    for cut in range(whole, len(data)):
        path.write_bytes(data[:cut])
        assert events(path) == EVENTS[:-1]
        write(path, EVENTS[-1:])
        assert path.read_bytes() == data


@pytest.mark.parametrize("tail", [b"\0" * 4096, b'{"event": "docu\0\0\0\0', b'{"event": "document"}'])
def test_what_a_power_cut_leaves_behind_the_last_line_is_dropped(path, tail):
    data = path.read_bytes()
    path.write_bytes(data + tail)
    assert events(path) == EVENTS
    write(path, [{"event": "last"}])
    assert events(path) == [*EVENTS, {"event": "last"}]
    assert tail not in path.read_bytes()


class FullDisk:
    """A file on which the named operations fail, a write after so many bytes."""

    def __init__(self, file, failing, written):
        self._file, self.failing, self._written = file, failing, written

    def write(self, data):
        if "write" not in self.failing:
            return self._file.write(data)
        self._file.write(bytes(data[: self._written]))
        raise OSError(errno.ENOSPC, "No space left on device")

    def truncate(self, size):
        if "truncate" in self.failing:
            raise OSError(errno.EIO, "Input/output error")
        return self._file.truncate(size)

    def fileno(self):
        if "fsync" in self.failing:
            raise OSError(errno.EIO, "Input/output error")
        return self._file.fileno()

    def close(self):
        self._file.close()


@pytest.mark.parametrize("written", [0, 1, 100, 10_000])
@pytest.mark.parametrize("failing", [{"write"}, {"write", "truncate"}, {"fsync"}, {"truncate"}])
def test_an_event_that_was_refused_leaves_a_whole_chain(path, monkeypatch, failing, written):
    disks = []

    def opened(path):
        disks.append(FullDisk(OPEN(path), set(), written))
        return disks[-1]

    OPEN = journal.open_private
    monkeypatch.setattr(journal, "open_private", opened)
    first = Journal(path)
    disks[0].failing = failing
    for _ in range(2):
        with pytest.raises(OSError, match=r"No space|Input/output"):
            first.append({"event": "refused"})
    assert {"event": "refused"} not in events(path) or "fsync" in failing
    disks[0].failing = set()
    first.append({"event": "last"})
    first.close()
    assert events(path) == [*EVENTS, {"event": "last"}]


@pytest.mark.parametrize("written", [0, 1, 100])
def test_after_a_write_that_failed_for_good_the_next_process_goes_on(path, monkeypatch, written):
    OPEN = journal.open_private
    monkeypatch.setattr(journal, "open_private", lambda path: FullDisk(OPEN(path), {"write"}, written))
    with pytest.raises(OSError, match="No space"):
        Journal(path).append({"event": "refused"})
    monkeypatch.undo()
    write(path, [{"event": "last"}])
    assert events(path) == [*EVENTS, {"event": "last"}]


def test_a_changed_journal_cannot_be_appended_to(path):
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"number": 1', b'"number": 7'))
    with pytest.raises(RunError):
        Journal(path)
    assert len(path.read_bytes()) == len(data)


# --- the audit log -------------------------------------------------------------------------------------------------


def test_the_audit_log_keeps_events_for_its_owner_only(home):
    assert list(audit.events()) == []
    audit.note({"event": "started", "run": "a"})
    audit.note({"event": "stopped", "run": "a"})
    assert [event["event"] for event in audit.events()] == ["started", "stopped"]
    assert audit.log_path().is_relative_to(home)
    for file in (audit.log_path(), audit.log_path().with_suffix(".lock")):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(paths.state_dir().stat().st_mode) == 0o700


def test_who_acted_where_and_when_is_said_in_utc(monkeypatch):
    assert audit.actor()["at"].endswith("+00:00")
    monkeypatch.setattr("getpass.getuser", lambda: {}["no such user"])
    assert audit.actor()["by"] == "unknown"


def test_two_processes_that_write_to_the_audit_log_at_once_lose_nothing():
    code = """
import sys
from clinex_edge.runs import audit
for number in range(25):
    audit.note({"event": "x", "run": sys.argv[1], "number": number})
"""
    processes = [subprocess.Popen([sys.executable, "-c", code, name], cwd=ROOT) for name in ("a", "b")]
    assert [process.wait(60) for process in processes] == [0, 0]
    found = list(audit.events())
    for name in ("a", "b"):
        assert [event["number"] for event in found if event["run"] == name] == list(range(25))


def test_a_changed_audit_log_is_found_and_not_written_to():
    audit.note({"event": "started", "run": "a"})
    audit.log_path().write_bytes(audit.log_path().read_bytes().replace(b"started", b"stopped").replace(b'"a"', b'"bb"', 1)[:-2] + b" \n")
    before = audit.log_path().read_bytes()
    with pytest.raises(RunError):
        list(audit.events())
    with pytest.raises(RunError):
        audit.note({"event": "stopped", "run": "a"})
    assert audit.log_path().read_bytes() == before


def test_an_audit_log_that_cannot_be_written_says_where_it_is(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError, match=r"audit\.jsonl cannot be written: Read-only file system") as caught:
        audit.note({"event": "started", "run": "a"})
    assert "CLINEX_HOME" in caught.value.hint
