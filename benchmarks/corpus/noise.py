"""What keyboards, phones and haste do to a text. Labels and translations stay true."""

import random
import re

_SPOKEN = {
    "است": "ه", "هستند": "هستن", "می‌شود": "میشه", "نمی‌شود": "نمیشه", "می‌کند": "می‌کنه", "نمی‌کند": "نمی‌کنه",
    "می‌خورد": "می‌خوره", "نمی‌خورد": "نمی‌خوره", "می‌دهد": "میده", "نمی‌دهد": "نمیده", "می‌رود": "میره", "نمی‌رود": "نمیره",
    "می‌آید": "میاد", "نمی‌آید": "نمیاد", "می‌گوید": "میگه", "می‌گویم": "میگم", "می‌خواهد": "می‌خواد", "می‌خواهم": "می‌خوام",
    "نمی‌خواهد": "نمی‌خواد", "می‌تواند": "می‌تونه", "نمی‌تواند": "نمی‌تونه", "می‌توانم": "می‌تونم", "نمی‌توانم": "نمی‌تونم",
    "می‌خوابد": "می‌خوابه", "نمی‌خوابد": "نمی‌خوابه", "می‌کشد": "می‌کشه", "دارد": "داره", "ندارد": "نداره", "دارند": "دارن",
    "شده‌است": "شده", "را": "رو", "آن": "اون", "خانه": "خونه", "دیگر": "دیگه", "اگر": "اگه", "برای": "واسه", "نان": "نون",
    "جان": "جون", "آرام": "آروم", "آن‌ها": "اونا", "ایشان": "ایشون", "همسایه‌مان": "همسایه‌مون", "می‌شوم": "میشم",
    "نمی‌شوم": "نمیشم", "می‌روم": "میرم", "می‌گیرد": "می‌گیره", "نمی‌گیرد": "نمی‌گیره", "می‌ماند": "می‌مونه", "می‌داند": "می‌دونه",
    "می‌افتد": "میفته", "می‌سوزد": "می‌سوزه", "می‌لرزد": "می‌لرزه", "می‌ترسد": "می‌ترسه", "می‌پرد": "می‌پره", "نیست": "نیس",
}  # fmt: skip
_CONTRACTED = [
    (r"\b(do|does|did|is|are|was|were|has|have|had|would|could|should) not\b", r"\1n't"),
    (r"\bcannot\b", "can't"),
    (r"\bwill not\b", "won't"),
    (r"\b(I) am\b", r"\1'm"),
    (r"\b([Hh]e|[Ss]he|[Ii]t|[Tt]hat) is\b", r"\1's"),
    (r"\b([Hh]e|[Ss]he|[Ii]t) has (been|had|lost|become|not)\b", r"\1's \2"),
    (r"\b(I|[Ww]e|[Tt]hey|[Yy]ou) have (been|had|lost|become)\b", r"\1've \2"),
    (r"\b([Yy]ou|[Ww]e|[Tt]hey) are\b", r"\1're"),
    (r"\b(I|[Hh]e|[Ss]he|[Ww]e|[Yy]ou|[Tt]hey) will\b", r"\1'll"),
]
_DIGITS = str.maketrans("۰۱۲۳۴۵۶۷۸۹", "0123456789")
_ARABIC_DIGITS = str.maketrans("۰۱۲۳۴۵۶۷۸۹", "٠١٢٣٤٥٦٧٨٩")


def spoken(text: str) -> str:
    """Formal Persian with the commonest words in their Tehrani spoken form."""
    return " ".join(_SPOKEN.get(word, word) for word in text.split(" "))


def typo(text: str, rng: random.Random) -> str:
    """One letter dropped, doubled, or swapped with its neighbour, in a word of four letters or more."""
    at = [i for word in re.finditer(r"[^\W\d_]{4,}", text) for i in range(word.start(), word.end() - 1)]
    if not at:
        return text
    i = rng.choice(at)
    return text[:i] + rng.choice([text[i + 1], text[i] * 2 + text[i + 1], text[i + 1] + text[i]]) + text[i + 2 :]


def persian(text: str, rng: random.Random) -> str:
    """Persian as it arrives."""
    if rng.random() < 0.35:
        text = spoken(text)
    if rng.random() < 0.35:
        text = re.sub("\u200c", lambda _: rng.choice(["\u200c", "", " "]), text)
    if rng.random() < 0.1:
        text = text.replace("ی", "ي").replace("ک", "ك")
    if rng.random() < 0.3:
        text = text.translate(rng.choice([_DIGITS, _ARABIC_DIGITS]))
    if rng.random() < 0.15:
        text = re.sub(r"[.،؟!]$", "", text)
    while rng.random() < 0.1:
        text = typo(text, rng)
    return text


def english(text: str, rng: random.Random) -> str:
    """English as a person would write it: contractions, lower case, a missing stop, a typo."""
    if rng.random() < 0.5:
        for pattern, short in _CONTRACTED:
            text = re.sub(pattern, short, text)
    if rng.random() < 0.1:
        text = text.lower()
    if rng.random() < 0.1:
        text = re.sub(r"[.?!]$", "", text)
    while rng.random() < 0.07:
        text = typo(text, rng)
    return text
