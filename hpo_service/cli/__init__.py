"""The command line: thin commands, one-line errors, JSON for machines; heavy imports wait until they are needed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from hpo_service.cli import data, database, studies, token, trial, worker
from hpo_service.cli.advice import add_commands as add_advice
from hpo_service.cli.doctor import doctor
from hpo_service.cli.drafts.init import init
from hpo_service.cli.drafts.tune import tune
from hpo_service.cli.examples import examples
from hpo_service.cli.files.clean import clean
from hpo_service.cli.launch import app as launches
from hpo_service.cli.memory import memory
from hpo_service.cli.records.events import events
from hpo_service.cli.records.query import query
from hpo_service.cli.records.webhook import app as webhooks
from hpo_service.cli.report import report
from hpo_service.cli.run import run
from hpo_service.cli.serve import serve
from hpo_service.cli.winner.export import export
from hpo_service.cli.winner.merge import merge
from hpo_service.cli.winner.push import push
from hpo_service.cli.winner.train import train
from hpo_service.errors import HpoServiceError, StudyFileError, UnusableInputsError

app = typer.Typer(
    name="hpo-service",
    help="Find LoRA hyper-parameters in a fraction of the GPU-hours, and know whether the winner is really better.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(
    epilog=examples(
        "hpo-service tune Qwen/Qwen2.5-0.5B rows.jsonl",
        "hpo-service tune Qwen/Qwen2.5-0.5B rows.jsonl --target Qwen/Qwen2.5-7B --budget 20h",
        "hpo-service tune ./model chats/ --only learning_rate,lora_rank --set data.max_rows=5000 --yes",
    )
)(tune)
app.command(
    epilog=examples(
        "hpo-service init",
        "hpo-service init Qwen/Qwen2.5-0.5B rows.jsonl --target Qwen/Qwen2.5-7B --gpu 24",
        "hpo-service init ./model rows.jsonl --file mine.yaml",
    )
)(init)
app.command(
    epilog=examples(
        "hpo-service run builtin:quickstart",
        "hpo-service run mine.yaml --workers 4 --storage postgresql://hpo@db/hpo",
        "hpo-service run mine.yaml --json > result.json",
    )
)(run)
app.add_typer(studies.app, name="study")
app.add_typer(data.app, name="data")
app.command(epilog=examples("hpo-service memory mine.yaml", "hpo-service memory mine.yaml --gpu 24 --gpu 80 --json"))(
    memory
)
add_advice(app)
app.add_typer(trial.app, name="trial")
app.add_typer(worker.app, name="worker")
app.add_typer(launches, name="launch")
app.command(
    epilog=examples(
        "hpo-service report quickstart",
        "hpo-service report quickstart --markdown > quickstart.md",
        "hpo-service report quickstart --json",
    )
)(report)
app.command(
    epilog=examples(
        "hpo-service export mine --to trl --epochs 3",
        "hpo-service export mine --to axolotl --into axolotl-run",
        "hpo-service export mine --to script --json | jq -r .command",
    )
)(export)
app.command(epilog=examples("hpo-service train mine --epochs 3", "hpo-service train mine --into weights --json"))(train)
app.command(epilog=examples("hpo-service merge mine", "hpo-service merge mine --weights hpo-output/mine/final"))(merge)
app.command(
    epilog=examples(
        "hpo-service push mine me/mine-lora --dry-run",
        "HF_TOKEN=... hpo-service push mine me/mine-merged --weights hpo-output/mine/merged",
    )
)(push)
app.command(
    epilog=examples(
        "hpo-service events mine",
        "hpo-service events mine --trial search/7",
        "hpo-service events mine --follow --json | jq -c '[.time, .kind, .reason]'",
    )
)(events)
app.command(
    epilog=examples(
        "hpo-service query \"SELECT stage, place, value, configuration FROM v_leaderboard WHERE study = 'mine'\"",
        "hpo-service query --file question.sql --output answer.parquet",
    )
)(query)
app.command(
    epilog=examples(
        "hpo-service serve",
        "hpo-service serve --host 0.0.0.0 --tls-cert server.pem --tls-key server.key",
        "hpo-service serve --base-path /hpo --storage postgresql://hpo@db/hpo",
    )
)(serve)
app.add_typer(token.app, name="token")
app.add_typer(webhooks, name="webhook")
app.add_typer(database.app, name="db")
app.command(epilog=examples("hpo-service clean --study mine --dry-run", "hpo-service clean --study mine"))(clean)
app.command(
    epilog=examples(
        "hpo-service doctor",
        "hpo-service doctor --study mine.yaml --output /shared/hpo",
        "hpo-service doctor --storage postgresql://hpo@db/hpo --json",
    )
)(doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hpo-service {version('hpo-service')}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Find LoRA hyper-parameters in a fraction of the GPU-hours, and know whether the winner is really better."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process.

    Exit status: 0 done, 2 wrong usage or study file, 130 interrupted, else the error's own. An expected error is
    one line on standard error, `error: ...`, or a line for each thing that is wrong with a study's rows and models;
    with --json it is a JSON object instead.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=given, prog_name="hpo-service")
    except HpoServiceError as error:
        sys.stderr.write(_as_json(error) + "\n" if "--json" in given else _as_text(error))
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        broken = HpoServiceError(f"{error.strerror or error}: {error.filename}" if error.filename else str(error))
        sys.stderr.write(_as_json(broken) + "\n" if "--json" in given else _as_text(broken))
        raise SystemExit(1) from None


def _as_text(error: HpoServiceError) -> str:
    lines = error.lines if isinstance(error, UnusableInputsError) else [_one_line(error)]
    return "".join(f"error: {line}\n" for line in lines)


def _one_line(error: HpoServiceError) -> str:
    return " ".join(str(error).splitlines())


def _as_json(error: HpoServiceError) -> str:
    facts: dict[str, object] = {"type": type(error).__name__, "message": _one_line(error), "exit_code": error.exit_code}
    if isinstance(error, StudyFileError):
        facts |= {"file": error.file, "line": error.line, "key": error.key}
    if isinstance(error, UnusableInputsError):
        facts |= {"findings": error.findings}
    return json.dumps({"error": facts})
