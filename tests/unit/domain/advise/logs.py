"""Logs made up to show one fault each, and healthy ones; losses as runs of language models have them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Entries = list[dict[str, Any]]


def log(
    train: list[float],
    held_out: list[float] = (),
    norms: list[float] = (),
    rates: list[float] = (),  # type: ignore[assignment]
) -> dict[str, Any]:
    """A trainer_state.json with these curves, the training losses at every 10 steps."""
    entries: Entries = []
    for place, loss in enumerate(train):
        entry = {"step": 10 * (place + 1), "loss": loss}
        if len(norms):
            entry["grad_norm"] = norms[place]
        if len(rates):
            entry["learning_rate"] = rates[place]
        entries.append(entry)
    every = len(train) / max(1, len(held_out))
    entries += [{"step": round(10 * every * (k + 1)), "eval_loss": value} for k, value in enumerate(held_out)]
    return {"global_step": 10 * len(train), "log_history": entries}


def falling(
    first: float, last: float, count: int, noise: float = 0.02, seed: int = 0, pace: float = 3.0
) -> list[float]:
    """Losses that fall towards `last`, with noise in proportion; `pace` is how many times the rest shrinks by e."""
    drawn = np.random.default_rng(seed).normal(size=count)
    places = np.linspace(0, 1, count)
    return [
        float((last + (first - last) * math.exp(-pace * place)) * (1 + noise * z))
        for place, z in zip(places, drawn, strict=True)
    ]


def cosine(count: int, peak: float = 2e-4) -> list[float]:
    return [peak * 0.5 * (1 + math.cos(math.pi * place / count)) for place in range(count)]


def norms(count: int, level: float = 0.8, seed: int = 1) -> list[float]:
    return [float(level * math.exp(0.2 * z)) for z in np.random.default_rng(seed).normal(size=count)]


def _rough() -> list[float]:
    losses = falling(2.0, 1.2, 60, seed=3)
    losses[3:9] = [2.9, 3.8, 3.1, 3.5, 2.7, 2.4]
    return losses


def _spiky() -> list[float]:
    losses = falling(2.0, 1.2, 80, seed=4)
    for place in (30, 44, 61):
        losses[place] *= 2.1
    return losses


def _restless() -> list[float]:
    return falling(2.0, 1.4, 60, seed=22)[:36] + falling(2.0, 1.4, 60, noise=0.13, seed=29)[36:]


def _lost() -> list[float]:
    return [*falling(2.0, 1.5, 30, seed=5), *[math.nan] * 10]


HEALTHY: dict[str, dict[str, Any]] = {
    "a short run": log(falling(1.9, 1.3, 24, seed=11), [1.6, 1.48, 1.42, 1.4], norms(24), cosine(24)),
    "a long one with many evaluations": log(
        falling(2.4, 1.1, 300, seed=12), falling(1.9, 1.2, 30, noise=0.001, seed=13), norms(300), cosine(300)
    ),
    "noisy batches": log(falling(1.5, 1.05, 100, noise=0.06, seed=14), [1.25, 1.17, 1.13, 1.11, 1.1], norms(100)),
    "three epochs, a little worse at the end": log(
        falling(1.8, 0.95, 120, seed=15), [1.5, 1.35, 1.27, 1.24, 1.235, 1.25], norms(120, 1.5), cosine(120)
    ),
    "no evaluations": log(falling(2.2, 1.4, 60, noise=0.03, seed=16), (), norms(60)),  # type: ignore[arg-type]
}
"""Healthy logs by what they are like."""

FAULTY: dict[str, dict[str, Any]] = {
    "not a number": log(_lost(), [1.8, 1.6, 1.55]),
    "no signal": log([0.0] * 40, (), [0.0] * 40),  # type: ignore[arg-type]
    "diverged": log([*falling(2.0, 1.6, 20, seed=21), *[2.5, 4.1, 6.8, 7.4, 7.2, 7.5, 7.3, 7.4, 7.6, 7.5]]),
    "rough start": log(_rough(), [1.6, 1.4, 1.32, 1.29], norms(60)),
    "spikes": log(_spiky(), [1.7, 1.5, 1.38, 1.32], norms(80)),
    "unstable": log(_restless(), [1.7, 1.6, 1.53, 1.5], norms(60)),
    "large gradients": log(falling(2.0, 1.3, 60, seed=23), [1.7, 1.5, 1.42, 1.38], norms(60, 11.0)),
    "overfit": log(falling(1.8, 0.7, 90, seed=24), [1.4, 1.22, 1.18, 1.2, 1.29, 1.38], norms(90)),
    "gap": log(falling(1.8, 0.45, 90, seed=25), [1.4, 1.22, 1.12, 1.08, 1.07, 1.07], norms(90)),
    "underfit": log([3.0 - 0.03 * k for k in range(50)], [2.7, 2.4, 2.1, 1.8, 1.55], norms(50)),
    "barely improved": log(falling(1.5, 1.47, 60, noise=0.005, seed=26), [1.49, 1.48, 1.478, 1.477]),
    "plateau": log(falling(2.0, 1.3, 100, noise=0.01, seed=27, pace=30.0), [1.4, 1.33, 1.32, 1.318], norms(100)),
    "schedule over": log(falling(2.0, 1.3, 60, seed=28), [1.7, 1.5, 1.42, 1.38], norms(60), [*cosine(40), *[0.0] * 20]),
}
"""For every fault a log that shows it and no other."""
