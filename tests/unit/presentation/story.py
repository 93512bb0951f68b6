"""A made-up study with believable numbers, at any moment of its life, for tests of what people see."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from hpo_service.domain.study.search_space import ParameterValue
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.facts import RunFacts
from hpo_service.domain.trial.scores import Scores
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.service.studies.findings.evidence import Evidence, gather_evidence
from hpo_service.service.studies.overview import StudyLine
from hpo_service.service.studies.snapshot import StageView, StudySnapshot, TrialView
from hpo_service.storage.trial.reports import ReportRow

START = 1_790_000_000.0
EVALUATIONS = 8
TEST_ROWS = 240
SPEC: dict[str, Any] = {
    "name": "quickstart",
    "description": "Signature -> first sentence of the docstring",
    "model": {"base": "builtin:llama-tiny", "target": "builtin:llama-small"},
    "data": {"source": "builtin:stdlib-docstrings", "max_length": 128},
    "space": {"preset": "lora"},
    "search": {"budget": {"trials": 16}},
}
FACTS: dict[str, float | int | str | None] = {
    "python": "3.12.4",
    "torch": "2.13.0+cpu",
    "transformers": "5.23.1",
    "peft": "0.21.2",
    "train_seconds": 8.1,
    "tokens": 81234,
}


def loss(learning_rate: float, rank: int, best_rate: float, floor: float) -> float:
    """The final loss: a parabola over the logarithm of the learning rate, a little better with rank."""
    return floor + 0.11 * math.log10(learning_rate / best_rate) ** 2 - 0.012 * math.log2(rank)


def curve(trial_id: int, final: float, first: float, until: int, started: float, seconds: float) -> list[ReportRow]:
    """Evaluations 1 to `until` of a run that would end at `final`."""
    rng = np.random.default_rng(trial_id)
    return [
        ReportRow(
            trial_id=trial_id,
            step=step,
            attempt=1,
            fraction=step / EVALUATIONS,
            value=final
            + (first - final) * math.exp(-4 * step / EVALUATIONS)
            + 0.004 * rng.normal() * (step < EVALUATIONS),
            note="",
            metrics={"learning_rate": 1e-4, "train_loss": final},
            reported_at=started + seconds * step / EVALUATIONS,
        )
        for step in range(1, until + 1)
    ]


def trial(
    trial_id: int,
    number: int | None,
    state: TrialState,
    parameters: dict[str, ParameterValue],
    *,
    final: float = 0.0,
    steps: int = EVALUATIONS,
    reason: str = "trained for the whole epoch",
    role: str = "search",
    label: str = "",
    seed: int = 42,
    seconds: float = 12.0,
    started: float = START,
    **more: Any,
) -> TrialView:
    """One trial; `steps` of its evaluations were reported."""
    reports = curve(trial_id, final, final + 0.6, steps, started, seconds)
    complete, ended = state is TrialState.COMPLETE, state.final
    shown = reports[-1].value if reports and state in (TrialState.COMPLETE, TrialState.PRUNED) else None
    values: dict[str, Any] = {
        "id": trial_id,
        "number": number,
        "state": state,
        "role": role,
        "label": label,
        "parameters": parameters,
        "value": final if complete else shown,
        "reason": "" if state in (TrialState.WAITING, TrialState.RUNNING) else reason,
        "attempt": 0 if state is TrialState.WAITING else 1,
        "errors": 0,
        "losses": 0,
        "progress": steps / EVALUATIONS,
        "seed": seed,
        "worker": None if state is TrialState.WAITING else "node-17-ab12",
        "device_seconds": seconds * steps / EVALUATIONS if ended else 0.0,
        "started_at": None if state is TrialState.WAITING else started,
        "ended_at": started + seconds * steps / EVALUATIONS if ended else None,
        "origin_id": None,
        "adapter": None,
        "facts": RunFacts.of(FACTS) if complete else RunFacts(),
        "curve": reports,
    }
    return TrialView(**{**values, **more})


def search_trials(ended: int = 16, running: int = 0) -> list[TrialView]:
    """The first trials of the search: some pruned at the rungs, one out of memory, one failed."""
    rng = np.random.default_rng(7)
    trials = []
    for number in range(16):
        rate = float(10 ** rng.uniform(math.log10(5e-5), math.log10(2e-3) if number > 4 else -3.3))
        rank = int(rng.choice([4, 8, 16, 32]))
        parameters: dict[str, ParameterValue] = {
            "learning_rate": rate,
            "lora_rank": rank,
            "lora_alpha_multiplier": int(rng.choice([1, 2])),
            "lora_dropout": float(rng.uniform(0, 0.15)),
            "warmup_ratio": float(rng.uniform(0.01, 0.1)),
            "weight_decay": float(rng.uniform(0, 0.1)),
        }
        final = loss(rate, rank, 8e-4, 3.05)
        started = START + 6.0 * number
        if number >= ended + running:
            break
        if number >= ended:
            trials.append(
                trial(number + 1, number, TrialState.RUNNING, parameters, final=final, steps=3, started=started)
            )
            continue
        trials.append(_ended(number, parameters, final, started))
    return trials


def _ended(number: int, parameters: dict[str, ParameterValue], final: float, started: float) -> TrialView:
    if number == 6:
        reason = "3 attempts failed, the last with: OSError: [Errno 28] No space left on device"
        return trial(
            7, 6, TrialState.FAILED, parameters, steps=1, reason=reason, started=started, errors=3, attempt=3, curve=[]
        )
    if number == 9:
        reason = "out of memory: 24.1 GB needed, 23.6 GB present"
        return trial(10, 9, TrialState.INFEASIBLE, parameters, steps=0, reason=reason, started=started)
    if final > 3.06 and number > 3:
        steps = 2 if final > 3.09 else 4
        reason = (
            f"validation loss {final + 0.2:.4g} at {steps / EVALUATIONS:.0%} of the epoch is 5th of 7; "
            "only the better half (up to 3.211) goes on"
        )
        return trial(
            number + 1, number, TrialState.PRUNED, parameters, final=final, steps=steps, reason=reason, started=started
        )
    return trial(number + 1, number, TrialState.COMPLETE, parameters, final=final, started=started)


def search_stage(ended: int = 16, running: int = 0) -> StageView:
    """The search stage; closed once all 16 have ended."""
    done = ended == 16
    return StageView(
        stage="search",
        open=not done,
        budget=16,
        reason="all 16 trials of the budget have been admitted, and all have ended"
        if done
        else "gp proposes, halving prunes",
        opened_at=START,
        closed_at=START + 110 if done else None,
        trials=search_trials(ended, running),
    )


def verify_stage(ended: int = 9) -> StageView:
    """Three search configurations at three learning rates on the larger model."""
    best = sorted((t for t in search_trials() if t.state is TrialState.COMPLETE), key=lambda t: t.value or 0.0)[:3]
    trials, reasons = [], {}
    for origin in best:
        for factor in (0.5, 1.0, 2.0):
            index = len(trials)
            rate = float(origin.parameters["learning_rate"]) * math.sqrt(128 / 256)
            rank = min(64, 2 * int(origin.parameters["lora_rank"]))
            label = f"search #{origin.number}, lr x {factor:g}"
            reasons[label] = (
                f"rank {rank // 2} x 2, at most 64, = {rank}; learning rate "
                f"{origin.parameters['learning_rate']:.3g} x (128/256)^0.5 = {rate:.3g}, then x {factor:g}"
            )
            state = TrialState.COMPLETE if index < ended else TrialState.WAITING
            pruned = index == 6 < ended
            trials.append(
                trial(
                    100 + index,
                    index if index < ended else None,
                    TrialState.PRUNED if pruned else state,
                    {**origin.parameters, "learning_rate": rate * factor, "lora_rank": rank},
                    final=loss(rate * factor, rank, 6e-4, 2.71),
                    steps=4 if pruned else EVALUATIONS if index < ended else 0,
                    reason="validation loss 3.01 at 50% of the epoch is 5th of 6; only the better half goes on"
                    if pruned
                    else "no improvement of 0.001 in 3 evaluations",
                    role="carried",
                    label=label,
                    seconds=31.0,
                    started=START + 120 + 16 * index,
                    origin_id=origin.id,
                )
            )
    chosen = ", ".join(f"#{t.number} ({t.value:.4f})" for t in best)
    why = f"lowest validation value of 8 complete trials: {chosen}; 6 stopped early left out"
    done = ended == 9
    return StageView(
        stage="verify",
        open=not done,
        budget=9,
        reason="all 9 planned trials have ended" if done else why,
        opened_at=START + 120,
        closed_at=START + 280 if done else None,
        trials=trials,
        plan={"why": why, "chosen": [t.number for t in best], "trials": reasons},
    )


def confirm_stage(ended: int = 6, *, gain: float = 0.09, adapter: str | None = None) -> StageView:
    """The winner and the default with three new seeds each; `gain` is how much lower the winner's loss is."""
    best = min((t for t in verify_stage().trials if t.state is TrialState.COMPLETE), key=lambda t: t.value or 9.9)
    default: dict[str, ParameterValue] = {
        "learning_rate": 2e-4,
        "lora_rank": 16,
        "lora_alpha_multiplier": 1.0,
        "lora_dropout": 0.0,
        "warmup_ratio": 0.03,
        "weight_decay": 0.01,
    }
    trials = []
    for index in range(6):
        seed, winner = 1042 + index // 2, index % 2 == 0
        final = 2.78 - (gain if winner else 0.0) + 0.006 * (index // 2 - 1)
        trials.append(
            trial(
                200 + index,
                index if index < ended else None,
                TrialState.COMPLETE if index < ended else TrialState.WAITING,
                best.parameters if winner else default,
                final=final,
                steps=EVALUATIONS if index < ended else 0,
                role="winner" if winner else "default",
                label="winner 1" if winner else "default",
                seed=seed,
                seconds=34.0,
                started=START + 300 + 18 * index,
                origin_id=best.id if winner else None,
                adapter=adapter if index < ended else None,
            )
        )
    why = f"lowest validation value of 8 complete trials: #{best.number} ({best.value:.4f}); 1 stopped early left out"
    done = ended == 6
    return StageView(
        stage="confirm",
        open=not done,
        budget=6,
        reason="all 6 planned trials have ended" if done else why,
        opened_at=START + 300,
        closed_at=START + 410 if done else None,
        trials=trials,
        plan={
            "why": why,
            "chosen": [best.number],
            "trials": {f"{t.label}": f"{t.label} with new seed {t.seed}" for t in trials},
        },
    )


def snapshot(*stages: StageView, state: StudyState = StudyState.ACTIVE, **spec: Any) -> StudySnapshot:
    """A study with these stages; by default the finished one."""
    finished = not stages
    views = list(stages) or [search_stage(), verify_stage(), confirm_stage()]
    last = [t for view in views for t in view.trials if t.started_at is not None]
    return StudySnapshot(
        name="quickstart",
        state=StudyState.FINISHED if finished else state,
        reason="all stages have ended" if finished else "created",
        spec=StudySpec.model_validate({**SPEC, **spec}),
        stages=views,
        now=max((t.ended_at or (t.started_at or START) + 5 for t in last), default=START + 1),
        created_at=START - 2,
    )


def scores(trial_id: int, split: str, *, finished: StudySnapshot | None = None) -> Scores | None:
    """Per-example scores that agree with the trial's final value."""
    trials = {t.id: t for view in (finished or snapshot()).stages for t in view.trials}
    found = trials.get(trial_id)
    if split != "test" or found is None or found.role not in ("winner", "default") or found.value is None:
        return None
    rng = np.random.default_rng(5)
    tokens = rng.integers(6, 30, TEST_ROWS)
    difficulty = rng.normal(0, 0.6, TEST_ROWS)
    own = np.random.default_rng(trial_id).normal(0, 0.08, TEST_ROWS)
    return Scores(
        nll=[float(x) for x in (found.value + 0.02 + difficulty + own) * tokens], tokens=[int(n) for n in tokens]
    )


def found(snapshot: StudySnapshot) -> Evidence:
    """What the study found."""
    return gather_evidence(snapshot, lambda trial_id, split: scores(trial_id, split, finished=snapshot))


def with_trials(view: StageView, trials: list[TrialView]) -> StageView:
    """The same stage with other trials."""
    return replace(view, trials=trials)


def line(of: StudySnapshot) -> StudyLine:
    """Return the line that a list has of a study."""
    return StudyLine(of, best=None)
