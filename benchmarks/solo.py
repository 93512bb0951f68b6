"""What the solo engine costs: its trials beside a plain PEFT + Trainer script, in turn, in the same process.

    python benchmarks/solo.py                    # some four minutes on two cores
    python benchmarks/solo.py --repeats 9 --json

Both sides train the same adapters on the same rows with the same seed, and evaluate the validation rows at the same
eight points; their last validation losses must agree to 1e-6. The plain script logs as transformers does by default
(every 500 steps) and saves nothing; ours looks at every step, reports, and checkpoints after each evaluation. Two
ratios of tokens per second, medians of pairs: of training alone, and of the whole run with all of that.

Set-up is seconds from being handed a trial to its first optimizer step, in a process of its own: for its first trial
(imports, model, data) and for later ones.

`--check` fails where either ratio is below 0.98, or later trials are set up in more than 10% of the first's time.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.trial.assignment import Assignment, Lease
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.outcome import Outcome
from hpo_service.wire.child import Channel, TrialLink
from hpo_service.wire.messages import Admit, Continue, FromChild, Reported

LEAST_RATIO = 0.98
AGREE = 1e-6
MOST_SETUP = 0.10
LATER_TRIALS = 5


TABLE = """plain script and solo engine, medians of {repeats} pairs, {clock}
                            ours      plain   ratio
training, tokens/s      {ours:>8.0f}   {plain:>8.0f}   {training:>5.3f}
whole run                                     {whole:>5.3f}
                           first      later
set-up, wall seconds    {setup_first:>8.2f}   {setup_later:>8.2f}   {setup:>5.3f}"""


CLOCK_NAME = "seconds of the CPU (of the wall on a GPU)"


def clock() -> float:
    """Seconds of this process's CPU, which others on a busy machine hardly touch; of the wall where a GPU computes."""
    import torch

    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def plain_run(
    load: Callable[[], Any], train: list[Any], validation: list[Any], folder: str, config: TrialConfig, **more: Any
) -> dict[str, Any]:
    """A script as people write it: PEFT, Trainer, and an evaluation loop that weighs tokens alike."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

    def stack(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        pad = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": 0, "labels": -100, "attention_mask": 0}
        return {k: torch.tensor([row[k] + [v] * (pad - len(row[k])) for row in rows]) for k, v in fill.items()}

    spec, seed = config.training, config.seed
    micro = spec.micro_batch or 8
    set_seed(seed)
    lora = LoraConfig(r=spec.lora_rank, lora_alpha=spec.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(load(), lora)
    steps = math.ceil(len(train) / spec.effective_batch)
    due = {math.ceil(k * steps / spec.evaluations_per_epoch) for k in range(1, spec.evaluations_per_epoch + 1)}
    seen: dict[str, Any] = {"evaluate": 0.0, "curve": []}

    class Evaluate(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            seen["began"] = clock()

        def on_step_end(self, *given: Any, **_: Any) -> None:
            if given[1].global_step in due:
                began, total, count = clock(), 0.0, 0
                adapted.eval()
                where = adapted.device
                with torch.no_grad(), torch.autocast(where.type, torch.bfloat16, enabled=bool(more.get("bf16"))):
                    for at in range(0, len(validation), 8):
                        batch = {k: v.to(where) for k, v in stack(validation[at : at + 8]).items()}
                        tokens = int((batch["labels"][:, 1:] != -100).sum())
                        total, count = total + float(adapted(**batch).loss) * tokens, count + tokens
                seen["curve"].append(total / count)
                seen["evaluate"] += clock() - began

        def on_train_end(self, *_: Any, **__: Any) -> None:
            seen["whole"] = clock() - seen["began"]

    args = TrainingArguments(
        folder,
        num_train_epochs=1,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=spec.effective_batch // micro,
        learning_rate=spec.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(spec.warmup_ratio * steps),
        weight_decay=spec.weight_decay,
        seed=seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
        **more,
    )
    Trainer(adapted, args, stack, train, callbacks=[Evaluate()]).train()
    return seen


class Supervisor(Channel):
    """Lets everything go on; keeps the values it was told, and when the first optimizer step was done."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), io.BytesIO(), abandon=lambda: None)
        self.link: TrialLink | None = None
        self.first_step = math.nan
        self.curve: list[float] = []

    def send(self, message: FromChild) -> None:
        """Keep the value of a report."""
        super().send(message)
        if isinstance(message, Reported):
            self.curve.append(message.report.value)

    def touch(self, progress: Mapping[str, float] | None = None, activity: str = "") -> None:
        """Note the first step."""
        super().touch(progress, activity)
        if activity == "training" and math.isnan(self.first_step):
            self.first_step = time.time()

    def hear(self, timeout: float | None) -> bool:
        """Answer a report; say nothing else."""
        if timeout == 0 or self.link is None:
            return False
        self.link.receive(Continue(trial=self.link.trial))
        return True


