"""The Hugging Face Hub in small, for huggingface-hub's client: one file of one repository, on two servers, and faults to switch on.

As on the real one, the "hub" knows names, licences and checksums and redirects to the "cdn", which knows bytes only.
"""

import hashlib
import os
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLDER_COMMIT = "fedcba9876543210fedcba9876543210fedcba98"


class Request(NamedTuple):
    """What a client asked: of "hub" or "cdn"; header names in small letters."""

    server: str
    method: str
    path: str
    headers: dict[str, str]


class Hub:
    """Set the attributes to say what is served and what goes wrong. `env` leads a client here."""

    repo, file, commit = "someone/tiny-GGUF", "tiny.gguf", COMMIT
    token: str | None = None  # the repository is gated: only this one may read
    refusal: int | None = None  # status of all the hub's answers
    cdn_refusal: int | None = None
    ranges = True  # whether the CDN sends parts of a file

    def __init__(self, body: bytes):
        self.sent = body
        self.sha256: str | None = hashlib.sha256(body).hexdigest()  # as the hub states it; None: it does not
        self.size: int | None = len(body)
        self.breaks: list[tuple[str, int]] = []  # for each GET what happens at which byte of the file: "cut", "reset", "pause", or
        # "hold" until the client leaves
        self.requests: list[Request] = []
        self._servers = {name: _Server(name, self) for name in ("hub", "cdn")}

    def __enter__(self) -> "Hub":
        for server in self._servers.values():
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def serve(self, body: bytes, commit: str) -> None:
        """Another version of the file."""
        self.sent, self.size, self.sha256, self.commit = body, len(body), hashlib.sha256(body).hexdigest(), commit

    @property
    def env(self) -> dict[str, str]:
        return {
            "HF_ENDPOINT": self._servers["hub"].url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
            "HF_TOKEN": "", "HUGGING_FACE_HUB_TOKEN": "", "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0",
        }  # fmt: skip

    @property
    def ranges_asked(self) -> list[str | None]:
        """The Range header of each request for the file's bytes."""
        return [request.headers.get("range") for request in self.requests if request.server == "cdn"]

    def resolve(self, path: str, authorization: str | None) -> tuple[int, dict[str, str | int | None]]:
        """The hub's answer to /OWNER/REPO/resolve/REVISION/FILE."""
        repo, _, rest = path.strip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        if self.refusal:
            return self.refusal, {}
        if repo != self.repo:
            return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
        if self.token and authorization != f"Bearer {self.token}":
            return 403 if authorization else 401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model is restricted."}
        if revision not in ("main", self.commit):
            return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}
        if file != self.file:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
        etag = self.sha256 and f'"{self.sha256}"'
        where = f"{self._servers['cdn'].url}/objects/{self.sha256}?Signature=abc"
        return 302, {"X-Repo-Commit": self.commit, "X-Linked-Size": self.size, "X-Linked-Etag": etag, "Location": where}


class _Server(ThreadingHTTPServer):
    def __init__(self, name: str, hub: Hub):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name, self.hub = name, hub

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        hub = self.server.hub
        hub.requests.append(Request(self.server.name, self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        if self.server.name == "hub":
            self._head(*hub.resolve(self.path, self.headers.get("Authorization")), {"Content-Length": 0})
        elif hub.cdn_refusal:
            self._head(hub.cdn_refusal, {"Content-Length": 0})
        else:
            self._send(hub)

    do_GET = do_HEAD

    def log_message(self, *_: object) -> None:
        """`Hub.requests` has it all."""

    def _head(self, status: int, *headers: dict[str, str | int | None]) -> None:
        self.send_response(status)
        for name, value in {name: value for some in headers for name, value in some.items()}.items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()

    def _send(self, hub: Hub) -> None:
        asked = self.headers.get("Range") if hub.ranges else None
        start, size = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0, len(hub.sent)
        if start >= size:
            return self._head(416, {"Content-Length": 0, "Content-Range": f"bytes */{size}"})
        part = {"Content-Range": f"bytes {start}-{size - 1}/{size}"} if asked else {}
        self._head(206 if asked else 200, {"Content-Length": size - start, **part})
        how, stop = hub.breaks.pop(0) if hub.breaks else ("", size)
        self.wfile.write(hub.sent[start:stop])
        if how == "pause":
            time.sleep(1)
            self.wfile.write(hub.sent[stop:])
        elif how:
            self._break(how)

    def _break(self, how: str) -> None:
        self.close_connection = True
        if how == "hold":
            self.connection.settimeout(60)
            self.connection.recv(1)  # until the client has gone
        elif how == "reset":
            time.sleep(0.3)  # a reset overtakes what the client has not taken yet
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
