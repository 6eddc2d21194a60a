"""Tasks and prompts as data."""

from clinex_edge.tasks.load import folders, load_task, load_translation, read_task, translation_prompts
from clinex_edge.tasks.task import Field, Profile, Task
from clinex_edge.tasks.translation import TranslationPrompt

__all__ = ["Field", "Profile", "Task", "TranslationPrompt", "folders", "load_task", "load_translation", "read_task", "translation_prompts"]
