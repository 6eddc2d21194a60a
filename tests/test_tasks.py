"""Tasks and prompts as data: what is shipped, what a broken file says, what a user's own file replaces, and the messages."""

import re
import shutil
from dataclasses import replace

import pytest

from clinex_edge import paths
from clinex_edge.errors import TaskError, UsageError
from clinex_edge.tasks import TranslationPrompt, folders, load_task, load_translation, read_task, translation_prompts
from clinex_edge.tasks.task import Demonstration

BUILTIN = paths.builtin("prompts")
IDS = [
    "doctor_visit_request",
    "psychological_complaints",
    "sleep_disorders",
    "appetite_loss",
    "seizures",
    "weakness_fatigue",
    "decreased_consciousness",
    "fever",
    "respiratory_complaints",
    "insurance_cost_issues",
    "urinary_issues",
    "pain",
    "gastrointestinal_issues",
]
PROFILES = [("compact", "en"), ("compact", "fa"), ("full", "en"), ("full", "fa")]


@pytest.fixture
def folder(tmp_path):
    """A copy of the palliative-call task that a test may break."""
    return shutil.copytree(BUILTIN / "palliative-call", tmp_path / "palliative-call")


def edit(path, old, new):
    content = path.read_text(encoding="utf-8")
    assert old in content
    path.write_text(content.replace(old, new, 1), encoding="utf-8")


# --- what is shipped -------------------------------------------------------------------------------------------------


def test_the_fields_are_the_thirteen_in_their_fixed_order():
    assert load_task("palliative-call").field_ids == IDS


def test_every_shipped_task_loads_under_the_name_of_its_folder():
    assert "palliative-call" in folders()
    assert "translation" not in folders()
    for name, path in folders().items():
        assert load_task(name).name == name == path.name


@pytest.mark.parametrize(("name", "language"), PROFILES)
def test_the_shipped_profiles_are_complete(name, language):
    task = load_task("palliative-call")
    assert set(task.profiles) == set(PROFILES)
    profile = task.profile(name, language)
    assert (profile.name, profile.language) == (name, language)
    assert list(profile.labels) == IDS
    assert len({label.casefold() for label in profile.labels.values()}) == len(IDS)


@pytest.mark.parametrize(("name", "language"), PROFILES)
def test_no_shipped_label_is_the_last_words_of_another(name, language):
    labels = load_task("palliative-call").profile(name, language).labels.values()
    assert not [(a, b) for a in labels for b in labels if a != b and f" {a}".casefold().endswith(f" {b}".casefold())]


def test_every_field_has_label_and_meaning_in_both_languages():
    for field in load_task("palliative-call").fields:
        assert set(field.label) == set(field.meaning) == {"en", "fa"}


def test_the_shipped_demonstrations_show_every_field_as_yes_and_as_no():
    task = load_task("palliative-call")
    for language in ("en", "fa"):
        shown = [example.yes for example in task.profile("full", language).demonstrations]
        assert set().union(*shown) == set(IDS)
        assert not set.intersection(*map(set, shown))
    english, persian = (task.profile("full", language).demonstrations for language in ("en", "fa"))
    assert [e.yes for e in english] == [p.yes for p in persian]


@pytest.mark.parametrize("profile", ["compact", "full"])
def test_the_shipped_translation_prompts_load(profile):
    prompt = load_translation(profile)
    assert prompt.profile == profile
    assert -20 <= prompt.min_mean_logprob <= 0
    *_, (role, content) = prompt.messages("درد دارم.", "پرستار: خوبی؟\nدرد دارم.")
    assert role == "user"
    assert "درد دارم." in content
    assert "{" not in content


def test_a_task_without_own_label_takes_the_one_of_the_task(folder):
    edit(folder / "compact.en.toml", 'pain = "pain"\n', "")
    assert read_task(folder).profile("compact", "en").labels["pain"] == "Pain"


# --- broken files ----------------------------------------------------------------------------------------------------

