"""What a search costs beside the script that people write, and what pruning saves of it: CPU seconds of processes.

    python benchmarks/against_plain.py                  # both parts, some twenty minutes on two cores
    python benchmarks/against_plain.py --only plain --check
    python benchmarks/against_plain.py --smoke          # few rows and trials, to see that it works

`plain`: Optuna's TPE over 12 trials without pruning, each of which loads the base anew and trains it with PEFT and
`transformers.Trainer`, beside `hpo-service run` with its defaults and no confirm stage. Model (the quickstart's base),
rows, split, space, seeds and batches are the same; each side is a process of its own, whose CPU seconds and those of
all that it started are what the operating system counts (`getrusage`). The plain script pays for all of its trials, for
who writes one learns at the end which was best; ours is stopped at its first evaluation that is as good (within 0.1%),
and pays for starting, for trials that were under way, and for stopping. Imports count on both sides; pre-training the
model, which is in a cache by then, on neither.

`pruning`: the same search, to its end, with the default pruner and with `pruner: none`, both with the same seed. Its
figures are steps trained and CPU seconds, and how far the winners are apart with the standard error of that difference
on the same rows. Once trials are stopped the sampler sees other values, so that the two propose other trials.

`--check` fails under 3x less CPU time, where the loss is not reached, and where pruning saves nothing or its winner is
worse by more than two standard errors. What this does not show: one model, one data set, one seed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.solo import plain_row, quiet
from hpo_service.bootstrap import Service
from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.trial.scores import Scores
from hpo_service.domain.trial.states import TrialState
from hpo_service.errors import NotFoundError
from hpo_service.service.studies.snapshot import TrialView
from hpo_service.settings import Settings
from hpo_service.storage.database import Database
from hpo_service.storage.trial.scores import ScoreStore

LEAST_RATIO = 3.0
WITHIN = 1e-3
ERRORS = 2.0
"""Standard errors by which the winner with pruning may be worse."""
STUDY = "against-plain"
MODEL = "builtin:llama-tiny"
RATES = (5e-4, 2e-2)
RANKS = (4, 8, 16, 32)
MULTIPLIERS = (1, 2)
EFFECTIVE = MICRO = 16
POLL_SECONDS = 0.3
LIMIT_SECONDS = 1800.0
SMOKE = {"rows": 200, "trials": 3}


@dataclass(frozen=True)
class Task:
    """What both sides do; `folder` is theirs, `cache` holds the model."""

    folder: str
    cache: str
    rows: int
    trials: int
    seed: int

    @property
    def data(self) -> dict[str, Any]:
        """The study file's `data`: of 4000 rows 240 are for validation, which a run is watched on as they are."""
        split = {"validation": 0.06, "test": 0.02}
        return {"source": "builtin:stdlib-docstrings", "max_length": 64, "max_rows": self.rows, "split": split}


@dataclass(frozen=True)
class Side:
    """What one side took, in CPU and wall seconds, and the lowest validation loss that it saw."""

    cpu: float
    wall: float
    trials: int
    best: float


def plain_side(task: Task) -> list[float]:
    """Run the script that people write; return the losses of its trials."""
    import optuna

    from hpo_service.training.builtin.family import resolve_model
    from hpo_service.training.data.rows import prepare_rows
    from hpo_service.training.models.tokenizer import load_tokenizer

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = resolve_model(MODEL, Path(task.cache), lambda _message, _fraction: None)
    rows = prepare_rows(DataSpec.model_validate(task.data), load_tokenizer(MODEL, path, False, None))
    train, validation = ([plain_row(row) for row in part] for part in (rows.train, rows.validation))

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("learning_rate", *RATES, log=True)
        rank = trial.suggest_categorical("lora_rank", list(RANKS))
        alpha = rank * trial.suggest_categorical("lora_alpha_multiplier", list(MULTIPLIERS))
        return plain_trial(path, train, validation, rate, rank, alpha, task)

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=task.seed))
    study.optimize(objective, n_trials=task.trials)
    return [float(trial.value) for trial in study.trials if trial.value is not None]


