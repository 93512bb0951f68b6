"""What packing brings on a GPU: speed and memory by the number of trials in a pack, beside one trial after another.

    python benchmarks/gpu/packing.py               # some three minutes on one data-centre GPU
    python benchmarks/gpu/packing.py --smoke       # the same with tiny shapes on a CPU, to see that it works

Random models of public shapes (see benchmarks/gpu/solo.py): a Qwen2.5-0.5B with 1,024 tokens per trial and tick, an 8B
Llama with 2,048, each in bfloat16 and NF4. Trials of mixed rank are trained by the solo engine, one at a time, and
packed; a tick is one row of every trial and an optimizer step. Milliseconds are the median of the second half of a
run's steps: what is done once, loading, admission and compiling, is told apart. Packs are compiled where the engine
itself finds that faster (it is asked to try although these trials are short). Peaks are of tensors, so that
the difference between two pack sizes is what a trial adds. `--check` fails below 4x at eight trials of the small
model, below 1.1x at two of the large one, or where that is slower packed than alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.gpu.solo import LLAMA, QWEN, Shape, make_model, trial, write_rows
from benchmarks.packing import Bench, Supervisor
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.outcome import Outcome
from hpo_service.wire.messages import Capacity, Finished

NO_GPU = "benchmarks/gpu/packing.py: no GPU that torch can use; `--smoke` tries the program on a CPU"
ASKED = {"Qwen2.5-0.5B": {8: 4.0}, "8B Llama": {2: 1.1}}
"""Least ratio by model and pack size; 1.0 where none is named."""


def trials(base: TrialConfig, count: int, micro_batch: int) -> list[TrialConfig]:
    """Trials of mixed rank, learning rate and alpha on the same rows."""
    made = []
    for number in range(count):
        training = base.training.model_copy(
            update={
                "lora_rank": (8, 16, 32, 64)[number % 4],
                "learning_rate": 1e-4 * (1 + number % 3),
                "lora_alpha_multiplier": 1.0 + number % 2,
                "effective_batch": micro_batch,
                "micro_batch": micro_batch,
                "evaluations_per_epoch": 1,
            }
        )
        made.append(base.model_copy(update={"training": training, "seed": number}))
    return made


def measure(
    shape: Shape, quantisation: str, length: int, model: str, folder: Path, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Milliseconds, tokens per second, ratio and peak memory alone and at each pack size."""
    data = write_rows(folder / "rows.jsonl", shape.rows, 6 * length)
    one = trial(model, quantisation, data, shape, length)
    bench = Bench(folder / "cache")
    alone = run(bench, trials(one, 1, 1), packed=False)
    rows = [{"slots": 1, **alone, "tokens_per_second": length / alone["ms"] * 1e3, "ratio": 1.0}]
    for count in options.slots[shape.name]:
        found = run(bench, trials(one, count, 1), packed=True)
        speed, ratio = count * length / found["ms"] * 1e3, count * alone["ms"] / found["ms"]
        rows.append({"slots": count, **found, "tokens_per_second": speed, "ratio": ratio})
    return rows


