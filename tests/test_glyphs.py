"""Reading order: from glyphs at their places on a page to the text that was typed."""

from dataclasses import replace

import pytest

from clinex_edge.files.glyphs import Glyph, is_backwards, is_sloping, reading_order

SIZE, WIDTH = 12.0, 6.0


def is_persian(text):
    return any("\u0600" <= character <= "\u06ff" and character.isalpha() for character in text)


def shown(*pieces, baseline=700.0, left=50.0):
    """A line as it is seen from left to right; a piece in Persian is given as it is spoken."""
    seen = "".join(piece[::-1] if is_persian(piece) else piece for piece in pieces)
    return [glyph(text, left + at * WIDTH, baseline) for at, text in enumerate(seen)]


def glyph(text, left, baseline=700.0, width=WIDTH, shape=None):
    return Glyph(text, shape or text, left, left + width, baseline, SIZE)


SEEN = {
    "words": (("درد دارد، و تب؟",), "درد دارد، و تب؟"),
    "unit": (("mg", " ", "۵۰", " ", "مورفین"), "مورفین ۵۰ mg"),
    "name and dose": (("و", " ", "Gabapentin 300 mg", " ", "بله؛"), "بله؛ Gabapentin 300 mg و"),
    "dose without unit": (("خورد", " ", "Tramadol 50", " ", "قرص"), "قرص Tramadol 50 خورد"),
    "letters and digits": (("است", " ", "%", "92", " ", "او", " ", "SpO2"), "SpO2 او 92% است"),
    "typed from the left": (("خورد", " ", "500 mg", " ", "قرص"), "قرص 500 mg خورد"),
    "fraction": (("بود", " ", "120/80", " ", "فشار"), "فشار 120/80 بود"),
    "decimal": ((".", "۳۸٫۵", " ", "تب"), "تب ۳۸٫۵."),
    "date": (("دارد", " ", "۱۴۰۳/۰۲/۱۵", " ", "از"), "از ۱۴۰۳/۰۲/۱۵ دارد"),
    "telephone": (("است", " ", "88776655", "-", "021", " ", "تلفن"), "تلفن 021-88776655 است"),
    "range": (("بار", " ", "۳", "-", "۲", " ", "روزی"), "روزی ۲-۳ بار"),
    "range at the start": (("بار", " ", "۲-۳"), "۲-۳ بار"),
    "time": (("آمد", " ", "10:30", " ", "ساعت"), "ساعت 10:30 آمد"),
    "brackets by meaning": ((".", ")", "سه روز", "(", " ", "دارد"), "دارد (سه روز)."),
    "brackets by look": ((".", "(", "سه روز", ")", " ", "دارد"), "دارد (سه روز)."),
    "quotation by look": (("گفت", " ", "«", "تنگ است", "»"), "«تنگ است» گفت"),
    "gloss by meaning": (("هر", " ", "۵۰ mg", " ", ")", "Morphine", "(", " ", "قرص"), "قرص (Morphine) ۵۰ mg هر"),
    "gloss by look": (("هر", " ", "(", "Morphine", ")", " ", "قرص"), "قرص (Morphine) هر"),
    "brackets among Latin": (("را", " ", "Morphine (SR) 10 mg", " ", "قرص"), "قرص Morphine (SR) 10 mg را"),
    "end of a sentence": ((".", "mg", " ", "500"), "500 mg."),
    "dose alone": (("500 mg",), "500 mg"),
    "Latin alone": (("Rx: B 12",), "Rx: B 12"),
    "English sentence": (("Takes it.",), "Takes it."),
}
ABOVE = "مادرم از دیروز درد دارد"


@pytest.mark.parametrize(("seen", "typed"), SEEN.values(), ids=SEEN)
def test_a_line_of_a_persian_page_is_read_in_the_order_in_which_it_was_typed(seen, typed):
    above, line = shown(ABOVE, baseline=720), shown(*seen)
    for drawn in (line, line[::-1], line[1::2] + line[::2]):
        assert reading_order(above + drawn) == f"{ABOVE}\n{typed}"


def test_an_english_page_is_read_from_the_left():
    page = shown("Nurse: take 2 (two) at 10-12.", baseline=720) + shown("Mother: «", "درد دارم", "» on 2024-01-05.")
    assert reading_order(page) == "Nurse: take 2 (two) at 10-12.\nMother: «درد دارم» on 2024-01-05."


