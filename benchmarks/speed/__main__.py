"""Measures clinex-edge against the usual ways of getting 13 constrained answers out of a GGUF model, on this machine.

    python -m benchmarks.speed --server build
    python -m benchmarks.speed --shapes qwen2.5-1.5b --rounds 3

The models have true shapes and random weights (benchmarks/speed/README.md). Results of other shapes that were measured on the
same machine with the same versions are kept.
"""

import contextlib
import json
import os
import platform
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from benchmarks.speed import cold, report, together
from benchmarks.speed.shapes import SHAPES, shape_file, source_folder
from benchmarks.speed.source import build_server, llama_cpp_source
from benchmarks.speed.timing import Sample
from benchmarks.speed.ways import TURN_TOKENS, Naive, Ours, Server, Translation, load
from benchmarks.speed.workload import CONTEXT, STEPS, TURNS, Workload, documents, persian_calls
from clinex_edge import __version__, paths
from clinex_edge.atomic import replaced_privately, write_private
from clinex_edge.llama import machine
from clinex_edge.llama.batching import PARALLEL
from clinex_edge.llama.model import LoadOptions, Tuning
from clinex_edge.pipeline.pipeline import BATCH

PARTS = ("alone", "batch")
MANY = {"qwen2.5-1.5b": together.answers, report.TRANSLATOR: together.translations}
Measured = tuple[dict[str, list[Sample]], dict[str, int], list[float]]  # samples, canonical tokens, bytes of memory over


def extraction(shape: str, path: Path, rounds: int, options: LoadOptions, server: Path | None) -> Measured:
    """All ways of answering: first documents in processes of their own, then later ones, each in interleaved rounds."""
    samples: dict[str, list[Sample]] = defaultdict(list)
    memory_over: list[float] = []
    workload, model = Workload(), load(path, options)
    calls = documents(2 * rounds, model.tokenize)
    model.close()  # memory for the children
    for number, call in enumerate(calls[:rounds]):
        unsaved = ("joint_unsaved", "independent_unsaved") if number == 0 else ()
        rarely = ("gbnf", "free") if number == 0 else ()  # only to know: no target speaks about them
        for name in (*unsaved, "joint", "independent", "schema", *rarely):
            way = name.removesuffix("_unsaved")
            sample, peak = cold.answer(way, path, options, call)
            samples[f"cold_{name}"].append(sample)
            if way == "joint":
                memory_over.append(peak - path.stat().st_size - SHAPES[shape].kv_bytes(CONTEXT))
            click.echo(f"{shape}: first document, {name}: {sample.seconds:.1f} s", err=True)
    ours, naive = Ours(load(path, options), workload), Naive(path, options, workload)
    canonical = workload.canonical_tokens(ours.model.tokenize)
    prefix = len(ours.extractors["joint"].prefix)
    with Server(server, path, options) if server else contextlib.nullcontext() as peer:
        naive.answer("schema", calls[-1])  # each computes the constant prefix once, unmeasured
        if peer:
            peer.answer(ours.prompt("joint", calls[-1]), None)
        for number, call in enumerate(calls[:rounds]):
            for decoder in ours.extractors:
                samples[decoder].append(ours.answer(decoder, call))
            for decoder in ("joint", "independent"):
                samples[f"floor_{decoder}"].append(ours.floor(decoder, call))
            for constraint in naive.constraints:
                samples[constraint].append(naive.answer(constraint, call, prefix))
            if peer:
                samples["server"].append(peer.answer(ours.prompt("joint", call), None))
                samples["server_schema"].append(peer.answer(ours.prompt("joint", calls[rounds + number]), workload.schema))
            click.echo(f"{shape}: later documents, round {number + 1} of {rounds}", err=True)
    ours.model.close()
    naive.llama.close()
    return samples, canonical, memory_over


def translation(shape: str, path: Path, rounds: int, options: LoadOptions) -> Measured:
    """The turns of a call translated together, and the same one at a time."""
    samples: dict[str, list[Sample]] = defaultdict(list)
    as_usual = replace(options, tuning=Tuning(repack=True))  # llama.cpp's own default, best for single tokens
    together, alone = Translation(load(path, options)), Translation(load(path, as_usual))
    for number, call in enumerate(persian_calls(rounds)):
        turns = [turn.fa for turn in call.turns]
        for name, way, parallel in (("translation_parallel", together, PARALLEL), ("translation_serial", alone, 1)):
            samples[name].append(way.run([way.jobs(turns)], parallel))
        click.echo(f"{shape}: translation, round {number + 1} of {rounds}", err=True)
    together.model.close()
    alone.model.close()
    return samples, {}, []


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "clinex-edge": __version__, "llama-cpp-python": version("llama-cpp-python")}