TASK, COMPACT = "task.toml", "compact.en.toml"
LAST = 'gastrointestinal_issues = "gut"\n'
PAIN = 'id = "pain"'
PAIN_LABEL = 'label = { en = "Pain", fa = "درد" }'
PAIN_MEANING = 'meaning.en = "The patient has pain of any kind."\nmeaning.fa = "بیمار درد دارد، از هر نوع."\n'
SHORT_PROFILE = 'system = ""\ndocument = "{document}"\nline = "{label} {value}"\nyes = "y"\nno = "n"\n'
LINE = "'line' must hold {label} then {value}, once and nothing else in braces"
SHORT_TASK = 'name = "palliative-call"\ntitle = "T"\n'


def demonstration(text):
    return f"{LAST}\n[[demonstrations]]\n{text}\n"


# file, text to replace (None: the whole file), replacement, message, text in the line that must be named (None: the first line)
BROKEN = {
    "no name": (TASK, 'name = "palliative-call"', "", "'name' is missing", None),
    "name is no text": (TASK, 'name = "palliative-call"', "name = 7", "'name' must be a text", "name = 7"),
    "no title": (TASK, 'title = "Thirteen', '# "Thirteen', "'title' is missing", None),
    "title is no text": (TASK, 'title = "T', 'title = []  # "T', "'title' must be a text", "title = []"),
    "no fields": (TASK, None, SHORT_TASK, "[[fields]] tables are missing", None),
    "empty fields": (TASK, None, SHORT_TASK + "fields = []\n", "[[fields]] tables are missing", "fields = []"),
    "fields is a number": (TASK, None, SHORT_TASK + "fields = 3\n", "[[fields]] tables are missing", "fields = 3"),
    "fields is a table": (TASK, None, SHORT_TASK + "[fields]\nid = 1\n", "[[fields]] tables are missing", "[fields]"),
    "fields holds a text": (TASK, None, SHORT_TASK + 'fields = ["pain"]\n', "[[fields]] tables are missing", "fields = ["),
    "capital id": (TASK, PAIN, 'id = "Pain_x"', "field 12: 'id' must be lower-case", 'id = "Pain_x"'),
    "id begins with a digit": (TASK, PAIN, 'id = "1pain"', "field 12: 'id' must be lower-case", '"1pain"'),
    "field twice": (TASK, PAIN, 'id = "fever"', "field id 'fever' stands here twice", 'id = "fever"'),
    "no kind": (TASK, f'{PAIN}\nkind = "yes_no"', PAIN, "field 'pain': 'kind' must be \"yes_no\"", PAIN),
    "other kind": (TASK, f'{PAIN}\nkind = "yes_no"', f'{PAIN}\nkind = "number"', "field 'pain': 'kind' must be", PAIN),
    "no label": (TASK, PAIN_LABEL, "", "field 'pain': 'label' needs a text", PAIN),
    "label without languages": (TASK, PAIN_LABEL, 'label = "Pain"', "field 'pain': 'label' needs a text", PAIN),
    "label of no language": (TASK, PAIN_LABEL, "label = {}", "field 'pain': 'label' needs a text", PAIN),
    "blank label": (TASK, PAIN_LABEL, 'label = { en = " " }', "field 'pain': 'label' needs a text", PAIN),
    "label is a number": (TASK, PAIN_LABEL, "label = { en = 3 }", "field 'pain': 'label' needs a text", PAIN),
    "label in unknown language": (TASK, PAIN_LABEL, 'label = { de = "Schmerz" }', "unknown language 'de' in 'label'", PAIN),
    "no meaning": (TASK, PAIN_MEANING, "", "field 'pain': 'meaning' needs a text", PAIN),
    "meaning in unknown language": (TASK, PAIN_MEANING, 'meaning.de = "Schmerz"', "unknown language 'de' in 'meaning'", PAIN),
    "unknown key of a field": (TASK, PAIN, f"{PAIN}\nlabels = 1", "field 'pain': unknown key 'labels'", PAIN),
    "unknown key of a task": (TASK, "title = ", "tittle = 1\ntitle = ", "unknown key 'tittle'", "tittle"),
    "TOML error": (TASK, 'title = "T', 'title = T"', "Invalid value", "title = T"),
    "open bracket at the end": (COMPACT, LAST, LAST + "[other", "Expected", "[other"),
    "key twice": (COMPACT, LAST, LAST + 'fever = "hot"\n', "Cannot overwrite", 'fever = "hot"'),
    "no system": (COMPACT, 'system = "extract"', "", "'system' is missing", None),
    "system is no text": (COMPACT, 'system = "extract"', "system = 1", "'system' must be a text", "system = 1"),
    "no document": (COMPACT, 'document = "{document}"', "", "'document' is missing", None),
    "document without {document}": (COMPACT, '"{document}"', '"text"', "'document' must hold {document}", "document ="),
    "document with another": (COMPACT, '"{document}"', '"{document} {text}"', "'document' must hold {document}", "document ="),
    "document with it twice": (COMPACT, '"{document}"', '"{document} {document}"', "'document' must hold {document}", "document ="),
    "document with an empty placeholder": (COMPACT, '"{document}"', '"{document} {}"', "'document' must hold", "document ="),
    "document half open": (COMPACT, '"{document}"', '"{document"', "'document' must hold {document}", "document ="),
    "document with a conversion": (COMPACT, '"{document}"', '"{document!r}"', "'document' must hold {document}", "document ="),
    "document with a format": (COMPACT, '"{document}"', '"{document:s}"', "'document' must hold {document}", "document ="),
    "no line": (COMPACT, 'line = "', '# "', "'line' is missing", None),
    "line is no text": (COMPACT, 'line = " {label} {value}"', "line = true", "'line' must be a text", "line = true"),
    "line without {label}": (COMPACT, "{label} {value}", "{value}", LINE, "line ="),
    "line without {value}": (COMPACT, "{label} {value}", "{label}", LINE, "line ="),
    "line with another": (COMPACT, "{label} {value}", "{label} {value} {p}", LINE, "line ="),
    "line with an empty placeholder": (COMPACT, "{label} {value}", "{label} {value} {}", LINE, "line ="),
    "line with an attribute": (COMPACT, "{label} {value}", "{label.x} {value}", LINE, "line ="),
    "line with a conversion": (COMPACT, "{label} {value}", "{label} {value!r}", LINE, "line ="),
    "line with a format": (COMPACT, "{label} {value}", "{label} {value:>5}", LINE, "line ="),
    "line with the value twice": (COMPACT, "{label} {value}", "{label} {value} {value}", LINE, "line ="),
    "line with the value first": (COMPACT, "{label} {value}", "{value} {label}", LINE, "line ="),
    "line with doubled braces": (COMPACT, "{label} {value}", "{{label}} {{value}} {{}}", LINE, "line ="),
    "no yes": (COMPACT, 'yes = "yes"', "", "'yes' is missing", None),
    "yes is a truth value": (COMPACT, 'yes = "yes"', "yes = true", "'yes' must be a text", "yes = true"),
    "no no": (COMPACT, 'no = "no"', "", "'no' is missing", None),
    "blank yes": (COMPACT, 'yes = "yes"', 'yes = " "', "'yes' and 'no' must be two words", 'yes = " "'),
    "yes equals no": (COMPACT, 'yes = "yes"', 'yes = " no "', "'yes' and 'no' must be two words", "yes ="),
    "yes begins with no": (COMPACT, 'yes = "yes"', 'yes = "noted"', "'yes' and 'no' must be two words", "yes ="),
    "no begins with yes": (COMPACT, 'yes = "yes"', 'yes = "n"', "'yes' and 'no' must be two words", "yes ="),
    "label for an unknown field": (COMPACT, 'fever = "fever"', 'feever = "fever"', "names the unknown field 'feever'", "feever ="),
    "blank own label": (COMPACT, 'fever = "fever"', 'fever = ""', "[labels] must give a text", "[labels]"),
    "own label is a number": (COMPACT, 'fever = "fever"', "fever = 1", "[labels] must give a text", "[labels]"),
    "labels is a text": (COMPACT, None, SHORT_PROFILE + 'labels = "x"\n', "[labels] must give a text", "labels ="),
    "two fields with one label": (COMPACT, 'fever = "fever"', 'fever = "sleep"', "two fields have the label 'sleep'", '"sleep"'),
    "a label ends with another": (COMPACT, '"weak"', '"great pain"', "the label 'great pain' ends with the label 'pain'", '"great pain"'),
    "unknown key of a profile": (COMPACT, "window_turns", "windows_turns", "unknown key 'windows_turns'", "windows_turns"),
    "window_turns below 0": (COMPACT, "window_turns = 2", "window_turns = -1", "from 0 to 1000", "window_turns ="),
    "window_turns above 1000": (COMPACT, "window_turns = 2", "window_turns = 1001", "from 0 to 1000", "window_turns ="),
    "window_turns is a text": (COMPACT, "window_turns = 2", 'window_turns = "2"', "must be a number", "window_turns ="),
    "window_turns is a truth value": (COMPACT, "window_turns = 2", "window_turns = true", "must be a number", "window_turns ="),
    "window_turns is no number": (COMPACT, "window_turns = 2", "window_turns = nan", "must be a number", "window_turns ="),
    "window_turns is a date": (COMPACT, "window_turns = 2", "window_turns = 2026-01-01", "must be a number", "window_turns ="),
    "window_turns is a fraction": (COMPACT, "window_turns = 2", "window_turns = 2.5", "must be a whole number", "window_turns ="),
    "overlap_turns below 0": (COMPACT, "overlap_turns = 1", "overlap_turns = -1", "from 0 to 100", "overlap_turns ="),
    "overlap as long as the window": (COMPACT, "overlap_turns = 1", "overlap_turns = 2", "smaller than 'window_turns'", "overlap_turns ="),
    "demonstrations is a number": (COMPACT, "window_turns", "demonstrations = 1\nwindow_turns", "[[demonstrations]] tables", "ions ="),
    "demonstration without yes": (COMPACT, LAST, demonstration('document = "a"'), "needs 'document'", "[[demonstrations]]"),
    "demonstration without document": (COMPACT, LAST, demonstration("yes = []"), "needs 'document'", "[[demonstrations]]"),
    "demonstration with more": (COMPACT, LAST, demonstration('document = "a"\nyes = []\nno = []'), "nothing else", "[[demonstrations]]"),
    "demonstration of a number": (COMPACT, LAST, demonstration("document = 1\nyes = []"), "needs 'document'", "[[demonstrations]]"),
    "demonstration with a text for yes": (COMPACT, LAST, demonstration('document = ""\nyes = "pain"'), "needs 'document'", "[[demo"),
    "demonstration of an unknown field": (
        COMPACT, LAST, demonstration('document = "a"\nyes = [\n"pain",\n"rash"]'), "names the unknown field 'rash'", '"rash"',
    ),
}  # fmt: skip


