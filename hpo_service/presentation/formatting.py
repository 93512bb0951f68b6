"""Numbers, names and configurations as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from hpo_service.presentation.perplexity import perplexity

SHORT_NAMES = {
    "learning_rate": "lr",
    "lora_rank": "r",
    "lora_alpha": "alpha",
    "lora_alpha_multiplier": "alpha/r",
    "lora_dropout": "dropout",
    "warmup_ratio": "warmup",
    "weight_decay": "decay",
    "effective_batch": "batch",
    "target_modules": "targets",
    "prefix_tokens": "prefix",
    "scratch_width": "width",
    "scratch_layers": "layers",
    "scratch_heads": "heads",
    "scratch_dropout": "dropout",
    "max_grad_norm": "clip",
}
"""What well-known hyper-parameters are called where space is short."""

_MINUTE, _HOUR = 60, 3600
_SMALL = 0.01


def number(value: object) -> str:
    """Write a value with three significant digits at most; small floats as 2.1e-4."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if value and abs(value) < _SMALL:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.3g}"


def measured(value: float | None) -> str:
    """Write a measured value with four decimals, or a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.4g}"


def perplexed(nll: float | None) -> str:
    """Write the perplexity of a mean NLL with four digits, or a dash where there is none."""
    value = perplexity(nll)
    return "–" if value is None else f"{value:.4g}"


def short_name(parameter: str) -> str:
    """Return what a parameter is called where space is short."""
    return SHORT_NAMES.get(parameter, parameter)


def configuration(parameters: Mapping[str, object]) -> str:
    """Write a configuration on one line, e.g. `lr 2.1e-4, r 16`."""
    return ", ".join(f"{short_name(name)} {number(value)}" for name, value in parameters.items())


def duration(seconds: float) -> str:
    """Write a length of time in two units at most, e.g. `1 h 05 min`."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"


def device_time(seconds: float) -> str:
    """Write device time: decimal hours from one hour on, as bills do, else minutes and seconds."""
    return f"{seconds / _HOUR:.1f} h" if seconds >= _HOUR else duration(seconds)


def moment(seconds: float) -> str:
    """Write a time of the database's clock as UTC."""
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
