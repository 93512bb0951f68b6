"""Whole studies on a GPU, through the command line: what is promised, seen to happen on the real device.

    python benchmarks/gpu/proof.py                     # some two minutes on one data-centre GPU
    python benchmarks/gpu/proof.py --only nf4 killed   # some of them
    python benchmarks/gpu/proof.py --smoke             # on a CPU, with tiny shapes: those that need no GPU

Each scenario is a row of a table: studies with a database and folders of their own, started as a user starts them. A
random model of Qwen2's shape (some 80 million weights) learns text of the standard library: nothing is downloaded.
Scenarios that can share the GPU run side by side, each told its share of the memory; the others have it to themselves.

Memory runs out in earnest: eager attention keeps scores that the estimate leaves out, as docs/memory.md says. In
training the card itself is full, but for what the estimate asks for: another process holds the rest. In evaluation and
admission it is the limit of HPO_SERVICE_MEMORY_GB that torch keeps, and the exception the same.

`--check` exits 1 where a scenario did not pass; one that this machine cannot run is named, and has not passed either.
With `--out` each result is written as soon as it is known.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.gpu.solo import TINY, write_rows
from benchmarks.solo import quiet
from hpo_service.bootstrap import Service
from hpo_service.domain.decide.measured_memory import measured_correction
from hpo_service.domain.trial.states import TrialState
from hpo_service.launch.devices import list_gpus, processes_on
from hpo_service.service.studies.snapshot import StudySnapshot, TrialView
from hpo_service.settings import Settings
from hpo_service.wire.attempt_folder import log_folder

HERE = Path(__file__).parents[2]
NO_GPU = "benchmarks/gpu/proof.py: no GPU that the driver lists; `--smoke` runs on a CPU what can run there"
SHAPE: dict[str, int | bool] = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 6,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "vocab_size": 1024,
    "tie_word_embeddings": True,
    "max_position_embeddings": 4096,
}
ROWS = 96
SHARE_GB = 9.0
"""Of a scenario beside others."""
CAP_GB = 2.0
"""Of the scenario in which some configurations do not fit: rank 8 needs half of it, rank 1024 a third more."""
EPOCHS = 20
"""Of the trial whose worker is killed; it is evaluated after each."""
PATIENCE = 100.0
"""Seconds until a scenario gives up waiting for something, on a GPU."""
ROUNDING = 1e-2
"""Largest relative difference of two losses of one adapter in bfloat16, whose every product is rounded to 2^-8."""


@dataclass(frozen=True)
class Result:
    """What became of a scenario: `passed` is None where it was not run."""

    name: str
    passed: bool | None
    said: str
    seen: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class Findings:
    """What a scenario saw, and what of it was not as promised."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}
        self.unmet: list[str] = []

    def expect(self, holds: object, otherwise: str) -> None:
        """Note what is wrong where something does not hold."""
        if not holds:
            self.unmet.append(otherwise)


@dataclass(frozen=True)
class Bench:
    """Where scenarios work."""

    folder: Path
    smoke: bool
    model: str
    rows: str

    @property
    def patience(self) -> float:
        """Seconds until something is given up: a CPU on which others work may take many."""
        return 6 * PATIENCE if self.smoke else PATIENCE

    def study(self, name: str, length: int = 128, **sections: Any) -> Study:
        """Write the file of a study whose search is small; sections are laid over it."""
        document: dict[str, Any] = {
            "name": name,
            "model": {"base": self.model},
            "data": {"source": self.rows, "max_length": 48 if self.smoke else length},
            "space": {"preset": "none", "parameters": {"learning_rate": {"low": 1e-4, "high": 1e-3, "log": True}}},
            "search": {"budget": {"trials": 3}, "sampler": "random", "parallel_per_gpu": 1, "pruner": "none"},
            "training": {"effective_batch": 8, "evaluations_per_epoch": 2, "patience": 0},
            "confirm": {"enabled": False},
        }
        for key, section in sections.items():
            document[key] = {**document.get(key, {}), **section}
        folder = self.folder / name
        folder.mkdir()
        YAML().dump(document, folder / "study.yaml")
        return Study(name, folder, self.patience)


