"""What can be wrong with a run: one table of faults, with what each looks like and what helps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hpo_service.domain.advise import signs
from hpo_service.domain.advise.run_log import RunLog
from hpo_service.domain.advise.signs import Seen

GUIDES = "fine-tuning guides"


@dataclass(frozen=True)
class Fault:
    """One thing that can be wrong with a run.

    Attributes:
        summary: what it is, in words.
        looks: how a log shows it, with the figures of the rule.
        sees: finds it in a log.
        remedies: what helps, the likeliest first.
        source: of the rule.
        hides: faults that are not told beside it, for the same curve shows them.
    """

    summary: str
    looks: str
    sees: Callable[[RunLog], Seen]
    remedies: tuple[str, ...]
    source: str = GUIDES
    hides: frozenset[str] = frozenset()


_LOWER_RATE = "lower the learning rate, to a third at first"
_CLIP = "clip gradients (max_grad_norm 1.0, or 0.3)"
_WARM_UP = "warm up longer (warmup_ratio 0.1)"
_OF_A_CURVE = frozenset(
    {"diverged", "rough start", "spikes", "unstable", "large gradients", "overfit", "gap", "underfit"}
    | {"barely improved", "plateau", "schedule over"}
)

FAULTS: dict[str, Fault] = {
    "not a number": Fault(
        "the run's numbers overflowed or became undefined, and everything after that is lost",
        "a training or validation loss that is not finite, or gradient norms that are not until the end",
        signs.not_a_number,
        (_LOWER_RATE, _CLIP, "compute in bf16 rather than fp16", "look for rows without a supervised token"),
        hides=_OF_A_CURVE | {"no signal"},
    ),
    "no signal": Fault(
        "nothing is learned: no token is supervised, no weight is trained, or the model is broken",
        "a training loss or gradient norm of exactly 0 in the whole second half",
        signs.no_signal,
        (
            "check the labels: all may be masked (`hpo-service data report` counts supervised tokens)",
            "check that adapters are on the model and trainable",
            "lower the learning rate, where the loss leapt up before: it has broken the model",
        ),
        "a loss is a mean over supervised tokens; of none it is 0, and a saturated network has no gradient",
        hides=_OF_A_CURVE,
    ),
    "diverged": Fault(
        "training made the model worse",
        f"the median of the last {signs.ENDS} training losses is more than {signs.DIVERGED:g} times that of the first",
        signs.diverged,
        (_LOWER_RATE, _WARM_UP, _CLIP, "lower alpha: updates scale with rate x alpha / rank"),
        hides=_OF_A_CURVE,
    ),
    "rough start": Fault(
        "wild swings at the beginning: the rate rises too fast, or too high",
        f"in the first fifth {signs.SPIKES} training losses or more lie {signs.ROUGH_RISE:g} times above the first",
        signs.rough_start,
        (_WARM_UP, _LOWER_RATE, _CLIP),
    ),
    "spikes": Fault(
        "single losses leap up after the start",
        f"{signs.SPIKES} losses or more of {signs.SPIKE:g} times the median of the {signs.BEFORE_SPIKE} before",
        signs.spikes,
        (_CLIP, _LOWER_RATE, "look at the rows of those steps: very long, repeated or broken ones"),
        "PaLM, arXiv 2204.02311, section 5.1, for what spikes come from",
        hides=frozenset({"unstable"}),
    ),
    "unstable": Fault(
        "the loss jumps from step to step",
        f"the last {signs.LAST} training losses scatter around their trend by over {signs.UNSTABLE:.0%} of their mean",
        signs.unstable,
        (
            "raise the effective batch (more accumulation)",
            _LOWER_RATE,
            _WARM_UP,
            _CLIP,
            "or only log means of more steps (logging_steps), where a step has few tokens",
        ),
        hides=frozenset({"underfit"}),
    ),
    "large gradients": Fault(
        "gradients are large for most of the run, so that clipping decides the steps",
        f"the median gradient norm of the second half lies above {signs.LARGEST_NORM:g}",
        signs.large_norms,
        (_CLIP, _LOWER_RATE, "lower alpha, or use rsLoRA at large ranks"),
    ),
    "overfit": Fault(
        "the model learns the training rows by heart and gets worse on others",
        f"the last validation loss is over {signs.OVERFIT:.0%} above the best (severe: {signs.SEVERE_OVERFIT:.0%})",
        signs.overfit,
        (
            "train fewer epochs, or keep the best checkpoint (early stopping, patience 3)",
            _LOWER_RATE,
            "lower the rank",
            "raise lora_dropout to 0.05 or 0.1",
            "raise weight_decay",
            "add rows, or drop repeated ones",
        ),
        hides=frozenset({"gap", "plateau", "underfit"}),
    ),
    "gap": Fault(
        "the model does much better on the rows it was trained on than on others",
        f"the last validation loss is more than {signs.GAP:g} times the training loss",
        signs.gap,
        (
            "train fewer epochs",
            "lower the rank",
            "raise lora_dropout or weight_decay",
            "add rows",
            "check that validation rows are of the same kind as the training rows",
        ),
    ),
    "underfit": Fault(
        "the run ended while it was still learning",
        f"the training loss falls by over {signs.STILL_FALLING:g} nats over the last {signs.WINDOW} points (or the "
        f"last fifth, if more), beyond chance, at {signs.PACE:.0%} of the run's pace or more, and no validation "
        "loss was better before",
        signs.underfit,
        ("train longer", "raise the learning rate", "raise the rank, or adapt all linear modules"),
    ),
    "barely improved": Fault(
        "the run changed next to nothing",
        f"training and validation loss, where there are both, improve by less than {signs.BARELY:.0%}",
        signs.barely_improved,
        (
            "raise the learning rate, three times at first (`hpo-service lr-range` finds one)",
            "raise the rank or alpha, or adapt all linear modules",
            "check that the rows hold something new to the model",
        ),
        hides=frozenset({"plateau"}),
    ),
    "plateau": Fault(
        "the run gained nothing for half of its length",
        f"over the second half of {2 * signs.WINDOW} points or more the loss changes by less than {signs.FLAT:.0%}, "
        "noise considered",
        signs.plateau,
        (
            "train shorter: the second half can be saved",
            "raise the learning rate, or choose a schedule that falls later",
            "raise the rank, where a larger one has not been tried",
        ),
    ),
    "schedule over": Fault(
        "the learning rate reached 0 long before the end, and the rest of the run trained nothing",
        f"a learning rate of 0 for more than {signs.IDLE:.0%} of the run at its end",
        signs.schedule_over,
        ("set the schedule's steps to those of the run; a run that was resumed may have kept an earlier max_steps",),
        "a step at rate 0 changes no weight",
        hides=frozenset({"plateau"}),
    ),
}
"""Faults by name, in the order in which one may explain another."""
