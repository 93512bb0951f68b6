"""What was tried to make steps faster on a GPU, each beside the engine as it is, in the same run.

    python benchmarks/gpu/candidates.py            # some three minutes on one data-centre GPU
    python benchmarks/gpu/candidates.py --smoke    # the same with tiny shapes on a CPU, to see that it works

A random model of Qwen2.5-0.5B's shape. A candidate is a change of the engine that is made here and taken back. For
each: milliseconds of a step in the middle of a run (median), seconds until the first step, peak memory, and trials'
losses, which are to be those of the engine as it is but for rounding.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.gpu.packing import run, trials
from benchmarks.gpu.solo import QWEN, make_model, trial, write_rows
from benchmarks.packing import Bench

NO_GPU = "benchmarks/gpu/candidates.py: no GPU that torch can use; `--smoke` tries the program on a CPU"


@contextmanager
def compiled_loss() -> Iterator[None]:
    """Logits, their float32 copy, softmax and gradient as kernels that torch compiles together."""
    import torch

    from hpo_service.training.engines.packed.head import Head

    with patch.object(Head, "_plain_nll", torch.compile(Head._plain_nll, dynamic=True)):
        yield


@contextmanager
def compiled_layers() -> Iterator[None]:
    """Each layer of the decoder, with the adapters in it, compiled once for all of them."""
    import torch

    from hpo_service.training.engines.packed.pack import Pack
    from hpo_service.training.engines.solo import SoloEngine

    layers: list[Any] = []

    def compile_layers(model: Any) -> None:
        for layer in model.model.layers:
            if "forward" not in layer.__dict__:
                layer.forward = torch.compile(layer.forward, dynamic=True)
                layers.append(layer)

    packed, alone = Pack.forward_backward, SoloEngine._begin

    def forward_backward(self: Any, shares: Any) -> Any:
        compile_layers(self.base.model)
        return packed(self, shares)

    def begin(self: Any, job: Any) -> Any:
        compile_layers(job.base.model)
        return alone(self, job)

    try:
        with patch.object(Pack, "forward_backward", forward_backward), patch.object(SoloEngine, "_begin", begin):
            yield
    finally:
        for layer in layers:
            del layer.__dict__["forward"]
        torch._dynamo.reset()


@contextmanager
def liger() -> Iterator[None]:
    """The Triton kernels of liger-kernel under the solo engine, as transformers applies them."""
    from hpo_service.training.engines import trainer

    plain = trainer._arguments

    def arguments(*given: Any) -> Any:
        found = plain(*given)
        found.use_liger_kernel = True
        return found

    with patch.object(trainer, "_arguments", arguments):
        yield


@dataclass(frozen=True)
class Candidate:
    """A way to run trials: packed or alone, on which base, with dropout or not, and with what changed."""

    name: str
    packed: bool = True
    quantisation: str = "none"
    dropout: float = 0.0
    changes: tuple[Callable[[], Any], ...] = ()


CANDIDATES = (
    Candidate("as it is"),
    Candidate("compiled loss", changes=(compiled_loss,)),
    Candidate("compiled loss and layers", changes=(compiled_loss, compiled_layers)),
    Candidate("alone, as it is", packed=False),
    Candidate("alone, compiled layers", packed=False, changes=(compiled_layers,)),
    Candidate("nf4, as it is", quantisation="nf4"),
    Candidate("nf4, compiled loss and layers", quantisation="nf4", changes=(compiled_loss, compiled_layers)),
    Candidate("dropout, as it is", dropout=0.05),
    Candidate("dropout, compiled loss and layers", dropout=0.05, changes=(compiled_loss, compiled_layers)),
    Candidate("nf4, alone, as it is", packed=False, quantisation="nf4"),
    Candidate("nf4, alone, compiled layers", packed=False, quantisation="nf4", changes=(compiled_layers,)),
    # last: what it puts into the model's classes stays there
    Candidate("alone, liger", packed=False, changes=(liger,)),
)


def main() -> int:
    """Try each candidate and print what it costs."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=8, help="trials side by side (8)")
    parser.add_argument("--only", nargs="+", help="names of candidates")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on a CPU")
    parser.add_argument("--json", type=Path, help="write JSON here, after every candidate")
    options = parser.parse_args()
    if not options.smoke and not torch.cuda.is_available():
        sys.stderr.write(NO_GPU + "\n")
        return 2
    length, shape, found = 64 if options.smoke else 1024, replace(QWEN, rows=60), {}
    with tempfile.TemporaryDirectory() as place:
        model = make_model(shape, Path(place) / "model", smoke=options.smoke)
        data = write_rows(Path(place) / "rows.jsonl", shape.rows, 6 * length)
        bench = Bench(Path(place) / "cache")
        for candidate in CANDIDATES:
            if options.only and candidate.name not in options.only:
                continue
            one = trial(model, candidate.quantisation, data, shape, length)
            one = one.model_copy(
                update={"training": one.training.model_copy(update={"lora_dropout": candidate.dropout})}
            )
            members = trials(one, options.slots if candidate.packed else 1, 1)
            try:
                with ExitStack() as stack:
                    for change in candidate.changes:
                        stack.enter_context(change())
                    found[candidate.name] = run(bench, members, packed=candidate.packed)
            except Exception as error:
                found[candidate.name] = {"failed": f"{type(error).__name__}: {str(error)[:300]}"}
            print(candidate.name, json.dumps(found[candidate.name]), flush=True)
            if options.json:
                options.json.write_text(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