@dataclass(frozen=True)
class Study:
    """A study with a database and an output folder of its own."""

    name: str
    folder: Path
    patience: float

    @property
    def file(self) -> str:
        """The study file."""
        return str(self.folder / "study.yaml")

    @property
    def output(self) -> Path:
        """Where its results lie."""
        return self.folder / "out"

    def environment(self, share_gb: float | None) -> dict[str, str]:
        """Variables of its commands; without a share, a worker has the GPU to itself."""
        given = {name: value for name, value in os.environ.items() if name != "HPO_SERVICE_MEMORY_GB"}
        share = {} if share_gb is None else {"HPO_SERVICE_MEMORY_GB": f"{share_gb:g}"}
        return {
            **given,
            **share,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])),
            "HPO_SERVICE_STORAGE": f"sqlite:///{self.folder}/study.db",
            "HPO_SERVICE_OUTPUT": str(self.output),
            "HPO_SERVICE_CACHE": str(self.folder / "cache"),
        }

    def command(self, *arguments: str, share_gb: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command of the product to its end; one that takes too long is told to end at once, with its workers."""
        command = [sys.executable, "-m", "hpo_service", *arguments]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=self.environment(share_gb), **pipes) as process:
            try:
                said, complained = process.communicate(timeout=self.patience)
            except subprocess.TimeoutExpired:
                for _ in range(2):
                    process.terminate()
                    time.sleep(1.0)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(15)
                process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, said, complained)

    def run(self, found: Findings, *arguments: str, share_gb: float | None = SHARE_GB) -> str:
        """Run the study from first trial to last; return what was said to a person."""
        # a look at model and rows beforehand takes as long as a trial: one of the scenarios does it in earnest
        look = () if self.name == "nf4" else ("--quick",)
        done = self.command("run", self.file, *look, *arguments, share_gb=share_gb)
        found.seen["status"] = done.returncode
        words = " | ".join(done.stderr.strip().splitlines()[-2:])
        found.expect(done.returncode == 0, f"`run` ended with status {done.returncode}: {words[-400:]}")
        return done.stdout

    @contextlib.contextmanager
    def worker(self, log: str = "worker.txt", share_gb: float | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Have a worker of the study; whatever becomes of it, it and its child are ended."""
        with (self.folder / log).open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "hpo_service", "worker", "--study", self.name, "--until-finished"],
                env=self.environment(share_gb),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                children = [] if process.poll() is not None else psutil.Process(process.pid).children(recursive=True)
                process.kill()
                process.wait()
                for child in children:
                    with contextlib.suppress(psutil.Error):
                        child.kill()

    @property
    def now(self) -> StudySnapshot:
        """The study as it stands in the database."""
        settings = Settings(f"sqlite:///{self.folder}/study.db", self.output, self.folder / "cache")
        return Service(settings).reader.snapshot(self.name)

    def trials(self, stage: str = "search") -> list[TrialView]:
        """The trials of a stage, in the order of their numbers; none where it was never opened."""
        view = self.now.stage(stage)
        return [] if view is None else sorted(view.trials, key=lambda trial: trial.number or 0)

    def words(self, pattern: str) -> list[str]:
        """Lines of the workers' logs in which something is said."""
        logs = [*log_folder(self.output).glob("*.log"), *self.folder.glob("*.txt")]
        lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
        return [line for line in lines if re.search(pattern, line)]


