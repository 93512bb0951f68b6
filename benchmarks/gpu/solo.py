"""What the solo engine does on a GPU: speed, MFU and memory beside a plain script, and a real study of eight trials.

    python benchmarks/gpu/solo.py                  # some twenty minutes on one data-centre GPU
    python benchmarks/gpu/solo.py --smoke          # the same with tiny shapes on a CPU, to see that it works

Models are random and of public shapes: nothing is downloaded. Four rows: a Qwen2.5-0.5B and an 8B Llama, LoRA on a
bfloat16 base and on NF4, 1,024 tokens a row. Our engine and the script of benchmarks/solo.py run in turn, each with
the GPU to itself; the first pair warms up. MFU counts the operations that LoRA needs (4 per frozen weight and token:
forward, and backward through activations alone; attention likewise), against the GPU's dense bfloat16 peak.
`--check` fails where ours trains at less than 0.98x of the script, or the study does not end well.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.solo import LEAST_RATIO, our_run, plain_row, plain_run, quiet
from hpo_service.domain.study.sections.data import DataSpec
from hpo_service.domain.study.sections.model import ModelSpec
from hpo_service.domain.study.sections.training import TrainingSpec
from hpo_service.domain.trial.config import TrialConfig

NO_GPU = "benchmarks/gpu/solo.py: no GPU that torch can use; `--smoke` tries the program on a CPU"
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "RTX 4090": 165e12}
"""Dense bfloat16 operations per second by what is in the device's name, from the makers' data sheets."""


@dataclass(frozen=True)
class Shape:
    """A model to be made, and how it is trained."""

    name: str
    kind: str
    fields: dict[str, int | bool]
    micro_batch: int
    rows: int


QWEN = Shape(
    "Qwen2.5-0.5B",
    "qwen2",
    {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
        "tie_word_embeddings": True,
        "max_position_embeddings": 4096,
    },
    micro_batch=8,
    rows=400,
)
LLAMA = Shape(
    "8B Llama",
    "llama",
    {
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
        "max_position_embeddings": 4096,
    },
    micro_batch=4,
    rows=120,
)
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 600,
}


def make_model(shape: Shape, folder: Path, *, smoke: bool) -> str:
    """Write a random model of the shape, in bfloat16, with a small tokenizer whose ids it all knows."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from hpo_service.training.builtin.corpus import source_documents
    from hpo_service.training.builtin.family import train_tokenizer

    fields = {**shape.fields, **(TINY if smoke else {})}
    config = AutoConfig.for_model(shape.kind, **fields, bos_token_id=0, eos_token_id=1, pad_token_id=2)
    torch.manual_seed(0)
    with torch.device("cpu" if smoke else "cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32 if smoke else torch.bfloat16)
    model.save_pretrained(folder)
    del model
    if not smoke:
        torch.cuda.empty_cache()
    train_tokenizer(source_documents(100_000), 512).save_pretrained(folder)
    return str(folder)


def write_rows(path: Path, count: int, chars: int) -> str:
    """Rows of plain text from the standard library's source, each long enough to be cut to full length."""
    from hpo_service.training.builtin.corpus import source_documents

    text = "".join(source_documents(count * chars + 100_000))
    rows = [{"prompt": text[at : at + 8], "completion": text[at + 8 : at + chars]} for at in range(0, len(text), chars)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:count]))
    return str(path)


def trial(model: str, quantisation: str, data: str, shape: Shape, length: int) -> TrialConfig:
    """The trial that both sides run: two evaluations, so that nearly all of it is training."""
    return TrialConfig(
        study="bench",
        stage="search",
        parameters={},
        seed=7,
        model=ModelSpec.model_validate({"base": model, "quantisation": quantisation}),
        model_name=model,
        data=DataSpec(source=data, max_length=length),
        training=TrainingSpec(evaluations_per_epoch=2, micro_batch=shape.micro_batch, patience=0),
    )


def operations_per_token(model: Any, length: int) -> float:
    """Operations that LoRA's forward and backward need for one token: embeddings look up, the head multiplies."""
    config = model.config
    hidden, layers, inner = config.hidden_size, config.num_hidden_layers, config.intermediate_size
    keys = hidden * config.num_key_value_heads // config.num_attention_heads
    weights = layers * (2 * hidden * hidden + 2 * hidden * keys + 3 * hidden * inner) + config.vocab_size * hidden
    attention = layers * 2 * hidden * length / 2  # scores and sums over half of the positions on average
    return float(4 * (weights + attention))


