"""clinex-edge models: what there is, what it is, fetching, adding, checking and removing."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clinex_edge.cli.bundles import export, import_
from clinex_edge.cli.messages import notice
from clinex_edge.cli.offline import GuardedGroup

if TYPE_CHECKING:
    from clinex_edge.models.registry import ModelSpec


_COLUMNS = ("NAME", "HERE", "ROLES", "SIZE", "MEMORY", "LICENCE", "UNCONFIRMED")


@click.group(cls=GuardedGroup)
def models() -> None:
    """List, fetch, check, carry and remove models. Only 'pull' uses the network (and pip, for 'export --wheels')."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines with everything that is known.")
def list_(as_json: bool) -> None:
    """Print the models known by name, and which are on this machine.

    \b
      clinex-edge models list
      clinex-edge models list --json
    """
    import json

    from clinex_edge.models.registry import known

    specs = known()
    if as_json:
        for spec in specs:
            click.echo(json.dumps(_row(spec), ensure_ascii=False))
        return
    _print(_COLUMNS)
    for spec in specs:
        facts = spec.facts or {}
        doubt = ", ".join(spec.unconfirmed) or "-"
        here = "here" if spec.path.is_file() else "-"
        size, memory = _gigabytes(_size(spec)), _gigabytes(facts.get("memory"))
        _print((spec.name, here, "+".join(spec.roles), size or "-", memory or "-", facts.get("licence", "-"), doubt))


@models.command()
@click.argument("name", metavar="NAME|FILE")
def info(name: str) -> None:
    """Print what the registry and the file's own metadata say about a model. No weights are loaded.

    \b
      clinex-edge models info qwen2.5-1.5b
      clinex-edge models info /media/usb/model.gguf
    """
    from clinex_edge.llama.gguf import read_header
    from clinex_edge.models import store
    from clinex_edge.models.registry import find

    spec = find(name)
    facts = {key: value for key, value in _row(spec).items() if value not in (None, "", [], {})}
    if spec.path.is_file() or spec.source is None:
        header = read_header(spec.path)
        facts |= {
            "file size": f"{header.size:,} bytes",
            "file architecture": header.architecture,
            "file quantization": header.quantization,
            "file context": f"{header.context_length:,} tokens",
            "file tokenizer": header.metadata.get("tokenizer.ggml.pre") or header.metadata.get("tokenizer.ggml.model") or "not stated",
            "file vocabulary": f"{header.vocabulary:,} tokens",
            "file chat template": f"{len(header.chat_template):,} characters" if header.chat_template else "none: the model cannot chat",
            "file licence": header.metadata.get("general.license", "not stated"),
        }
    if (model := store.get(spec.name)) and model.path == spec.path:
        facts["came from"] = ", ".join(str(value) for value in model.origin.values())
    for key, value in facts.items():
        click.echo(f"{key}\t{_plain(value)}" if not sys.stdout.isatty() else f"{key:<20}{_plain(value)}")


