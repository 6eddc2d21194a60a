"""Documents: the spelling that models see, the way back to the source, turns, and the language."""

import random
import unicodedata

import pytest

from clinex_edge.documents import Document, detect
from clinex_edge.documents.document import MAX_CHARACTERS, Turn, split_turns
from clinex_edge.documents.language import share_of_persian
from clinex_edge.documents.normalise import normalise
from clinex_edge.errors import InputError, UsageError

ZWNJ = "\u200c"


# --- the model's spelling --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("علي", "علی"),
        ("موسى", "موسی"),
        ("كمك", "کمک"),
        ("خيلي كم", "خیلی کم"),
        ("سرفة", "سرفه"),
        ("خانۀ ما", "خانه ما"),
        ("خانهٔ ما", "خانه ما"),
        ("سلـــام", "سلام"),
        ("مُشکِل", "مشکل"),
        ("اصلاً", "اصلا"),
        ("رحمٰن", "رحمن"),
        ("درد…", "درد..."),
    ],
)
def test_arabic_letters_and_marks_become_plain_persian(source, expected):
    assert normalise(source).text == expected


@pytest.mark.parametrize("zero", ["٠", "۰"])
def test_digits_and_their_separators_become_ascii(zero):
    digits = "".join(chr(ord(zero) + d) for d in range(10))
    assert normalise(f"دوز {digits} و {digits[3]}٫{digits[8]} یا {digits[1]}٬000").text == "دوز 0123456789 و 3.8 یا 1,000"


def test_letters_with_a_meaning_of_their_own_stay():
    assert normalise("آب، مسئول، مؤثر؛ گچ پژ؟").text == "آب، مسئول، مؤثر؛ گچ پژ؟"


@pytest.mark.parametrize("mark", ["\u200c", "\u200b", "\u200d", "\u00ac", "\u200c\u200c", "\u200b\u200c\u200d"])
def test_every_variant_of_zwnj_becomes_one_between_letters(mark):
    assert normalise(f"می{mark}خورد").text == f"می{ZWNJ}خورد"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (f"{ZWNJ}درد", "درد"),
        (f"درد{ZWNJ}", "درد"),
        (f"درد{ZWNJ} دارد", "درد دارد"),
        (f"درد {ZWNJ}دارد", "درد دارد"),
        (f"درد {ZWNJ} دارد", "درد دارد"),
        (f"درد{ZWNJ}.", "درد."),
        (f"درد{ZWNJ}\nتب", "درد\nتب"),
        (f"درد\n{ZWNJ}تب", "درد\nتب"),
        (f"ساعت{ZWNJ}۵", "ساعت5"),
        (f"۵{ZWNJ}روز", "5روز"),
        (f"خانه{ZWNJ}\u0654ها", f"خانه{ZWNJ}ها"),
    ],
)
def test_zwnj_stays_only_between_letters(source, expected):
    assert normalise(source).text == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("\ufeb3\ufefc\ufee1", "سلام"),  # seen, lam-alef ligature, meem
        ("\ufef2\ufeda", "یک"),  # Arabic yeh and kaf
        ("\ufb90\ufbff", "کی"),  # keheh, Farsi yeh
        ("\ufdf2", "الله"),
        ("\ufdfc", "ریال"),
        ("\ufefb\ufefb", "لالا"),
    ],
)
def test_presentation_forms_become_letters(source, expected):
    assert normalise(source).text == expected


@pytest.mark.parametrize("form", ["\ufc5e", "\ufe70", "\ufe76", "\ufe7d"])
def test_vowel_signs_in_presentation_form_are_dropped(form):
    assert not any(unicodedata.combining(c) for c in normalise(f"مد{form}ت").text)


@pytest.mark.parametrize("word", ["آب", "مسئول", "مؤثر", "أحمد"])
def test_decomposed_letters_give_the_same_text_as_composed_ones(word):
    assert normalise(unicodedata.normalize("NFD", word)).text == normalise(word).text


@pytest.mark.parametrize(
    "mark",
    list("\u00ad\u200e\u200f\u061c\ufeff\u2060\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\x07\x1b"),
)
def test_invisible_marks_vanish(mark):
    assert normalise(f"{mark}در{mark}د {mark}تب{mark}").text == "درد تب"


def test_white_space_is_collapsed_and_lines_are_kept():
    text = normalise("  درد \t\u00a0 دارد\u2003\n   تب\r\nلرز  ").text
    assert [line.rstrip(" ") for line in text.split("\n")] == ["درد دارد", "تب", "لرز"]
    assert text == text.strip()


