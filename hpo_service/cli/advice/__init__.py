"""Advice before training and diagnosis after it: one command a file."""

from __future__ import annotations

import typer

from hpo_service.cli.advice.diagnose import diagnose
from hpo_service.cli.examples import examples


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(
        epilog=examples(
            "hpo-service diagnose outputs/checkpoint-500/trainer_state.json",
            "hpo-service diagnose outputs --json | jq '.faults[].fault'",
            "hpo-service diagnose --study mine",
        )
    )(diagnose)