def measure(shape: Shape, quantisation: str, folder: Path, repeats: int, *, smoke: bool) -> dict[str, Any]:
    """Run both sides in turn on one model."""
    import torch
    from bitsandbytes.nn import Linear4bit
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from hpo_service.training.engines.solo import SoloEngine
    from hpo_service.training.run.loaded_models import LoadedModels

    length = 64 if smoke else 1024
    data = write_rows(folder / "rows.jsonl", 60 if smoke else shape.rows, 8 * length)
    model = str(folder / "model") if (folder / "model").exists() else make_model(shape, folder / "model", smoke=smoke)
    config, cuda = trial(model, quantisation, data, shape, length), torch.cuda.is_available()
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if cuda else torch.float32,
    )

    def load() -> Any:
        loaded = AutoModelForCausalLM.from_pretrained(
            model,
            dtype=torch.bfloat16 if cuda else torch.float32,
            quantization_config=nf4 if quantisation == "nf4" else None,
            device_map={"": "cuda" if cuda else "cpu"},
        )
        for module in loaded.modules():
            if not cuda and isinstance(module, Linear4bit):
                module.support_avx512bf16_for_cpu = False  # some CPUs would repack weights at evaluation
        return loaded

    found: dict[str, list[float]] = {"ours": [], "plain": [], "ours_gb": [], "plain_gb": []}
    operations, checkpointed = 0.0, False
    for number in range(repeats + 1):
        loaded = LoadedModels(folder)
        ours, ours_gb = _with_peak(lambda r=loaded, n=number: our_run(SoloEngine(r), config, folder / f"t{n}"))
        outcome, link, _ = ours
        base = loaded.base(link)
        operations = operations_per_token(base.model, length)
        checkpointed = config.training.checkpoints_activations(base.facts.parameters or 0, on_gpu=cuda)
        parts = loaded.rows(link, base)
        train, validation = ([plain_row(row) for row in part] for part in (parts.train, parts.validation))
        del base
        loaded.release()
        run = partial(
            plain_run, load, train, validation, str(folder), config, bf16=cuda, activation_checkpointing=checkpointed
        )
        plain, plain_gb = _with_peak(run)
        if number:
            tokens = float(outcome.facts.training.tokens or 0)
            found["ours"].append(tokens / float(outcome.facts.timing.train or 0))
            found["plain"].append(tokens / (plain["whole"] - plain["evaluate"]))
            found["ours_gb"].append(ours_gb)
            found["plain_gb"].append(plain_gb)
    figures: dict[str, Any] = {name: statistics.median(values) for name, values in found.items()}
    peak = _peak_operations()
    return {
        "model": shape.name,
        "base": quantisation if quantisation != "none" else "bf16",
        **figures,
        "ratio": statistics.median(a / b for a, b in zip(found["ours"], found["plain"], strict=True)),
        "mfu": figures["ours"] * operations / peak if peak else None,
        "checkpointed": checkpointed,
    }


def _with_peak(run: Any) -> tuple[Any, float]:
    """What `run` gives, with the most GPU memory held meanwhile in GB of 1e9 bytes."""
    import gc

    import torch

    gc.collect()
    if not torch.cuda.is_available():
        return run(), 0.0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    result = run()
    return result, torch.cuda.max_memory_allocated() / 1e9


def _peak_operations() -> float | None:
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def study(model: str, data: str, folder: Path, *, smoke: bool) -> dict[str, Any]:
    """Run eight trials through the command line and SQLite, and tell how they ended."""
    file = folder / "study.yaml"
    length = 64 if smoke else 1024
    file.write_text(
        f"name: gpu\nmodel: {{base: {model}}}\ndata: {{source: {data}, max_length: {length}}}\n"
        "space: {preset: minimal}\nsearch: {budget: {trials: 8}, sampler: random}\n"
        "training: {evaluations_per_epoch: 4}\nconfirm: {enabled: false}\n"
    )
    began = time.perf_counter()
    command = [sys.executable, "-m", "hpo_service", "run", str(file), "--workers", "1", "--output", str(folder / "out")]
    done = subprocess.run(
        [*command, "--json"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "HPO_SERVICE_STORAGE": f"sqlite:///{folder}/study.db"},
        capture_output=True,
        text=True,
        check=False,
    )
    return {"status": done.returncode, "seconds": time.perf_counter() - began, "said": done.stderr[-300:]}


def main() -> int:
    """Measure, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="pairs of runs per row (default 3)")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes; runs anywhere")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help=f"exit 1 below {LEAST_RATIO}x or where the study fails")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available() and not options.smoke:
        print(NO_GPU, file=sys.stderr)
        return 2
    quiet()
    rows, ended = [], {}
    with tempfile.TemporaryDirectory(prefix="hpo-") as place:
        for shape in (QWEN, LLAMA):
            folder = Path(place) / shape.kind
            folder.mkdir()
            for quantisation in ("none", "nf4"):
                rows.append(measure(shape, quantisation, folder, options.repeats, smoke=options.smoke))
            if shape is QWEN:
                ended = study(str(folder / "model"), str(folder / "rows.jsonl"), folder, smoke=options.smoke)
    failed = [f"{row['model']} {row['base']}" for row in rows if row["ratio"] < LEAST_RATIO]
    failed += ["study"] if ended["status"] else []
    if options.json:
        print(json.dumps({"rows": rows, "study": ended, "failed": failed}, indent=2))
    else:
        print_table(rows, ended)
    return 1 if options.check and failed else 0


def print_table(rows: list[dict[str, Any]], ended: dict[str, Any]) -> None:
    """Print the figures for people."""
    print(
        f"{'model':<14}{'base':<6}{'ours tok/s':>12}{'plain':>10}{'ratio':>7}{'MFU':>7}{'ours GB':>9}{'plain GB':>10}"
    )
    for row in rows:
        mfu = "" if row["mfu"] is None else f"{row['mfu']:.1%}"
        print(
            f"{row['model']:<14}{row['base']:<6}{row['ours']:>12.0f}{row['plain']:>10.0f}{row['ratio']:>7.3f}"
            f"{mfu:>7}{row['ours_gb']:>9.1f}{row['plain_gb']:>10.1f}"
        )
    print(f"study of 8 trials: exit status {ended['status']}, {ended['seconds']:.0f} s")
    if ended["status"]:
        print(ended["said"])


if __name__ == "__main__":
    sys.exit(main())