@pytest.mark.parametrize("text", ["", " ", ZWNJ, "\u200f \u200c\t", "ـ", "\u064b"])
def test_nothing_but_invisible_characters_becomes_nothing(text):
    result = normalise(text)
    assert (result.text, result.origin) == ("", ())
    assert result.source_span(0, 0) == (len(text), len(text))


def test_english_is_left_alone():
    text = "Nurse: O2 is 88%, isn't it? He took 2.5 mg (Morphine) at 10:30."
    assert normalise(text).text == text


@pytest.mark.parametrize("break_", ["\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\n", "\r\n", "\t", "\u3000"])
def test_words_on_two_lines_of_a_turn_stay_two_words(break_):
    text = f"تب{break_}ندارد"
    assert Turn(1, 0, len(text), text).for_model == "تب ندارد"


def test_a_turn_reads_as_one_line():
    text = "Nurse:  how are\n  you\t٣ ?"
    assert Turn(1, 0, len(text), text).for_model == "Nurse: how are you 3 ?"


# --- the way back ----------------------------------------------------------------------------------------------------

# every source character of these gives at most one of the model's
SINGLE = "ابپدرسیيكکةۀ هnA5۵٣.،؟\n\t ـ\u064b\u0651\u0654\u200b\u200c\u200c\u200d\u200e\u200f\ufeff\u00a0\ufe8d\ufef3\ufeda  "
EXPANDING = SINGLE + "…\ufefb\ufefc\ufdf2"


def mixed_texts(alphabet, count):
    rng = random.Random(20260101)
    for _ in range(count):
        yield "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 40)))


def test_every_range_maps_to_the_source_slice_it_came_from():
    for source in mixed_texts(SINGLE, 300):
        result = normalise(source)
        for first in range(len(result.text)):
            for last in range(first + 1, len(result.text) + 1):
                start, end = result.source_span(first, last)
                assert 0 <= start < end <= len(source)
                assert start == result.origin[first]
                assert [i for i in result.origin if start <= i < end] == list(result.origin[first:last])
                assert result.normalised_span(start, end) == (first, last)


def test_a_character_maps_to_a_slice_that_normalises_to_it():
    for source in mixed_texts(SINGLE, 300):
        result = normalise(source)
        for i, char in enumerate(result.text):
            start, end = result.source_span(i, i + 1)
            if char not in (" ", "\n", ZWNJ):  # these depend on their neighbours
                assert normalise(source[start:end]).text == char


def test_every_source_range_maps_to_what_it_gave():
    for source in mixed_texts(EXPANDING, 200):
        result = normalise(source)
        assert len(result.origin) == len(result.text)
        assert list(result.origin) == sorted(result.origin)
        for start in range(len(source)):
            for end in range(start, len(source) + 1):
                first, last = result.normalised_span(start, end)
                assert [i for i in result.origin if start <= i < end] == list(result.origin[first:last])


def test_adjacent_ranges_map_to_adjacent_slices():
    for source in mixed_texts(EXPANDING, 200):
        result = normalise(source)
        for cut in range(1, len(result.text)):
            if result.origin[cut - 1] != result.origin[cut]:
                assert result.source_span(0, cut)[1] == result.source_span(cut, len(result.text))[0]


def test_mixed_text_maps_word_by_word():
    source = "\ufeffبيمار\u200f  مي\u200bخورد… Morphine ۱۰\u00a0mg، ﻻغر"
    result = normalise(source)
    assert result.text == "بیمار می\u200cخورد... Morphine 10 mg، لاغر"
    pairs = {"بیمار": "بيمار\u200f  ", "می\u200cخورد": "مي\u200bخورد", "Morphine": "Morphine", "10": "۱۰", "mg": "mg", "لاغر": "ﻻغر"}
    for word, original in pairs.items():
        at = result.text.index(word)
        start, end = result.source_span(at, at + len(word))
        assert source[start:end].strip() == original.strip()
        assert result.normalised_span(start, end) == (at, at + len(word))


@pytest.mark.parametrize("source", ["ﻻ", "درد…", "ﻻغر و ﷲ"])
def test_a_part_of_what_one_character_gave_maps_to_that_character(source):
    result = normalise(source)
    for i, origin in enumerate(result.origin):
        start, end = result.source_span(i, i + 1)
        assert start <= origin < end


def test_an_empty_range_stays_empty_at_its_place():
    result = normalise("\u200fدرد\u200f دارد")
    assert result.source_span(0, 0) == (1, 1)
    assert result.source_span(4, 4) == (6, 6)
    end = len(result.text)
    assert result.source_span(end, end) == (result.source_length, result.source_length)


def test_normalising_twice_changes_nothing():
    for source in mixed_texts(EXPANDING, 500):
        once = normalise(source).text
        assert normalise(once).text == once