def line_of(content, marker):
    """The number of the first line that contains `marker`; 1 where no line is to blame."""
    return next(n for n, line in enumerate(content.split("\n"), 1) if marker is None or marker in line)


@pytest.mark.parametrize(("file", "old", "new", "message", "marker"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_file_is_reported_with_its_line(folder, file, old, new, message, marker):
    path = folder / file
    if old is None:
        path.write_text(new, encoding="utf-8")
    else:
        edit(path, old, new)
    with pytest.raises(TaskError) as caught:
        read_task(folder)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}:{line_of(path.read_text(encoding='utf-8'), marker)}: ")
    assert caught.value.hint


@pytest.mark.parametrize("stated", ['[["pain"]]', "[3]", "[true]", "[{}]", "[2026-01-01]"])
def test_a_demonstration_of_something_else_than_a_field_is_reported(folder, stated):
    edit(folder / COMPACT, LAST, demonstration(f'document = ""\nyes = {stated}'))
    with pytest.raises(TaskError, match=re.escape(str(folder / COMPACT)) + r":\d+: a demonstration"):
        read_task(folder)


@pytest.mark.parametrize(
    ("file", "old", "new", "marker"),
    [
        ("compact.en.toml", 'no = "no"', "no = 3", "no = 3"),
        ("compact.en.toml", "window_turns", "em = 1\nwindow_turns", "em = 1"),
        ("compact.en.toml", 'yes = "yes"', 'sentence = "yes"\nyes = 3', "yes = 3"),
        ("full.en.toml", 'yes = "yes"', "yes = 3", "yes = 3"),
        ("full.en.toml", 'line = " {label} {value}\\n"', 'line = "{label}"', 'line = "{label}"'),
        ("full.en.toml", 'pain = "pain"', 'pain = ""', "[labels]"),
        ("full.en.toml", 'no = "no"', 'no = "no"\nem = 1', "em = 1"),
        ("full.fa.toml", 'no = "خیر"', 'no = "خیر"\nlines = 1', "lines ="),
    ],
)
def test_the_line_is_where_the_key_stands_not_where_its_letters_do(folder, file, old, new, marker):
    path = folder / file
    edit(path, old, new)
    lines = path.read_text(encoding="utf-8").split("\n")
    expected = next(n for n, line in enumerate(lines, 1) if line.startswith(marker))
    with pytest.raises(TaskError, match=re.escape(f"{path}:{expected}: ")):
        read_task(folder)


@pytest.mark.parametrize(
    ("file", "old", "new", "message", "header", "number"),
    [
        (TASK, PAIN + "\n", "", "field 12", "[[fields]]", 12),
        (COMPACT, LAST, demonstration('document = ""\nyes = []\n[[demonstrations]]'), "a demonstration", "[[demonstrations]]", 2),
    ],
)
def test_of_many_tables_the_broken_one_is_named(folder, file, old, new, message, header, number):
    path = folder / file
    edit(path, old, new)
    headers = [n for n, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1) if line == header]
    with pytest.raises(TaskError, match=re.escape(f"{path}:{headers[number - 1]}: {message}")):
        read_task(folder)


