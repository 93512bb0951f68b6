"""A whole search: GPU-seconds of a plain script and of ours, to the same validation loss.

    python benchmarks/gpu/search.py                # under three minutes on one data-centre GPU
    python benchmarks/gpu/search.py --smoke        # the same with a tiny model on a CPU, to see that it works

The plain script is what people write: Optuna's TPE, no pruning, for each trial the base loaded anew, PEFT and
`transformers.Trainer` in bfloat16, an evaluation at the end. Ours is `hpo-service run` on the same random model of
Qwen2.5-0.5B's shape, the same rows of the standard library's text, split, lengths and space, with pruning and trials
packed side by side; it is over at its first evaluation that reaches the best loss of the plain trials (within 0.1%).

Seconds are those for which the device is held: from the moment the first model begins to load to the end of the last
evaluation that counts. Neither side pays for imports; ours pays for its command line's claims and reports in between,
for its evaluations at every rung, and for trials that were under way when the loss was reached. The plain side is all
of its trials: who writes such a script learns only at the end which was the best. Seconds to that best one stand
beside. The ratio is taken apart into factors whose product it is:

    search       trials of the plain side over those that ours had begun
    residency    the time of loading for each of ours over loading once
    pruning      steps that were planned over steps that were trained
    rest         what is left: packing, over what evaluations, claims and the order of things cost

`packing` is measured apart: tokens per second of the trials that were side by side over the plain script's while it
trains. What this does not show: one model, one data set, one seed of each sampler. How many trials a sampler needs to
be this lucky is chance: a search on one seed says little about samplers, and the factor `search` may well be below 1.

`--check` fails below 8x, and where the loss was not reached. With `--out` each part is written as soon as it is known.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.gpu.solo import QWEN, make_model, write_rows
from benchmarks.solo import plain_row, quiet
from hpo_service.bootstrap import Service
from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.errors import NotFoundError
from hpo_service.service.studies.snapshot import TrialView
from hpo_service.settings import Settings

LEAST_RATIO = 8.0
WITHIN = 1e-3
LESS_CLOSE = (1e-2, 5e-2)
NO_GPU = "benchmarks/gpu/search.py: no GPU that torch can use; `--smoke` tries the program on a CPU"
RATES = (1e-5, 1e-2)
RANKS = (4, 8, 16, 32)
MULTIPLIERS = (1, 2)
EFFECTIVE, MICRO = 8, 4
SPLIT = {"validation": 0.15, "test": 0.05}
RUNGS = 4
"""Evaluations of each of our trials; the pruner may stop one at the second and the third."""


@dataclass(frozen=True)
class Task:
    """What both sides do: one model, one data set, one space."""

    folder: Path
    model: str
    data: str
    length: int

    @property
    def data_section(self) -> dict[str, Any]:
        """The study file's `data`."""
        return {"source": self.data, "max_length": self.length, "split": SPLIT}


@dataclass
class Plain:
    """What the plain script did: seconds of each part of each trial, losses and tokens."""

    load: list[float] = field(default_factory=list)
    train: list[float] = field(default_factory=list)
    evaluate: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    tokens: int = 0

    @property
    def seconds(self) -> float:
        """Of all trials, from the first load to the last evaluation."""
        return sum(self.whole)

    @property
    def best(self) -> float:
        """The lowest loss."""
        return min(self.losses)

    @property
    def seconds_to_best(self) -> float:
        """Until the trial that reached it had been evaluated."""
        return sum(self.whole[: self.losses.index(self.best) + 1])


@contextmanager
def timed(into: list[float]) -> Iterator[None]:
    """Append the seconds that something takes, with all that the GPU was given meanwhile."""
    import torch

    began = time.perf_counter()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    into.append(time.perf_counter() - began)