# --- turns -----------------------------------------------------------------------------------------------------------


def texts(text):
    return [turn.text for turn in split_turns(text)]


DIALOGUES = [
    ("Nurse: How is she?\nPatient's son: Bad.\nNurse: Why?", ["Nurse: How is she?", "Patient's son: Bad.", "Nurse: Why?"]),
    ("پرستار: سلام.\nهمراه بیمار: درد داره! خیلی.", ["پرستار: سلام.", "همراه بیمار: درد داره! خیلی."]),
    ("Nurse:Hello\n  Patient : Hi", ["Nurse:Hello", "Patient : Hi"]),
    ("Nurse:Hello\nPatient:Hi", ["Nurse:Hello", "Patient:Hi"]),
    ("Nurse 2: Hello\nبیمار ۱: سلام", ["Nurse 2: Hello", "بیمار ۱: سلام"]),
    ("Nurse: Hello\n\n\n \nPatient: Hi\n", ["Nurse: Hello", "Patient: Hi"]),
    ("Nurse: one\r\nPatient: two\r\n", ["Nurse: one", "Patient: two"]),
    ("Nurse: ...\nPatient: yes\nNurse: ok", ["Nurse: ...", "Patient: yes", "Nurse: ok"]),
]


@pytest.mark.parametrize(("text", "expected"), DIALOGUES)
def test_a_labelled_line_is_a_turn(text, expected):
    assert texts(text) == expected


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_line_without_speaker_goes_on_with_the_turn_before(newline):
    lines = ["Nurse: How is she?", "Patient: She is", "tired. Very tired.", "Nurse: I see."]
    assert texts(newline.join(lines)) == [lines[0], newline.join(lines[1:3]), lines[3]]


def test_lines_before_the_first_speaker_are_a_turn_of_their_own():
    lines = "Call of Monday.\nSecond line.\nNurse: Hello.\nPatient: Hi.\nNurse: Bye."
    assert texts(lines) == ["Call of Monday.\nSecond line.", "Nurse: Hello.", "Patient: Hi.", "Nurse: Bye."]


@pytest.mark.parametrize(
    "line",
    [
        "10:30 she called",
        "At 10:30 she called",
        "ساعت ۱۰:۳۰ زنگ زد",
        "see http://example.org now",
        "- : nothing",
        ": nothing",
        "5: nothing",
        "حالش بد بود، می‌گفت: کمک",
        "She is tired. Also: help",
        "دیروز، ساعت شش: درد داشت",
        "A name of more than forty characters is no name: said she",
    ],
)
def test_such_a_line_starts_no_turn(line):
    assert texts(f"Nurse: a\nPatient: b\n{line}\nNurse: c") == ["Nurse: a", f"Patient: b\n{line}", "Nurse: c"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Nurse:\nHow is she?\nPatient:\nBad. Tired.", ["Nurse:\nHow is she?", "Patient:\nBad. Tired."]),
        ("Nurse: How\nis she?\nPatient: Bad. She\nis tired.", ["Nurse: How\nis she?", "Patient: Bad. She\nis tired."]),
    ],
)
def test_a_dialogue_with_half_of_its_lines_labelled_is_split_at_the_speakers(text, expected):
    assert texts(text) == expected


def test_a_speaker_may_have_a_title():
    lines = ["Nurse: hello", "Patient: pain", "Dr. Karimi: since when?", "Patient: yesterday", "Nurse: ok"]
    assert texts("\n".join(lines)) == lines


@pytest.mark.parametrize("mark", ["\u200f", "\u202b", "\ufeff", "\u200e"])
def test_an_invisible_mark_before_a_speaker_does_not_hide_it(mark):
    lines = [f"{mark}پرستار: سلام. خوبی؟", f"{mark}بیمار: نه. درد دارم.", f"{mark}پرستار: چرا؟"]
    assert len(split_turns("\n".join(lines))) == 3


PARAGRAPHS = [
    ("Has pain. Sleeps badly! Does she eat? No…  Nothing", ["Has pain.", "Sleeps badly!", "Does she eat?", "No…", "Nothing"]),
    ("درد دارد. خوابش بد است؟ تب ندارد", ["درد دارد.", "خوابش بد است؟", "تب ندارد"]),
    ("Temp 38.5 today. Dose 2.5mg?!  Yes...", ["Temp 38.5 today.", "Dose 2.5mg?!", "Yes..."]),
    ('He said "no." Then «درد.» (Later.) End', ['He said "no."', "Then «درد.»", "(Later.)", "End"]),
    ("One line\nanother line\r\nthird", ["One line", "another line", "third"]),
    ("a. ... !!! b. 5.", ["a.", "b.", "5."]),
    ("  lone  ", ["lone"]),
    ("At 10:30 she called. At 11:00 again.", ["At 10:30 she called.", "At 11:00 again."]),
    ("10:30 درد\n11:30 تب", ["10:30 درد", "11:30 تب"]),
    ("Note: pain today.\nShe slept badly. She ate.\nNo fever.", ["Note: pain today.", "She slept badly.", "She ate.", "No fever."]),
]


