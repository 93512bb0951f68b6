"""What an objective of the user's own is given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from hpo_service.errors import TrialError
from hpo_service.objective import TrialContext
from hpo_service.wire.child import Stopped, TrialLink
from tests.trials import stop

Link = Callable[..., TrialLink]


def test_parameters_seed_and_checkpoint_folder_are_the_trials(link: Link) -> None:
    trial = TrialContext(given := link())
    assert trial.parameters == {"lr": 0.1, "optimizer": "adam"}
    assert trial.seed == 7
    assert trial.checkpoint_folder == given.folder.path / "checkpoint"
    assert trial.checkpoint_folder.is_dir()


def test_a_report_carries_step_value_measures_and_share(link: Link, talk: Any) -> None:
    TrialContext(link()).report(3, 1.25, fraction=0.4, metrics={"accuracy": 0.5})
    (report,) = talk.reports
    assert (report.step, report.value, report.fraction, report.metrics) == (3, 1.25, 0.4, {"accuracy": 0.5})


@pytest.mark.parametrize("step, share", [(1, 0.1), (5, 0.5), (10, 1.0), (12, 1.0), (0, 0.0)])
def test_without_a_share_it_is_the_step_over_the_evaluations_the_study_names(
    link: Link, talk: Any, step: int, share: float
) -> None:
    TrialContext(link(evaluations_per_epoch=5, epochs=2)).report(step, 1.0)
    assert talk.reports[0].fraction == pytest.approx(share)
    assert talk.touches == [pytest.approx(share)]


@pytest.mark.parametrize("given, kept", [(1.5, 1.0), (-0.5, 0.0)])
def test_a_share_beyond_the_whole_is_cut(link: Link, talk: Any, given: float, kept: float) -> None:
    TrialContext(link()).report(1, 1.0, fraction=given)
    assert talk.reports[0].fraction == kept


def test_a_value_that_is_not_finite_is_reported_as_it_is(link: Link, talk: Any) -> None:
    TrialContext(link()).report(1, math.nan)
    assert math.isnan(talk.reports[0].value)


def test_a_negative_step_is_refused(link: Link) -> None:
    with pytest.raises(TrialError, match=r"report\(step=-1, value=1.0\) is not possible"):
        TrialContext(link()).report(-1, 1.0)


def test_should_stop_follows_the_answer_to_a_report(link: Link, talk: Any) -> None:
    trial = TrialContext(link())
    talk.orders[2] = stop("prune", "too far behind")
    trial.report(1, 1.0)
    assert not trial.should_stop()
    trial.report(2, 1.0)
    assert trial.should_stop()


def test_should_stop_hears_of_orders_between_reports(link: Link, talk: Any) -> None:
    trial = TrialContext(link())
    talk.order()
    assert trial.should_stop()


def test_asking_whether_to_stop_is_a_sign_of_life(link: Link, talk: Any) -> None:
    TrialContext(link()).should_stop()
    assert talk.touches == [None]


def test_who_ignores_the_order_is_stopped_at_the_next_report(link: Link, talk: Any) -> None:
    trial = TrialContext(link())
    talk.orders[1] = stop("prune", "too far behind")
    trial.report(1, 1.0)
    with pytest.raises(Stopped):
        trial.report(2, 1.0)
    assert [report.step for report in talk.reports] == [1]