def plain_trial(
    model: str, train: Sequence[Any], validation: Sequence[Any], rate: float, rank: int, alpha: int, task: Task
) -> float:
    """Load, train, evaluate; nothing stays for the next trial."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, PrinterCallback, Trainer, TrainingArguments, set_seed

    def stack(rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        pad = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": 0, "labels": -100, "attention_mask": 0}
        return {k: torch.tensor([row[k] + [v] * (pad - len(row[k])) for row in rows]) for k, v in fill.items()}

    set_seed(task.seed)
    base = AutoModelForCausalLM.from_pretrained(model)
    adapted: Any = get_peft_model(
        base, LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    arguments = TrainingArguments(
        f"{task.folder}/plain",
        num_train_epochs=1,
        per_device_train_batch_size=MICRO,
        gradient_accumulation_steps=EFFECTIVE // MICRO,
        learning_rate=rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(0.03 * math.ceil(len(train) / EFFECTIVE)),
        weight_decay=0.01,
        seed=task.seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        use_cpu=True,
    )
    trainer = Trainer(adapted, arguments, stack, list(train))
    trainer.remove_callback(PrinterCallback)  # its lines are not figures
    trainer.train()
    total, tokens = 0.0, 0
    adapted.eval()
    with torch.no_grad():
        for at in range(0, len(validation), MICRO):
            batch = stack(validation[at : at + MICRO])
            learned = int((batch["labels"][:, 1:] != -100).sum())
            total, tokens = total + float(adapted(**batch).loss) * learned, tokens + learned
    return total / tokens


def study_document(task: Task, pruner: str | None) -> dict[str, Any]:
    """Our study file: defaults, but for what both sides share."""
    document: dict[str, Any] = {
        "name": STUDY,
        "model": {"base": MODEL},
        "data": task.data,
        "space": {
            "preset": "none",
            "parameters": {
                "learning_rate": {"low": RATES[0], "high": RATES[1], "log": True},
                "lora_rank": {"choices": list(RANKS)},
                "lora_alpha_multiplier": {"choices": list(MULTIPLIERS)},
            },
        },
        "search": {"budget": {"trials": task.trials}, "seed": task.seed},
        "training": {"effective_batch": EFFECTIVE, "micro_batch": MICRO},
        "confirm": {"enabled": False},
    }
    if pruner is not None:
        document["search"]["pruner"] = pruner
    return document


class OurSide:
    """One run of `hpo-service run`, in a folder and a database of its own."""

    def __init__(self, task: Task, name: str, pruner: str | None = None) -> None:
        self._folder = Path(task.folder) / name
        self._folder.mkdir(parents=True)
        self._file = self._folder / "study.yaml"
        YAML().dump(study_document(task, pruner), self._file)
        self._storage, output = f"sqlite:///{self._folder}/study.db", self._folder / "out"
        self._environment = _environment() | {"HPO_SERVICE_STORAGE": self._storage, "HPO_SERVICE_CACHE": task.cache}
        self._output = output
        self.service = Service(Settings(self._storage, output, Path(task.cache)))
        self.service.upgrade()

    def run(self, goal: float | None = None) -> Side:
        """Run the study to its end, or to its first evaluation that is as low as `goal`."""
        command = [sys.executable, "-m", "hpo_service", "run", str(self._file), "--workers", "1", "--quick", "--json"]

        def reached() -> bool:
            return goal is not None and self.best <= goal

        cpu, wall = timed([*command, "--output", str(self._output)], self._environment, self._folder, reached)
        if not math.isfinite(self.best):
            raise SystemExit(f"our study measured nothing: {(self._folder / 'said.txt').read_text()[-800:]}")
        return Side(cpu, wall, len(self.trials), self.best)

    @property
    def trials(self) -> list[TrialView]:
        """Trials that were begun; none before the study is there."""
        try:
            view = self.service.reader.snapshot(STUDY).stage("search")
        except NotFoundError:
            return []
        return [] if view is None else [trial for trial in view.trials if trial.started_at is not None]

    @property
    def best(self) -> float:
        """The lowest validation loss of any evaluation; these rows are so few that all are of all of them."""
        return min((r.value for t in self.trials for r in t.curve if r.value is not None), default=math.inf)

    @property
    def steps(self) -> int:
        """Optimizer steps of all trials."""
        return sum(trial.facts.training.steps or 0 for trial in self.trials)

    def winner(self) -> tuple[TrialView, Scores]:
        """The complete trial with the lowest value, and its losses by row."""
        complete = [t for t in self.trials if t.state is TrialState.COMPLETE and t.value is not None]
        best = min(complete, key=lambda trial: trial.value or math.inf)
        database = Database(self._storage)
        try:
            with database.transaction():
                scores = ScoreStore(database).load(best.id, "validation")
        finally:
            database.dispose()
        assert scores is not None
        return best, scores


def _environment() -> dict[str, str]:
    here = str(Path(__file__).parents[1])
    paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def timed(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, stop: Callable[[], bool] = lambda: False
) -> tuple[float, float]:
    """Run a command to its end, or until `stop` says so; return CPU seconds, all its children's too, and the wall's."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(command, env=dict(environment), stdout=said, stderr=said, start_new_session=True)
        while process.poll() is None and time.monotonic() < began + LIMIT_SECONDS and not stop():
            time.sleep(POLL_SECONDS)
        for patience in (60, 10):  # its workers save and leave; the second time they end at once
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(patience)
        if process.poll() is None:
            process.kill()
        process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - began


