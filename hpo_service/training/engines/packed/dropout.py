"""Dropout whose mask follows from trial seed, step, module, row, position and feature alone, not from neighbours.

A counter-based generator: what is hashed names the element, so that a trial draws the same mask whoever shares its pass
and however far its rows are padded. The hash is the 32-bit finaliser "lowbias32" (Chris Wellons, 2018).
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch

Keys = npt.NDArray[np.uint32]

_FIRST, _SECOND = 0x7FEB352D, 0x846CA68B
_GOLDEN, _SILVER = 0x9E3779B1, 0x85EBCA77
_MASK = 0xFFFFFFFF


def row_keys(seed: int, step: int, rows: int) -> Keys:
    """One key for each of `rows` rows of an optimizer step, in the step's own order."""
    start = _mixed(np.asarray([seed & _MASK], dtype=np.uint64))
    start = _mixed(start ^ np.uint64(step & _MASK))
    return _mixed(start + np.arange(rows, dtype=np.uint64) * np.uint64(_GOLDEN)).astype(np.uint32)


def module_salt(name: str, device: torch.device) -> torch.Tensor:
    """A module's own 32 bits, int32 []: a number of Python's own would be compiled into what is compiled."""
    bits = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little", signed=True)
    return torch.tensor(bits, dtype=torch.int32, device=device)


def keep_mask(
    keys: torch.Tensor, salt: torch.Tensor, length: int, width: int, thresholds: torch.Tensor
) -> torch.Tensor:
    """Which elements of [rows, length, width] are kept.

    Args:
        keys: int32 [rows], from `row_keys`.
        salt: int32 [], of the module.
        length: positions in a row.
        width: features of the module's input.
        thresholds: int16 [rows], from `threshold`; the lowest int16 keeps everything.
    """
    where = keys.device
    positions = torch.arange(length, dtype=torch.int32, device=where)
    cells = _hashed((keys ^ salt).unsqueeze(1) + positions * _signed(_GOLDEN))
    pairs = torch.arange((width + 1) // 2, dtype=torch.int32, device=where) * _signed(_SILVER)
    # one hash serves two features: its halves are compared as signed 16-bit numbers
    bits = _hashed(cells.unsqueeze(2) + pairs).view(torch.int16)[..., :width]
    return bits >= thresholds.view(-1, 1, 1)


def threshold(dropout: float) -> int:
    """The smallest signed 16-bit number that is kept: a share `dropout` (to 1/65536) of all lies below it."""
    return min(32767, round(dropout * 65536) - 32768)


def _hashed(x: torch.Tensor) -> torch.Tensor:
    """lowbias32 on int32, whose products wrap; right shifts are made logical by masking what comes in."""
    x = x ^ ((x >> 16) & 0xFFFF)
    x.mul_(_signed(_FIRST))
    x.bitwise_xor_((x >> 15) & 0x1FFFF)
    x.mul_(_signed(_SECOND))
    return x.bitwise_xor_((x >> 16) & 0xFFFF)


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    mask = np.uint64(_MASK)
    x = x & mask
    x = ((x ^ (x >> np.uint64(16))) * np.uint64(_FIRST)) & mask
    x = ((x ^ (x >> np.uint64(15))) * np.uint64(_SECOND)) & mask
    return x ^ (x >> np.uint64(16))


def _signed(bits: int) -> int:
    return bits - 0x1_0000_0000 if bits & 0x8000_0000 else bits
