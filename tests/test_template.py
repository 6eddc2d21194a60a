"""The shape of an answer: as text, as a grammar, and in tokens."""

import itertools
import random
import re

import pytest

from clinex_edge.decoding.template import Slot, Template, compile_tokens
from clinex_edge.errors import TaskError
from clinex_edge.tasks import Profile, load_task

PROFILES = [("compact", "en"), ("compact", "fa"), ("full", "en"), ("full", "fa")]
LINES = ["{label}: {value}\n", " {label} {value}", "{label}={value};", "- {label}:\n\t{value}.\n", "[{label}]{value}", "{label}: {value}"]
LABELS = {"fever": "Fever", "pain": "درد", "gut": 'Gut \\ "x"', "sleep": "Sleep problem"}


def profile(line="{label}: {value}\n", yes="yes", no="no", labels=LABELS):
    return Profile("p", "en", "", "{document}", line, yes, no, labels)


def template(*args, **kwargs):
    made = profile(*args, **kwargs)
    return Template.compile(made, list(made.labels))


def shipped(name, language):
    task = load_task("palliative-call")
    return Template.compile(task.profile(name, language), task.field_ids)


def filled(made, choices):
    """The answer as text; `choices` has 0 (yes) or 1 (no) for each slot."""
    left = iter(choices)
    return "".join(piece if isinstance(piece, str) else piece.choices[next(left)] for piece in made.pieces)


def joined(slots, choices):
    return [token for slot, choice in zip(slots, choices, strict=True) for token in (*slot.forced, *slot.choices[choice])]


# --- text ------------------------------------------------------------------------------------------------------------


def test_the_line_stands_once_for_each_field():
    made = Template.compile(profile(), ["pain", "fever"])
    assert made.pieces == ["درد:", Slot("pain", (" yes", " no")), "\nFever:", Slot("fever", (" yes", " no"))]


def test_the_space_before_a_value_belongs_to_it():
    slots = [line.slot for line in template("{label}:\n\t{value}.\n").lines]
    assert {slot.choices for slot in slots} == {("\n\tyes", "\n\tno")}
    assert template("[{label}]{value}").lines[0].slot.choices == ("yes", "no")


def test_text_behind_the_last_value_stays_and_white_space_does_not():
    assert template("{label} {value} .\n\n").pieces[-1] == " ."
    assert isinstance(template("{label} {value} \n").pieces[-1], Slot)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("choices", list(itertools.product((0, 1), repeat=4)))
def test_the_filled_template_is_the_answer_of_the_profile(line, choices):
    made = profile(line)
    yes = frozenset(f for f, choice in zip(LABELS, choices, strict=True) if not choice)
    assert filled(template(line), choices) == made.answer(list(LABELS), yes)


@pytest.mark.parametrize(("name", "language"), PROFILES)
def test_the_filled_shipped_template_is_the_answer_that_demonstrations_show(name, language):
    task = load_task("palliative-call")
    shown = task.profile(name, language)
    for yes in (frozenset(), frozenset(task.field_ids), frozenset(["pain", "fever"])):
        choices = [0 if f in yes else 1 for f in task.field_ids]
        assert filled(shipped(name, language), choices) == shown.answer(task.field_ids, yes)


def test_pieces_take_turns_from_text_to_slot():
    for line in LINES:
        kinds = [isinstance(piece, Slot) for piece in template(line).pieces]
        assert kinds == [bool(i % 2) for i in range(len(kinds))]


def test_alone_each_field_is_asked_as_if_it_were_the_only_one():
    made = template("{label}: {value}\n")
    assert [single.pieces for single in made.alone()] == [[line.before, line.slot] for line in made.lines]


# --- grammar ---------------------------------------------------------------------------------------------------------


def test_the_grammar_text():
    made = template(labels={"fever": "Fever", "pain": "درد"})
    assert made.gbnf() == 'root ::= "Fever:" (" yes" | " no") "\\ndرد:" (" yes" | " no")\n'.replace("dرد", "درد")


def test_quotes_backslashes_and_line_ends_are_escaped_in_the_grammar():
    made = template('"{label}\\n"\t{value}\r\n.', labels={"a": 'A "b" \\'})
    assert made.gbnf() == 'root ::= "\\"A \\"b\\" \\\\\\\\n\\"" ("\\tyes" | "\\tno") "\\r\\n."\n'


