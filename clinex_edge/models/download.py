"""Fetches a model from the Hugging Face Hub: the one thing in clinex-edge that uses the network.

The bytes come through huggingface-hub's own client, so HF_TOKEN, HF_ENDPOINT, proxies and certificates are honoured as it honours
them. It checks sizes only and does not go on with a file that an earlier process began, so both are done here.
"""

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from clinex_edge.errors import HubError, ModelError, OutputError
from clinex_edge.llama.gguf import read_header
from clinex_edge.models import store
from clinex_edge.models.fingerprint import hash_file
from clinex_edge.models.registry import ModelSpec, Source, entry_of
from clinex_edge.models.store import Installed

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO)
_CHUNK = 2**20  # bytes that arrive between two writes; a cut connection loses as many at most


def pull(spec: ModelSpec, revision: str | None = None, trust_hub: bool = False, waiting: Callable[[], None] = lambda: None) -> Installed:
    """Fetch a model's file, check it against the size and sha256 that the Hub states, and install it.

    A file that was begun before is gone on with. Nothing happens where the model is installed at that commit. `trust_hub` accepts
    a file other than the one that `models.toml` names; `waiting` is called where another process is at the same model. Raises
    HubError where the Hub cannot or will not send it, ModelError where the bytes are wrong, and OutputError where they cannot be
    kept.
    """
    if spec.source is None:
        raise HubError(f"The registry names no place to fetch '{spec.name}' from.", "Add a file with: clinex-edge models add FILE")
    source = replace(spec.source, revision=revision or spec.source.revision)
    with store.locked(spec.name, waiting):
        state = _state(source)
        if (there := store.get(spec.name)) and store.has(spec.name, state.sha256, state.size):
            return there
        if source.sha256 not in (None, state.sha256) and not trust_hub and revision is None:
            raise HubError(
                f"The Hub states sha256 {state.sha256} for {source.file} of {source.repo}; models.toml names {source.sha256}.",
                f"Nothing was fetched. If you trust the Hub more: clinex-edge models pull {spec.name} --trust-hub",
            )
        target = store.folder(spec.name) / Path(source.file).name
        draft = store.draft(spec.name, target.name, state.sha256)
        begun = draft.stat().st_size if draft.exists() else 0
        store.need_space(target.parent, state.size - begun)
        _fetch(state, draft, source)
        _check(draft, state, spec.name)
        with store.told(target.parent):
            draft.replace(target)
            for old in target.parent.glob("*.part"):
                old.unlink()
        origin = {"kind": "hub", "repo": source.repo, "file": source.file, "revision": state.commit}
        model = Installed(spec.name, target, state.size, state.sha256, origin, entry_of(spec))
        store.write(model)
    return model


@dataclass(frozen=True)
class _State:
    """What the Hub says about a file: the commit, where its bytes are, how many, their sha256; and the headers to ask for them."""

    commit: str
    location: str
    size: int
    sha256: str
    headers: dict[str, str]


def _state(source: Source) -> _State:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read on import: torch's version and the like go to nobody
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    with _told(source):
        url = hf_hub_url(source.repo, source.file, revision=source.revision)
        metadata = get_hf_file_metadata(url)
        headers = build_hf_headers()
    if urlparse(metadata.location).netloc != urlparse(url).netloc:
        headers.pop("authorization", None)  # the token is for the Hub, not for where it keeps its files
    if not (metadata.commit_hash and metadata.size and metadata.etag and _SHA256.fullmatch(metadata.etag)):
        raise HubError(
            f"{source.repo} states no commit, size and sha256 for {source.file}.",
            "It may be no model file, or HF_ENDPOINT names a mirror that leaves them out. Fetch the file by other means and add it "
            "with: clinex-edge models add FILE",
        )
    return _State(metadata.commit_hash, metadata.location, metadata.size, metadata.etag, headers)


def _fetch(state: _State, draft: Path, source: Source) -> None:
    """Append what is missing to `draft`. Raises HubError or OutputError; then what has arrived is kept."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import http_get

    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK
    with store.told(draft.parent):
        draft.parent.mkdir(parents=True, exist_ok=True)
    with _told(source), draft.open("ab") as file:
        if file.tell() < state.size:
            http_get(state.location, file, resume_size=file.tell(), headers=state.headers, displayed_filename=source.file)
        file.flush()
        os.fsync(file.fileno())


def _check(draft: Path, state: _State, name: str) -> None:
    """Raises ModelError, and deletes the file, where its bytes are not those that the Hub states."""
    size, digest = draft.stat().st_size, hash_file(draft)
    if (size, digest) != (state.size, state.sha256):
        draft.unlink()
        raise ModelError(
            f"What arrived for '{name}' is not what the Hub states: {size:,} bytes, sha256 {digest}, instead of {state.size:,} bytes, "
            f"sha256 {state.sha256}. Nothing was kept.",
            f"Try again: clinex-edge models pull {name}. If it repeats, a proxy may alter downloads: ask your IT department.",
        )
    try:
        read_header(draft)
    except ModelError:
        draft.unlink()
        raise


@contextlib.contextmanager
def _told(source: Source) -> Iterator[None]:
    """Turn what huggingface-hub raises into an error that says what to do next."""
    from huggingface_hub import errors

    what = f"{source.file} of {source.repo}"
    try:
        yield
    except errors.HFValidationError as error:
        raise HubError(f"'{source.repo}' cannot name a repository.", "Compare it with models.toml: it is OWNER/NAME.") from error
    except errors.GatedRepoError as error:
        raise HubError(
            f"{source.repo} is gated: its licence must be accepted first.",
            "Accept it on the repository's page, make a token in your Hugging Face settings, and run again with HF_TOKEN=… set.",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{source.repo} has no commit {source.revision}.", "Try another with --revision, such as main.") from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"The Hub knows no repository {source.repo}, or does not show it without a token.",
            "Compare the name in models.toml; for a private one set HF_TOKEN.",
        ) from error
    except errors.EntryNotFoundError as error:
        raise HubError(f"The Hub has no file {what}.", "It may have been renamed: compare the name in models.toml.") from error
    except errors.OfflineModeIsEnabled as error:
        raise HubError("HF_HUB_OFFLINE is set, so nothing is fetched.", "Unset HF_HUB_OFFLINE, or import a bundle instead.") from error
    except errors.HfHubHTTPError as error:
        raise _refused(error, what) from error
    except (OSError, errors.HTTPError) as error:  # type: ignore[attr-defined]
        if isinstance(error, OSError) and error.errno in _DISK:
            raise OutputError(f"{what} cannot be kept: {error.strerror}.", "Free some space or check the folder's permissions.") from error
        raise HubError(
            f"The connection to the Hub failed while fetching {what} ({type(error).__name__}). What has arrived is kept.",
            "Run the same command again to go on. Behind a proxy set HTTPS_PROXY, with its own certificate SSL_CERT_FILE.",
        ) from error


def _refused(error: Any, what: str) -> HubError:
    status = error.response.status_code
    if status in (401, 403):
        return HubError(
            f"The Hub refuses {what} (HTTP {status}).",
            "Set HF_TOKEN to a token that may read it. If it was sending already, run the same command again to go on.",
        )
    if status == 429:
        return HubError(f"The Hub asks to wait before {what} is fetched (HTTP 429).", "Run the same command again in a few minutes.")
    return HubError(f"The Hub failed to send {what} (HTTP {status}).", "Run the same command again later: what has arrived is kept.")
