"""How many validation rows a run is evaluated on before its last evaluation."""

from hypothesis import given
from hypothesis import strategies as st

from hpo_service.domain.decide.watched_rows import LEAST, PASSES, TRAINING_SHARE, watched_rows
from hpo_service.domain.study.sections.training import TrainingSpec

SPECS = st.builds(TrainingSpec, epochs=st.integers(1, 5), evaluations_per_epoch=st.integers(1, 40))
ROWS = st.integers(1, 1_000_000)


def test_large_data_is_watched_on_what_leaves_evaluations_a_tenth_of_the_training() -> None:
    found = watched_rows(TrainingSpec(), 160_000, 20_000)
    assert found.rows == 1714
    assert 7 * found.rows + 20_000 <= 32_000 < 7 * (found.rows + 1) + 20_000
    assert found.reason == "1714 of 20000: so that all evaluations cost a tenth of the training"


def test_small_data_is_watched_whole() -> None:
    assert watched_rows(TrainingSpec(), 640, LEAST).rows == LEAST
    assert watched_rows(TrainingSpec(), 640, 150).reason == "all 150: up to 256 rows are never cut"


def test_what_tells_configurations_apart_is_watched_whatever_it_costs() -> None:
    found = watched_rows(TrainingSpec(), 8_000, 1_000)
    assert (found.rows, found.reason) == (LEAST, "256 of 1000: fewer would not tell configurations apart")


def test_rows_that_cost_little_are_all_watched() -> None:
    found = watched_rows(TrainingSpec(evaluations_per_epoch=2), 100_000, 1_000)
    assert (found.rows, found.reason) == (1000, "all 1000: together they cost less than a tenth of the training")


def test_a_single_evaluation_is_of_all_rows() -> None:
    found = watched_rows(TrainingSpec(evaluations_per_epoch=1), 1_000, 5_000)
    assert (found.rows, found.reason) == (5000, "all 5000: there is one evaluation")


def test_a_study_may_say_how_many() -> None:
    assert watched_rows(TrainingSpec(evaluation_rows="all"), 160_000, 20_000).rows == 20_000
    found = watched_rows(TrainingSpec(evaluation_rows=30), 160_000, 20_000)
    assert (found.rows, found.reason) == (30, "30 of 20000: training.evaluation_rows asks for 30")
    assert watched_rows(TrainingSpec(evaluation_rows=30), 100, 20).rows == 20


@given(SPECS, ROWS, ROWS)
def test_never_more_than_there_are_nor_dearer_than_asked_for_unless_few(
    spec: TrainingSpec, train: int, validation: int
) -> None:
    rows = watched_rows(spec, train, validation).rows
    assert min(validation, LEAST) <= rows <= validation
    before_last = spec.epochs * spec.evaluations_per_epoch - 1
    assert (
        rows <= LEAST
        or not before_last
        or (before_last * rows + validation <= TRAINING_SHARE * PASSES * spec.epochs * train + 1e-6)
    )
