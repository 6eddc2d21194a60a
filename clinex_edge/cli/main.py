"""The entry point: the group of commands, and what happens to errors."""

import io
import os
import sys

import click

from clinex_edge import __version__
from clinex_edge.cli.bench import bench
from clinex_edge.cli.cache import cache
from clinex_edge.cli.convert import convert
from clinex_edge.cli.doctor import doctor
from clinex_edge.cli.extract import extract
from clinex_edge.cli.messages import report
from clinex_edge.cli.models import models
from clinex_edge.cli.offline import GuardedGroup
from clinex_edge.cli.runs import runs
from clinex_edge.cli.tasks import tasks
from clinex_edge.cli.translate import translate
from clinex_edge.cli.tune import tune
from clinex_edge.errors import ClinexError


@click.group(cls=GuardedGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="clinex-edge")
def cli() -> None:
    """Read patient calls and clinical notes on this machine: 13 yes/no answers with probabilities.

    Nothing leaves the machine. Results go to stdout, everything else to stderr.

    \b
      clinex-edge extract call.txt                 a table in a terminal, JSON Lines in a pipe
      clinex-edge extract calls.xlsx --output answers.xlsx
      clinex-edge extract calls/ --run run/        many documents; what is interrupted goes on
      clinex-edge convert run/ --to answers.xlsx   records into another format
      clinex-edge bench run labelled.csv           how good and how fast each model is on your own calls
      clinex-edge translate call.txt               the English the extractor reads
      clinex-edge models list                      larger models, and which are here

    \b
    Exit status: 0 every field answered, 1 error, 2 wrong usage, 3 some document not fully
    answered, 4 model missing or damaged, 130 interrupted.
    """


cli.add_command(extract)
cli.add_command(translate)
cli.add_command(convert)
cli.add_command(runs)
cli.add_command(bench)
cli.add_command(models)
cli.add_command(tasks)
cli.add_command(cache)
cli.add_command(tune)
cli.add_command(doctor)


def main() -> None:
    """Run the command line; errors become one message and an exit status. CLINEX_DEBUG=1 shows tracebacks."""
    debug = os.environ.get("CLINEX_DEBUG") == "1"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            if not stream.isatty():  # on Windows it would take the locale's encoding, and other line ends
                stream.reconfigure(encoding="utf-8", newline="\n")
    try:
        status = cli.main(prog_name="clinex-edge", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(status if isinstance(status, int) else 0)
    except click.exceptions.Abort:
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ClinexError as error:
        if debug:
            raise
        report(error)
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        # The message is left out: it could quote a document.
        click.echo(f"Internal error ({type(error).__name__}). CLINEX_DEBUG=1 shows where.", err=True)
        sys.exit(1)