def until(holds: Callable[[], Any], what: str, seconds: float) -> Any:
    """Wait until something holds, and return it."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.1)
    return value


def told(trials: Sequence[TrialView]) -> list[dict[str, Any]]:
    """What of trials is worth keeping."""
    names = ("micro_batch", "oom_halvings", "evaluation_tokens", "peak_memory_gb", "memory_estimate_gb", "vram_over_gb")
    return [
        {
            "state": str(trial.state),
            "value": trial.value,
            "reason": trial.reason[:200],
            "parameters": trial.parameters,
            **{name: value for name, value in trial.facts.flat().items() if name in (*names, "engine")},
        }
        for trial in trials
    ]


def expect_complete(found: Findings, trials: Sequence[TrialView], count: int) -> None:
    """All trials of a stage are there and complete, at their first attempt."""
    found.seen["trials"] = told(trials)
    states = [str(trial.state) for trial in trials]
    found.expect(len(trials) == count, f"{len(trials)} trials instead of {count}")
    found.expect(all(trial.state is TrialState.COMPLETE for trial in trials), f"not all are complete: {states}")
    found.expect(not any(trial.errors for trial in trials), "attempts ended in errors")


# --- from the first trial to best/ -------------------------------------------------------------------------------


def quantised(bench: Bench, found: Findings, kind: str) -> str:
    """A quantised base, 8-bit paged optimizer, bfloat16, checkpointing: to `best/`, and that adapter in plain PEFT."""
    optimizer = "adamw_torch_fused" if bench.smoke else "paged_adamw_8bit"
    study = bench.study(
        kind,
        model={"quantisation": kind, "dtype": "bfloat16"},
        space={"parameters": {"learning_rate": {"low": 2e-3, "high": 5e-3, "log": True}}},
        training={"optimizer": optimizer, "activation_checkpointing": "on", "lora_rank": 16, "epochs": 2},
        search={"budget": {"trials": 2}},
        confirm={"enabled": True, "seeds": 2, "default": {"learning_rate": 1e-3}},
    )
    study.run(found, "--json")
    expect_complete(found, study.trials(), 2)
    confirmed = study.trials("confirm")
    found.seen["confirm"] = told(confirmed)
    found.expect(confirmed, "no confirm stage")
    found.expect(
        all(
            trial.state is TrialState.COMPLETE and trial.facts.environment.compute == "bfloat16" for trial in confirmed
        ),
        "not all of confirm are complete in bfloat16",
    )
    (best,) = [*study.output.rglob("best"), None][:1]
    if best is None or not (best / "adapter_model.safetensors").exists():
        found.expect(False, "no adapter in best/")
        return ""
    told_there = YAML(typ="safe").load((best / "config.yaml").read_text())
    rate = told_there["hyperparameters"]["learning_rate"]
    recorded = [
        trial.value
        for trial in confirmed
        if trial.value is not None and trial.seed == told_there["seed"] and trial.parameters["learning_rate"] == rate
    ]
    found.expect(len(recorded) == 1, f"{len(recorded)} runs of confirm are the one that best/ names")
    command = [sys.executable, __file__, "--reload", kind, str(best), study.file]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=bench.patience)
    found.expect(done.returncode == 0, f"the adapter does not load in plain PEFT: {done.stderr[-300:]}")
    if done.returncode:
        return ""
    loss, bare = json.loads(done.stdout.splitlines()[-1])
    apart = min((abs(loss / value - 1) for value in recorded), default=math.inf)
    found.seen |= {"recorded": recorded, "reloaded": loss, "without_adapter": bare, "apart": apart}
    found.expect(apart <= ROUNDING, f"its loss is {loss:.5f}, recorded were {recorded}")
    # else an adapter that does nothing would pass too
    found.expect(bare - loss > 2 * apart * loss, f"the adapter changes nothing that could be seen: {bare:.5f} without")
    return f"{kind} from the first trial to best/; in plain PEFT its loss is {apart:.1e} off what was recorded"


def reload(kind: str, best: str, file: str) -> None:
    """In a process of its own: print the adapter's validation loss in plain PEFT, and the base's without it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    from hpo_service.domain.study.sections.data import DataSpec
    from hpo_service.training.data.rows import prepare_rows

    document = YAML(typ="safe").load(Path(file).read_text())
    base = document["model"]["base"]
    rows = prepare_rows(DataSpec.model_validate(document["data"]), AutoTokenizer.from_pretrained(base)).validation
    nf4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": torch.bfloat16}
    held = BitsAndBytesConfig(load_in_4bit=True, **nf4) if kind == "nf4" else BitsAndBytesConfig(load_in_8bit=True)
    where = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.bfloat16, quantization_config=held, device_map={"": where}
    )
    model: Any = PeftModel.from_pretrained(loaded, best).eval()

    def loss() -> float:
        total, count = 0.0, 0
        with torch.no_grad(), torch.autocast(where, torch.bfloat16):
            for row in rows:
                ids = torch.tensor([row.ids.tolist()], device=where)
                labels = torch.tensor([row.labels.tolist()], device=where)
                learned = int((labels[:, 1:] != -100).sum())
                total, count = total + float(model(input_ids=ids, labels=labels).loss) * learned, count + learned
        return total / count

    with_adapter = loss()
    with model.disable_adapter():
        print(json.dumps([with_adapter, loss()]))