@pytest.mark.parametrize(("name", "language"), PROFILES)
def test_llama_cpp_accepts_the_grammar_of_each_shipped_profile(demo, name, language):
    with demo.grammar_sampler(shipped(name, language).gbnf()):
        pass


@pytest.mark.parametrize("line", LINES)
def test_llama_cpp_accepts_the_grammar_of_odd_lines(demo, line):
    with demo.grammar_sampler(template(line).gbnf()):
        pass


# --- tokens of the embedded model ------------------------------------------------------------------------------------


def assert_tokens_are_those_of_the_text(made, tokenize, mixed=20):
    slots = compile_tokens(made, tokenize)
    count = len(made.lines)
    assert [slot.field for slot in slots] == [line.slot.field for line in made.lines]
    rng = random.Random(count)
    some = [[rng.randrange(2) for _ in range(count)] for _ in range(mixed)]
    for choices in ([0] * count, [1] * count, *some):
        whole, ours = tokenize(filled(made, choices)), joined(slots, choices)
        assert ours == whole[: len(ours)]
        rest = whole[len(ours) :]
        closing = made.pieces[-1] if isinstance(made.pieces[-1], str) else ""
        assert len(rest) <= len(tokenize(closing))  # nothing but text behind the last value may be left
    for slot in slots:
        assert slot.choices[0][0] != slot.choices[1][0]


@pytest.mark.parametrize(("name", "language"), PROFILES)
def test_forced_and_chosen_tokens_of_a_shipped_profile_are_those_of_the_text(demo, name, language):
    assert_tokens_are_those_of_the_text(shipped(name, language), demo.tokenize)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize(("yes", "no"), [("yes", "no"), ("بله", "خیر"), ("true", "false"), ("1", "0")])
def test_forced_and_chosen_tokens_of_other_lines_are_those_of_the_text(demo, line, yes, no):
    assert_tokens_are_those_of_the_text(template(line, yes, no), demo.tokenize)


@pytest.mark.parametrize(("yes", "no"), [("mentioned", "not mentioned"), ("not mentioned", "mentioned")])
@pytest.mark.parametrize("line", LINES)
def test_one_choice_may_be_the_end_of_the_other(demo, line, yes, no):
    assert_tokens_are_those_of_the_text(template(line, yes, no), demo.tokenize)


@pytest.mark.parametrize(("name", "language"), PROFILES)
def test_tokens_of_a_field_alone_are_those_of_its_own_line(demo, name, language):
    for single in shipped(name, language).alone():
        assert_tokens_are_those_of_the_text(single, demo.tokenize, mixed=0)


def test_the_same_beginning_of_yes_and_no_is_forced(demo):
    (slot,) = compile_tokens(template("{label} {value}", "is there", "is not", {"pain": "Pain"}), demo.tokenize)
    assert demo.detokenize(slot.forced) == "Pain is"
    assert [demo.detokenize(choice) for choice in slot.choices] == [" there", " not"]


# --- other tokenizers ------------------------------------------------------------------------------------------------
# The fake tokenizers give texts for tokens, which reads better than numbers and makes no difference to compile_tokens.


def longest_match(*words):
    """A tokenizer that takes the longest known word at each place, and else one character."""
    pattern = re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))) + "|.", re.DOTALL)

    def tokenize(text):
        return pattern.findall(text)

    return tokenize


def merging(*merges):
    """A tokenizer that merges neighbours in the order of `merges`, like BPE without words."""

    def tokenize(text):
        pieces = list(text)
        for left, right in merges:
            i = 0
            while i < len(pieces) - 1:
                if (pieces[i], pieces[i + 1]) == (left, right):
                    pieces[i : i + 2] = [left + right]
                i += 1
        return pieces

    return tokenize


def characters(text):
    return [ord(c) for c in text]


def words(text):
    """A token for each word with the space before it."""
    return re.findall(r"\s*\S+|\s+", text)


def with_begin(text):
    """Like SentencePiece: each text begins with a token of its own."""
    return ["<s>", *words(text)]


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("tokenize", [characters, words], ids=["characters", "words"])
def test_forced_and_chosen_tokens_of_plain_tokenizers_are_those_of_the_text(line, tokenize):
    made = template(line)
    if tokenize is words and "{label} {value}" not in line and "{label}: {value}" not in line:
        return  # label and value, or value and label, are one word
    assert_tokens_are_those_of_the_text(made, tokenize)


