"""clinex-edge tasks"""

import click

from clinex_edge.cli.offline import GuardedGroup


@click.group(cls=GuardedGroup)
def tasks() -> None:
    """List, print and check the tasks that documents are read for."""


@tasks.command("list")
def list_tasks() -> None:
    """List the tasks: name, number of fields, profiles, folder."""
    from clinex_edge.tasks import folders, read_task

    for name, folder in folders().items():
        task = read_task(folder)
        profiles = " ".join(".".join(key) for key in sorted(task.profiles))
        click.echo(f"{name}\t{len(task.fields)} fields\t{profiles}\t{folder}")


@tasks.command()
@click.argument("name")
@click.option("--profile", default="full", show_default=True)
@click.option("--language", default="en", show_default=True)
@click.option("--decoder", default="joint", show_default=True, help="Changes the order of fields in the demonstrations.")
@click.option("--gbnf", is_flag=True, help="Print the answer's grammar instead.")
def show(name: str, profile: str, language: str, decoder: str, gbnf: bool) -> None:
    """Print the messages that a model gets, with "{document}" where the document stands.

    \b
      clinex-edge tasks show palliative-call --language fa
      clinex-edge tasks show palliative-call --gbnf
    """
    from clinex_edge.decoding import Template, get_decoder, prompt_order
    from clinex_edge.tasks import load_task

    task = load_task(name)
    chosen = task.profile(profile, language)
    get_decoder(decoder)
    if gbnf:
        click.echo(Template.compile(chosen, task.field_ids).gbnf(), nl=False)
        return
    for role, content in task.messages(chosen, "{document}", prompt_order(decoder)):
        click.secho(f"[{role}]", bold=True)
        click.echo(content + "\n")


@tasks.command()
@click.argument("names", nargs=-1)
def check(names: tuple[str, ...]) -> None:
    """Check tasks: all and the translation prompts, or the named ones (a name may be a folder).

    Every error is told with file and line.

    \b
      clinex-edge tasks check
      clinex-edge tasks check ./my-task
    """
    from clinex_edge.cli.messages import report
    from clinex_edge.errors import TaskError
    from clinex_edge.tasks import folders, load_task, load_translation, translation_prompts

    failed = False
    for name in names or folders():
        try:
            task = load_task(name)
            click.echo(f"{name}: {len(task.fields)} fields, {len(task.profiles)} profiles, no errors")
        except TaskError as error:
            report(error)
            failed = True
    for profile in () if names else translation_prompts():
        try:
            load_translation(profile)
            click.echo(f"translation/{profile}: no errors")
        except TaskError as error:
            report(error)
            failed = True
    if failed:
        raise SystemExit(TaskError.exit_code)
