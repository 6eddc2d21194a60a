"""clinex-edge models export and import: models by hand to a machine without internet."""

from pathlib import Path

import click

from clinex_edge.cli.messages import notice
from clinex_edge.cli.offline import GuardedCommand


@click.command("export", cls=GuardedCommand)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--to", "folder", required=True, type=click.Path(path_type=Path), help="Folder to write, or a bundle to add to.")
@click.option("--wheels", is_flag=True, help="Add clinex-edge itself. pip runs for this, and needs the network or a package index.")
def export(names: tuple[str, ...], folder: Path, wheels: bool) -> None:
    """Write models into a bundle, a folder to carry to another machine.

    Parts stay below FAT32's limit of 4 GiB. What was cut off goes on where it stopped. The wheels serve machines with this
    one's system, Python version and processor features: llama-cpp-python is compiled for this processor.

    \b
      clinex-edge models export aya-expanse-8b qwen2.5-7b --to /media/usb/clinex.bundle
      clinex-edge models export clinex-demo --to /media/usb/clinex.bundle --wheels
    """
    from clinex_edge.models.bundle import export as write

    for model in write(names, folder, wheels, notice):
        click.echo(f"{model.name}\t{len(model.parts)}\t{model.size}\t{model.sha256}")


@click.command("import", cls=GuardedCommand)
@click.argument("bundle", type=click.Path(path_type=Path), metavar="BUNDLE")
@click.argument("names", nargs=-1, metavar="[NAME...]")
def import_(bundle: Path, names: tuple[str, ...]) -> None:
    """Install the models of a bundle: all, or those named.

    Every byte is checked before any model is placed. What was cut off goes on where it stopped.

    \b
      clinex-edge models import /media/usb/clinex.bundle
      clinex-edge models import /media/usb/clinex.bundle qwen2.5-7b
    """
    from clinex_edge.models.bundle import install
    from clinex_edge.models.registry import find

    for model in install(bundle, names, notice):
        source = find(model.name).source
        if source and source.sha256 not in (None, model.sha256):
            notice(f"{model.name} is not the file that models.toml names (another sha256). It is used all the same.")
        if text := model.spec.get("notice"):
            notice(text)
        click.echo(f"{model.name}\t{model.path}\t{model.sha256}")