def test_a_token_that_begins_every_text_is_forced_once():
    slots = compile_tokens(template("{label}: {value}\n"), with_begin)
    assert slots[0].forced[0] == "<s>"
    assert sum(slot.forced.count("<s>") for slot in slots) == 1
    assert_tokens_are_those_of_the_text(template("{label}: {value}\n"), with_begin)


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("{label}: {value}\n", [" yes\n", " no\n"]),  # value and line end
        ("{label}: {value}\n", [" no\n"]),  # only after no
        ("{label}: {value}\n", [" yes", "o\n", "\nF"]),
        ("{label}: {value}\n", [": y", ": n"]),  # colon and value
        ("{label}: {value}\n", ["\nSleep problem:", "\nدرد"]),  # line end and label
        ("{label}: {value}\n", ["Sleep problem: yes", "Sleep problem: no"]),  # label and value
        (" {label} {value}", ["yes S", "no S", "yes ", "no ", "s G"]),  # value and the next label
        (" {label} {value}", [" yes Sleep", " no Sleep"]),
        ("[{label}]{value}", ["]yes[", "]no[", "]y", "]n"]),
        ("{label}={value};", ["=yes;", "=no;"]),
    ],
)
def test_a_tokenizer_that_merges_across_values_is_followed(line, known):
    assert_tokens_are_those_of_the_text(template(line), longest_match(*known))


@pytest.mark.parametrize(
    "merges",
    [
        [("n", "o"), ("no", "\n"), ("e", "s"), ("s", "\n")],
        [(":", " "), (": ", "y"), (": ", "n")],
        [("\n", "S"), ("\nS", "l"), ("o", "\n")],
    ],
)
def test_a_tokenizer_with_merges_is_followed(merges):
    assert_tokens_are_those_of_the_text(template(), merging(*merges))


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("{label}: {value}\n", [" yes\n", " no\n", "\nSleep problem:"]),
        (" {label} {value}", [" yes ", " no ", " Sleep problem"]),
        ("{label}={value};", ["yes;", "no;", ";Sleep"]),
    ],
)
def test_where_a_tokenizer_cannot_be_followed_it_is_refused(line, known):
    tokenize = longest_match(*known)
    try:
        compile_tokens(template(line), tokenize)
    except TaskError:
        return
    assert_tokens_are_those_of_the_text(template(line), tokenize)


def test_any_tokenizer_is_followed_or_refused():
    rng = random.Random(8)
    followed = 0
    for _ in range(400):
        line = rng.choice(LINES)
        made = template(line, labels={"fever": "fever", "pain": "pain", "gut": "gut"})
        texts = filled(made, (0, 1, 0)) + filled(made, (1, 0, 1))
        starts = [rng.randrange(len(texts)) for _ in range(12)]
        tokenize = longest_match(*(texts[at : at + rng.randint(2, 6)] for at in starts))
        try:
            slots = compile_tokens(made, tokenize)
        except TaskError:
            continue
        for choices in ((0, 0, 0), (1, 1, 1)):
            ours = joined(slots, choices)
            assert ours == tokenize(filled(made, choices))[: len(ours)], line
        followed += 1
    assert followed > 20


def unknown_words(text):
    """One token for every word, always the same."""
    return [1 for _ in text.split()]


def first_letters(text):
    """The first letter of each word."""
    return [ord(word[0]) for word in text.split()]


@pytest.mark.parametrize(
    ("tokenize", "yes", "no"),
    [
        (unknown_words, "yes", "no"),
        (first_letters, "present", "possible"),  # identical first and only tokens
        (first_letters, "yes", "yes not"),  # one is the start of the other
        (first_letters, "not it", "nothing"),
        (lambda text: [], "yes", "no"),
        (lambda text: [7], "yes", "no"),
    ],
)
def test_choices_that_no_token_tells_apart_are_refused(tokenize, yes, no):
    with pytest.raises(TaskError, match=f"cannot tell '{yes}' from '{no}' by one token") as caught:
        compile_tokens(template("{label} {value}\n", yes, no), tokenize)
    assert caught.value.hint
    with pytest.raises(TaskError):
        compile_tokens(template("{label} {value}\n", yes, no).alone()[0], tokenize)


def test_tokens_that_differ_behind_a_common_one_are_enough():
    (slot,) = compile_tokens(template("{label} {value}", "not seen", "not there", {"pain": "Pain"}), first_letters)
    assert (slot.forced, slot.choices) == ((ord("P"), ord("n")), ((ord("s"),), (ord("t"),)))