@models.command(cls=click.Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--revision", help="Another commit, branch or tag of the repository than models.toml names.")
@click.option("--trust-hub", is_flag=True, help="Take the Hub's file though models.toml names another sha256.")
def pull(names: tuple[str, ...], revision: str | None, trust_hub: bool) -> None:
    """Fetch models from the Hugging Face Hub and check every byte. The only command that uses the network.

    HF_TOKEN, HF_ENDPOINT, HTTPS_PROXY and SSL_CERT_FILE are honoured. What was cut off goes on where it stopped.

    \b
      clinex-edge models pull aya-expanse-8b qwen2.5-7b
      HF_TOKEN=hf_... clinex-edge models pull gemma-3-1b
    """
    from clinex_edge.models.download import pull as fetch
    from clinex_edge.models.registry import find

    specs = [find(name) for name in names]
    for spec in specs:
        if spec.notice:
            notice(spec.notice)
        model = fetch(spec, revision, trust_hub, partial(notice, f"Another clinex-edge is at {spec.name}: waiting for it."))
        click.echo(f"{model.name}\t{model.path}\tsha256 {model.sha256}\tcommit {model.origin.get('revision', '?')}")


@models.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", help="Name to use it by.  [default: from the file's name]")
@click.option("--copy", is_flag=True, help="Copy it into clinex-edge's data folder instead of using it where it lies.")
def add(file: Path, name: str | None, copy: bool) -> None:
    """Register a GGUF file that arrived by other means, such as a USB stick.

    With the name of a known model the file is compared with the sha256 that the registry states.

    \b
      clinex-edge models add /media/usb/aya-expanse-8b-Q4_K_M.gguf --name aya-expanse-8b --copy
      clinex-edge models add ~/models/our-own.gguf
    """
    from clinex_edge.models.add import add as register

    model, confirmed = register(file, name, copy)
    if confirmed is False:
        notice(f"{file.name} is not the file that models.toml names for '{model.name}' (another sha256). It is used all the same.")
    click.echo(f"{model.name}\t{model.path}\tsha256 {model.sha256}" + ("\tas in models.toml" if confirmed else ""))


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
def verify(names: tuple[str, ...]) -> None:
    """Hash models again and compare: all on this machine where none is named. Exits 4 on any difference.

    \b
      clinex-edge models verify
    """
    from clinex_edge.errors import ModelError
    from clinex_edge.models import store
    from clinex_edge.models.registry import find, known

    specs = [find(name) for name in names] or [spec for spec in known() if spec.path.is_file() or store.get(spec.name)]
    wrong = 0
    for spec in specs:
        try:
            spec.require()
            if spec.sha256 is None:
                raise ModelError("No sha256 is known for it.", f"Register it: clinex-edge models add {spec.path} --name {spec.name}")
            store.check_bytes(spec.name, spec.path, spec.sha256)
            click.echo(f"{spec.name}\tok\tsha256 {spec.sha256}")
        except ModelError as error:
            wrong += 1
            click.echo(f"{spec.name}\twrong\t{error}")
            click.echo(f"{spec.name}: {error.hint}", err=True)
    for name in [] if names else store.lost({spec.name for spec in known()}):
        wrong += 1
        click.echo(f"{name}\twrong\tIts entry cannot be read.")
        click.echo(f"{name}: Get it again: clinex-edge models rm {name}, then models import or add.", err=True)
    if wrong:
        sys.exit(ModelError.exit_code)


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def rm(names: tuple[str, ...], yes: bool) -> None:
    """Remove models from this machine. Files that were added where they lie stay there.

    \b
      clinex-edge models rm llama-3.1-8b
    """
    from clinex_edge.errors import UsageError
    from clinex_edge.models import store

    for name in names:
        if not store.stated(name):
            raise UsageError(f"No model '{name}' was fetched, added or imported.", "See: clinex-edge models list")
    if not yes and sys.stdin.isatty():
        click.confirm(f"Remove {', '.join(names)}?", abort=True, err=True)
    for name in names:
        click.echo(f"{name}: {_gigabytes(store.remove(name))} freed", err=True)


@models.command()
@click.argument("name", required=False)
def path(name: str | None) -> None:
    """Print where a model's file lies, or the folder of all models.

    \b
      clinex-edge models path qwen2.5-7b
    """
    from clinex_edge import paths
    from clinex_edge.models.registry import find

    if name is None:
        click.echo(paths.data_dir() / "models")
        return
    spec = find(name)
    spec.require()
    click.echo(spec.path)


models.add_command(export)
models.add_command(import_)


def _size(spec: "ModelSpec") -> int | None:
    """Bytes of the file: as it is here, else as the registry states."""
    return spec.path.stat().st_size if spec.path.is_file() else spec.source.size if spec.source else None


def _row(spec: "ModelSpec") -> dict[str, Any]:
    """Everything known about a model, in an order for reading."""
    source = spec.source
    return {
        "name": spec.name,
        "title": spec.title,
        "here": spec.path.is_file(),
        "path": str(spec.path),
        "roles": list(spec.roles),
        "profile": spec.profile,
        "repo": source.repo if source else None,
        "file": source.file if source else spec.path.name,
        "revision": source.revision if source else None,
        "size": _size(spec),
        "sha256": spec.sha256,
        **(spec.facts or {}),
    }


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {number}" for key, number in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _gigabytes(size: int | None) -> str:
    if size is None:
        return ""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _print(row: tuple[str, ...]) -> None:
    """A row of the list: 80 columns wide in a terminal, separated by tabs in a pipe."""
    if not sys.stdout.isatty():
        click.echo("\t".join(row))
        return
    name, here, roles, size, memory, licence, doubt = row
    click.echo(f"{name:<15.15} {here:<4} {roles:<20.20} {size:>6} {memory:>6}  {licence:<11.11} {doubt:.11}".rstrip())