def nf4(bench: Bench, found: Findings) -> str:
    """QLoRA."""
    return quantised(bench, found, "nf4")


def int8(bench: Bench, found: Findings) -> str:
    """The same on 8 bits."""
    return quantised(bench, found, "int8")


def packed(bench: Bench, found: Findings) -> str:
    """Trials that share the device."""
    study = bench.study(
        "packed",
        space={
            "parameters": {"learning_rate": {"low": 1e-4, "high": 1e-3, "log": True}, "lora_rank": {"choices": [4, 8]}}
        },
        search={"budget": {"trials": 8}, "parallel_per_gpu": 4},
    )
    study.run(found, "--json", "--workers", "1")
    trials = study.trials()
    expect_complete(found, trials, 8)
    spans = [(trial.started_at or 0.0, trial.ended_at or 0.0) for trial in trials]
    together = max(sum(a <= begun < b for a, b in spans) for begun, _ in spans)
    spent = sum(trial.facts.timing.device or 0.0 for trial in trials)
    wall = max(b for _, b in spans) - min(a for a, _ in spans)
    found.seen |= {"together": together, "device_seconds": spent, "wall_seconds": wall}
    found.expect(
        all(t.facts.environment.engine == "packed" for t in trials), "not all were trained by the packed engine"
    )
    found.expect(together == 4, f"at most {together} trials were under way at once instead of 4")
    found.expect(spent <= 1.05 * wall, f"device time {spent:.1f} s is more than the {wall:.1f} s that passed")
    return f"8 trials, {together} at a time on one device: {spent:.1f} s of it in {wall:.1f} s"


# --- memory ------------------------------------------------------------------------------------------------------


def capped(bench: Bench, found: Findings) -> str:
    """A limit of memory that some configurations exceed."""
    # of a tiny model nearly all is what the estimate sets aside for CUDA's context
    large, cap = 1024, 0.56 if bench.smoke else CAP_GB
    study = bench.study(
        "capped",
        space={"parameters": {"lora_rank": {"choices": [8, large]}, "lora_alpha_multiplier": {"choices": [1, 2]}}},
        search={"budget": {"trials": 4}, "sampler": "grid"},
    )
    study.run(found, "--json", share_gb=cap)
    trials = study.trials()
    found.seen |= {"trials": told(trials), "cap_gb": cap}
    small = [trial for trial in trials if trial.parameters["lora_rank"] == 8]
    refused = [trial for trial in trials if trial.parameters["lora_rank"] != 8]
    found.expect(len(small) == len(refused) == 2, f"{len(trials)} trials instead of 2 and 2")
    found.expect(all(trial.state is TrialState.COMPLETE for trial in small), "not all that fit are complete")
    found.expect(all(trial.state is TrialState.INFEASIBLE for trial in refused), "not all others are infeasible")
    found.expect(all("GB are there" in trial.reason for trial in refused), "no reason says what was needed and there")
    if not bench.smoke:
        peaks = [float(trial.facts.memory.peak_gb or math.inf) for trial in small]
        found.expect(max(peaks) <= cap, f"{max(peaks):.2f} GB were used of {cap}")
    return f"under {cap} GB rank 8 is trained and rank {large} infeasible: {refused[0].reason[:90] if refused else ''}"


EAGER = {"attention": "eager"}
RAN_OUT = "out of memory"


