"""What packing brings on a GPU: speed and memory by the number of trials in a pack, beside one trial after another.

    python benchmarks/gpu/packing.py               # some fifteen minutes on one data-centre GPU
    python benchmarks/gpu/packing.py --smoke       # the same with tiny shapes on a CPU, to see that it works

Random models of public shapes (see benchmarks/gpu/solo.py): a Qwen2.5-0.5B with 1,024 tokens per trial and tick, an 8B
Llama with 2,048, each in bfloat16 and NF4. Every trial is trained for a fixed number of optimizer steps, alone in the
solo engine and packed, in turn; medians of tokens per second. Memory is the peak of each run, so that the difference
between two pack sizes is what a slot adds. `--check` fails below 4x at eight trials of the small model, or where the
large one is slower packed than alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.gpu.solo import LLAMA, QWEN, Shape, make_model, trial, write_rows
from benchmarks.packing import Bench
from hpo_service.domain.study.sections.data import SplitSpec
from hpo_service.domain.trial.config import TrialConfig

NO_GPU = "benchmarks/gpu/packing.py: no GPU that torch can use; `--smoke` tries the program on a CPU"
ASKED = {"Qwen2.5-0.5B": (8, 4.0), "8B Llama": (0, 1.0)}
"""Pack size and least ratio by model; 0 is every size."""


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
    shape: Shape, quantisation: str, length: int, folder: Path, options: argparse.Namespace
) -> list[dict[str, float]]:
    """Tokens per second, ratio and peak memory at each pack size."""
    import torch

    model = make_model(shape, folder / "model", smoke=options.smoke)
    data = write_rows(folder / "rows.jsonl", shape.rows, 6 * length)
    one = trial(model, quantisation, data, shape, length)
    # one row a tick: its length is the tokens of a slot's tick
    assert one.data is not None
    one = one.model_copy(update={"data": one.data.model_copy(update={"split": SplitSpec(validation=0.1, test=0.05)})})
    bench, rows = Bench(folder / "cache"), []
    bench.seconds(trials(one, 1, 1), 1)
    for count in options.slots:
        members = trials(one, count, 1)
        speeds: dict[str, list[float]] = {"solo": [], "packed": []}
        peak = 0.0
        for _ in range(options.repeats):
            for way, slots in (("solo", 1), ("packed", max(2, count))):
                if torch.cuda.is_available():
                    torch.cuda.reset_peak_memory_stats()
                seconds, tokens = bench.seconds(members, slots)
                speeds[way].append(tokens / seconds)
            if torch.cuda.is_available():
                peak = torch.cuda.max_memory_allocated() / 1e9
        pairs = zip(speeds["packed"], speeds["solo"], strict=True)
        rows.append(
            {
                "slots": float(count),
                "solo": statistics.median(speeds["solo"]),
                "packed": statistics.median(speeds["packed"]),
                "ratio": statistics.median(p / s for p, s in pairs),
                "peak_gb": peak,
            }
        )
    return rows


def main() -> int:
    """Measure, print, and judge if asked to."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on a CPU")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit 1 where what was asked for is not met")
    options = parser.parse_args()
    if not options.smoke and not torch.cuda.is_available():
        sys.stderr.write(NO_GPU + "\n")
        return 2
    shapes = [(QWEN, 1024), (LLAMA, 2048)]
    if options.smoke:
        shapes = [(replace(shape, rows=24), 64) for shape, _ in shapes]
        options.slots, options.repeats = [1, 2], 1
    results: dict[str, list[dict[str, float]]] = {}
    for shape, length in shapes:
        for quantisation in ("none", "nf4"):
            with tempfile.TemporaryDirectory() as folder:
                results[f"{shape.name} {quantisation}"] = measure(shape, quantisation, length, Path(folder), options)
    failed = judge(results)
    if options.json:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        print(json.dumps({"device": device, "results": results, "failed": failed}, indent=2))
    else:
        _print(results)
        for line in failed:
            print(f"not met: {line}")
    return 1 if options.check and failed else 0


def judge(results: dict[str, list[dict[str, float]]]) -> list[str]:
    """What was asked for and is not met."""
    failed = []
    for name, rows in results.items():
        slots, least = next(asked for model, asked in ASKED.items() if name.startswith(model))
        failed += [
            f"{name}, {row['slots']:.0f} trials: {row['ratio']:.2f}x instead of {least}x"
            for row in rows
            if slots in (0, row["slots"]) and row["ratio"] < least
        ]
    return failed


def _print(results: dict[str, list[dict[str, float]]]) -> None:
    print(f"{'model':<22}{'trials':>7}{'one by one':>12}{'packed':>9}{'ratio':>8}{'peak GB':>9}")
    for name, rows in results.items():
        for row in rows:
            print(
                f"{name:<22}{row['slots']:>7.0f}{row['solo']:>12.0f}{row['packed']:>9.0f}"
                f"{row['ratio']:>7.2f}x{row['peak_gb']:>9.1f}"
            )


if __name__ == "__main__":
    sys.exit(main())
