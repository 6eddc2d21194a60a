"""Which fields a text speaks of by the words of the task's own labels and meanings, and does not deny in the same breath."""

import re

from clinex_edge.documents.normalise import ZWNJ, normalise
from clinex_edge.tasks import Task

_WORD = re.compile(rf"[^\W\d_](?:['’{ZWNJ}]?[^\W\d_])*")
_CLAUSE = re.compile(r"[^.،,;؛:!?؟\n]+[.،,;؛:!?؟\n]?")
_QUESTIONS = ("?", "؟")
_DENIAL = re.compile(
    r"no|not|never|neither|nor|none|without|denie[sd]|deny|\w+n['’]t|cannot"
    r"|نه|خیر|بدون|هیچ|فاقد|نیست\w*|ندار\w*|نداش\w*|نشد\w*|نکرد\w*|نبود\w*|نمی\w*|نرفت\w*|نخورد\w*"
)
_WHOLE = 3  # letters; a shorter word counts only where it stands alone
_LONG, _ENDING = 4, 2  # letters; what an English word may lose of those behind the first: "seizure", "seizing"
# Words that say nothing of a field by themselves.
_EMPTY_FA = """
بیمار تماس‌گیرنده تماس پزشک خانواده اطرافیان نیست است شده بوده کرده دارد ندارد کند کرد می‌کند می‌شود نمی‌شود نمی‌آید نمی‌تواند
می‌خواهد ببیند می‌بیند پیدا آمدن برود راه یا و از در که را با به بر آن او هم هر هیچ نوع پس کم بند چیزی بدن بالاست مقدارش سخت سختی
مدام اکنون اخیر روز روزش روزهای شب تقریبا جابه‌جا دوباره مشکل اختلال کاهش درخواست
"""
_EMPTY_EN = """
patient caller doctor people asks call issue disorder loss hard raised wakes eats having had has does trouble any kind day days
night last low come fall stand walk give stopped passing shows increased decreased care family next
"""


class Keywords:
    """The words of each field in one language, without those that several fields share."""

    def __init__(self, task: Task, language: str):
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        empty = {*_EMPTY_EN.split(), *ENGLISH_STOP_WORDS} if language == "en" else set(_EMPTY_FA.split())
        words = {
            field.id: set(_words(normalise(f"{field.label.get(language, '')}\n{field.meaning.get(language, '')}").text)) - empty
            for field in task.fields
        }
        self._fields: dict[str, str] = {}  # by stem
        for field, found in words.items():
            alone = found - {word for other in words if other != field for word in words[other]}
            self._fields |= {_stem(word, language): field for word in alone}

    def found(self, text: str) -> set[str]:
        """The fields of which a clause of `text`, in the model's spelling, says something that is no question and no denial."""
        result: set[str] = set()
        for clause in _CLAUSE.findall(text):
            words = _words(clause)
            if not clause.endswith(_QUESTIONS) and not any(map(_DENIAL.fullmatch, words)):
                result |= {field for word in words if (field := self._field(word))}
        return result

    def _field(self, word: str) -> str | None:
        """The field of the longest stem that a word begins with; very short ones count only where they are the whole word."""
        stems = (word[:end] for end in range(len(word), 0, -1) if end >= _WHOLE or end == len(word))
        return next((self._fields[stem] for stem in stems if stem in self._fields), None)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _stem(word: str, language: str) -> str:
    return word[: max(_LONG, len(word) - _ENDING)] if language == "en" else word
