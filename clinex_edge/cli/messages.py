"""What is said to people, on stderr: errors and notices."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clinex_edge.errors import ClinexError

if TYPE_CHECKING:
    from clinex_edge.models.registry import ModelSpec


def report(error: ClinexError) -> None:
    """Print an error and its hint."""
    click.echo(f"Error: {error}", err=True)
    if error.hint:
        click.echo(error.hint, err=True)


def notice(text: str) -> None:
    click.secho(f"Note: {text}", err=True, dim=True)


def tell_missing_shards(folder: Path) -> None:
    """Say which parts of a divided run are not there."""
    from clinex_edge.runs.shards import missing_shards

    if missing := missing_shards(folder):
        notice(f"{folder} lacks the shards {', '.join(f'{i}/{n}' for i, n in missing)}: they were not begun.")


def notices(models: Iterable["ModelSpec"]) -> None:
    """Say what must be known about these models, once each."""
    for text in dict.fromkeys(model.notice for model in models if model.notice):
        notice(text)