def plain_search(task: Task, count: int, tell: Any) -> Plain:
    """Run the script that people write."""
    import optuna
    from transformers import AutoTokenizer

    from hpo_service.training.data.rows import prepare_rows

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = prepare_rows(DataSpec.model_validate(task.data_section), AutoTokenizer.from_pretrained(task.model))
    train, validation = ([plain_row(row) for row in part] for part in (rows.train, rows.validation))
    found = Plain(tokens=sum(len(row["input_ids"]) for row in train))

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("learning_rate", *RATES, log=True)
        rank = trial.suggest_categorical("lora_rank", list(RANKS))
        alpha = rank * trial.suggest_categorical("lora_alpha_multiplier", list(MULTIPLIERS))
        with timed(found.whole):
            loss = plain_trial(task, train, validation, rate, rank, alpha, found)
        found.losses.append(loss)
        tell(found)
        return loss

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
    study.optimize(objective, n_trials=count)
    return found


def plain_trial(
    task: Task,
    train: Sequence[Any],
    validation: Sequence[dict[str, list[int]]],
    rate: float,
    rank: int,
    alpha: int,
    found: Plain,
) -> float:
    """Load, train, evaluate; nothing stays for the next trial."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, PrinterCallback, Trainer, TrainingArguments, set_seed

    cuda = torch.cuda.is_available()

    def stack(rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        pad = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": 0, "labels": -100, "attention_mask": 0}
        return {k: torch.tensor([row[k] + [v] * (pad - len(row[k])) for row in rows]) for k, v in fill.items()}

    set_seed(42)
    with timed(found.load):
        base = AutoModelForCausalLM.from_pretrained(
            task.model, dtype=torch.bfloat16 if cuda else torch.float32, device_map={"": "cuda" if cuda else "cpu"}
        )
    model: Any = get_peft_model(
        base, LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    steps = math.ceil(len(train) / EFFECTIVE)
    arguments = TrainingArguments(
        str(task.folder / "plain"),
        num_train_epochs=1,
        per_device_train_batch_size=MICRO,
        gradient_accumulation_steps=EFFECTIVE // MICRO,
        learning_rate=rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(0.03 * steps),
        weight_decay=0.01,
        bf16=cuda,
        seed=42,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        use_cpu=not cuda,
    )
    trainer = Trainer(model, arguments, stack, list(train))
    trainer.remove_callback(PrinterCallback)  # its lines are not figures
    with timed(found.train):
        trainer.train()
    with timed(found.evaluate):
        total, tokens = 0.0, 0
        model.eval()
        with torch.no_grad(), torch.autocast(base.device.type, torch.bfloat16, enabled=cuda):
            for at in range(0, len(validation), 8):
                batch = {k: v.to(base.device) for k, v in stack(validation[at : at + 8]).items()}
                learned = int((batch["labels"][:, 1:] != -100).sum())
                total, tokens = total + float(model(**batch).loss) * learned, tokens + learned
    del model, base
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()
    return total / tokens


@dataclass(frozen=True)
class Ours:
    """What our search had done when it reached the loss, or when it was over.

    Attributes:
        reached: the loss that ended it; None where it never got there.
        seconds: from the first claim to that evaluation.
        trials: begun by then.
        trained: what was trained of them, in full runs.
        best: the lowest loss seen.
        within: seconds to losses that are so much above the plain side's best; those never reached are left out.
        packed_tokens: tokens a second of all trials together, while they trained; None where none had ended.
        states: how many trials ended how.
    """

    reached: float | None
    seconds: float
    trials: int
    trained: float
    best: float
    within: dict[str, float]
    packed_tokens: float | None
    states: dict[str, int]


def our_search(task: Task, best: float, budget: int, slots: int, limit: float) -> Ours:
    """Run the study by the command line until it reaches the loss, its budget ends, or it takes too long."""
    document = {
        "name": "whole",
        "model": {"base": task.model},
        "data": task.data_section,
        "space": {
            "preset": "none",
            "parameters": {
                "learning_rate": {"low": RATES[0], "high": RATES[1], "log": True},
                "lora_rank": {"choices": list(RANKS)},
                "lora_alpha_multiplier": {"choices": list(MULTIPLIERS)},
            },
        },
        "search": {"budget": {"trials": budget}, "parallel_per_gpu": slots, "seed": 1},
        "training": {
            "effective_batch": EFFECTIVE,
            "micro_batch": MICRO,
            "evaluations_per_epoch": RUNGS,
            "patience": 0,
        },
        "confirm": {"enabled": False},
    }
    file, output = task.folder / "study.yaml", task.folder / "out"
    YAML().dump(document, file)
    storage = f"sqlite:///{task.folder}/study.db"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")])),
        "HPO_SERVICE_STORAGE": storage,
        "HPO_SERVICE_CACHE": str(task.folder / "cache"),
    }
    command = [sys.executable, "-m", "hpo_service", "run", str(file), "--workers", "1", "--quick", "--json"]
    service = Service(Settings(storage, output, task.folder / "cache"))
    service.upgrade()
    with (task.folder / "run.txt").open("w") as said:
        process = subprocess.Popen(
            [*command, "--output", str(output)], env=environment, stdout=said, stderr=said, start_new_session=True
        )
        deadline = time.monotonic() + limit
        try:
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.3)
                if any(value <= best * (1 + WITHIN) for _, value in _evaluations(_trials(service))):
                    break
        finally:
            for patience in (30, 10):  # its workers save and leave; the second time they end at once
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(patience)
            process.kill()
            process.wait()
    trials = _trials(service)
    if not _evaluations(trials):
        raise SystemExit(f"our study measured nothing: {(task.folder / 'run.txt').read_text()[-500:]}")
    return _account(trials, best)


def _trials(service: Service) -> list[TrialView]:
    """The trials of the study that were begun; none before it is there."""
    try:
        view = service.reader.snapshot("whole").stage("search")
    except NotFoundError:
        return []
    return [] if view is None else [trial for trial in view.trials if trial.started_at is not None]


def _evaluations(trials: Sequence[TrialView]) -> list[tuple[float, float]]:
    """When, and what, in the order of time."""
    return sorted((r.reported_at, r.value) for trial in trials for r in trial.curve if r.value is not None)


def _account(trials: Sequence[TrialView], best: float) -> Ours:
    """What had been done when the loss was reached; of trials under way, as of their last evaluation."""
    evaluations, goal = _evaluations(trials), best * (1 + WITHIN)
    first = min(trial.started_at or math.inf for trial in trials)
    reaching = {more: [at for at, value in evaluations if value <= best * (1 + more)] for more in (WITHIN, *LESS_CLOSE)}
    end, reached = next(((at, value) for at, value in evaluations if value <= goal), (evaluations[-1][0], None))
    begun = [trial for trial in trials if (trial.started_at or math.inf) <= end]
    trained = sum(max((r.fraction for r in trial.curve if r.reported_at <= end), default=0.0) for trial in begun)
    ended = [trial.facts for trial in trials if trial.facts.timing.train and trial.facts.training.tokens]
    states = [str(trial.state) for trial in trials]
    return Ours(
        reached=reached,
        seconds=end - first,
        trials=len(begun),
        trained=trained,
        best=min(value for at, value in evaluations if at <= end),
        within={f"{more:.1%}": at[0] - first for more, at in reaching.items() if at},
        # a trial's seconds are its share of those that the pack took
        packed_tokens=sum(f.training.tokens or 0 for f in ended) / sum(f.timing.train or 0.0 for f in ended)
        if ended
        else None,
        states={state: states.count(state) for state in set(states)},
    )


def compare(plain: Plain, ours: Ours) -> dict[str, float | None]:
    """The ratio and what it is made of: the product of the first four factors after it is the ratio."""
    count = len(plain.whole)
    load = sum(plain.load) / count
    work = plain.seconds / count - load
    begun, share = ours.trials, ours.trained / ours.trials
    return {
        "ratio": plain.seconds / ours.seconds,
        "search": count / begun,
        "residency": begun * (load + work) / (load + begun * work),
        "pruning": (load + begun * work) / (load + share * begun * work),
        "rest": (load + share * begun * work) / ours.seconds,
        "packing": ours.packed_tokens and ours.packed_tokens * sum(plain.train) / (count * plain.tokens),
        "ratio_to_best": plain.seconds_to_best / ours.seconds,
        "steps_trained": share,
    }


def main() -> int:
    """Measure, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a tiny model on a CPU")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help=f"exit 1 below {LEAST_RATIO:g}x")
    parser.add_argument("--rows", type=int, default=190, help="rows of the data, a fifth held out (190)")
    parser.add_argument("--length", type=int, default=768, help="tokens of a row (768)")
    parser.add_argument("--trials", type=int, default=12, help="trials of the plain side (12)")
    parser.add_argument("--budget", type=int, default=0, help="most trials of ours (twice those of the plain side)")
    parser.add_argument("--slots", type=int, default=8, help="trials side by side on our side (8)")
    parser.add_argument("--limit", type=float, default=70.0, help="seconds that our command may take (70)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write search.json there, after each part")
    options = parser.parse_args()
    if options.smoke:
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}  # tiny products gain nothing from more
    import torch

    if options.smoke:
        options.rows, options.length, options.trials, options.slots = 60, 48, min(options.trials, 3), 2
        options.limit = 300.0
    elif not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        return 2
    quiet()
    document: dict[str, Any] = {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"}

    def tell(name: str, part: Any) -> None:
        document[name] = part
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / "search.json").write_text(json.dumps(document, indent=2))

    with tempfile.TemporaryDirectory(prefix="hpo-") as place:
        folder = Path(place)
        model = make_model(QWEN, folder / "model", smoke=options.smoke)
        data = write_rows(folder / "rows.jsonl", options.rows, 8 * options.length)
        task = Task(folder, model, data, options.length)
        plain = plain_search(task, options.trials, lambda found: tell("plain", asdict(found)))
        ours = our_search(task, plain.best, options.budget or 2 * options.trials, options.slots, options.limit)
        tell("ours", asdict(ours))
    figures = compare(plain, ours)
    tell("figures", figures)
    failed = [] if ours.reached is not None else [f"the loss {plain.best:.4f} was not reached: {ours.best:.4f}"]
    ratio = plain.seconds / ours.seconds
    failed += [] if ratio >= LEAST_RATIO else [f"{ratio:.2f}x instead of {LEAST_RATIO:g}x"]
    tell("failed", failed)
    if options.json:
        print(json.dumps(document, indent=2))
    else:
        print_table(plain, ours, figures)
        for line in failed:
            print(f"not met: {line}")
    return 1 if options.check and failed else 0


def print_table(plain: Plain, ours: Ours, figures: Mapping[str, float | None]) -> None:
    """Print the figures for people."""
    print(f"{'':<10}{'GPU-seconds':>12}{'trials':>8}{'best loss':>11}")
    print(f"{'plain':<10}{plain.seconds:>12.1f}{len(plain.whole):>8}{plain.best:>11.4f}")
    print(f"{'ours':<10}{ours.seconds:>12.1f}{ours.trials:>8}{ours.best:>11.4f}")
    parts = ", ".join(f"{name} {figures[name]:.2f}" for name in ("search", "residency", "pruning", "rest"))
    print(f"{figures['ratio']:.2f}x less: {parts}")
    if figures["packing"] is not None:
        print(f"tokens a second, packed over plain: {figures['packing']:.2f}")
    print(f"to the plain side's best trial alone {figures['ratio_to_best']:.2f}x")
    print("our seconds to losses above its best: " + ", ".join(f"{more}: {s:.1f}" for more, s in ours.within.items()))


if __name__ == "__main__":
    sys.exit(main())