@contextlib.contextmanager
def card_full_but(gb: float) -> Iterator[None]:
    """Have another process hold all of the GPU's memory but so many gigabytes."""
    hold = """
import sys, torch
leave, held = float(sys.argv[1]) * 1e9, []
for _ in range(3):
    more = int(torch.cuda.mem_get_info()[0] - leave)
    if more > 2**21:
        held.append(torch.empty(more, dtype=torch.uint8, device="cuda"))
print(torch.cuda.mem_get_info()[0], flush=True)
sys.stdin.read()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", hold, str(gb)], text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            if not process.stdout.readline():
                raise RuntimeError("the GPU's memory could not be filled")
            yield
        finally:
            process.kill()


def oom_training(bench: Bench, found: Findings) -> str:
    """The card is full where the estimate thinks that there is room: micro-batches are halved, and it learns."""
    study = bench.study(
        "oom_training",
        1024,
        model=EAGER,
        training={"micro_batch": 8, "lora_rank": 8, "activation_checkpointing": "off"},
        search={"budget": {"trials": 2}},
    )
    asked = study.command("memory", study.file, "--json")
    thought = float(json.loads(asked.stdout)["base"]["largest_gb"])
    with card_full_but(1.15 * thought):
        study.run(found, "--json", share_gb=None)
    trials = study.trials()
    expect_complete(found, trials, 2)
    if len(trials) != 2:
        return ""
    first, second = (trial.facts.memory for trial in trials)
    correction = measured_correction([trials[0].facts])
    found.seen |= {"thought_gb": thought, "correction": correction}
    found.expect(first.oom_halvings, "memory did not run out in the first trial")
    found.expect(correction > 1.05, f"the correction of later estimates is {correction:.2f}")
    found.expect(
        (second.oom_halvings or 0) < (first.oom_halvings or 0),
        f"the second trial halved as often as the first: {second.oom_halvings}",
    )
    return (
        f"micro-batch halved {first.oom_halvings} times, then {second.oom_halvings}; "
        f"later estimates are multiplied by {correction:.2f}"
    )


def oom_evaluation(bench: Bench, found: Findings) -> str:
    """All validation rows in one forward pass are too much, one row to train on is not."""
    study = bench.study(
        "oom_evaluation",
        1024,
        model=EAGER,
        data={"split": {"validation": 0.45, "test": 0.1}},
        training={"micro_batch": 1, "lora_rank": 8, "activation_checkpointing": "off", "evaluations_per_epoch": 1},
        search={"budget": {"trials": 1}},
    )
    study.run(found, "--json", share_gb=3.0)
    trials = study.trials()
    expect_complete(found, trials, 1)
    tokens = trials[0].facts.memory.evaluation_tokens if trials else None
    found.seen["said"] = study.words(RAN_OUT)[:3]
    found.expect(tokens, "memory did not run out in evaluation")
    found.expect(not (trials and trials[0].facts.memory.oom_halvings), "memory ran out in training")
    return f"evaluated with {tokens} tokens at once after memory had run out with more"


def oom_admission(bench: Bench, found: Findings) -> str:
    """A stack of adapters that is too large for what there is: its trials wait or run alone, and nobody fails."""
    study = bench.study(
        "oom_admission",
        space={"parameters": {"lora_rank": {"choices": [8, 1024]}, "lora_alpha_multiplier": {"choices": [1, 2]}}},
        search={"budget": {"trials": 4}, "sampler": "grid", "parallel_per_gpu": 8},
    )
    study.run(found, "--json", "--workers", "1", share_gb=4.0)
    expect_complete(found, study.trials(), 4)
    said = study.words("no room for")
    found.seen["said"] = said[:3]
    found.expect(said, "memory did not run out in admission")
    return f"nobody failed; the log says: {said[0] if said else ''}"


# --- processes ---------------------------------------------------------------------------------------------------


def used_gb() -> float:
    """Memory of the first GPU that is taken, by its driver; 0 without one."""
    import pynvml

    gpus = list_gpus()
    if not gpus:
        return 0.0
    pynvml.nvmlInit()
    try:
        return float(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(gpus[0].uuid)).used) / 1e9
    finally:
        pynvml.nvmlShutdown()


def trainer_of(worker: subprocess.Popen[bytes]) -> psutil.Process | None:
    """The child of a worker that trains."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(worker.pid).children(recursive=True):
            if "hpo_service.training" in " ".join(child.cmdline()):
                return child
    return None


