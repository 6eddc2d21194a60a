"""Options that several commands share."""

from collections.abc import Callable
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
        click.option("-ngl", "--gpu-layers", default=0, show_default=True, help="Layers on the GPU; -1 for all."),
        click.option("-c", "--ctx-size", type=click.IntRange(min=1), help="Context in tokens.  [default: the model's, up to 8192]"),
        click.option("-t", "--threads", type=click.IntRange(min=1), help="CPU threads.  [default: as models.toml says, else all cores]"),
        click.option("--translator", metavar="NAME|FILE", help="Model that translates."),
    ):
        command = option(command)
    return command


def load_options(ctx_size: int | None, threads: int | None, gpu_layers: int) -> "LoadOptions":
    from clinex_edge.llama.model import LoadOptions

    return LoadOptions(ctx_size, threads, gpu_layers)