def test_lines_follow_one_another_as_they_were_drawn():
    first, second = shown("درد", baseline=700), shown("تب", baseline=680)
    assert reading_order(first + second) == "درد\nتب"
    assert reading_order(second + first) == "تب\nدرد"


def test_cells_are_separated_in_the_direction_of_the_line():
    label, text, day = shown("بیمار", left=400), shown("درد دارم", left=200), shown("2024-01-05", left=50)
    assert reading_order(text + day + label) == "بیمار\tدرد دارم\t2024-01-05"
    assert reading_order(shown("Patient:", left=50) + shown("I have", left=200)) == "Patient:\tI have"


def test_words_that_stand_apart_are_words_though_no_space_is_shown():
    assert reading_order(shown("درد", left=100) + shown("شدید", left=100 - 4 * WIDTH - 3)) == "درد شدید"
    assert reading_order(shown("no", left=50) + shown("pain", left=50 + 2 * WIDTH + 3)) == "no pain"


def test_letters_shown_twice_to_look_bold_are_read_once():
    line = shown("Pain سلام تب")
    assert reading_order(line + [replace(one, left=one.left + 0.4, right=one.right + 0.4) for one in line]) == reading_order(line)
    assert reading_order(shown("sleepless")) == "sleepless"
    assert reading_order([replace(one, left=50.0, right=50.0) for one in shown("sleepless")]) == "sleepless"


def test_marks_belong_to_the_letters_below_them():
    line = shown("دقت")
    assert reading_order([*line, glyph("\u0651", line[1].left + 1, width=0)]) == "دق\u0651ت"


def test_ligatures_and_presentation_forms_are_plain_letters():
    assert reading_order([glyph("م", 50), glyph("لا", 56), glyph("س", 62)]) == "سلام"
    assert reading_order([glyph("\ufee2", 50), glyph("\ufefc", 56), glyph("\ufeb3", 62)]) == "سلام"


def test_presentation_forms_show_where_a_word_has_a_gap():
    assert reading_order([glyph(form, 50 + 6 * at) for at, form in enumerate("\ufea9\ufe8d\ufeed\ufea7\ufbfd\ufee3")]) == "می\u200cخواد"


def test_shapes_that_end_and_begin_words_show_where_a_word_has_a_gap():
    """With a shape for each form but one text for all of them."""

    def word(letters, left):  # from the left: (letter, form)
        return [glyph(letter, left + at * WIDTH, shape=letter + form) for at, (letter, form) in enumerate(letters)]

    ends, begins = [("ی", "end"), ("ب", "begin")], [("ا", "end"), ("خ", "begin")]
    parted = [("د", ""), ("خ", "begin"), ("ی", "end"), ("م", "begin")]
    joined = [("د", ""), ("خ", "middle"), ("ی", "middle"), ("م", "begin")]
    texts = [word(letters, 100 + at * 40) for at, letters in enumerate([parted, joined, ends, begins])]
    spoken = ["می\u200cخد", "میخد", "بی", "خا"]
    assert reading_order([one for text in texts for one in text]) == "\t".join(reversed(spoken))


def test_a_shape_without_a_text_is_a_part_of_another_or_unknown():
    line = shown("درد")
    part = replace(line[1], text="", shape="dot")
    assert reading_order([*line, part]) == "درد"
    assert reading_order([*line, replace(part, left=68.0, right=74.0)]) == "\ufffdدرد"


def test_lines_in_another_direction_are_lines_of_their_own():
    margin = [replace(one, direction=(0.0, 1.0)) for one in shown("DRAFT")]
    assert reading_order(shown("درد") + margin) == "درد\nDRAFT"


def test_letters_on_a_slope_are_noticed():
    flat = shown("مادرم از دیروز درد دارد") + shown("و تب", baseline=680)
    assert not is_sloping(flat) and not is_sloping([])
    assert is_sloping([replace(one, baseline=700.0 - at % 4 * 1.5) for at, one in enumerate(flat)])


def test_words_spelt_from_their_ends_are_noticed():
    assert is_backwards("هک دوب نیا زا دعب")
    assert not is_backwards("بعد از این بود که") and not is_backwards("") and not is_backwards("no")