def main() -> int:
    """Measure, print, and judge if asked to."""
    import torch

    from hpo_service.training.engines.packed import probe

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, nargs="+", default=[2, 8, 16], help="pack sizes of the small model")
    parser.add_argument("--large", type=int, nargs="+", default=[2, 4], help="pack sizes of the large model")
    parser.add_argument("--only", nargs="+", help="names of models and bases, such as 'Qwen2.5-0.5B none'")
    parser.add_argument("--folder", help="where models are written for a while; a memory disk is fastest")
    parser.add_argument("--out", type=Path, help="write JSON here, after every base")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on a CPU")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit 1 where what was asked for is not met")
    options = parser.parse_args()
    if not options.smoke and not torch.cuda.is_available():
        sys.stderr.write(NO_GPU + "\n")
        return 2
    shapes = [(replace(QWEN, rows=60), 1024), (replace(LLAMA, rows=40), 2048)]
    options.slots = {QWEN.name: options.small, LLAMA.name: options.large}
    if options.smoke:
        shapes = [(shape, 64) for shape, _ in shapes]
        options.slots = {name: [2] for name in options.slots}
    results: dict[str, list[dict[str, Any]]] = {}
    probe.LONG_SECONDS = 0.0
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    for shape, length in shapes:
        if options.only and not any(name.startswith(shape.name) for name in options.only):
            continue
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            model = make_model(shape, Path(folder) / "model", smoke=options.smoke)
            for quantisation in ("none", "nf4"):
                if options.only and f"{shape.name} {quantisation}" not in options.only:
                    continue
                found = measure(shape, quantisation, length, model, Path(folder), options)
                results[f"{shape.name} {quantisation}"] = found
                if options.out:
                    options.out.write_text(json.dumps({"device": device, "results": results}, indent=2))
    failed = judge(results)
    if options.json:
        print(json.dumps({"device": device, "results": results, "failed": failed}, indent=2))
    else:
        _print(results)
        for line in failed:
            print(f"not met: {line}")
    return 1 if options.check and failed else 0


def judge(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What was asked for and is not met."""
    failed = []
    for name, rows in results.items():
        limits = next(asked for model, asked in ASKED.items() if name.startswith(model))
        failed += [
            f"{name}, {row['slots']} trials: {row['ratio']:.2f}x instead of {limits.get(row['slots'], 1.0)}x"
            for row in rows
            if row["ratio"] < limits.get(row["slots"], 1.0)
        ]
    return failed


def _print(results: dict[str, list[dict[str, Any]]]) -> None:
    print(f"{'model':<22}{'trials':>7}{'ms a step':>11}{'tokens/s':>10}{'ratio':>8}{'peak GB':>9}{'first step s':>14}")
    for name, rows in results.items():
        for row in rows:
            print(
                f"{name:<22}{row['slots']:>7}{row['ms']:>11.1f}{row['tokens_per_second']:>10.0f}{row['ratio']:>7.2f}x"
                f"{row['peak_gb']:>9.1f}{row['until_first_step_s']:>14.1f}  {row['said'][-1] if row['said'] else ''}"
            )


@dataclass
class Ticks:
    """When each step began, by the host, which waits for the device once in each."""

    marks: list[float] = field(default_factory=list)

    def note(self) -> None:
        """A step begins; the peak is that of steps and evaluations, not of what was measured before."""
        import torch

        if not self.marks and torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self.marks.append(time.perf_counter())


class Hearing(Supervisor):
    """Keeps what each trial ended with, and what the engine says of packs."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.outcomes: list[Outcome] = []
        self.said: list[str] = []

    def send(self, message: Any) -> None:
        """Hear the engine."""
        super().send(message)
        if isinstance(message, Finished):
            self.outcomes.append(message.outcome)
        if isinstance(message, Capacity):
            self.said.append(message.reason)


def run(bench: Bench, members: list[TrialConfig], *, packed: bool) -> dict[str, Any]:
    """Train trials and tell what a step costs."""
    import gc

    import torch

    from hpo_service.training.engines.callback import MonitorCallback
    from hpo_service.training.engines.packed.engine import PackRun

    where: Any = PackRun if packed else MonitorCallback
    name, ticks = ("_tick" if packed else "on_log"), Ticks()
    plain = getattr(where, name)

    def noted(*given: Any, **named: Any) -> Any:
        ticks.note()
        return plain(*given, **named)

    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    with patch.object(where, name, noted), tempfile.TemporaryDirectory() as folder:
        hearing: Any = Hearing(members, Path(folder), len(members))
        bench.serve(hearing)
    steps = [after - before for before, after in zip(ticks.marks, ticks.marks[1:], strict=False)]
    return {
        "ms": statistics.median(steps[len(steps) // 2 :]) * 1e3,
        "until_first_step_s": ticks.marks[0] - began,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0,
        "losses": [float(outcome.value or 0) for outcome in hearing.outcomes],
        "said": hearing.said,
    }


if __name__ == "__main__":
    sys.exit(main())
