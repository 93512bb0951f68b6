"""What holds of a diagnosis of any log, however strange its curves are."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from hpo_service.domain.advise.diagnosis import diagnose
from hpo_service.domain.advise.run_log import FEWEST_POINTS, Curve, RunLog

LOSSES = st.floats(0, 1e6) | st.sampled_from([math.nan, math.inf, 0.0])
CURVES = st.lists(LOSSES, max_size=120).map(lambda values: Curve(tuple(range(len(values))), tuple(values)))
LOGS = st.builds(RunLog, train=CURVES, evaluations=CURVES, norms=CURVES, rates=CURVES).filter(
    lambda log: max(len(log.train), len(log.evaluations)) >= FEWEST_POINTS
)


@given(LOGS)
def test_every_fault_found_has_evidence_in_figures_and_remedies(log: RunLog) -> None:
    for each in diagnose(log):
        assert any(sign.isdigit() for sign in each.evidence)
        assert each.fault.remedies
        assert each.fault.source


@given(LOGS)
def test_a_log_without_numbers_is_never_called_healthy(log: RunLog) -> None:
    lost = log.train.lost or log.evaluations.lost
    assert not lost or [each.name for each in diagnose(log)] == ["not a number"]


@given(LOGS, st.floats(1e-3, 1e3))
def test_steps_may_be_counted_in_any_unit(log: RunLog, unit: float) -> None:
    def scaled(curve: Curve) -> Curve:
        return Curve(tuple(step * unit for step in curve.steps), curve.values)

    same = RunLog(scaled(log.train), scaled(log.evaluations), scaled(log.norms), scaled(log.rates))
    assert [each.name for each in diagnose(same)] == [each.name for each in diagnose(log)]