def test_an_id_that_ends_with_a_line_end_is_refused(folder):
    edit(folder / TASK, PAIN, 'id = "pain\\n"')
    with pytest.raises(TaskError, match=re.escape(str(folder / TASK)) + r":\d+: field 12: 'id' must be lower-case"):
        read_task(folder)


def test_a_label_missing_in_the_profiles_language_is_reported(folder):
    edit(folder / TASK, PAIN_LABEL, 'label = { en = "Pain" }')
    edit(folder / "compact.fa.toml", 'pain = "pain"\n', "")
    with pytest.raises(TaskError, match=re.escape(f"{folder / 'compact.fa.toml'}:1: field 'pain' has no label in language 'fa'")):
        read_task(folder)


def test_a_meaning_missing_in_a_language_is_reported_only_where_meanings_are_shown(folder):
    edit(folder / TASK, 'meaning.fa = "بیمار درد دارد، از هر نوع."\n', "")
    edit(folder / "compact.fa.toml", 'system = "extract"', 'system = "extract"\n# نشانه {fields}')
    with pytest.raises(TaskError, match=re.escape(str(folder / "full.fa.toml")) + r":\d+: field 'pain' has no meaning in language 'fa'"):
        read_task(folder)
    (folder / "full.fa.toml").unlink()
    assert ("compact", "fa") in read_task(folder).profiles


