"""What the solo engine does on a GPU: speed, MFU and memory beside a plain script and the fastest open recipe at hand.

    python benchmarks/gpu/solo.py                  # some three minutes on one data-centre GPU
    python benchmarks/gpu/solo.py --smoke          # the same with tiny shapes on a CPU, to see that it works

Models are random and of public shapes: nothing is downloaded. Four bases: a Qwen2.5-0.5B and an 8B Llama, LoRA on
bfloat16 and on NF4; rows of 100 to 1,024 tokens. In turn, each with the GPU to itself: our engine; the script of
benchmarks/solo.py; our engine with `data.pack_rows`; and, where they are installed, TRL's SFTTrainer with packing and
the kernels of liger-kernel. Tokens per second are of training, padding left out. MFU counts the operations that LoRA
needs (4 per frozen weight and token: forward, and backward through activations alone; attention likewise), against the
GPU's dense bfloat16 peak. `--check` fails where ours trains at less than 0.98x of the script.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.solo import LEAST_RATIO, our_link, our_run, plain_row, plain_run, quiet
from hpo_service.domain.study.sections.data import DataSpec, SplitSpec
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
    rows=240,
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
    rows=60,
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


def write_uneven_rows(path: Path, count: int, chars: int) -> str:
    """Rows as `write_rows` makes them, of a tenth to the whole of the length."""
    write_rows(path, count, chars)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["completion"] = row["completion"][: chars * (1 + 7 * number % 10) // 20]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
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
        data=DataSpec(source=data, max_length=length, split=SplitSpec(validation=0.15, test=0.1)),
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
    """Run all ways in turn on one model; what is not counted in a run's time is loading it."""
    import torch
    from bitsandbytes.nn import Linear4bit
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from hpo_service.training.engines.solo import SoloEngine
    from hpo_service.training.run.loaded_models import LoadedModels

    length = 64 if smoke else 1024
    data = write_uneven_rows(folder / "rows.jsonl", 60 if smoke else shape.rows, 8 * length)
    model, cuda = str(folder / "model"), torch.cuda.is_available()
    config = trial(model, quantisation, data, shape, length)
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

    found: dict[str, list[float]] = {"ours": [], "plain": [], "ours_packing": [], "recipe": []}
    peaks: dict[str, float] = {}
    loaded = LoadedModels(folder)

    def ours(name: str, chosen: TrialConfig) -> None:
        # a folder of its own: a checkpoint of an earlier run would be gone on from
        run = partial(our_run, SoloEngine(loaded), chosen, Path(tempfile.mkdtemp(dir=folder)))
        (outcome, _, _), peaks[name] = _with_peak(run)
        tokens = float(outcome.facts.training.tokens or 0)
        if not tokens:
            raise SystemExit(f"{name}: {outcome.reason}")
        found[name].append(tokens / float(outcome.facts.timing.train or 0))

    assert config.data is not None
    packing = config.model_copy(update={"data": config.data.model_copy(update={"pack_rows": True})})
    operations, checkpointed, failed = 0.0, False, ""
    for _ in range(repeats):
        ours("ours", config)
        ours("ours_packing", packing)
        link, _ = our_link(config, Path(tempfile.mkdtemp(dir=folder)))
        base = loaded.base(link)
        parts = loaded.rows(link, base)
        train, validation = ([plain_row(row) for row in part] for part in (parts.train, parts.validation))
        tokens = sum(len(row["input_ids"]) for row in train)
        operations = operations_per_token(base.model, tokens // len(train))
        checkpointed = config.training.checkpoints_activations(base.facts.parameters or 0, on_gpu=cuda)
        del base
        loaded.release()
        run = partial(
            plain_run, load, train, validation, str(folder), config, bf16=cuda, activation_checkpointing=checkpointed
        )
        plain, peaks["plain"] = _with_peak(run)
        found["plain"].append(tokens / (plain["whole"] - plain["evaluate"]))
        try:
            seconds, peaks["recipe"] = _with_peak(partial(recipe_run, load, train, str(folder), config, checkpointed))
            found["recipe"].append(tokens / seconds)
        # an optional library, with kernels that may not like this machine
        except Exception as error:
            failed = f"{type(error).__name__}: {str(error)[:200]}"
    figures: dict[str, Any] = {name: statistics.median(values) if values else None for name, values in found.items()}
    peak = _peak_operations()
    return {
        "model": shape.name,
        "base": quantisation if quantisation != "none" else "bf16",
        **figures,
        "peaks_gb": peaks,
        "ratio": statistics.median(a / b for a, b in zip(found["ours"], found["plain"], strict=True)),
        "recipe_ratio": figures["ours_packing"] / figures["recipe"] if figures["recipe"] else None,
        "recipe_failed": failed,
        "mfu": figures["ours"] * operations / peak if peak else None,
        "checkpointed": checkpointed,
    }


def recipe_run(load: Any, rows: list[Any], folder: str, config: TrialConfig, checkpointed: bool) -> float:
    """Train the rows with TRL, packed, with liger's kernels on a GPU; return seconds of training."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found, attr-defined, unused-ignore]

    spec, cuda = config.training, torch.cuda.is_available()
    assert config.data is not None
    data = Dataset.from_list(
        [{"input_ids": row["input_ids"], "completion_mask": [int(x != -100) for x in row["labels"]]} for row in rows]
    )
    arguments = SFTConfig(
        folder,
        num_train_epochs=1,
        max_length=config.data.max_length,
        packing=True,
        per_device_train_batch_size=spec.micro_batch or 8,
        gradient_accumulation_steps=max(1, spec.effective_batch // (spec.micro_batch or 8)),
        learning_rate=spec.learning_rate,
        bf16=cuda,
        use_cpu=not cuda,
        use_liger_kernel=cuda,
        gradient_checkpointing=checkpointed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )
    lora = LoraConfig(r=spec.lora_rank, lora_alpha=spec.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(model=load(), args=arguments, train_dataset=data, peft_config=lora)
    return float(trainer.train().metrics["train_runtime"])


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


def main() -> int:
    """Measure, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1, help="runs of each way on each base (1)")
    parser.add_argument("--only", nargs="+", help="names of models and bases, such as 'Qwen2.5-0.5B none'")
    parser.add_argument("--folder", help="where models are written for a while; a memory disk is fastest")
    parser.add_argument("--out", type=Path, help="write JSON here, after every base")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes; runs anywhere")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help=f"exit 1 below {LEAST_RATIO}x")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available() and not options.smoke:
        print(NO_GPU, file=sys.stderr)
        return 2
    quiet()
    rows: list[dict[str, Any]] = []
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    for shape in (QWEN, LLAMA):
        if options.only and not any(name.startswith(shape.name) for name in options.only):
            continue
        with tempfile.TemporaryDirectory(prefix="hpo-", dir=options.folder) as folder:
            make_model(shape, Path(folder) / "model", smoke=options.smoke)
            for quantisation in ("none", "nf4"):
                if options.only and f"{shape.name} {quantisation}" not in options.only:
                    continue
                if not rows:
                    # what is compiled and chosen once is not the first way's cost
                    measure(replace(shape, rows=60), quantisation, Path(folder), 1, smoke=options.smoke)
                rows.append(measure(shape, quantisation, Path(folder), options.repeats, smoke=options.smoke))
                if options.out:
                    options.out.write_text(json.dumps({"device": device, "rows": rows}, indent=2))
    failed = [f"{row['model']} {row['base']}" for row in rows if row["ratio"] < LEAST_RATIO]
    if options.json:
        print(json.dumps({"device": device, "rows": rows, "failed": failed}, indent=2))
    else:
        print_table(rows)
    return 1 if options.check and failed else 0


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print the figures for people."""
    print(
        f"{'model':<14}{'base':<6}{'ours tok/s':>12}{'plain':>9}{'ratio':>7}{'MFU':>7}{'ours, packed rows':>19}"
        f"{'recipe':>9}{'ratio':>7}{'ours GB':>9}{'plain GB':>10}"
    )
    for row in rows:
        mfu = "" if row["mfu"] is None else f"{row['mfu']:.1%}"
        recipe = f"{row['recipe']:>9.0f}{row['recipe_ratio']:>7.3f}" if row["recipe"] else f"{'none':>9}{'':>7}"
        print(
            f"{row['model']:<14}{row['base']:<6}{row['ours']:>12.0f}{row['plain']:>9.0f}{row['ratio']:>7.3f}{mfu:>7}"
            f"{row['ours_packing']:>19.0f}{recipe}{row['peaks_gb']['ours']:>9.1f}{row['peaks_gb']['plain']:>10.1f}"
        )
        if row["recipe_failed"]:
            print(f"    the recipe: {row['recipe_failed']}")


if __name__ == "__main__":
    sys.exit(main())
