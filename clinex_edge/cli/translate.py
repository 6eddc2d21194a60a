"""clinex-edge translate"""

import sys
from pathlib import Path
from typing import Any

import click

from clinex_edge.cli import options
from clinex_edge.cli.messages import notice
from clinex_edge.cli.offline import GuardedCommand
from clinex_edge.cli.progress import progress


@click.command(cls=GuardedCommand)
@click.argument("path", metavar="PATH|-")
@options.loading
@options.reading
def translate(path: str, encoding: str, language: str | None, translator: str | None, **settings: Any) -> None:
    """Print the English of a document, one line for each turn.

    A "?" behind the number marks a turn whose translation is doubtful, with the reason behind the text. In a pipe the
    columns are separated by tabs: turn, text, reason.

    \b
      clinex-edge translate examples/call-01.fa.txt
    """
    from clinex_edge.files.read import read_document
    from clinex_edge.pipeline.pipeline import Pipeline

    document = read_document(path, encoding, language)
    with (
        progress(1, Path(path).name) as pace,
        Pipeline(translator=translator, options=options.load_options(**settings), progress=pace.enter) as pipeline,
    ):
        if pipeline.translator_spec.notice:
            notice(pipeline.translator_spec.notice)
        turns = pipeline.translate(document)
    for turn in turns:
        if sys.stdout.isatty():
            reason = click.style(f"  [{turn.doubt}]", fg="yellow") if turn.doubt else ""
            click.echo(f"{turn.turn:4}{'?' if turn.doubt else ' '} {turn.text}{reason}")
        else:
            click.echo(f"{turn.turn}\t{turn.text}\t{turn.doubt or ''}")
