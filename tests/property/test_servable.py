"""Whatever a study may say, it can be created and worked on: what cannot be served is refused before."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hpo_service.bootstrap import Service
from hpo_service.domain.study.spec import StudySpec
from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.domain.trial.report import Report
from hpo_service.domain.trial.states import StudyState
from hpo_service.service.trials.budget import NO_LIMITS
from hpo_service.service.trials.queue import Copied
from hpo_service.settings import Settings

NAMES = itertools.count()
TRIALS = 3

texts = st.text(max_size=12) | st.sampled_from(["\0", "\ud800", "x" * 3000, "é" * 513, "a.b", "seed", "{x}", ""])
floats = st.floats(allow_nan=False) | st.sampled_from([0.0, 5e-324, 1e300, -1e300, 1.7e308, 0.1, sys.float_info.min])
wholes = st.integers(-(2**70), 2**70) | st.sampled_from([0, 1, 2**31, 2**53, 2**53 + 1, 2**63, 10**400])
values = st.one_of(st.booleans(), wholes, floats, texts)
numbers = {
    "log": st.booleans(),
    "step": st.none() | floats | st.sampled_from([1, 3, 1e-17]),
}
parameters = st.one_of(
    st.fixed_dictionaries({"choices": st.lists(values, min_size=1, max_size=4)}),
    st.fixed_dictionaries({"low": floats, "high": floats}, optional=numbers),
    st.fixed_dictionaries({"low": wholes, "high": wholes}, optional=numbers),
    st.fixed_dictionaries({"low": st.integers(1, 9), "high": st.integers(9, 99)}, optional={"log": st.booleans()}),
)
sections = st.fixed_dictionaries(
    {
        "space": st.fixed_dictionaries({"parameters": st.dictionaries(texts, parameters, min_size=1, max_size=4)}),
        "search": st.fixed_dictionaries(
            {"budget": st.just({"trials": TRIALS}), "startup_trials": st.sampled_from([0, 1, 2**60])},
            optional={
                "sampler": st.sampled_from(["gp", "tpe", "cma-es", "nsga-ii", "random", "grid", "qmc"]),
                "seed": wholes,
                "direction": st.sampled_from(["minimize", "maximize"]),
            },
        ),
    },
    optional={
        "description": texts,
        "execution": st.fixed_dictionaries({}, optional={"lease_seconds": floats, "max_losses": wholes}),
        "training": st.fixed_dictionaries({}, optional={"patience": wholes, "min_improvement": floats}),
    },
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("servable")
    if request.param == "sqlite":
        url = f"sqlite:///{folder / 'study.db'}"
        made = Service(Settings(storage=url, output=folder, cache=folder))
        made.upgrade()
    else:
        made = Service(Settings(storage=request.getfixturevalue("servable_postgres"), output=folder, cache=folder))
    with made.db.transaction():
        made.worker_rows.register("w", "host", 1, "0", "cpu")
    yield made
    made.db.dispose()


@pytest.fixture(scope="module")
def servable_postgres(postgres_url: str, migrated_template: str) -> Any:
    from tests.conftest import _new_postgres_database

    with _new_postgres_database(postgres_url, migrated_template) as url:
        yield url


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(given_sections=sections, data=st.data())
def test_what_is_accepted_can_be_created_claimed_from_and_brought_to_its_end(service, given_sections, data):
    document: dict[str, Any] = {
        "name": f"s{next(NAMES)}",
        "objective": {"python": "nobody:calls_it"},
        "confirm": {"enabled": data.draw(st.booleans()), "seeds": 2, "top": 2},
        **given_sections,
    }
    if document["confirm"]["enabled"]:
        name, given_default = next(iter(given_sections["space"]["parameters"])), data.draw(values)
        document["confirm"]["default"] = {name: given_default}
    try:
        spec = StudySpec.model_validate(document)
    except ValidationError:
        return
    service.studies.create(spec)
    work_through(service, spec.name)
    assert service.reader.snapshot(spec.name).state is StudyState.FINISHED
    service.studies.delete(spec.name)


def work_through(service: Service, name: str) -> None:
    """Claim, report and complete until nothing is left; an error that is contained anywhere else is one here."""
    study = service.reader.snapshot(name)
    assert study.state is StudyState.ACTIVE
    for number in range(100):
        claimed = _claim(service, name)
        if claimed is None:
            with service.db.transaction():
                row = service.study_rows.get(name)
            if not service.stages.advance(row.id):
                return
            continue
        if isinstance(claimed, Copied):
            continue
        service.queue.report(claimed.lease, Report(step=1, fraction=1.0, value=float(number)))
        claimed.model_dump_json()
        service.queue.finish(claimed.lease, Outcome(kind=OutcomeKind.COMPLETE, reason="measured", value=float(number)))
    raise AssertionError("the study never ends")


def _claim(service: Service, name: str) -> Any:
    with service.db.transaction(read_only=True):
        open_stages = [(study, stage) for study, stage in service.studies.rows.claimable() if study.name == name]
    for study, stage in open_stages:
        return service.queue._claim_from(study, stage, "w", 1, NO_LIMITS)
    return None
