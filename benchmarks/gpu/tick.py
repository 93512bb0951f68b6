"""Where a step's time goes on a GPU: kernels, launches, and how long the GPU waits for the host.

    python benchmarks/gpu/tick.py               # some two minutes on one data-centre GPU
    python benchmarks/gpu/tick.py --smoke       # the same with tiny shapes on a CPU, to see that it works

A random model of Qwen2.5-0.5B's shape, 1,024 tokens a trial and step, in bfloat16 and NF4, alone in the solo engine and
eight trials packed. A stretch of steps in the middle of a run is recorded by torch's profiler, which is told of the
device's work alone, so that the host is hardly slowed down. The share of the stretch in which no kernel runs is what
the GPU waits for the host. `--check` fails where that is more than 5% packed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.gpu.packing import trials
from benchmarks.gpu.solo import QWEN, Shape, make_model, trial, write_rows
from benchmarks.packing import Bench

NO_GPU = "benchmarks/gpu/tick.py: no GPU that torch can use; `--smoke` tries the program on a CPU"
MOST_WAITING = 0.05
KINDS = {
    "matrix products": r"gemm|cutlass|nvjet|sm90_xmma|splitKreduce|cublas",
    "attention": r"flash|fmha|attention|softmax_warp",
    "4-bit weights": r"kDequant|quantize|bnb",
    "cross entropy": r"softmax|nll_loss|cross_entropy",
    "copies and casts": r"copy|Memcpy|Memset|memset|cat|Fill",
    "optimizer": r"adam|Adam|multi_tensor",
    "compiled": r"triton",
    "sums": r"reduce|norm",
    "other elementwise": r"elementwise|vectorized",
}
"""What kernels do, by what is in their names; the first that matches."""


@dataclass
class Stretch:
    """Records steps `first` to `last` of a run; `tick` is called when one begins."""

    first: int
    last: int
    seconds: float = 0.0
    events: list[Any] = field(default_factory=list)
    _seen: int = 0
    _began: float = 0.0
    _profiler: Any = None

    def tick(self) -> None:
        """Note that a step begins."""
        import torch
        from torch.profiler import ProfilerActivity, profile

        if self._seen == self.first:
            cuda = torch.cuda.is_available()
            self._profiler = profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU])
            self._profiler.__enter__()
            self._began = time.perf_counter()
        elif self._seen == self.last:
            self.seconds = time.perf_counter() - self._began
            self._profiler.__exit__(None, None, None)
            self.events = list(self._profiler.profiler.kineto_results.events())
        self._seen += 1

    def facts(self) -> dict[str, Any]:
        """What was seen, per step."""
        steps = self.last - self.first
        if not self.events:
            raise SystemExit("the run was too short to be recorded")
        work = [e for e in self.events if str(e.device_type()).endswith("CUDA") and e.duration_ns() > 0]
        kinds: Counter[str] = Counter()
        names: Counter[str] = Counter()
        for event in work:
            kinds[_kind(event.name())] += event.duration_ns()
            names[event.name()[:70]] += event.duration_ns()
        spans = sorted((e.start_ns(), e.start_ns() + e.duration_ns()) for e in work)
        busy, span = _busy(spans), (spans[-1][1] - spans[0][0]) if spans else 0
        return {
            "ms": self.seconds / steps * 1e3,
            "kernels": len(work) / steps,
            "waiting": 1 - busy / span if span else None,
            "kinds_ms": {name: ns / steps / 1e6 for name, ns in kinds.most_common()},
            "kernels_ms": {name: ns / steps / 1e6 for name, ns in names.most_common(14)},
        }


def _kind(name: str) -> str:
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), "other")


def _busy(spans: list[tuple[int, int]]) -> int:
    """How long at least one of the spans lasted."""
    total, end = 0, 0
    for begin, until in spans:
        total += max(0, until - max(begin, end))
        end = max(end, until)
    return total


@contextmanager
def watched(stretch: Stretch, *, packed: bool) -> Iterator[None]:
    """Tell a stretch when each step of an engine begins."""
    from hpo_service.training.engines.callback import MonitorCallback
    from hpo_service.training.engines.packed.engine import PackRun

    where: Any = PackRun if packed else MonitorCallback
    name = "_tick" if packed else "on_log"
    plain: Callable[..., Any] = getattr(where, name)

    def noted(*given: Any, **named: Any) -> Any:
        stretch.tick()
        return plain(*given, **named)

    with patch.object(where, name, noted):
        yield


def measure(shape: Shape, quantisation: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Both engines on one base."""
    length = 64 if options.smoke else 1024
    model = str(folder / "model")
    data = write_rows(folder / "rows.jsonl", shape.rows, 6 * length)
    one = trial(model, quantisation, data, shape, length)
    bench, found = Bench(folder / "cache"), {}
    first, last = (1, 3) if options.smoke else (10, 20)
    for name, count in (("solo", 1), ("packed", options.slots)):
        stretch = Stretch(first, last)
        with watched(stretch, packed=count > 1):
            bench.seconds(trials(one, count, 1), max(1, count))
        found[name] = stretch.facts() | {"tokens_per_second": count * length * (last - first) / stretch.seconds}
    return found


def main() -> int:
    """Measure, print, and judge if asked to."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=8, help="trials side by side (8)")
    parser.add_argument("--quantisation", nargs="+", default=["none", "nf4"])
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on a CPU")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit 1 where the GPU waits too long")
    options = parser.parse_args()
    if not options.smoke and not torch.cuda.is_available():
        sys.stderr.write(NO_GPU + "\n")
        return 2
    shape = replace(QWEN, rows=80)
    results = {}
    with tempfile.TemporaryDirectory() as place:
        make_model(shape, Path(place) / "model", smoke=options.smoke)
        for quantisation in options.quantisation:
            results[quantisation] = measure(shape, quantisation, Path(place), options)
    failed = [
        f"{name}: the GPU waits {found['packed']['waiting']:.1%} of the time"
        for name, found in results.items()
        if (found["packed"]["waiting"] or 0) > MOST_WAITING
    ]
    if options.json:
        print(json.dumps({"results": results, "failed": failed}, indent=2))
    else:
        _print(results)
    return 1 if options.check and failed else 0


def _print(results: dict[str, Any]) -> None:
    for base, found in results.items():
        for engine, facts in found.items():
            waiting = "" if facts["waiting"] is None else f", the GPU waits {facts['waiting']:.1%}"
            print(
                f"{base}, {engine}: {facts['ms']:.1f} ms a step, {facts['tokens_per_second']:.0f} tokens/s, "
                f"{facts['kernels']:.0f} kernels{waiting}"
            )
            for name, ms in [*facts["kinds_ms"].items(), ("--", 0.0), *facts["kernels_ms"].items()]:
                print(f"    {ms:8.2f} ms  {name}")


if __name__ == "__main__":
    sys.exit(main())
