"""Figures show what they should and leave out what would hide it."""

from __future__ import annotations

import re
from dataclasses import replace

from hpo_service.domain.trial.states import TrialState
from hpo_service.presentation.report import figures, search_figures
from hpo_service.presentation.report.drawing import RAMP, ramp
from hpo_service.service.studies.findings.evidence import gather_evidence
from tests.unit.presentation import story


def lines(svg: str | None, colour: str) -> int:
    """Count the lines drawn in a colour of the page, legend included."""
    return len(re.findall(rf"fill: none; stroke: var\({colour}\)", svg or ""))


def test_the_same_study_gives_the_same_drawing() -> None:
    snapshot = story.snapshot()
    assert search_figures.curves(snapshot) == search_figures.curves(snapshot)


def test_there_is_a_curve_for_every_trial_that_reported() -> None:
    svg = search_figures.curves(story.snapshot())
    assert svg is not None
    reported = sum(bool(t.curve) for t in story.search_stage().trials)
    assert len(re.findall(r'id="curves-line2d_\d+"', svg)) >= reported
    assert "#1<" in svg, "the best is named"


def test_a_study_without_reports_has_no_curves() -> None:
    assert search_figures.curves(story.snapshot(story.search_stage(0))) is None
    assert search_figures.learning_rates(story.snapshot(story.search_stage(0)), "NLL") is None
    assert search_figures.parameters(story.snapshot(story.search_stage(0)), "NLL") is None


def test_ranks_are_in_the_legend_only_where_they_differ() -> None:
    svg = search_figures.learning_rates(story.snapshot(), "NLL")
    assert svg is not None
    assert all(f"rank {rank}<" in svg for rank in (4, 8, 16, 32))
    stage = story.search_stage()
    same = [replace(t, parameters={**t.parameters, "lora_rank": 8}) for t in stage.trials]
    alike = search_figures.learning_rates(story.snapshot(story.with_trials(stage, same)), "NLL")
    assert alike is not None
    assert "rank 8<" not in alike


def test_a_value_beyond_the_rest_becomes_an_arrow_and_does_not_flatten_the_axis() -> None:
    stage = story.search_stage()
    wild = [replace(stage.trials[0], id=99, number=99, value=5000.0), *stage.trials]
    svg = search_figures.learning_rates(story.snapshot(story.with_trials(stage, wild)), "NLL")
    assert svg is not None
    assert "5000" not in svg
    assert "3.0" in svg


def test_equal_values_are_drawn_too() -> None:
    trials = [
        story.trial(n, n, TrialState.COMPLETE, {"learning_rate": 1e-4 * n, "lora_rank": 8}, final=2.0)
        for n in range(1, 4)
    ]
    snapshot = story.snapshot(story.with_trials(story.search_stage(), trials))
    assert search_figures.learning_rates(snapshot, "NLL") is not None
    assert search_figures.parameters(snapshot, "NLL") is not None


def test_names_with_dollars_and_angles_are_plain_text() -> None:
    space = {"preset": "none", "parameters": {"scheduler": {"choices": ["cosine", "linear"]}}}
    trials = [story.trial(1, 0, TrialState.COMPLETE, {"scheduler": "cosine"}, final=2.0)]
    snapshot = story.snapshot(story.with_trials(story.search_stage(), trials), space=space)
    svg = search_figures.parameters(snapshot, "$\\frac<b>$")
    assert svg is not None
    assert "$\\frac&lt;b&gt;$" in svg


def test_the_bracket_has_a_line_for_each_configuration_and_hollow_marks_for_stopped_trials() -> None:
    svg = figures.bracket(story.snapshot(), "NLL")
    assert svg is not None
    assert all(f"search #{number} (" in svg for number in (1, 5, 15))
    assert "× 0.5<" in svg
    assert 'fill="var(--paper)"' in svg


def test_a_bracket_whose_origin_is_gone_is_still_drawn() -> None:
    stage = story.verify_stage()
    orphans = [replace(t, origin_id=None) for t in stage.trials]
    svg = figures.bracket(story.snapshot(story.search_stage(), story.with_trials(stage, orphans)), "NLL")
    assert svg is not None
    assert "carried over" in svg


def test_without_verify_there_is_no_bracket() -> None:
    assert figures.bracket(story.snapshot(story.search_stage()), "NLL") is None
    assert figures.bracket(story.snapshot(story.search_stage(), story.verify_stage(0)), "NLL") is None


def test_the_interval_is_drawn_only_where_there_is_one() -> None:
    snapshot = story.snapshot()
    assert "winner 1 vs default" in (figures.interval(gather_evidence(snapshot, story.scores)) or "")
    one = story.snapshot(story.search_stage(), story.verify_stage(), story.confirm_stage(2))
    assert figures.interval(gather_evidence(one, story.scores)) is None


def test_seeds_are_drawn_by_validation_value_where_test_rows_were_not_scored() -> None:
    snapshot = story.snapshot()
    assert "test mean NLL" in (figures.seeds(gather_evidence(snapshot, story.scores)) or "")
    assert "validation mean NLL" in (figures.seeds(gather_evidence(snapshot, lambda *_: None)) or "")
    unconfirmed = story.snapshot(story.search_stage())
    assert figures.seeds(gather_evidence(unconfirmed, story.scores)) is None


def test_the_ramp_runs_from_low_to_high() -> None:
    assert ramp([8.0, 4.0, 32.0]) == {4.0: RAMP[0], 8.0: RAMP[2], 32.0: RAMP[4]}
    assert ramp([7.0]) == {7.0: RAMP[0]}


def test_panels_that_nothing_is_left_for_stay_empty() -> None:
    space = {"parameters": {"weight_decay": None, "warmup_ratio": None}}
    svg = search_figures.parameters(story.snapshot(story.search_stage(), space=space), "NLL")
    assert svg is not None
    assert "lora_dropout<" in svg
    assert "weight_decay<" not in svg
