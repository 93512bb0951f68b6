"""The commands under `launch`: one for each launcher, made when it is asked for, besides those that steer."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class LaunchGroup(TyperGroup):
    """Adds a command for each row of the table of launchers; the table is not loaded for other commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Launchers first."""
        from hpo_service.launch.launcher import LAUNCHERS

        return [*LAUNCHERS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Make a launcher's command of its options."""
        steering = super().get_command(ctx, cmd_name)
        if steering is not None:
            return steering
        from hpo_service.cli.launch.start import launcher_command
        from hpo_service.launch.launcher import LAUNCHERS

        return launcher_command(cmd_name) if cmd_name in LAUNCHERS else None
