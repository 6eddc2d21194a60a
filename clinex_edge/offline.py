"""No connection to the internet from inside this process.

What goes through Python's sockets is refused, in every thread. Native code can open connections without Python, and so can another
program that a package starts: neither is stopped here. docs/privacy.md says how to shut those off and how to look for them.

A host name that is given to an open socket is looked up before Python tells of it. That takes a socket older than the guard, or
`loopback`.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from clinex_edge.errors import OfflineError

_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
_ADDRESSED = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg")
_LOOKUPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")


@dataclass(eq=False)
class _Guard:
    loopback: bool = False
    refusal: OfflineError | None = None  # the first one: a package may swallow it


@dataclass(frozen=True)
class _Peer:
    """One port of one host, under the addresses that its name had when it was looked up."""

    host: str
    port: int
    addresses: frozenset[str] = frozenset()

    def is_meant(self, event: str, args: tuple[Any, ...]) -> bool:
        """Whether an audit event belongs to a connection to it, or to the look-up of its name."""
        import socket

        if event == "socket.__new__":
            return args[1] in (socket.AF_INET, socket.AF_INET6) and args[2] == socket.SOCK_STREAM
        if event == "socket.connect":
            return args[1][0] in self.addresses and args[1][1] == self.port
        if event == "socket.sendmsg":
            return args[1] is None  # to where it is connected
        return event == "socket.getaddrinfo" and args[0] in (self.host, *self.addresses)


_armed: list[_Guard] = []
_peers: list[_Peer] = []


@contextmanager
def guarded(loopback: bool = False) -> Iterator[None]:
    """Refuse sockets and name lookups inside the block; only Unix sockets are left, and this machine's own addresses with `loopback`.

    Also sets the variables that tell libraries to stay offline, and restores them. Raises OfflineError, which names the package and no
    address, where something was refused: at once and, in case a package swallowed that, again when the block is left. Another error
    of the block goes on, unless a refusal caused it.
    """
    guard = _Guard(loopback)
    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update(dict.fromkeys(_VARIABLES, "1"))
    _install()
    _armed.append(guard)
    try:
        yield
    except OfflineError:
        raise
    except (Exception, SystemExit) as error:
        if guard.refusal and (isinstance(error, SystemExit) or _caused_by_refusal(error)):
            raise OfflineError(str(guard.refusal), guard.refusal.hint) from error
        raise
    finally:
        _armed.remove(guard)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    if guard.refusal:
        raise guard.refusal


@contextmanager
def reaching(host: str, port: int) -> Iterator[None]:
    """Let connections to this port of this host, and to nothing else, through every guard inside the block.

    The name is looked up once, here: what else it may stand for later is refused. Raises OSError where it is not known.
    """
    import socket

    _peers.append(_Peer(host, port))
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        _peers[-1] = _Peer(host, port, frozenset(str(address[0]) for *_, address in found))
        yield
    finally:
        _peers.pop()


def arm() -> None:
    """Refuse as `guarded` does until the process ends; for what packages do at its exit. Nothing undoes it."""
    _install()
    _armed.append(_Guard())


@cache
def _install() -> None:
    sys.addaudithook(_hook)  # once: it cannot be removed


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not event.startswith("socket.") or not _armed:
        return
    if _reaches_out(event, args, all(guard.loopback for guard in _armed)) and not any(peer.is_meant(event, args) for peer in _peers):
        error = _refusal(_culprit())
        _armed[-1].refusal = _armed[-1].refusal or error  # only the innermost reports it
        raise error


def _reaches_out(event: str, args: tuple[Any, ...], loopback: bool) -> bool:
    """Whether what an audit event announces could leave this process or, with `loopback`, this machine."""
    import socket

    unix = getattr(socket, "AF_UNIX", None)
    if event == "socket.__new__":  # family -1: of a descriptor that is open already
        return args[1] not in ((unix, -1, socket.AF_INET, socket.AF_INET6) if loopback else (unix, -1))
    if event in _ADDRESSED:
        return args[0].family != unix and not (loopback and _is_loopback(args[1]))
    return event in _LOOKUPS and not (loopback and _is_loopback(args[0]))


def _is_loopback(address: Any) -> bool:
    """Whether a host, or a socket address that begins with one, is this machine; None stands for it too, or for a connected peer."""
    import ipaddress

    host = address[0] if isinstance(address, tuple) and address else address
    host = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if host is None or host == "localhost":
        return True
    try:
        return isinstance(host, str) and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _culprit() -> str | None:
    """The package of the nearest caller outside the standard library; None where that is clinex-edge or cannot be told."""
    frame = sys._getframe().f_back
    while frame:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package and package not in sys.stdlib_module_names and frame.f_globals is not globals():
            return None if package in ("__main__", "clinex_edge") else package
        frame = frame.f_back
    return None


def _refusal(culprit: str | None) -> OfflineError:
    who = f"The package '{culprit}'" if culprit else "An unknown part of the program"
    what = f"Remove or update '{culprit}'" if culprit else "Update clinex-edge and what is installed beside it"
    message = f"{who} tried to use the network and was stopped; nothing was sent."
    return OfflineError(message, f"{what}, then run again. See docs/privacy.md.")


def _caused_by_refusal(error: BaseException | None) -> bool:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, OfflineError):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False
