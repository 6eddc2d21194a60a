"""clinex-edge doctor"""

import json
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import click

from clinex_edge.cli.offline import GuardedCommand

if TYPE_CHECKING:
    from clinex_edge.models.checkup import Finding

_COLOURS = {"ok": "green", "note": "blue", "warning": "yellow", "problem": "red"}
_INDENT = 25  # columns before the text: state and topic
_WIDEST = 100


class _TryingGuard(GuardedCommand):
    """Tries the guard before the command is under it: there a refusal, even of a trial, ends the command."""

    def invoke(self, ctx: click.Context) -> Any:
        from clinex_edge.models.checkup import guard

        ctx.obj = guard()
        return super().invoke(ctx)


@click.command(cls=_TryingGuard)
@click.option("--probe", is_flag=True, help="Measure how long a call takes with the models that are here: about 20 s.")
@click.option("--verify", is_flag=True, help="Hash all models that are here, and compare.")
@click.option("--json", "as_json", is_flag=True, help="JSON for a support ticket: no patient data, no user or host name.")
@click.pass_obj
def doctor(guard: "Finding", probe: bool, verify: bool, as_json: bool) -> None:
    """Check whether this machine is ready, and say what to do where it is not.

    Looks at the processor, memory, disk, folders, the offline guard and the models. Exits 1 where there is a problem;
    warnings and notes do not count.

    \b
      clinex-edge doctor
      clinex-edge doctor --probe
      clinex-edge doctor --verify --json > ticket.json
    """
    from itertools import chain

    from clinex_edge.models.checkup import checkup, ticket

    findings = []
    for finding in chain([guard], checkup(probe, verify)):
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        click.echo(json.dumps(ticket(findings), ensure_ascii=False, indent=1))
    if any(finding.state == "problem" for finding in findings):
        sys.exit(1)


def _print(finding: "Finding") -> None:
    """State, topic, and what to do: as lines of the terminal's width, or separated by tabs in a pipe."""
    if not sys.stdout.isatty():
        click.echo("\t".join((finding.state, finding.topic, finding.text, finding.advice)).rstrip())
        return
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    start = f"{finding.state:<9}{finding.topic:<15} "
    lines = _wrapped(finding.text, width, start) + (_wrapped(finding.advice, width, " " * _INDENT) if finding.advice else [])
    state = click.style(finding.state, fg=_COLOURS[finding.state])
    click.echo("\n".join(lines).replace(finding.state, state, 1))


def _wrapped(text: str, width: int, start: str) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * _INDENT, break_on_hyphens=False)