@pytest.mark.parametrize(("text", "expected"), PARAGRAPHS)
def test_the_sentences_of_a_note_are_turns(text, expected):
    assert texts(text) == expected


@pytest.mark.parametrize("text", [text for text, _ in DIALOGUES + PARAGRAPHS])
def test_offsets_find_the_turn_in_the_document(text):
    for source in (text, text.replace("\n", "\r\n"), f"\ufeff \n{text}\n\n"):
        document = Document.from_text(source)
        assert document.text == source
        assert [turn.number for turn in document.turns] == list(range(1, len(document.turns) + 1))
        for turn in document.turns:
            assert document.text[turn.start : turn.end] == turn.text == turn.text.strip()


def test_turns_of_any_text_are_in_order_apart_and_lose_no_word():
    rng = random.Random(7)
    pieces = ["Nurse: ", "بیمار: ", "درد", "tired", "10:30", ". ", "؟ ", "! ", "\n", "\r\n", "\n\n", *" …()»\u200f5:\t"]
    for _ in range(500):
        source = "".join(rng.choice(pieces) for _ in range(rng.randint(1, 40)))
        turns = split_turns(source)
        at = 0
        outside = ""
        for turn in turns:
            assert at <= turn.start < turn.end
            assert source[turn.start : turn.end] == turn.text
            outside += source[at : turn.start]
            at = turn.end
        outside += source[at:]
        assert not any(c.isalnum() for c in outside)


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n\r\n\t", "\u00a0\u2003", "...", "?!", "- : -", "«»", "\u200c", "\u200f\ufeff", "\0", "pain\0fever", "\0 درد", "😀"],
)
def test_a_text_without_words_or_with_nul_is_refused(text):
    with pytest.raises(InputError) as caught:
        Document.from_text(text)
    assert caught.value.hint


def test_a_too_long_text_is_refused_and_the_longest_is_read():
    assert Document.from_text("تب " * (MAX_CHARACTERS // 3) + "x" * (MAX_CHARACTERS % 3)).turns
    with pytest.raises(InputError, match=f"{MAX_CHARACTERS + 1:,}"):
        Document.from_text("x" * (MAX_CHARACTERS + 1))


@pytest.mark.parametrize("text", ["", "...", "secret\0word", "secret " * 200_000])
def test_the_errors_carry_no_text_of_the_document(text):
    with pytest.raises(InputError) as caught:
        Document.from_text(text)
    assert "secret" not in str(caught.value) + caught.value.hint


def test_a_document_keeps_what_it_was_given():
    document = Document.from_text("درد دارد.", id="call-7", source="call-7.txt")
    assert (document.id, document.source, document.language) == ("call-7", "call-7.txt", "fa")


def test_the_fingerprint_follows_the_text_and_bears_lone_surrogates():
    one, two = Document.from_text("pain"), Document.from_text("pain ")
    assert len(one.sha256) == 64
    assert one.sha256 != two.sha256
    assert one.sha256 == Document.from_text("pain", id="other").sha256
    assert Document.from_text("pain \ud800").sha256


# --- language --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("بیمار درد دارد.", "fa"),
        ("The patient has pain.", "en"),
        ("بیمار Morphine 10 mg و Dexamethasone می‌گیرد", "fa"),
        ("داروها: Ondansetron, Lactulose. درد شکم و تهوع دارد", "fa"),
        ("Mr. علوی has a fever and does not eat.", "en"),
        ("\ufe91\ufbfe\ufee4\ufe8e\ufead", "fa"),  # presentation forms
        ("اabcdefghi", "en"),
        ("ابپabcdefg", "fa"),  # three in ten
        ("123 ?", "en"),
        ("", "en"),
        ("۱۲۳ 38.5 mg", "en"),
    ],
)
def test_the_script_tells_the_language(text, language):
    assert detect(text) == language


def test_only_letters_count():
    assert share_of_persian("درد!!! 12345 ...") == 1.0
    assert share_of_persian("12345 ...") == 0.0
    assert share_of_persian("دa") == 0.5


def test_the_given_language_wins():
    assert Document.from_text("fever and pain", language="fa").language == "fa"
    with pytest.raises(UsageError, match="'de'"):
        Document.from_text("Schmerzen", language="de")
