"""clinex-edge cache"""

import time

import click

from clinex_edge.cli.offline import GuardedGroup


@click.group(cls=GuardedGroup)
def cache() -> None:
    """Look at and empty the cache: computed prompts, never patient text."""


@cache.command()
def info() -> None:
    """Print the folder, and each saved prompt's size and when it was last used.

    \b
      clinex-edge cache info
    """
    from clinex_edge.llama.prefixes import prefix_store

    store = prefix_store()
    entries = store.entries()
    total = sum(entry.size for entry in entries)
    click.echo(f"{store.folder}\t{len(entries)} prompts\t{_megabytes(total)} of at most {_megabytes(store.limit)}")
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.last_used))
        click.echo(f"{entry.path.stem[:12]}\t{_megabytes(entry.size)}\tlast used {used}")


@cache.command()
def clear() -> None:
    """Delete the saved prompts. The next document computes them again.

    \b
      clinex-edge cache clear
    """
    from clinex_edge.errors import OutputError
    from clinex_edge.llama.prefixes import prefix_store

    store = prefix_store()
    try:
        freed = store.clear()
    except OSError as error:
        raise OutputError(f"{store.folder} cannot be emptied: {error.strerror}.", "Delete the folder yourself.") from error
    click.echo(f"{_megabytes(freed)} freed in {store.folder}", err=True)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
