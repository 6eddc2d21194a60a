"""Which language a text is in, told by its script."""

LANGUAGES = {"fa": "Persian", "en": "English"}


def share_of_persian(text: str) -> float:
    """The share of Arabic-script letters among the letters of `text`, 0 to 1; 0 where there are none."""
    persian = sum("\u0600" <= c <= "\u06ff" or "\ufb50" <= c <= "\ufefc" for c in text if c.isalpha())
    letters = sum(c.isalpha() for c in text)
    return persian / letters if letters else 0.0


def detect(text: str) -> str:
    """`fa` where at least three letters in ten are Persian (drug names are often Latin), else `en`."""
    return "fa" if share_of_persian(text) >= 0.3 else "en"