@pytest.mark.parametrize("file", [TASK, COMPACT])
def test_a_file_that_is_not_utf8_is_reported(folder, file):
    (folder / file).write_bytes("name = 'تب'".encode("cp1256"))
    with pytest.raises(TaskError, match=re.escape(f"{folder / file}:1: the file is not UTF-8.")):
        read_task(folder)


@pytest.mark.parametrize("file", [TASK, COMPACT])
def test_a_file_that_cannot_be_read_is_reported(folder, file):
    (folder / file).unlink()
    (folder / file).mkdir()
    with pytest.raises(TaskError, match=re.escape(f"{folder / file}: cannot be read: ")):
        read_task(folder)


def test_a_missing_task_file_is_reported(tmp_path):
    with pytest.raises(TaskError, match=re.escape(f"{tmp_path / 'task.toml'}: cannot be read: ")):
        read_task(tmp_path)


def test_a_profile_for_an_unknown_language_is_reported(folder):
    (folder / COMPACT).rename(folder / "compact.de.toml")
    with pytest.raises(TaskError, match=re.escape(f"{folder / 'compact.de.toml'}:1: ") + ".*unknown language 'de'"):
        read_task(folder)


def test_a_task_without_profiles_is_reported(folder):
    for path in folder.glob("*.*.toml"):
        path.unlink()
    with pytest.raises(TaskError, match="no prompt profile") as caught:
        read_task(folder)
    assert str(folder) in str(caught.value)


