"""Every error that clinex-edge raises on purpose: what failed, and what to do next.

None of them carries text of a document.
"""


class ClinexError(Exception):
    """Base of all. `hint` says what to do next; `exit_code` is the command's exit status."""

    exit_code = 1

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.hint = hint


class UsageError(ClinexError):
    """An unknown name or an impossible combination of options."""

    exit_code = 2


class InputError(ClinexError):
    """A document cannot be read."""


class OutputError(ClinexError):
    """A result cannot be written; what stood there before is untouched."""


class RunError(ClinexError):
    """A run's folder is in use, holds another run, or was changed from outside."""


class TaskError(ClinexError):
    """A task or prompt file is wrong."""

    exit_code = 2


class ModelError(ClinexError):
    """A model file is missing, damaged, or cannot serve."""

    exit_code = 4


class HubError(ClinexError):
    """A model cannot be fetched."""


class BundleError(ModelError):
    """A bundle of models is damaged, incomplete or not to be trusted; nothing of it was placed."""


class OfflineError(ClinexError):
    """Something in this process tried to open a connection to the internet and was stopped."""


class NotEnoughMemoryError(ClinexError):
    """A model would not fit the memory of this machine."""


class ContextError(ClinexError):
    """A prompt does not fit the model's context."""


def unknown_name(kind: str, name: str, known: list[str]) -> UsageError:
    """The error for a name that does not exist, with the nearest one that does."""
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), [k.lower() for k in known], n=1, cutoff=0.5)
    hint = f"Did you mean '{next(k for k in known if k.lower() == near[0])}'? " if near else ""
    return UsageError(f"There is no {kind} '{name}'.", f"{hint}Known: {', '.join(known)}.")
