"""Tokens that an answer costs, by tokenizer family, way of writing a line, and wording of a label.

    python -m benchmarks.speed.templates

For `joint` all tokens that are computed behind the document, all answers being no; for `independent` those of the 13 branches.
Only vocabularies are loaded.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import llama_cpp

from benchmarks.speed.shapes import SHAPES, source_folder
from benchmarks.speed.source import llama_cpp_source
from clinex_edge.decoding import Template, compile_tokens
from clinex_edge.errors import TaskError
from clinex_edge.tasks import Profile, load_task

FAMILIES = tuple(dict.fromkeys(shape.tokenizer for shape in SHAPES.values()))
LINES = (
    "{label}: {value}\n", "{label}={value}\n", "{label} {value}\n", "{label}? {value}\n", " {label}: {value}\n", " {label} {value}\n",
    "{label}: {value}, ", "{label} {value}, ",
)  # fmt: skip
# Other wordings of the labels that cost most, to be weighed by people.
WORDINGS = {
    "en": {
        "doctor_visit_request": ("Doctor visit request", "Doctor visit", "Visit request", "Wants visit"),
        "psychological_complaints": ("Emotional distress", "Distress", "Sadness or fear", "Mood problem"),
        "sleep_disorders": ("Sleep problem", "Insomnia", "Poor sleep"),
        "appetite_loss": ("Poor appetite", "Appetite loss", "Not eating"),
        "seizures": ("Seizure", "Seizures", "Fits"),
        "decreased_consciousness": ("Less alert", "Drowsy or confused", "Drowsiness", "Less conscious"),
        "respiratory_complaints": ("Breathing problem", "Breathing", "Cough or breath"),
        "insurance_cost_issues": ("Cost or insurance", "Cost problem", "Cost"),
        "urinary_issues": ("Urinary problem", "Urine problem", "Urine"),
        "gastrointestinal_issues": ("Digestive problem", "Stomach problem", "Bowel problem"),
    },
    "fa": {
        "doctor_visit_request": ("درخواست ویزیت", "ویزیت پزشک", "ویزیت"),
        "psychological_complaints": ("ناراحتی روحی", "مشکل روحی", "غم", "اضطراب"),
        "sleep_disorders": ("مشکل خواب", "بی‌خوابی", "بدخوابی"),
        "appetite_loss": ("بی‌اشتهایی", "کم اشتها", "کاهش اشتها"),
        "seizures": ("تشنج",),
        "decreased_consciousness": ("کاهش هوشیاری", "گیجی", "خواب آلود"),
        "respiratory_complaints": ("مشکل تنفس", "تنگی نفس", "تنفس"),
        "insurance_cost_issues": ("مشکل هزینه", "هزینه", "بیمه"),
        "urinary_issues": ("مشکل ادرار", "ادرار"),
        "gastrointestinal_issues": ("مشکل گوارش", "گوارش"),
    },
}

Tokenize = Callable[[str], list[int]]


def tokenizer(path: Path) -> Tokenize:
    """The tokenizer of a GGUF file, which may hold nothing else."""
    vocabulary = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)  # a warning about n_ctx_train 0 means nothing
    return lambda text: list(vocabulary.tokenize(text.encode(), add_bos=False, special=False))


def cost(profile: Profile, fields: list[str], tokenize: Tokenize) -> tuple[int, int] | None:
    """Tokens computed by `joint` and by `independent`; None where the choices cannot be told apart by one token."""
    template = Template.compile(profile, fields)
    try:
        slots = compile_tokens(template, tokenize)
        alone = [compile_tokens(single, tokenize)[0] for single in template.alone()]
    except TaskError:
        return None
    joint = sum(len(slot.forced) for slot in slots) + sum(len(slot.choices[1]) for slot in slots[:-1])
    return joint, sum(len(slot.forced) for slot in alone)


@click.command(help=__doc__)
@click.option("--source", type=click.Path(file_okay=False, path_type=Path), help="Folder with llama-cpp-python's source distribution.")
def main(source: Path | None) -> None:
    models = llama_cpp_source(source or source_folder()) / "models"
    tokenizers = {family: tokenizer(models / f"ggml-vocab-{family}.gguf") for family in FAMILIES}
    task = load_task("palliative-call")
    for language in ("en", "fa"):
        profile = task.profile("full", language)
        click.echo("\t".join([f"{language}: line, joint/independent", *FAMILIES]))
        small = {field: label.lower() for field, label in profile.labels.items()}
        variants = {repr(line): replace(profile, line=line) for line in LINES}
        if small != profile.labels:
            variants |= {f"{name}, small letters": replace(variant, labels=small) for name, variant in variants.items()}
        for name, variant in variants.items():
            costs = [cost(variant, task.field_ids, tokenize) for tokenize in tokenizers.values()]
            click.echo("\t".join([name, *("/".join(map(str, c)) if c else "-" for c in costs)]))
        click.echo("\t".join([f"\n{language}: label at the start of a line", *FAMILIES]))
        for field in task.field_ids:
            for label in dict.fromkeys((profile.labels[field], *WORDINGS[language].get(field, ()))):
                counts = [len(tokenize(f"\n{label}")) - len(tokenize("\n")) for tokenize in tokenizers.values()]
                click.echo("\t".join([f"{field}\t{label}", *map(str, counts)]))
        click.echo("")


if __name__ == "__main__":
    main()