def test_a_label_that_ends_with_another_but_for_capitals_is_refused(folder):
    edit(folder / COMPACT, 'weakness_fatigue = "weak"', 'weakness_fatigue = "Great Pain"')
    with pytest.raises(TaskError, match="Great Pain"):
        read_task(folder)


def test_a_copy_beside_a_profile_does_not_replace_it(folder):
    content = (folder / COMPACT).read_text(encoding="utf-8")
    (folder / "compact.en.v2.toml").write_text(content.replace('"extract"', '"another"'), encoding="utf-8")
    try:
        task = read_task(folder)
    except TaskError:
        return
    assert task.profile("compact", "en").system == "extract"


IN_DOCUMENT = 'system = ""\nturn_in_document = "{}"\nturn = "{{turn}}"\nmin_mean_logprob = -1'


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ('turn = "{turn}"\nmin_mean_logprob = -1', "'system' is missing", 1),
        ('system = 1\nturn = "{turn}"\nmin_mean_logprob = -1', "'system' must be a text", 1),
        ('system = ""\nmin_mean_logprob = -1', "'turn' is missing", 1),
        ('system = ""\nturn = ""\nmin_mean_logprob = -1', "'turn' must hold {turn}, once", 2),
        ('system = ""\nturn = "{turn} {x}"\nmin_mean_logprob = -1', "'turn' must hold {turn}, once", 2),
        ('system = ""\nturn = "{turn"\nmin_mean_logprob = -1', "'turn' must hold {turn}, once", 2),
        (IN_DOCUMENT.format("{turn}"), "'turn_in_document' must hold {document} then {turn}", 2),
        (IN_DOCUMENT.format("{document}"), "'turn_in_document' must hold {document} then {turn}", 2),
        (IN_DOCUMENT.format("{turn} {document}"), "'turn_in_document' must hold {document} then {turn}", 2),
        ('system = ""\nturn = "{turn}"\nturn_in_document = 3\nmin_mean_logprob = -1', "'turn_in_document' must be a text", 3),
        ('system = ""\nturn = "{turn}"', "'min_mean_logprob' must be a number", 1),
        ('system = ""\nturn = "{turn}"\nmin_mean_logprob = 0.5', "'min_mean_logprob' must be a number from -20 to 0", 3),
        ('system = ""\nturn = "{turn}"\nmin_mean_logprob = "-1"', "'min_mean_logprob' must be a number", 3),
        ('system = ""\nturn = "{turn}"\nmin_mean_logprob = -1\nturns = 1', "unknown key 'turns'", 4),
        ('system = ""\nturn = {turn}', "", 2),
    ],
)
def test_a_broken_translation_prompt_is_reported_with_its_line(home, text, message, line):
    path = home / "config" / "prompts" / "translation" / "mine.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TaskError, match=re.escape(f"{path}:{line}: {message}")):
        load_translation("mine")


def test_an_unknown_translation_prompt_suggests_the_nearest():
    with pytest.raises(UsageError, match="'ful'") as caught:
        load_translation("ful")
    assert "Did you mean 'full'?" in caught.value.hint


def test_the_translation_prompts_are_the_built_in_ones_and_the_users(home):
    assert set(translation_prompts()) == {"compact", "full"}
    own = home / "config" / "prompts" / "translation"
    own.mkdir(parents=True)
    for name in ("compact", "mine"):
        (own / f"{name}.toml").touch()
    assert translation_prompts() == {
        "compact": own / "compact.toml",
        "full": BUILTIN / "translation" / "full.toml",
        "mine": own / "mine.toml",
    }


# --- the user's own, and names ---------------------------------------------------------------------------------------


def test_the_users_task_replaces_the_built_in_one_of_its_name(home, folder):
    edit(folder / TASK, "Thirteen features of a palliative-care call", "My own")
    own = home / "config" / "prompts" / "palliative-call"
    shutil.copytree(folder, own)
    assert folders()["palliative-call"] == own
    assert load_task("palliative-call").title == "My own"
    shutil.rmtree(own)
    assert load_task("palliative-call").title == "Thirteen features of a palliative-care call"


def test_a_task_of_the_users_joins_the_built_in_ones(home, folder):
    edit(folder / TASK, 'name = "palliative-call"', 'name = "my-task"')
    shutil.copytree(folder, home / "config" / "prompts" / "my-task")
    assert set(folders()) >= {"palliative-call", "my-task"}
    assert load_task("my-task").name == "my-task"
    assert load_task("palliative-call").name == "palliative-call"