def killed(bench: Bench, found: Findings) -> str:
    """A worker killed while its child holds the device: the next one waits, measures all of it, and goes on."""
    study = bench.study(
        "killed",
        1024,
        search={"budget": {"trials": 1}},
        training={"epochs": EPOCHS, "evaluations_per_epoch": 1, "micro_batch": 8, "activation_checkpointing": "off"},
        execution={"lease_seconds": 4},
    )
    found.expect(
        study.command("study", "create", study.file, "--quick").returncode == 0, "the study could not be created"
    )
    before = used_gb()
    with study.worker("first.txt") as first:
        until(lambda: (trials := study.trials()) and len(trials[0].curve) >= 2, "two evaluations", bench.patience)
        held = used_gb() - before
        child = until(lambda: trainer_of(first), "the worker's child", bench.patience)
        tells = child.pid in processes_on(list_gpus())
        child.send_signal(signal.SIGSTOP)  # it can neither see that its worker is gone nor let go of the device
        first.send_signal(signal.SIGKILL)
        first.wait()
        reached = len(study.trials()[0].curve)
        if not tells:
            child.kill()
        with study.worker("second.txt") as second:
            if tells:
                until(lambda: study.words("still held by an earlier trial"), "the next worker waits for the device", 30)
                time.sleep(2.0)
                found.expect(trainer_of(second) is None, "the next worker did not wait for the device")
                child.kill()
            until(lambda: second.poll() is not None, "the next worker's end", bench.patience)
            found.seen["status"] = second.returncode
    trials = study.trials()
    trial = trials[0]
    facts = trial.facts
    room = float(facts.memory.peak_gb or 0.0) - float(facts.memory.over_gb or 0.0)
    found.seen |= {"trials": told(trials), "held_gb": held, "room_gb": room, "driver_tells": tells, "reports": reached}
    found.seen["resumed_at_step"] = facts.training.resumed_at_step
    found.expect(found.seen["status"] == 0, f"the next worker ended with status {found.seen['status']}")
    found.expect(trial.state is TrialState.COMPLETE, f"the trial is {trial.state}: {trial.reason}")
    found.expect(trial.attempt == 2, f"it took {trial.attempt} attempts")
    found.expect(facts.training.resumed_at_step, "it began afresh")
    found.expect(len(trial.curve) == EPOCHS, f"{len(trial.curve)} evaluations instead of {EPOCHS}")
    if not bench.smoke:
        total = (list_gpus()[0].memory_mib * 2**20) / 1e9
        found.seen["total_gb"] = total
        found.expect(held > 2.0, f"its child held {held:.1f} GB only, so that nothing is shown")
        # context and what else is set aside are not room either, but they are less than what was held
        found.expect(room > total - before - 0.7 * held, f"{room:.1f} GB were found of {total:.1f}")
    how = "waited for the device" if tells else "(the driver tells no processes here) found the device free"
    return f"{held:.1f} GB were held; the next worker {how}, the trial went on at step {facts.training.resumed_at_step}"


def two_workers(bench: Bench, found: Findings) -> str:
    """A second worker on the GPU by mistake: one line, status 9, and the first works on."""
    study = bench.study("two_workers", training={"epochs": 20}, search={"budget": {"trials": 20}})
    found.expect(
        study.command("study", "create", study.file, "--quick").returncode == 0, "the study could not be created"
    )
    with study.worker() as first:
        until(lambda: trainer_of(first), "the first worker's child", bench.patience)
        second = study.command("worker", "--study", study.name)
        found.expect(first.poll() is None, "the first worker ended too")
    lines = [line for line in second.stderr.splitlines() if line.startswith("error: ")]
    found.seen |= {"status": second.returncode, "lines": lines}
    found.expect(second.returncode == 9, f"the second worker ended with status {second.returncode}")
    found.expect(len(lines) == 1 and "already" in lines[0], f"it said {second.stderr[-300:]!r}")
    return f"the second one said: {lines[0] if lines else ''}"


def shared(bench: Bench, found: Findings) -> str:
    """Two workers on one GPU on purpose: `run` tells each its share, and says so."""
    study = bench.study("shared", search={"budget": {"trials": 8}})
    said = study.run(found, "--workers", "2", share_gb=SHARE_GB / 2)
    trials = study.trials()
    expect_complete(found, trials, 8)
    notes = [line.strip() for line in said.splitlines() if "is one of 2 on GPU" in line]
    workers = {trial.worker for trial in trials}
    found.seen |= {"notes": notes, "workers": len(workers)}
    found.expect(len(notes) == 2, f"{len(notes)} lines about sharing instead of 2")
    found.expect(len(workers) == 2, f"{len(workers)} workers had trials")
    return notes[0] if notes else ""


