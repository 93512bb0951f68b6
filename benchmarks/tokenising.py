"""Tokenises made-up chat rows as a study does, and as `datasets.map` does: rows a second, and memory.

    python benchmarks/tokenising.py --rows 200000 --cores 1 2

Memory is the largest private memory of all processes together (proportional set without what lies on disk), since
mapped files may be thrown out at any time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

WORDS = (
    "learning",
    "rate",
    "schedule",
    "warm",
    "batch",
    "adapter",
    "rank",
    "loss",
    "token",
    "curve",
    "is",
    "the",
    "of",
)
TURNS, WORDS_A_TURN = 4, 30
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<eos>\n{% endfor %}"
MAX_LENGTH = 512


def main() -> int:
    """Measure each way in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "rows.jsonl"
        write(source, given.rows)
        print(f"{given.rows:,} rows of {TURNS} turns, {source.stat().st_size / 1e6:.0f} MB")
        print(f"{'way':14} {'cores':>5} {'seconds':>8} {'rows/s':>8} {'MB':>7} {'tokens':>12}")
        for way in given.ways:
            for cores in dict.fromkeys(given.cores):
                seconds, memory, tokens = measured(way, source, cores)
                print(f"{way:14} {cores:5} {seconds:8.1f} {given.rows / seconds:8.0f} {memory:7.0f} {tokens:12,}")
    return 0


def write(path: Path, rows: int) -> None:
    """Write conversations of random words."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as stream:
        for _ in range(rows):
            turns = [
                {"role": ("user", "assistant")[turn % 2], "content": " ".join(draw.choices(WORDS, k=WORDS_A_TURN))}
                for turn in range(TURNS)
            ]
            stream.write(json.dumps({"messages": turns}) + "\n")


def measured(way: str, source: Path, cores: int) -> tuple[float, float, int]:
    """Seconds, largest private memory in MB and tokens of one way, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(way, str(source), cores, theirs))
    process.start()
    theirs.close()
    ended, most = Event(), [0.0]
    watch = Thread(target=_watch, args=(process.pid, ended, most))
    watch.start()
    seconds, tokens = ours.recv()
    process.join()
    ended.set()
    watch.join()
    return seconds, most[0], tokens


def _run(way: str, source: str, cores: int, answer: Any) -> None:
    from transformers import PreTrainedTokenizerBase

    tokenizer: PreTrainedTokenizerBase = _tokenizer()
    begin = time.monotonic()
    tokens = WAYS[way](source, tokenizer, cores)
    answer.send((time.monotonic() - begin, tokens))


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1000, special_tokens=["<pad>", "<eos>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    fast.chat_template = TEMPLATE
    return fast


def _ours(source: str, tokenizer: Any, cores: int) -> int:
    from hpo_service.domain.study.sections.data import DataSpec
    from hpo_service.training.data import rows
    from hpo_service.training.data.tokenising import cores as several

    several.usable_cores = lambda: cores
    spec = DataSpec(source=source, max_length=MAX_LENGTH)
    found = rows.prepare_rows(spec, tokenizer, folder=Path(source).parent / "spool")
    return found.report.whole.tokens


def _datasets_map(source: str, tokenizer: Any, cores: int) -> int:
    """Only what `datasets` users do: render, tokenise, cut. No split, no leaks, no masks of turns, no report."""
    from datasets import load_dataset

    cache = tempfile.mkdtemp(dir=Path(source).parent)
    data = load_dataset("json", data_files=source, split="train", cache_dir=cache)

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts = [tokenizer.apply_chat_template(turns, tokenize=False) for turns in batch["messages"]]
        encoded = tokenizer(texts, truncation=True, max_length=MAX_LENGTH, add_special_tokens=False)
        return {"input_ids": encoded["input_ids"], "length": [len(ids) for ids in encoded["input_ids"]]}

    mapped = data.map(encode, batched=True, num_proc=cores if cores > 1 else None, remove_columns=["messages"])
    return sum(mapped["length"])


WAYS: dict[str, Callable[[str, Any, int], int]] = {"hpo-service": _ours, "datasets.map": _datasets_map}
"""How rows are tokenised, by name."""


def _watch(pid: int | None, ended: Event, most: list[float]) -> None:
    import psutil

    while not ended.wait(0.25):
        total = 0
        try:
            process = psutil.Process(pid)
            for each in (process, *process.children(recursive=True)):
                total += each.memory_full_info().uss
        except psutil.Error:
            continue
        most[0] = max(most[0], total / 1e6)


if __name__ == "__main__":
    sys.exit(main())
