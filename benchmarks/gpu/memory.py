"""The memory estimate beside the measured peak on a GPU, for models of 0.5B to 8B.

    python benchmarks/gpu/memory.py                # some four minutes on one data-centre GPU
    python benchmarks/gpu/memory.py --smoke        # tiny shapes; on a CPU there is no peak to compare with

Random models of public shapes, LoRA of rank 16 on all linear layers: a bfloat16 base and NF4, activations kept and
computed again, rows of 512 and 2,048 tokens. Each cell is a trial in the solo engine with optimizer steps and
evaluations; what is compared are its own facts `memory_estimate_gb` and `peak_memory_gb`. `--check` fails where one
lies more than 10% from the other.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.gpu.packing import Hearing
from benchmarks.gpu.solo import LLAMA, QWEN, Shape, make_model, trial, write_rows
from benchmarks.packing import Bench
from hpo_service.domain.study.sections.data import SplitSpec
from hpo_service.domain.trial.config import TrialConfig
from hpo_service.domain.trial.facts import MemoryFacts

NO_GPU = "benchmarks/gpu/memory.py: no GPU that torch can use; `--smoke` tries the program on a CPU"
WITHIN = 0.10
ROWS = 14
SHAPES = (
    replace(QWEN, micro_batch=4),
    Shape(
        "Qwen2.5-1.5B",
        "qwen2",
        {
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "vocab_size": 151_936,
            "tie_word_embeddings": True,
            "max_position_embeddings": 4096,
        },
        micro_batch=4,
        rows=ROWS,
    ),
    Shape(
        "Llama-3.2-3B",
        "llama",
        {
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "num_hidden_layers": 28,
            "num_attention_heads": 24,
            "num_key_value_heads": 8,
            "vocab_size": 128_256,
            "tie_word_embeddings": True,
            "max_position_embeddings": 4096,
        },
        micro_batch=2,
        rows=ROWS,
    ),
    replace(LLAMA, micro_batch=1),
)


def cells(shape: Shape, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Estimate and peak of each way to train one model."""
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        model = make_model(shape, Path(place) / "model", smoke=options.smoke)
        lengths = (32, 64) if options.smoke else (512, 2048)
        data = write_rows(Path(place) / "rows.jsonl", ROWS, 6 * lengths[-1])
        bench = Bench(Path(place) / "cache")
        for quantisation, length, checkpointing in product(("none", "nf4"), lengths, ("off", "on")):
            one = trial(model, quantisation, data, shape, length)
            assert one.data is not None
            training = {
                "activation_checkpointing": checkpointing,
                "effective_batch": shape.micro_batch,
                "evaluations_per_epoch": 1,
            }
            one = one.model_copy(
                update={
                    "training": one.training.model_copy(update=training),
                    "data": one.data.model_copy(update={"split": SplitSpec(validation=0.2, test=0.2)}),
                }
            )
            memory, ended = _trained(bench, one)
            off = memory.estimate_gb / memory.peak_gb - 1 if memory.peak_gb and memory.estimate_gb else None
            yield {
                "model": shape.name,
                "base": "bf16" if quantisation == "none" else quantisation,
                "checkpointing": checkpointing,
                "rows": shape.micro_batch,
                "length": length,
                "estimate_gb": memory.estimate_gb,
                "peak_gb": memory.peak_gb,
                "off": off,
                "ended": ended,
                "halvings": memory.oom_halvings,
            }
        # the engines hold each other, and what there was when they were made is not looked at by a collection
        del bench
        gc.unfreeze()
        gc.collect()


def _trained(bench: Bench, one: TrialConfig) -> tuple[MemoryFacts, str]:
    with tempfile.TemporaryDirectory() as folder:
        hearing: Any = Hearing([one], Path(folder), 1)
        bench.serve(hearing)
    (outcome,) = hearing.outcomes
    return outcome.facts.memory, f"{outcome.kind} {outcome.reason or ''}"


def main() -> int:
    """Measure, print, and judge if asked to."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", help="names of shapes; all where left out")
    parser.add_argument("--folder", help="where models are written for a while; a memory disk is fastest")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes")
    parser.add_argument("--json", type=Path, help="write JSON here, after every cell")
    parser.add_argument(
        "--check", action="store_true", help=f"exit 1 where an estimate is off by more than {WITHIN:.0%}"
    )
    options = parser.parse_args()
    if not options.smoke and not torch.cuda.is_available():
        sys.stderr.write(NO_GPU + "\n")
        return 2
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    found: list[dict[str, Any]] = []
    for shape in SHAPES:
        if options.models and shape.name not in options.models:
            continue
        for cell in cells(shape, options):
            found.append(cell)
            off = "" if cell["off"] is None else f"{cell['off']:+.0%}"
            print(
                f"{cell['model']:<14}{cell['base']:<6}{cell['rows']:>3} x {cell['length']:<5} "
                f"checkpointing {cell['checkpointing']:<4} estimate {cell['estimate_gb']:6.2f} "
                f"peak {cell['peak_gb'] or 0:6.2f} GB {off:>5}",
                flush=True,
            )
            if options.json:
                options.json.write_text(json.dumps({"device": device, "cells": found}, indent=2))
    failed = [cell for cell in found if cell["off"] is None or abs(cell["off"]) > WITHIN]
    return 1 if options.check and failed else 0


if __name__ == "__main__":
    sys.exit(main())