# --- all of them -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """One row: what is done, whether it must have the GPU to itself, and whether it needs one at all."""

    act: Callable[[Bench, Findings], str]
    alone: bool = False
    needs_gpu: bool = False


SCENARIOS: Mapping[str, Scenario] = {
    "nf4": Scenario(nf4),
    "int8": Scenario(int8),
    "packed": Scenario(packed),
    "capped": Scenario(capped),
    "oom_evaluation": Scenario(oom_evaluation, needs_gpu=True),
    "oom_admission": Scenario(oom_admission, needs_gpu=True),
    "shared": Scenario(shared, needs_gpu=True),
    "two_workers": Scenario(two_workers, alone=True, needs_gpu=True),
    "oom_training": Scenario(oom_training, alone=True, needs_gpu=True),
    "killed": Scenario(killed, alone=True),
}


def play(name: str, bench: Bench) -> Result:
    """Play one scenario; an exception is a failure of it."""
    began, found, said = time.monotonic(), Findings(), ""
    try:
        said = SCENARIOS[name].act(bench, found)
    except Exception as error:
        found.unmet.append(f"{type(error).__name__}: {' '.join(str(error).split())[:400]}")
    said = "; ".join(found.unmet) or said
    return Result(name, not found.unmet, said, found.seen, time.monotonic() - began)


def play_all(names: Sequence[str], bench: Bench, parallel: int) -> Iterator[Result]:
    """Play scenarios, side by side those that can be, and give each result as it comes."""
    runnable = [name for name in names if not (bench.smoke and SCENARIOS[name].needs_gpu)]
    for name in names:
        if name not in runnable:
            yield Result(name, None, "needs a GPU: not run")
    with ThreadPoolExecutor(parallel) as pool:
        beside = [pool.submit(play, name, bench) for name in runnable if not SCENARIOS[name].alone]
        for done in as_completed(beside):
            yield done.result()
    for name in runnable:
        if SCENARIOS[name].alone:
            yield play(name, bench)


def make_bench(folder: Path, *, smoke: bool) -> Bench:
    """Make model and rows, on the CPU: this process must not hold the GPU."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    from hpo_service.training.builtin.corpus import source_documents
    from hpo_service.training.builtin.family import train_tokenizer

    quiet()
    torch.manual_seed(0)
    fields: dict[str, Any] = {**SHAPE, **(TINY if smoke else {})}
    config = Qwen2Config(**fields, bos_token_id=0, eos_token_id=1, pad_token_id=2)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder / "model")
    train_tokenizer(source_documents(100_000), 512).save_pretrained(folder / "model")
    rows = write_rows(folder / "rows.jsonl", ROWS, 8 * (64 if smoke else 1024))
    return Bench(folder, smoke, str(folder / "model"), rows)


def main() -> int:
    """Play the scenarios, print what was seen, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on a CPU")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit 1 where a scenario did not pass")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), metavar="NAME")
    parser.add_argument("--parallel", type=int, default=7, metavar="N", help="scenarios side by side (7)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write proof.json there, after each scenario")
    parser.add_argument("--reload", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reload:
        reload(*options.reload)
        return 0
    gpus = list_gpus()
    if not gpus and not options.smoke:
        print(NO_GPU, file=sys.stderr)
        return 2
    if options.smoke:
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}  # tiny products gain nothing from more
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="hpo-") as place:
        bench = make_bench(Path(place), smoke=options.smoke)
        for result in play_all(options.only, bench, options.parallel):
            results.append(result)
            if not options.json:
                verdict = {True: "passed", False: "FAILED", None: "-"}[result.passed]
                print(f"{result.name:<16}{verdict:<8}{result.seconds:>5.0f} s  {result.said}", flush=True)
            if options.out is not None:
                _write(options.out, gpus[0].name if gpus else "cpu", results)
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=2, default=str))
    bad = [r.name for r in results if r.passed is False or (r.passed is None and not options.smoke)]
    return 1 if options.check and bad else 0


def _write(folder: Path, device: str, results: Sequence[Result]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    document = {"device": device, "results": [asdict(result) for result in results]}
    (folder / "proof.json").write_text(json.dumps(document, indent=2, default=str))


if __name__ == "__main__":
    sys.exit(main())