def claimed(config: TrialConfig) -> Assignment:
    """The trial as a worker would hold it."""
    return Assignment(
        lease=Lease(trial_id=1, token=1),
        study=config.study,
        stage=config.stage,
        number=0,
        attempt=1,
        config=config,
        lease_seconds=math.inf,
        hang_seconds=math.inf,
    )


def our_link(config: TrialConfig, folder: Path) -> tuple[TrialLink, Supervisor]:
    """A trial's link to a supervisor that lets it go on."""
    supervisor = Supervisor()
    supervisor.link = TrialLink(Admit(assignment=claimed(config), folder=folder), supervisor, supervisor.hear)
    return supervisor.link, supervisor


def our_run(engine: Any, config: TrialConfig, folder: Path) -> tuple[Outcome, TrialLink, Supervisor]:
    """One trial of the engine, with what its supervisor has seen of it."""
    link, supervisor = our_link(config, folder)
    return engine.run(link), link, supervisor


def make_model(folder: Path) -> str:
    """A random Llama of the quickstart's smaller shape, 1M weights: the smaller, the more a step's overhead shows."""
    from hpo_service.training.builtin.corpus import source_documents
    from hpo_service.training.builtin.family import FAMILY, train_tokenizer

    recipe = FAMILY["llama-tiny"]
    tokenizer = train_tokenizer(source_documents(300_000), recipe.vocabulary)
    recipe.architecture.build(tokenizer, 0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def trial(model: str, rows: int) -> TrialConfig:
    """The trial that both sides run."""
    return TrialConfig(
        study="bench",
        stage="search",
        parameters={},
        seed=7,
        model=ModelSpec(base=model),
        model_name=model,
        data=DataSpec(source="builtin:stdlib-docstrings", max_length=64, max_rows=rows),
        training=TrainingSpec(evaluations_per_epoch=8, micro_batch=8, patience=0),
    )


def throughput(model: str, folder: Path, repeats: int, rows: int) -> dict[str, float]:
    """Run both sides in turn; the first pair warms up and is not counted."""
    from transformers import AutoModelForCausalLM

    from hpo_service.training.engines.solo import SoloEngine
    from hpo_service.training.run.loaded_models import LoadedModels

    loaded, config = LoadedModels(folder), trial(model, rows)
    load = partial(AutoModelForCausalLM.from_pretrained, model)
    engine = SoloEngine(loaded, clock=clock)
    pairs: dict[str, list[float]] = {"training": [], "whole": [], "ours": [], "plain": []}
    rows_of: list[list[dict[str, list[int]]]] = []

    def plain(number: int) -> dict[str, Any]:
        return plain_run(load, rows_of[0], rows_of[1], str(folder / f"plain-{number}"), config)

    for number in range(repeats + 1):
        # in turn who goes first; the very first pair needs our rows, warms up, and is not counted
        before = plain(number) if number % 2 else None
        ours, link, supervisor = our_run(engine, config, folder / f"trial-{number}")
        if not number:
            parts = loaded.rows(link, loaded.base(link))
            rows_of = [[plain_row(row) for row in part] for part in (parts.train, parts.validation)]
        theirs = before or plain(number)
        if max(abs(a - b) for a, b in zip(supervisor.curve, theirs["curve"], strict=True)) > AGREE:
            raise SystemExit(f"the two sides disagree: {supervisor.curve} and {theirs['curve']}")
        spent = {name: float(getattr(ours.facts.timing, name)) for name in ("train", "evaluate", "wait", "checkpoint")}
        if number:
            tokens, plain_seconds = float(ours.facts.training.tokens or 0), theirs["whole"] - theirs["evaluate"]
            pairs["training"].append(plain_seconds / spent["train"])
            pairs["whole"].append(theirs["whole"] / sum(spent.values()))
            pairs["ours"].append(tokens / spent["train"])
            pairs["plain"].append(tokens / plain_seconds)
    return {name: statistics.median(values) for name, values in pairs.items()}


def plain_row(row: Any) -> dict[str, list[int]]:
    """A row as a script would have it."""
    return {"input_ids": row.ids.tolist(), "labels": row.labels.tolist(), "attention_mask": [1] * len(row.ids)}


def probe(model: str, folder: Path, rows: int, started: float) -> None:
    """As a fresh process: print the seconds to the first step of each trial, the first's from the process's start."""
    from hpo_service.training.engines.solo import SoloEngine
    from hpo_service.training.run.loaded_models import LoadedModels

    engine, seconds = SoloEngine(LoadedModels(folder)), []
    for number in range(LATER_TRIALS + 1):
        began = time.time() if number else started
        _, _, supervisor = our_run(engine, trial(model, rows), folder / f"probe-{number}")
        seconds.append(supervisor.first_step - began)
    print(json.dumps(seconds))


def setup(model: str, folder: Path, repeats: int, rows: int) -> dict[str, float]:
    """Medians over fresh processes of the first trial's set-up, and of the later trials' of all of them."""
    first, later = [], []
    for number in range(repeats):
        command = [sys.executable, __file__, "--probe", model, str(folder / f"process-{number}"), str(time.time())]
        done = subprocess.run([*command, "--rows", str(rows)], check=True, capture_output=True, text=True)
        seconds = json.loads(done.stdout.splitlines()[-1])
        first.append(seconds[0])
        later.extend(seconds[1:])
    return {"first": statistics.median(first), "later": statistics.median(later)}


def main() -> int:
    """Measure, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=25, help="pairs of runs (default 25)")
    parser.add_argument("--rows", type=int, default=300, help="rows of the data, a fifth held out (default 300)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help=f"exit 1 below {LEAST_RATIO}x or above {MOST_SETUP:.0%}")
    parser.add_argument("--probe", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        quiet()
        model, folder, started = options.probe
        probe(model, Path(folder), options.rows, float(started))
        return 0
    with tempfile.TemporaryDirectory(prefix="hpo-") as place:
        folder = Path(place)
        quiet()
        model = make_model(folder / "model")
        seconds = setup(model, folder, 3, options.rows)
        gc.freeze()  # as the trainer child does: what the imports left is never garbage
        ratios = throughput(model, folder, options.repeats, options.rows)
    figures = {**ratios, "setup_first": seconds["first"], "setup_later": seconds["later"]}
    figures["setup"] = seconds["later"] / seconds["first"]
    failed = [name for name in ("training", "whole") if figures[name] < LEAST_RATIO]
    failed += ["setup"] if figures["setup"] > MOST_SETUP else []
    if options.json:
        print(json.dumps({"repeats": options.repeats, "clock": CLOCK_NAME, **figures, "failed": failed}, indent=2))
    else:
        print(TABLE.format(repeats=options.repeats, clock=CLOCK_NAME, **figures))
    return 1 if options.check and failed else 0


def quiet() -> None:
    """Leave the output to the figures."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")


if __name__ == "__main__":
    sys.exit(main())
