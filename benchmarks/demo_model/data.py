"""Training examples for the three skills, as token ids with a loss weight for each."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from benchmarks.corpus import noise
from benchmarks.corpus.generate import Call, Generator
from benchmarks.corpus.phrasings import FIELDS
from clinex_edge.documents.normalise import normalise

END, SYSTEM, USER, ASSISTANT = "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
CONTROL = [END, SYSTEM, USER, ASSISTANT]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# The words of the `compact` prompt profile (prompts/palliative-call/compact.*.toml); each becomes one token.
TRANSLATE, EXTRACT = "translate", "extract"
LABELS = {
    "doctor_visit_request": "visit", "psychological_complaints": "mood", "sleep_disorders": "sleep", "appetite_loss": "appetite",
    "seizures": "seizure", "weakness_fatigue": "weak", "decreased_consciousness": "conscious", "fever": "fever",
    "respiratory_complaints": "breath", "insurance_cost_issues": "cost", "urinary_issues": "urine", "pain": "pain",
    "gastrointestinal_issues": "gut",
}  # fmt: skip
SLOT_WEIGHT = 20.0  # an answer counts as much as twenty words of a translation
QWEN2_SPLIT = (  # the pre-tokenizer that llama.cpp calls "qwen2"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass
class Example:
    tokens: list[int]
    weights: list[float]  # weights[i]: how much predicting tokens[i] counts


def train_tokenizer(size: int, calls: int = 6000) -> Tokenizer:
    """A byte-level BPE over both languages of the training split."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()

    def texts() -> Iterator[str]:
        template = "".join(f" {label} yes {label} no" for label in LABELS.values())
        generator = Generator("train", seed=0, density=2)
        for _ in range(calls):
            call = generator.call(max_turns=12)
            yield from (f"{normalise(t.fa).text}\n{t.en}" for t in call.turns)
            yield f"{template}\n{TRANSLATE}\n{EXTRACT}"

    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=CONTROL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


class Examples:
    """An endless stream of examples drawn from fresh calls; the seed fixes it."""

    def __init__(self, tokenizer: Tokenizer, seed: int):
        self.tokenizer = tokenizer
        self.random = random.Random(seed)
        self.generator = Generator("train", seed=seed + 1, density=2.2, distraction=0.3, framed=0.2)
        self.id: dict[str, int] = tokenizer.get_vocab()
        self.label = {f: self._encode(f" {label}", 0.0) for f, label in LABELS.items()}
        self.choice = {True: self._encode(" yes", 0.0), False: self._encode(" no", 0.0)}
        assert all(len(ids) == 1 for ids in [*self.label.values(), *self.choice.values()]), "labels must be single tokens"

    def _encode(self, text: str, dropout: float) -> list[int]:
        """BPE-dropout (Provilkov et al. 2020) shows a word in other pieces, so that an unseen form still looks familiar."""
        self.tokenizer.model.dropout = dropout or None
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _prompt(self, instruction: str, content: str) -> list[int]:
        dropout = self.random.choice([0.0, 0.0, 0.1])
        return [
            self.id[SYSTEM], *self._encode(instruction, 0.0), self.id[END],
            self.id[USER], *self._encode(content, dropout), self.id[END], self.id[ASSISTANT],
        ]  # fmt: skip

    def calls(self) -> Iterator[list[Example]]:
        """The examples of one call after another."""
        while True:
            call = self.generator.call(min_turns=3, max_turns=14)
            examples = [self.translation(t.fa, t.en) for t in call.turns if self.random.random() < 0.6]
            language, size = self.random.choice(["fa", "en"]), self.random.choice([1, 2, 2])
            for first in range(0, max(1, len(call.turns) - (size > 1)), max(1, size - 1)):
                examples.append(self.extraction(call, first, first + size, language))
            yield examples

    def translation(self, fa: str, en: str) -> Example:
        prompt = self._prompt(TRANSLATE, normalise(fa).text)
        answer = [*self._encode(en, 0.0), self.id[END]]
        return Example(prompt + answer, [0.0] * len(prompt) + [1.0] * len(answer))

    def extraction(self, call: Call, first: int, last: int, language: str) -> Example:
        """The turns `[first, last)` and the 13 answers, half of the time with the fields in another order."""
        r = self.random
        turns = call.turns[first:last]
        lines = [normalise(t.fa).text if language == "fa" else noise.english(t.en, r) for t in turns]
        if r.random() < 0.1:
            lines = [line.split(": ", 1)[-1] for line in lines]
        yes = set().union(*(t.yes for t in turns[1:]), turns[0].yes - turns[0].needs_previous)
        unclear = turns[0].needs_previous - yes if turns else set()
        fields, shuffled = list(FIELDS), r.random() < 0.5
        if shuffled:
            r.shuffle(fields)
        tokens = self._prompt(EXTRACT, "\n".join(lines))
        weights = [0.0] * len(tokens)
        for f in fields:
            tokens += self.label[f] + self.choice[f in yes]
            weights += [0.0 if shuffled else 0.1, 0.0 if f in unclear else SLOT_WEIGHT]
        return Example([*tokens, self.id[END]], [*weights, 0.1])
