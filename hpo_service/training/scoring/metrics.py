"""Task metrics: how good a model's answers are, in words rather than in nats."""

from __future__ import annotations

import math
import numbers
import pkgutil
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from hpo_service.errors import TrialError

OWN = "python:"
_WORDS = re.compile(r"[^\W_]+")
_ARTICLES = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True)
class Sample:
    """One row as it was asked, what it says, and what the model said; all are text."""

    prompt: str
    reference: str
    prediction: str


@dataclass(frozen=True)
class Measured:
    """What a metric found: its value, and what each row contributed; None where it gives one number for all."""

    value: float
    rows: list[float] | None = None


Metric = Callable[[list[Sample]], object]
"""Takes all samples and returns one number, or one for each of them; a stranger's may return anything."""


def exact_match(sample: Sample) -> float:
    """1 where the answer is the reference; runs of blanks count as one, and those at the ends not at all."""
    return float(sample.prediction.split() == sample.reference.split())


def token_f1(sample: Sample) -> float:
    """F1 of the bags of words, without case, punctuation and English articles.

    Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", 2016; the official script.
    """
    predicted, expected = _squad_words(sample.prediction), _squad_words(sample.reference)
    if not predicted or not expected:
        return float(predicted == expected)
    return _f1(sum((Counter(predicted) & Counter(expected)).values()), len(predicted), len(expected))


def rouge_l(sample: Sample) -> float:
    """F1 of the longest common subsequence of words: runs of letters and digits, without case, not stemmed.

    Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, with beta = 1 as in Google's `rouge_score`.
    """
    predicted, expected = (_WORDS.findall(text.lower()) for text in (sample.prediction, sample.reference))
    if not predicted or not expected:
        return float(predicted == expected)
    return _f1(common_subsequence(predicted, expected), len(predicted), len(expected))


def common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence, by the usual table of which one row is kept."""
    row = [0] * (len(right) + 1)
    for word in left:
        diagonal = 0
        for place, other in enumerate(right, start=1):
            above = row[place]
            row[place] = diagonal + 1 if word == other else max(above, row[place - 1])
            diagonal = above
    return row[-1]


BUILTIN: dict[str, Callable[[Sample], float]] = {
    "exact_match": exact_match,
    "token_f1": token_f1,
    "rouge_l": rouge_l,
}
"""What a study file may name, row by row; the value is the mean over the rows."""


def measure(name: str, samples: list[Sample]) -> Measured:
    """Return a metric of the samples; where it has a number for each row, its value is their mean.

    Raises:
        TrialError: a function of the user's own cannot be imported, raises, or returns neither a finite number nor one
            for each sample.
    """
    if name in BUILTIN:
        return _mean([BUILTIN[name](sample) for sample in samples])
    try:
        value = _own(name)(samples)
    except TrialError:
        raise
    # a stranger's code: whatever it raises costs this metric alone
    except Exception as error:
        reason = " ".join(str(error).split())
        raise TrialError(f"metric {name} raised {type(error).__name__}: {reason}".removesuffix(": ")) from error
    if _is_number(value) and not isinstance(value, bool):
        return Measured(float(value))
    rows = list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping) else []
    if len(rows) == len(samples) and all(map(_is_number, rows)):
        return _mean([float(each) for each in rows])
    said = f"{len(rows)} values for {len(samples)} samples" if rows else repr(value)
    raise TrialError(f"metric {name} returned {said}: it must return a finite number, or a list of one for each sample")


def _mean(rows: list[float]) -> Measured:
    return Measured(sum(rows) / len(rows), rows)


def _is_number(value: object) -> TypeGuard[float]:
    # True is one too, which a list of rows may say of each that is right
    return isinstance(value, numbers.Real) and math.isfinite(value)


def _own(name: str) -> Metric:
    try:
        found = pkgutil.resolve_name(name.removeprefix(OWN))
    except (ImportError, AttributeError, SyntaxError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise TrialError(f"metric {name} cannot be imported ({reason}): start workers where Python finds it") from error
    if not callable(found):
        raise TrialError(f"metric {name} is not a function")
    function: Metric = found
    return function


def _f1(common: int, predicted: int, expected: int) -> float:
    return 2 * common / (predicted + expected)


def _squad_words(text: str) -> list[str]:
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return _ARTICLES.sub(" ", plain).split()
