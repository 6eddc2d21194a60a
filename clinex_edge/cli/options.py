"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from clinex_edge.llama.model import LoadOptions


def reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """How files are read."""
    for option in (
        click.option("--encoding", default="utf-8", show_default=True, help="utf-8, utf-16 or windows-1256."),
        click.option("--language", help="fa or en; told by the script where not given."),
    ):
        command = option(command)
    return command


def loading(command: Callable[..., Any]) -> Callable[..., Any]:
    """How models are loaded."""
    for option in (
        click.option("-ngl", "--gpu-layers", default="auto", show_default=True, help="Layers on the GPU: a number, -1 for all, or auto."),
        click.option("-c", "--ctx-size", type=click.IntRange(min=1), help="Context in tokens.  [default: the model's, up to 8192]"),
        click.option(
            "-t",
            "--threads",
            type=click.IntRange(1, 512),
            help="CPU threads.  [default: as tuned, else as in models.toml, else all cores]",
        ),
        click.option("--translator", metavar="NAME|FILE", help="Model that translates."),
    ):
        command = option(command)
    return command


def load_options(ctx_size: int | None, threads: int | None, gpu_layers: str) -> "LoadOptions":
    """Raises click.UsageError where `gpu_layers` is neither a number nor "auto"."""
    from clinex_edge.llama.model import LoadOptions

    if gpu_layers != "auto" and not gpu_layers.removeprefix("-").isdecimal():
        raise click.UsageError("--gpu-layers takes a number, -1 for all, or auto.")
    return LoadOptions(ctx_size, threads, None if gpu_layers == "auto" else int(gpu_layers))


def absolute_model(model: str | None) -> str | None:
    """A name stays; the path of a model file is made absolute."""
    return str(Path(model).expanduser().absolute()) if model and Path(model).expanduser().is_file() else model