def write(result: dict[str, Any], path: Path) -> None:
    """speed.json, and its table and chart beside it; each whole or untouched."""
    write_private(path, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    write_private(path.with_suffix(".md"), report.markdown(result))
    with replaced_privately(path.with_suffix(".png")) as draft:
        report.chart(result, draft)


@contextlib.contextmanager
def private_home() -> Iterator[None]:
    """An empty folder for saved prefixes, so that the first run finds none and the user's own stay untouched."""
    with tempfile.TemporaryDirectory() as home:
        before = os.environ.get("CLINEX_HOME")
        os.environ["CLINEX_HOME"] = home
        try:
            yield
        finally:
            os.environ.pop("CLINEX_HOME")
            if before is not None:
                os.environ["CLINEX_HOME"] = before


@click.command(help=__doc__)
@click.option("--shapes", "names", default=f"{','.join(report.EXTRACTORS)},{report.TRANSLATOR}", show_default=True, help="Names, by comma.")
@click.option("--only", type=click.Choice(PARTS), help="Measure documents alone, or a batch of them against one by one.  [default: both]")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Documents a way.")
@click.option("--threads", type=click.IntRange(min=1), default=os.cpu_count(), show_default=True, help="CPU threads.")
@click.option("-ngl", "--gpu-layers", default=0, show_default=True, help="Layers on the GPU; -1 for all.")
@click.option("--models", type=click.Path(file_okay=False, path_type=Path), help="Where the models are kept.  [default: the cache folder]")
@click.option("--source", type=click.Path(file_okay=False, path_type=Path), help="Folder with llama-cpp-python's source distribution.")
@click.option("--server", help="Program llama-server, or 'build' to build it from the source distribution.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default="benchmarks/results/speed.json", show_default=True)
def main(
    names: str,
    only: str | None,
    rounds: int,
    threads: int,
    gpu_layers: int,
    models: Path | None,
    source: Path | None,
    server: str | None,
    out: Path,
) -> None:
    shapes = names.split(",")
    if unknown := set(shapes) - set(SHAPES):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: known are {', '.join(SHAPES)}.", param_hint="--shapes")
    llama_cpp_folder = llama_cpp_source(source or source_folder())
    program = build_server(llama_cpp_folder, paths.cache_dir() / "speed") if server == "build" else Path(server) if server else None
    if program is None:
        click.echo("llama-server is left out; add: --server build", err=True)
    result = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    files = {shape: shape_file(shape, models or paths.cache_dir() / "speed", llama_cpp_folder) for shape in shapes}
    options = LoadOptions(CONTEXT, threads, gpu_layers)
    parts = (only,) if only else PARTS
    for shape, path in files.items() if "alone" in parts else ():
        stopped = {"turns": TURNS, "tokens a turn": TURN_TOKENS} if shape == report.TRANSLATOR else {"tokens generated at most": STEPS}
        with private_home():
            if shape == report.TRANSLATOR:
                measured = translation(shape, path, rounds, options)
            else:
                measured = extraction(shape, path, rounds, options, program)
        result = add(
            result, shape, measured, {"rounds": rounds, "threads": threads, "gpu layers": gpu_layers, "context": CONTEXT, **stopped}
        )
        write(result, out)
    batched = {"embedded model": together.pipeline} | {shape: partial(way, files[shape]) for shape, way in MANY.items() if shape in files}
    for shape, measure_many in batched.items() if "batch" in parts else ():
        with private_home():
            samples = measure_many(rounds, options)
        settings = {"rounds": rounds, "threads": threads, "gpu layers": gpu_layers, "documents together": BATCH}
        result = add(result, f"{shape}, many documents", (samples, {}, []), settings)
        write(result, out)
    click.echo(report.markdown(result))


def add(result: dict[str, Any], shape: str, measured: Measured, settings: dict[str, Any]) -> dict[str, Any]:
    """`result` with what was measured of a shape."""
    samples, canonical, memory_over = measured
    run = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "settings": settings,
        "canonical": canonical,
        "memory_over_bytes": memory_over,
        "seconds": report.seconds(samples, canonical),
        "samples": {way: [asdict(sample) for sample in values] for way, values in samples.items()},
    }
    ratios = {shape: report.ratios(samples, canonical, memory_over)}
    new = {"machine": machine.description(), "versions": versions(), "shapes": {shape: run}, "ratios": ratios}
    return report.merged(result, new)


if __name__ == "__main__":
    main()
