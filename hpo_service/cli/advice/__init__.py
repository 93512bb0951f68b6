"""Advice before training and diagnosis after it: one command a file."""

from __future__ import annotations

import typer

from hpo_service.cli.advice import plan, schedule
from hpo_service.cli.advice.diagnose import diagnose
from hpo_service.cli.advice.lr_range import lr_range
from hpo_service.cli.advice.recommend import lora_params, recommend
from hpo_service.cli.examples import examples


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(
        epilog=examples(
            "hpo-service recommend Qwen/Qwen2.5-7B --rows 5000 --gpu 24",
            "hpo-service recommend models/llama --rows 800 --length 2048 --task complex --json",
        )
    )(recommend)
    app.command(
        "lora-params",
        epilog=examples(
            "hpo-service lora-params Qwen/Qwen2.5-7B", "hpo-service lora-params models/llama --rank 8 --rank 64 --json"
        ),
    )(lora_params)
    app.add_typer(plan.app, name="plan")
    app.add_typer(schedule.app, name="schedule")
    app.command(
        epilog=examples(
            "hpo-service diagnose outputs/checkpoint-500/trainer_state.json",
            "hpo-service diagnose outputs --json | jq '.faults[].fault'",
            "hpo-service diagnose --study mine",
        )
    )(diagnose)
    app.command(
        "lr-range",
        epilog=examples(
            "hpo-service lr-range Qwen/Qwen2.5-0.5B rows.jsonl --plot range.png",
            "hpo-service lr-range --study mine.yaml --json | jq .suggestion",
            "hpo-service lr-range models/llama rows.jsonl --sweep 1e-4,2e-4,4e-4 --steps 100",
        ),
    )(lr_range)