def test_a_folder_without_task_file_replaces_nothing(home):
    (home / "config" / "prompts" / "palliative-call").mkdir(parents=True)
    assert folders()["palliative-call"] == BUILTIN / "palliative-call"


def test_the_users_translation_prompt_replaces_only_its_own_profile(home):
    builtin = load_translation("full")
    own = home / "config" / "prompts" / "translation" / "compact.toml"
    own.parent.mkdir(parents=True)
    own.write_text('system = "mine"\nturn = "{turn}!"\nmin_mean_logprob = -2', encoding="utf-8")
    prompt = load_translation("compact")
    assert prompt.messages("درد") == [("system", "mine"), ("user", "درد!")]
    assert prompt.min_mean_logprob == -2
    assert load_translation("full") == builtin


def test_a_task_may_be_given_as_a_folder(folder):
    edit(folder / TASK, "Thirteen features of a palliative-care call", "My own")
    assert load_task(str(folder)).title == "My own"


@pytest.mark.parametrize("name", ["paliative-call", "Palliative-Call", "palliative_call", "palliative"])
def test_an_unknown_task_suggests_the_nearest(name):
    with pytest.raises(UsageError, match=re.escape(f"no task '{name}'")) as caught:
        load_task(name)
    assert "Did you mean 'palliative-call'?" in caught.value.hint


