"""Commands that cannot use the network."""

import atexit
from typing import Any

import click

from clinex_edge import offline


class GuardedCommand(click.Command):
    """A command under `offline.guarded`, as is what packages do when the process ends after it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Raises OfflineError where something tried to use the network."""
        try:
            with offline.guarded():
                return super().invoke(ctx)
        finally:
            atexit.unregister(offline.arm)
            atexit.register(offline.arm)  # registered last, it runs first


class GuardedGroup(click.Group):
    """A group whose commands and groups are guarded where they name no other class."""

    command_class = GuardedCommand
    group_class = type