def prepare(task: Task) -> None:
    """Have the model in the cache, so that no side pays for its making."""
    from hpo_service.training.builtin.family import resolve_model

    resolve_model(MODEL, Path(task.cache), lambda _message, _fraction: None)


def run_plain(task: Task) -> Side:
    """Run the plain script in a process of its own."""
    folder = Path(task.folder) / "script"
    folder.mkdir()
    answer = folder / "losses.json"
    told = json.dumps(asdict(task))
    cpu, wall = timed([sys.executable, __file__, "--script", told, str(answer)], _environment(), folder)
    if not answer.exists():
        raise SystemExit(f"the plain script failed: {(folder / 'said.txt').read_text()[-800:]}")
    losses = json.loads(answer.read_text())
    return Side(cpu, wall, len(losses), min(losses))


def compare_with_plain(task: Task) -> tuple[dict[str, Any], list[str]]:
    """The figures of both sides, and what was asked for and is not met."""
    plain = run_plain(task)
    goal = plain.best * (1 + WITHIN)
    # of twice as many trials, for where they are lucky is chance
    ours = OurSide(replace(task, trials=2 * task.trials), "ours").run(goal)
    ratio = plain.cpu / ours.cpu
    failed = [] if ours.best <= goal else [f"the loss {plain.best:.4f} was not reached: {ours.best:.4f}"]
    failed += [] if ratio >= LEAST_RATIO else [f"{ratio:.2f}x less CPU time instead of {LEAST_RATIO:g}x"]
    return {"plain": asdict(plain), "ours": asdict(ours), "ratio": ratio}, failed


