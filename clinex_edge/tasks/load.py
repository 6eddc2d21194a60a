"""Reads tasks and translation prompts from `prompts/`, the user's own before the built-in ones.

Whatever is wrong in a file is reported with its name and line.
"""

import re
from pathlib import Path
from typing import Any

from clinex_edge import _toml, paths
from clinex_edge.documents.language import LANGUAGES
from clinex_edge.documents.normalise import normalise
from clinex_edge.errors import TaskError, unknown_name
from clinex_edge.tasks.task import Demonstration, Field, Profile, Task
from clinex_edge.tasks.translation import TranslationPrompt

TRANSLATION = "translation"


def folders() -> dict[str, Path]:
    """Task name to folder; a folder of the user's replaces the built-in one of the same name."""
    found: dict[str, Path] = {}
    for root in (paths.builtin("prompts"), paths.config_dir() / "prompts"):
        if root.is_dir():
            found |= {p.name: p for p in sorted(root.iterdir()) if (p / "task.toml").is_file()}
    return found


def load_task(name: str) -> Task:
    """The task of that name, or in the folder of that path. Raises UsageError for an unknown name, TaskError for a broken file."""
    known = folders()
    if name in known:
        return read_task(known[name])
    if (Path(name) / "task.toml").is_file():
        return read_task(Path(name))
    raise unknown_name("task", name, list(known))


def read_task(folder: Path) -> Task:
    """Read a task folder: `task.toml` and one `<profile>.<language>.toml` for each profile."""
    file = _File(folder / "task.toml")
    name, title = file.text("name"), file.text("title")
    fields = tuple(_field(file, row, i) for i, row in enumerate(file.tables("fields", at_least=1)))
    ids = [f.id for f in fields]
    for repeated in {i for i in ids if ids.count(i) > 1}:
        raise file.error(f"field id '{repeated}' stands here twice", repeated)
    profiles, sources = {}, {"task.toml": file.content}
    for path in sorted(folder.glob("*.*.toml")):
        profile_file = _File(path)
        profile = _profile(profile_file, fields)
        profiles[profile.name, profile.language] = profile
        sources[path.name] = profile_file.content
    if not profiles:
        raise TaskError(f"{folder}: there is no prompt profile.", "Add a file such as full.en.toml beside task.toml.")
    file.done()
    return Task(name, title, fields, profiles, sources)


def translation_prompts() -> dict[str, Path]:
    """Profile to file of every translation prompt, the user's own before the built-in ones."""
    found: dict[str, Path] = {}
    for root in (paths.builtin("prompts"), paths.config_dir() / "prompts"):
        found |= {path.stem: path for path in sorted((root / TRANSLATION).glob("*.toml"))}
    return found


def load_translation(profile: str) -> TranslationPrompt:
    """The translation prompt of a profile. Raises UsageError for an unknown one and TaskError for a broken file."""
    known = translation_prompts()
    if profile not in known:
        raise unknown_name("translation prompt", profile, list(known))
    file = _File(known[profile])
    system, turn = file.text("system"), file.template("turn", ["turn"])
    in_document = file.template("turn_in_document", ["document", "turn"]) if "turn_in_document" in file.data else ""
    prompt = TranslationPrompt(profile, system, turn, in_document, file.number("min_mean_logprob", -20.0, 0.0), file.content)
    file.done()
    return prompt


class _File:
    """A TOML file whose values are checked one by one; errors name the line."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.content = path.read_text(encoding="utf-8-sig")
            self.data: dict[str, Any] = _toml.loads(self.content)
        except _toml.TOMLDecodeError as error:
            line = int(m[1]) if (m := re.search(r"line (\d+)", str(error))) else self.content.count("\n") + 1
            message = re.sub(r" \(at .*\)$", "", str(error))
            raise TaskError(f"{path}:{line}: {message}.", "See the TOML syntax at that line.") from None
        except UnicodeDecodeError:
            raise TaskError(f"{path}:1: the file is not UTF-8.", "Save it as UTF-8.") from None
        except OSError as error:
            raise TaskError(f"{path}: cannot be read: {error.strerror}.") from None
        self._seen: set[str] = set()

    def error(self, message: str, at: str = "", number: int = 1) -> TaskError:
        """An error at the `number`-th line that begins with `at` as a key or table, else holds it in quotes, else at all."""
        word = re.escape(at.strip("[]"))
        patterns = [rf"""^\s*\[*\s*["']?{word}["']?\s*[=.\]]""", rf"""^[^#]*["']{word}["']""", rf"^[^#]*{word}", word] if at else []
        lines = self.content.split("\n")
        found = ([n for n, text in enumerate(lines, 1) if re.search(pattern, text)] for pattern in patterns)
        line = next((numbers[number - 1] for numbers in found if len(numbers) >= number), 1)
        return TaskError(f"{self.path}:{line}: {message}.", "Correct it, then run: clinex-edge tasks check")

    def text(self, key: str) -> str:
        self._seen.add(key)
        value = self.data.get(key)
        if not isinstance(value, str):
            raise self.error(f"'{key}' is missing" if value is None else f"'{key}' must be a text", key)
        return value

    def template(self, key: str, slots: list[str]) -> str:
        """A text in which each {slot} stands once, plainly, in this order."""
        text = self.text(key)
        found = re.findall(r"\{[^{}\n]*\}", text) if key == "line" else re.findall(r"\{\w*\}", text)
        if found != [f"{{{slot}}}" for slot in slots]:
            wanted = " then ".join(f"{{{slot}}}" for slot in slots)
            raise self.error(f"'{key}' must hold {wanted}, once and nothing else in braces", key)
        return text

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        self._seen.add(key)
        value = self.data.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.error(f"'{key}' must be a number from {low:g} to {high:g}", key)
        return value

    def whole_number(self, key: str, high: int, default: int) -> int:
        value = self.number(key, 0, high, default)
        if value != int(value):
            raise self.error(f"'{key}' must be a whole number", key)
        return int(value)

    def tables(self, key: str, at_least: int = 0) -> list[dict[str, Any]]:
        self._seen.add(key)
        rows = self.data.get(key, [])
        if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows) or len(rows) < at_least:
            raise self.error(f"[[{key}]] tables are missing or misshapen", key)
        return rows

    def done(self) -> None:
        """Refuse keys that nobody asked for: most are spelling errors."""
        if unknown := sorted(set(self.data) - self._seen):
            raise self.error(f"unknown key '{unknown[0]}'", unknown[0])