@pytest.mark.parametrize("name", ["xyz", "", "/no/such/folder"])
def test_an_unknown_task_like_no_other_lists_the_known(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        load_task(name)
    assert "Did you mean" not in caught.value.hint
    assert "palliative-call" in caught.value.hint


def test_an_unknown_profile_suggests_the_nearest():
    with pytest.raises(UsageError, match=r"'ful\.en'") as caught:
        load_task("palliative-call").profile("ful", "en")
    assert "Did you mean 'full.en'?" in caught.value.hint


# --- messages --------------------------------------------------------------------------------------------------------


def parsed(profile, answer):
    """An answer of one line a field as (label, value) pairs."""
    pattern = re.escape(profile.line.strip()).replace(r"\{label\}", "(.+)").replace(r"\{value\}", "(.+)")
    return [re.fullmatch(pattern, line.strip()).groups() for line in answer.splitlines()]


@pytest.mark.parametrize(("name", "language"), PROFILES)
@pytest.mark.parametrize("order", ["fixed", "varied"])
def test_messages_end_with_the_document_and_show_each_demonstration_before(name, language, order):
    task = load_task("palliative-call")
    profile = task.profile(name, language)
    (first, system), *examples, (last, content) = task.messages(profile, "THE DOCUMENT", order)
    assert (first, last) == ("system", "user")
    assert system
    assert content == profile.document.replace("{document}", "THE DOCUMENT")
    assert [role for role, _ in examples] == ["user", "assistant"] * len(profile.demonstrations)
    for example, (_, shown) in zip(profile.demonstrations, examples[::2], strict=True):
        assert example.document.strip() in shown


@pytest.mark.parametrize("language", ["en", "fa"])
@pytest.mark.parametrize("order", ["fixed", "varied"])
def test_demonstrations_give_the_stated_value_of_every_field(language, order):
    task = load_task("palliative-call")
    profile = task.profile("full", language)
    answers = [text for role, text in task.messages(profile, "x", order) if role == "assistant"]
    assert answers
    for example, answer in zip(profile.demonstrations, answers, strict=True):
        expected = {profile.labels[f]: profile.yes if f in example.yes else profile.no for f in IDS}
        assert len(parsed(profile, answer)) == len(IDS)
        assert dict(parsed(profile, answer)) == expected
        assert answer == answer.rstrip()


@pytest.mark.parametrize("language", ["en", "fa"])
def test_varied_order_begins_each_demonstration_elsewhere_and_fixed_order_never_does(language):
    task = load_task("palliative-call")
    profile = task.profile("full", language)

    def orders(order):
        answers = [text for role, text in task.messages(profile, "x", order) if role == "assistant"]
        return [[label for label, _ in parsed(profile, answer)] for answer in answers]

    labels = [profile.labels[f] for f in IDS]
    assert orders("fixed") == [labels] * len(profile.demonstrations)
    assert len({tuple(o) for o in orders("varied")}) == len(profile.demonstrations) > 1
    assert all(sorted(o) == sorted(labels) for o in orders("varied"))


def test_varied_order_keeps_the_values_of_any_number_of_demonstrations():
    task = load_task("palliative-call")
    base = task.profile("full", "en")
    for count in (1, 2, 5, 13, 20):
        examples = tuple(Demonstration(f"call {i}", frozenset(IDS[i % 13 :: 3])) for i in range(count))
        profile = replace(base, demonstrations=examples)
        fixed, varied = (
            [parsed(profile, text) for role, text in task.messages(profile, "x", order) if role == "assistant"]
            for order in ("fixed", "varied")
        )
        assert len(fixed) == count
        assert [sorted(answer) for answer in fixed] == [sorted(answer) for answer in varied]


def test_an_answer_without_line_ends_stays_on_one_line():
    profile = load_task("palliative-call").profile("compact", "en")
    assert profile.answer(["fever", "pain"], frozenset(["pain"])) == " fever no pain yes"


@pytest.mark.parametrize("language", ["en", "fa"])
def test_the_system_message_lists_every_label_with_its_meaning(language):
    task = load_task("palliative-call")
    profile = task.profile("full", language)
    _, system = task.messages(profile, "x")[0]
    assert "{fields}" not in system
    for field in task.fields:
        assert f"- {profile.labels[field.id]}: {field.meaning[language]}" in system


def test_an_empty_system_text_gives_no_system_message(folder):
    edit(folder / COMPACT, 'system = "extract"', 'system = " "')
    task = read_task(folder)
    assert [role for role, _ in task.messages(task.profile("compact", "en"), "x")] == ["user"]


@pytest.mark.parametrize("document", ["{document}", "{fields} {label} {value}", "{", "}} {0}", "\\1 \\g<0>", "%s"])
def test_braces_in_a_document_are_left_alone(document):
    task = load_task("palliative-call")
    profile = task.profile("full", "en")
    _, content = task.messages(profile, document)[-1]
    before, after = profile.document.split("{document}")
    assert content == before + document + after
    prompt = load_translation("full")
    before, middle, after = re.split(r"\{document\}|\{turn\}", prompt.turn_in_document)
    assert prompt.messages(document, document)[-1] == ("user", before + document + middle + document + after)


def test_a_translation_prompt_shows_the_document_only_where_it_has_a_text_for_that():
    plain = TranslationPrompt("p", "", "Turn: {turn}", "", -1.0, "")
    assert plain.messages("T") == plain.messages("T", "D") == [("user", "Turn: T")]
    both = replace(plain, turn_in_document="All: {document} Turn: {turn}", system=" S \n")
    assert both.messages("T") == [("system", "S"), ("user", "Turn: T")]
    assert both.messages("T", "D") == [("system", "S"), ("user", "All: D Turn: T")]


# --- fingerprints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["task.toml", "compact.en.toml", "compact.fa.toml", "full.en.toml", "full.fa.toml"])
def test_the_fingerprint_of_a_task_changes_with_every_file(folder, file):
    before = read_task(folder).sha256
    assert before == read_task(folder).sha256 == load_task("palliative-call").sha256
    edit(folder / file, "\n", "\n# \n")
    assert read_task(folder).sha256 != before


def test_the_fingerprint_of_a_task_changes_with_the_names_of_its_files(folder):
    before = read_task(folder).sha256
    (folder / "compact.en.toml").rename(folder / "aaa.en.toml")
    renamed = read_task(folder).sha256
    (folder / "aaa.en.toml").unlink()
    assert len({before, renamed, read_task(folder).sha256}) == 3


def test_the_fingerprint_of_a_translation_prompt_changes_with_its_content(home):
    own = home / "config" / "prompts" / "translation" / "compact.toml"
    own.parent.mkdir(parents=True)
    shutil.copy(BUILTIN / "translation" / "compact.toml", own)
    before = load_translation("compact").sha256
    assert len(before) == 64
    edit(own, "\n", "\n\n")
    assert load_translation("compact").sha256 != before
