"""What only the trainer's libraries can tell of a node: `python -m hpo_service.training.preflight` answers one request.

It reads `{"hub": [["model", "org/name"], ...], "quantises": true}`, what must come from the hub and whether
bitsandbytes is needed, on standard input and writes `{"findings": [{"what", "level", "detail"}, ...]}` on standard
output.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from hpo_service.training.device.libraries import keep_quiet

Said = dict[str, str]
TOO_COARSE = 0.2
"""By how much a number between -1 and 1 may change when it is held in 4 bits; the widest step of nf4 is 0.3."""


def main() -> int:
    """Answer the request on standard input; return 0."""
    # only the answer goes there: no library's print may spoil it
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    keep_quiet()
    request: dict[str, Any] = json.load(sys.stdin)
    found = [device()]
    if request["quantises"]:
        found.append(bitsandbytes())
    found += [from_hub(kind, name) for kind, name in request["hub"]]
    with answers:
        json.dump({"findings": found}, answers)
    return 0


def device() -> Said:
    """Whether torch computes on the device that trials will use."""
    from hpo_service.training.device.environment import try_device, versions

    try:
        return _said("study's device", "ok", f"torch computes on {try_device()} ({versions()})")
    except Exception as error:  # a broken driver raises what it likes
        return _said("study's device", "error", f"torch cannot use the device ({_words(error)}): see nvidia-smi")


def bitsandbytes() -> Said:
    """Whether bitsandbytes holds numbers in 4 bits on the device and gives them back."""
    try:
        import torch
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        numbers = torch.linspace(-1, 1, 4096, device="cuda" if torch.cuda.is_available() else "cpu").reshape(64, 64)
        packed, state = quantize_4bit(numbers, quant_type="nf4")
        change = float((dequantize_4bit(packed, state) - numbers).abs().max())
        if change > TOO_COARSE:
            raise ArithmeticError(f"numbers change by {change:.2g} in 4 bits")
    except Exception as error:  # its native library raises what it likes
        remedy = (
            "install a bitsandbytes built for this CUDA (python -m bitsandbytes), or set model.quantisation to none"
        )
        return _said("bitsandbytes", "error", f"it does not work here ({_words(error)}): {remedy}")
    return _said("bitsandbytes", "ok", "holds numbers in 4 bits and gives them back")


def from_hub(kind: str, name: str) -> Said:
    """Whether the hub would give this node what is not in its cache yet; nothing is downloaded."""
    from huggingface_hub import HfApi

    what = f"{kind} {name}"
    try:
        HfApi().auth_check(name, repo_type="dataset" if kind == "data" else "model")
    # HTTP libraries raise of their own where there is no network
    except Exception as error:
        return _said(what, "error", next(_remedies(error, name, kind)))
    return _said(what, "ok", "is not in this machine's cache; the hub gives it to this node")


def _remedies(error: Exception, name: str, kind: str) -> Iterator[str]:
    """What went wrong and what to set, the most particular first."""
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    get = f"`hf download {name}{' --repo-type dataset' if kind == 'data' else ''}`"
    if isinstance(error, OfflineModeIsEnabled):
        yield (
            "is not in this machine's cache, and HF_HUB_OFFLINE forbids to fetch it: "
            f"run {get} where there is network, with HF_HOME on a folder that this node sees, or unset HF_HUB_OFFLINE"
        )
    if isinstance(error, GatedRepoError):
        yield (
            "is gated, and not open to this node's token: accept its terms on its page, then set HF_TOKEN to a token "
            "of that account (`hf auth login` on one machine, a secret on a cluster)"
        )
    if isinstance(error, RepositoryNotFoundError):
        yield "is not known to the hub, or private: check the name, or set HF_TOKEN to a token that may read it"
    yield (
        f"cannot be fetched ({_words(error)}): give this node network (HTTPS_PROXY, or HF_ENDPOINT for a mirror), or "
        f"run {get} elsewhere with HF_HOME on a folder that this node sees, and set HF_HUB_OFFLINE=1 here"
    )


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _said(what: str, level: str, detail: str) -> Said:
    return {"what": what, "level": level, "detail": detail}


if __name__ == "__main__":
    sys.exit(main())