def _field(file: _File, row: dict[str, Any], index: int) -> Field:
    identifier = row.get("id")
    if not isinstance(identifier, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", identifier):
        message = f"field {index + 1}: 'id' must be lower-case letters, digits and _"
        raise (
            file.error(message, identifier) if isinstance(identifier, str) and identifier else file.error(message, "[[fields]]", index + 1)
        )
    if row.get("kind") != "yes_no":
        raise file.error(f"field '{identifier}': 'kind' must be \"yes_no\"", identifier)
    for key in ("label", "meaning"):
        texts = row.get(key)
        if not isinstance(texts, dict) or not texts or not all(isinstance(t, str) and t.strip() for t in texts.values()):
            raise file.error(f"field '{identifier}': '{key}' needs a text for each language", identifier)
        if unknown := set(texts) - set(LANGUAGES):
            raise file.error(f"field '{identifier}': unknown language '{unknown.pop()}' in '{key}'", identifier)
    if unknown := set(row) - {"id", "kind", "label", "meaning"}:
        raise file.error(f"field '{identifier}': unknown key '{sorted(unknown)[0]}'", identifier)
    return Field(identifier, row["label"], row["meaning"])


def _profile(file: _File, fields: tuple[Field, ...]) -> Profile:
    name, _, language = file.path.stem.rpartition(".")
    if "." in name:
        raise file.error("the file's name must be <profile>.<language>.toml")
    if language not in LANGUAGES:
        raise file.error(f"the file's name gives the unknown language '{language}'; known: {', '.join(LANGUAGES)}")
    ids = [f.id for f in fields]
    system = file.text("system")
    line = file.template("line", ["label", "value"])
    yes, no = file.text("yes").strip(), file.text("no").strip()
    if not yes or not no or yes.startswith(no) or no.startswith(yes):
        raise file.error("'yes' and 'no' must be two words, neither the start of the other", "yes")
    given = file.data.get("labels", {})
    if not isinstance(given, dict) or not all(isinstance(v, str) and v.strip() for v in given.values()):
        raise file.error("[labels] must give a text for each field", "labels")
    if unknown := [i for i in given if i not in ids]:
        raise file.error(f"[labels] names the unknown field '{unknown[0]}'", unknown[0])
    labels = {}
    for f in fields:
        label = given.get(f.id) or f.label.get(language)
        if not label:
            raise file.error(f"field '{f.id}' has no label in language '{language}'", f.id)
        if "{fields}" in system and language not in f.meaning:
            raise file.error(f"field '{f.id}' has no meaning in language '{language}'", "{fields}")
        labels[f.id] = label
    if len(set(labels.values())) < len(labels):
        twice = next(v for v in labels.values() if list(labels.values()).count(v) > 1)
        raise file.error(f"two fields have the label '{twice}'", twice)
    for one in labels.values():
        for other in labels.values():
            if other.casefold().endswith(f" {one}".casefold()):
                raise file.error(f"the label '{other}' ends with the label '{one}', so an answer could be taken for the other's", other)
    demonstrations = []
    for number, row in enumerate(file.tables("demonstrations"), 1):
        document, stated = row.get("document"), row.get("yes")
        if set(row) != {"document", "yes"} or not isinstance(document, str) or not isinstance(stated, list):
            raise file.error(
                "a demonstration needs 'document' (a text) and 'yes' (a list of field ids), nothing else", "[[demonstrations]]", number
            )
        for identifier in stated:
            if identifier not in ids:
                raise file.error(f"a demonstration names the unknown field '{identifier}'", str(identifier))
        demonstrations.append(Demonstration(normalise(document.strip()).text, frozenset(stated)))
    profile = Profile(
        name, language, system, file.template("document", ["document"]), line, yes, no, labels,
        tuple(demonstrations), file.whole_number("window_turns", 1000, 0), file.whole_number("overlap_turns", 100, 1),
    )  # fmt: skip
    if profile.window_turns and profile.overlap_turns >= profile.window_turns:
        raise file.error("'overlap_turns' must be smaller than 'window_turns'", "overlap_turns")
    file._seen.add("labels")
    file.done()
    return profile
