"""Checks on translations and what is done about a doubtful one."""

from collections.abc import Sequence

import numpy as np
import pytest

from clinex_edge.documents import Document
from clinex_edge.errors import ContextError
from clinex_edge.llama.model import Counters
from clinex_edge.pipeline.translate import TranslatedTurn, Translation, Translator, loops
from clinex_edge.tasks import TranslationPrompt

PROMPT = TranslationPrompt("test", "translate", "T:{turn}", "D:{document}\nT:{turn}", -0.5, "")


class FakeModel:
    """Answers each prompt from a table; one character a token. `sure` sets the probability of every token."""

    ctx_size = 4000
    END = 0
    room_advice = "advice"

    def __init__(self, answers: dict[str, str], sure: dict[str, float] | None = None):
        self.answers, self.sure, self.asked = answers, sure or {}, []
        self.held: list[int] = []
        self.sequences: dict[int, list[int]] = {0: []}

    def tokenize(self, text: str, special: bool = False) -> list[int]:
        return [ord(c) for c in text]

    def detokenize(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))

    def is_end(self, token: int) -> bool:
        return token == self.END

    def chat_tokens(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        self.asked.append(messages[-1][1])
        return self.tokenize(messages[-1][1])

    batch_size = 512
    counters = Counters()

    def hold(self, prefix: Sequence[int]) -> None: ...

    def rewind(self, length: int) -> None: ...

    def count_prompt(self, computed: int) -> None: ...

    def share(self, source: int, target: int) -> None:
        self.sequences[target] = list(self.sequences.get(source, []))

    def forget(self, sequence: int) -> None:
        self.sequences.pop(sequence, None)

    def submit(self, entries: Sequence[tuple[int, int, tuple[int, ...], bool]]) -> None:
        self.after = []
        for token, position, sequences, _ in entries:
            for sequence in sequences:
                assert position == len(self.sequences[sequence])
                self.sequences[sequence].append(token)
            self.after.append(self.detokenize(self.sequences[sequences[0]]))

    def logits(self, index: int) -> np.ndarray:
        """Of the answer whose prompt the sequence begins with."""
        said = self.after[index]
        asked = next(prompt for prompt in sorted(self.answers, key=len, reverse=True) if said.startswith(prompt))
        answer, p = self.answers[asked] + chr(self.END), self.sure.get(asked, 0.9)
        logits = np.full(2000, np.log((1 - p) / 1999), np.float32)
        logits[ord(answer[len(said) - len(asked)])] = np.log(p)
        return logits


def translate(model: FakeModel, text: str, prompt: TranslationPrompt = PROMPT) -> list[TranslatedTurn]:
    (translation,) = translate_all(model, [text], prompt)
    assert isinstance(translation, list)
    return translation


def translate_all(model: FakeModel, texts: list[str], prompt: TranslationPrompt = PROMPT) -> list[Translation]:
    return Translator(model, prompt)([Document.from_text(text, language="fa") for text in texts])  # type: ignore[arg-type]


def test_a_good_turn_is_translated_once_with_the_document_as_context() -> None:
    model = FakeModel({"D:سلام\nT:سلام": "Hello"})
    (turn,) = translate(model, "سلام")
    assert (turn.text, turn.doubt) == ("Hello", None)
    assert turn.mean_logprob == pytest.approx(np.log(0.9), abs=1e-4)


@pytest.mark.parametrize(
    ("answer", "doubt"),
    [("", "empty"), ("سلام", "untranslated"), ("no and " * 200, "looping"), ("abcdefgh " * 3 + "x" * 9999, "cut")],
)
def test_a_bad_turn_is_tried_again_without_the_document_and_marked_if_that_does_not_help(answer: str, doubt: str) -> None:
    good = FakeModel({"D:سلام\nT:سلام": answer, "T:سلام": "Hello"})
    assert [(t.text, t.doubt) for t in translate(good, "سلام")] == [("Hello", None)]
    bad = FakeModel({"D:سلام\nT:سلام": answer, "T:سلام": answer})
    assert translate(bad, "سلام")[0].doubt == doubt


def test_an_improbable_turn_is_tried_sentence_by_sentence() -> None:
    text = "تب دارد ۳۸٫۵ درجه. درد هم دارد."
    whole, first, second = "T:تب دارد 38.5 درجه. درد هم دارد.", "T:تب دارد 38.5 درجه.", "T:درد هم دارد."
    prompt = TranslationPrompt("test", "", "T:{turn}", "", -0.5, "")
    document = Document("d", "", text, "fa", Document.from_text("تب دارد", language="fa").turns)
    turns = (type(document.turns[0])(1, 0, len(text), text),)
    model = FakeModel({whole: "?", first: "Fever 38.5.", second: "Pain too."}, {whole: 0.1})
    ((turn,),) = Translator(model, prompt)([Document("d", "", text, "fa", turns)])  # type: ignore
    assert (turn.text, turn.doubt) == ("Fever 38.5. Pain too.", None)


def test_a_turn_that_stays_empty_is_passed_on_in_the_source_language_and_marked() -> None:
    model = FakeModel({"D:تب دارد\nT:تب دارد": "", "T:تب دارد": ""})
    (turn,) = translate(model, "تب دارد")
    assert (turn.text, turn.doubt) == ("تب دارد", "empty")


def test_the_document_is_left_out_where_it_does_not_fit() -> None:
    lines = ["ا" * 30 + str(n) for n in range(1, 8)]
    model = FakeModel({f"T:{line}": "ok" for line in lines})
    model.ctx_size = 300
    assert [t.text for t in translate(model, "\n".join(lines))] == ["ok"] * 7


def test_a_turn_too_long_for_the_translator_is_an_error_that_names_no_text() -> None:
    model = FakeModel({})
    model.ctx_size = 100
    (error,) = translate_all(model, ["راز" * 60])
    assert isinstance(error, ContextError)
    assert "راز" not in str(error)


def test_documents_translate_together_and_one_that_does_not_fit_stops_no_other() -> None:
    model = FakeModel({"D:سلام\nT:سلام": "Hello", "D:تب\nدرد\nT:تب": "Fever", "D:تب\nدرد\nT:درد": "Pain"})
    model.ctx_size = 100
    good, bad, other = translate_all(model, ["سلام", "راز" * 60, "تب\nدرد"])
    assert [t.text for t in good] == ["Hello"]  # type: ignore[union-attr]
    assert isinstance(bad, ContextError)
    assert [(t.turn, t.text) for t in other] == [(1, "Fever"), (2, "Pain")]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "looping"),
    [
        ("no, no, no, he is fine", False),
        ("the pain the pain the pain the pain the pain the pain", True),
        ("he has a fever and he has a fever", False),
        ("a b c d e f " * 4, True),
        ("", False),
    ],
)
def test_loops(text: str, looping: bool) -> None:
    assert loops(text) is looping
