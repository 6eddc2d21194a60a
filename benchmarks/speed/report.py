"""From samples to ratios, targets, a table and a chart."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.timing import Sample

Samples = Mapping[str, list[Sample]]  # by way
EXTRACTORS = ("qwen2.5-1.5b", "qwen2.5-7b")
TRANSLATOR = "aya-expanse-8b"


@dataclass(frozen=True)
class Way:
    """`charged` names the answer ("json", "template") whose length is charged to a way that goes token by token."""

    title: str
    charged: str | None = None
    ours: bool = True


WAYS = {
    "cold_joint": Way("first document: joint"),
    "cold_independent": Way("first document: independent"),
    "cold_gbnf": Way("first document: gbnf", "template"),
    "cold_free": Way("first document: free", "template"),
    "cold_joint_unsaved": Way("first document ever, no prefix saved: joint"),
    "cold_independent_unsaved": Way("first document ever, no prefix saved: independent"),
    "cold_schema": Way("first document: (a) llama-cpp-python, JSON schema", "json", ours=False),
    "joint": Way("joint"),
    "independent": Way("independent"),
    "gbnf": Way("gbnf", "template"),
    "free": Way("free", "template"),
    "schema": Way("(a) llama-cpp-python, JSON schema", "json", ours=False),
    "grammar": Way("(a') llama-cpp-python, our grammar", "template", ours=False),
    "server": Way("(b) llama-server, pace without a schema", "json", ours=False),
    "server_schema": Way("(b) llama-server, pace with a schema", "json", ours=False),
    "floor_joint": Way("(c) floor of joint", ours=False),
    "floor_independent": Way("(c) floor of independent", ours=False),
    "translation_parallel": Way("translation, 16 turns together"),
    "translation_serial": Way("translation, one turn at a time", ours=False),
    "calls_together": Way("calls of 200 tokens, joint, together"),
    "calls_one_by_one": Way("calls of 200 tokens, joint, one by one", ours=False),
    "notes_together": Way("notes of 50 tokens, joint, together"),
    "notes_one_by_one": Way("notes of 50 tokens, joint, one by one", ours=False),
    "translations_together": Way("translation, calls of 4 turns together"),
    "translations_one_by_one": Way("translation, calls of 4 turns one by one", ours=False),
    "embedded_together": Way("end to end, calls of 16 turns together"),
    "embedded_one_by_one": Way("end to end, calls of 16 turns one by one", ours=False),
}


@dataclass(frozen=True)
class Target:
    """What a ratio should reach; without a bound it is only told."""

    meaning: str
    bound: float | None = None
    at_most: bool = False

    def verdict(self, value: float | None) -> str:
        if value is None or self.bound is None:
            return ""
        return "reached" if (value <= self.bound if self.at_most else value >= self.bound) else "not reached"

    @property
    def text(self) -> str:
        return "" if self.bound is None else f"{'≤' if self.at_most else '≥'} {self.bound:g}"


TARGETS = {
    "warm_joint_vs_schema": Target("later documents, joint over (a)", 2.6),
    "warm_joint_vs_grammar": Target("later documents, joint over (a')", 1.7),
    "warm_independent_vs_schema": Target("later documents, independent over (a)", 3.4),
    "warm_independent_vs_grammar": Target("later documents, independent over (a')", 2.1),
    "cold_joint_vs_schema": Target("first document in a new process, joint over (a)", 4.5),
    "warm_joint_vs_server": Target("later documents, joint over (b)", 1.8),
    "warm_independent_vs_server": Target("later documents, independent over (b)", 2.5),
    "independent_vs_floor": Target("time of independent over its floor (c)", 1.15, at_most=True),
    "python_share": Target("share of joint's time outside llama.cpp", 0.03, at_most=True),
    "memory_over_mb": Target("peak memory over model file and KV cache, MB", 300, at_most=True),
    "translation_parallel_vs_serial": Target("translation, tokens a second, together over one at a time", 2.5),
    "calls_together_vs_one_by_one": Target("8 calls of 200 tokens, joint, together over one by one"),
    "notes_together_vs_one_by_one": Target("8 notes of 50 tokens, joint, together over one by one"),
    "translations_together_vs_one_by_one": Target("translation of 8 calls of 4 turns, together over one by one"),
    "embedded_together_vs_one_by_one": Target("8 calls of 16 turns from end to end, together over one by one"),
}
_QUOTIENTS = {  # ratio: (slower way, faster way)
    "warm_joint_vs_schema": ("schema", "joint"),
    "warm_joint_vs_grammar": ("grammar", "joint"),
    "warm_independent_vs_schema": ("schema", "independent"),
    "warm_independent_vs_grammar": ("grammar", "independent"),
    "cold_joint_vs_schema": ("cold_schema", "cold_joint"),
    "warm_joint_vs_server": ("server", "joint"),
    "warm_independent_vs_server": ("server", "independent"),
    "independent_vs_floor": ("independent", "floor_independent"),
}


def seconds(samples: Samples, canonical: Mapping[str, int]) -> dict[str, list[float]]:
    """Charged seconds of every way that was measured."""
    return {way: [s.charged(canonical.get(WAYS[way].charged or "", 0)) for s in samples[way]] for way in WAYS if samples.get(way)}


def ratios(samples: Samples, canonical: Mapping[str, int], memory_over: list[float]) -> dict[str, float | None]:
    """What TARGETS speaks about, from medians. None where a way was not measured; `memory_over` is in bytes."""
    if "translation_serial" in samples:
        pace = {way: np.median([s.steps / s.seconds for s in samples[way]]) for way in ("translation_parallel", "translation_serial")}
        return {"translation_parallel_vs_serial": round(float(pace["translation_parallel"] / pace["translation_serial"]), 3)}
    medians = {way: float(np.median(values)) for way, values in seconds(samples, canonical).items()}
    if kinds := [way.removesuffix("_together") for way in medians if way.endswith("_together")]:
        return {f"{kind}_together_vs_one_by_one": round(medians[f"{kind}_one_by_one"] / medians[f"{kind}_together"], 3) for kind in kinds}
    result: dict[str, float | None] = {
        ratio: round(medians[slow] / medians[fast], 3) if slow in medians else None for ratio, (slow, fast) in _QUOTIENTS.items()
    }
    result["python_share"] = round(float(np.median([1 - s.native / s.seconds for s in samples["joint"]])), 4)
    result["memory_over_mb"] = round(max(memory_over) / 1e6, 1)
    return result


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """`new`, with the shapes of `old` that it lacks where machine and versions are the same."""
    if any(old.get(key) != new[key] for key in ("machine", "versions")):
        return new
    return {**new, **{key: {**old[key], **new[key]} for key in ("shapes", "ratios")}}


def markdown(result: Mapping[str, Any]) -> str:
    """The tables of a whole speed.json."""
    lines = ["# Speed", "", f"{result['machine']}.", ""]
    for shape, run in result["shapes"].items():
        lines += [f"## {shape}", "", f"{run['date']}; {_listed(run['settings'])}.", ""]
        lines += ["| | target | measured | |", "|---|---|---|---|"]
        for name, value in result["ratios"][shape].items():
            target = TARGETS[name]
            lines.append(f"| {target.meaning} | {target.text} | {'not measured' if value is None else value} | {target.verdict(value)} |")
        lines += ["", "| seconds | median | quartiles | runs |", "|---|---|---|---|"]
        for way, values in run["seconds"].items():
            low, middle, high = np.percentile(values, (25, 50, 75))
            lines.append(f"| {WAYS[way].title} | {middle:.3g} | {low:.3g} – {high:.3g} | {len(values)} |")
        lines.append("")
    lines += [
        "Seconds a document; ratios are of medians of one run. Random weights spell an answer in odd little tokens, so every way that",
        "goes token by token is charged its own pace times the number of tokens of the right answer"
        + "".join(f" ({shape}: {_listed(run['canonical'])})" for shape, run in result["shapes"].items() if run["canonical"])
        + ".",
        "llama-server is charged its pace without a schema: it samples first, and real weights nearly always satisfy the schema.",
    ]
    return "\n".join(lines) + "\n"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def chart(result: Mapping[str, Any], path: Path) -> None:
    """One panel a shape: medians as bars, quartiles as whiskers; ours are filled, the others hatched."""
    from matplotlib.figure import Figure

    panels = list(result["shapes"].items())
    heights = [len(run["seconds"]) for _, run in panels]
    figure = Figure(figsize=(9, 1 + 0.28 * sum(heights) + 0.6 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (shape, run) in zip(axes, panels, strict=True):
        ways = [WAYS[way] for way in run["seconds"]]
        low, middle, high = np.array([np.percentile(values, (25, 50, 75)) for values in run["seconds"].values()]).T
        bars = axis.barh(
            [way.title for way in ways], middle, xerr=(middle - low, high - middle), color="0.35", edgecolor="black", capsize=2
        )
        for bar, way in zip(bars, ways, strict=True):
            if not way.ours:
                bar.set(facecolor="white", hatch="///")
        axis.invert_yaxis()
        axis.set(title=shape, xlabel="seconds")
    figure.savefig(path, dpi=150, format="png")
