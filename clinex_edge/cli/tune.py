"""clinex-edge tune"""

import sys
from typing import TYPE_CHECKING

import click

from clinex_edge.cli.messages import notice
from clinex_edge.cli.offline import GuardedCommand

if TYPE_CHECKING:
    from clinex_edge.llama.tune import Trial

_TITLES = {
    "defaults": "defaults", "batch_threads": "threads for batches", "threads": "threads for single tokens", "ubatch": "tokens a batch",
    "repack": "weights repacked", "flash_attention": "flash attention", "kv_type": "KV cache",
}  # fmt: skip


@click.command(cls=GuardedCommand)
@click.argument("model", required=False, metavar="[NAME|FILE]")
@click.option("-c", "--ctx-size", type=click.IntRange(min=256), help="Context in tokens.  [default: the model's, up to 8192]")
@click.option("-ngl", "--gpu-layers", default="auto", show_default=True, help="Layers on the GPU: a number, -1 for all, or auto.")
@click.option("--seconds", type=click.FloatRange(5, 3600), default=90, show_default=True, help="How long to try.")
@click.option("--forget", is_flag=True, help="Go back to the defaults instead.")
def tune(model: str | None, ctx_size: int | None, gpu_layers: str, seconds: float, forget: bool) -> None:
    """Find the fastest settings for a model on this machine, and use them from now on.

    Tries the order of weights, threads, batch sizes, flash attention and the type of the KV cache, and prints what each
    took. Leave the machine alone meanwhile. --threads overrides what was found.

    \b
      clinex-edge tune
      clinex-edge tune /media/usb/Qwen2.5-7B-Instruct-Q4_K_M.gguf
      clinex-edge tune --forget
    """
    from clinex_edge.cli.options import load_options
    from clinex_edge.errors import OutputError
    from clinex_edge.llama import tune as llama_tune
    from clinex_edge.llama.model import Model
    from clinex_edge.models import tuned
    from clinex_edge.models.fingerprint import sha256_of
    from clinex_edge.models.registry import find
    from clinex_edge.models.vetting import vet

    spec = find(model)
    spec.require()
    sha256 = sha256_of(spec.path)
    try:
        if forget:
            done = "forgotten: the defaults are used" if tuned.forget(sha256) else "was not tuned on this machine"
            click.echo(f"{spec.name} {done}.", err=True)
            return
        vet(spec, sha256)
        loaded = Model(spec.path, load_options(ctx_size or spec.ctx_size, None, gpu_layers))
        trials = []
        for trial in llama_tune.tune(loaded, seconds):
            trials.append(trial)
            _print(trial, trials[0].seconds)
        tuned.remember(sha256, loaded.tuning)
        loaded.close()
    except OSError as error:
        raise OutputError(f"The result cannot be kept: {error.strerror}.", "Check the permissions of your state folder.") from error
    best = min(trial.seconds for trial in trials if trial.kept)
    notice(f"{spec.name} computes {trials[0].seconds / best:.2f} times as fast as with the defaults; remembered for this machine.")


def _print(trial: "Trial", default: float) -> None:
    """One row: setting, value, seconds, speed against the defaults, and whether it is kept."""
    value = {True: "on", False: "off"}.get(trial.value, str(trial.value)) if isinstance(trial.value, bool) else str(trial.value)
    taken = "refused" if trial.seconds == float("inf") else f"{trial.seconds:.3f} s"
    row = (_TITLES[trial.setting], value, taken, f"{default / trial.seconds:.2f}x", "kept" if trial.kept else "")
    if sys.stdout.isatty():
        click.echo("{:<27}{:>6}{:>12}{:>9}  {}".format(*row).rstrip())
    else:
        click.echo("\t".join(row))