def compare_with_none(task: Task) -> tuple[dict[str, Any], list[str]]:
    """What pruning saved, how far the winners are apart, and what was asked for and is not met."""
    document: dict[str, Any] = {}
    winners: dict[str, Scores] = {}
    for name, pruner in (("default", None), ("none", "none")):
        side = OurSide(task, f"pruner-{name}", pruner)
        took = side.run()
        best, winners[name] = side.winner()
        document[name] = {**asdict(took), "steps": side.steps, "winner": best.parameters, "value": best.value}
    document["steps_share"] = document["default"]["steps"] / document["none"]["steps"]
    document["cpu_share"] = document["default"]["cpu"] / document["none"]["cpu"]
    difference, error = paired(winners["default"], winners["none"])
    document |= {"winner_worse_by": difference, "standard_error": error}
    failed = [] if document["steps_share"] < 1 else ["pruning saved no step"]
    failed += [] if difference <= ERRORS * error else [f"the winner is worse by {difference:.4f} +- {error:.4f} nats"]
    return document, failed


def paired(one: Scores, other: Scores) -> tuple[float, float]:
    """By how much the first loses more, in nats a token, and the standard error of that over the same rows.

    A ratio of sums, as in Cochran, Sampling Techniques, 1977, chapter 6.
    """
    import numpy as np

    tokens = np.asarray(one.tokens, dtype=np.float64)
    lost = np.asarray(one.nll) - np.asarray(other.nll)
    mean = lost.sum() / tokens.sum()
    return float(mean), float((lost - mean * tokens).std(ddof=1) / tokens.mean() / math.sqrt(len(tokens)))


def print_plain(found: Mapping[str, Any]) -> None:
    """Print both sides for people."""
    print(f"{'':<8}{'CPU s':>8}{'wall s':>8}{'trials':>8}{'best loss':>11}")
    for name in ("plain", "ours"):
        side = found[name]
        print(f"{name:<8}{side['cpu']:>8.1f}{side['wall']:>8.1f}{side['trials']:>8}{side['best']:>11.4f}")
    print(f"{found['ratio']:.2f}x less CPU time to the plain side's loss")


def print_pruning(found: Mapping[str, Any]) -> None:
    """Print both pruners for people."""
    print(f"{'pruner':<8}{'CPU s':>8}{'steps':>8}{'value':>9}  winner")
    for name in ("default", "none"):
        side = found[name]
        print(f"{name:<8}{side['cpu']:>8.1f}{side['steps']:>8}{side['value']:>9.4f}  {side['winner']}")
    print(f"{found['steps_share']:.2f} of the steps, {found['cpu_share']:.2f} of the CPU time", end="; ")
    print(f"winner worse by {found['winner_worse_by']:.4f} +- {found['standard_error']:.4f} nats a token")


PARTS = {"plain": (compare_with_plain, print_plain), "pruning": (compare_with_none, print_pruning)}


def main() -> int:
    """Measure, print, and judge if asked to."""
    if sys.argv[1:2] == ["--script"]:
        quiet()
        Path(sys.argv[3]).write_text(json.dumps(plain_side(Task(**json.loads(sys.argv[2])))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(PARTS), help="one part")
    parser.add_argument("--rows", type=int, default=4000, help="rows of the data, a twelfth held out (4000)")
    parser.add_argument("--trials", type=int, default=12, help="trials of the plain script (12)")
    parser.add_argument("--seed", type=int, default=42, help="of samplers and trials (42)")
    parser.add_argument("--smoke", action="store_true", help="few rows and trials")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help=f"exit 1 below {LEAST_RATIO:g}x, and as above")
    options = parser.parse_args()
    quiet()
    document: dict[str, Any] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="hpo-") as place:
        size = SMOKE if options.smoke else {"rows": options.rows, "trials": options.trials}
        for name in [options.only] if options.only else PARTS:
            folder = Path(place) / name
            folder.mkdir()
            task = Task(str(folder), str(Path(place) / "cache"), **size, seed=options.seed)
            prepare(task)
            measure, show = PARTS[name]
            document[name], more = measure(task)
            failed += more
            if not options.json:
                show(document[name])
    document["failed"] = failed
    if options.json:
        print(json.dumps(document, indent=2))
    else:
        print("\n".join(f"not met: {line}" for line in failed))
    return 1 if options.check and failed else 0


if __name__ == "__main__":
    sys.exit(main())
