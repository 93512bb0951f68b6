"""Any search space at all: what is proposed lies in it, and a finite one is gone through exactly once."""

from __future__ import annotations

from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_service.domain.study.search_space import (
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    ParameterValue,
    SearchSpace,
    canonical_key,
    value_count,
)
from hpo_service.domain.study.sections.search import SearchSpec
from hpo_service.search.distributions import distribution_of, holds, internal_value
from hpo_service.search.grid import shuffled
from hpo_service.search.quasirandom import halton
from hpo_service.search.samplers import SAMPLERS, Question

CHOICES = st.lists(
    st.one_of(st.booleans(), st.integers(-5, 5), st.sampled_from(["a", "b", "c"])),
    min_size=1,
    max_size=4,
    unique_by=lambda choice: (isinstance(choice, bool), choice),
)

CATEGORICAL = st.builds(CategoricalParameter, choices=CHOICES)


@st.composite
def integers(draw: st.DrawFn) -> IntParameter:
    low = draw(st.integers(1, 20))
    high = low + draw(st.integers(0, 12))
    log = draw(st.booleans())
    return IntParameter(low=low, high=high, log=log, step=None if log else draw(st.none() | st.integers(1, 4)))


@st.composite
def floats(draw: st.DrawFn, *, finite: bool) -> FloatParameter:
    low = draw(st.integers(1, 50)) / 100
    if finite:
        return FloatParameter(low=low, high=low + draw(st.integers(0, 30)) / 100, step=draw(st.integers(1, 10)) / 100)
    return FloatParameter(low=low, high=low + draw(st.integers(0, 100)) / 100, log=draw(st.booleans()))


@st.composite
def spaces(draw: st.DrawFn, *, finite: bool = False) -> SearchSpace:
    """Up to four parameters, some of which depend on an earlier categorical one."""
    kinds: list[st.SearchStrategy[Parameter]] = [CATEGORICAL, integers(), floats(finite=True)]
    if not finite:
        kinds.append(floats(finite=False))
    parameters: dict[str, Parameter] = {}
    for place in range(draw(st.integers(1, 4))):
        parameter = draw(st.one_of(kinds))
        parents = {n: p for n, p in parameters.items() if isinstance(p, CategoricalParameter)}
        conditional: bool = draw(st.booleans())
        if parents and conditional:
            name = draw(st.sampled_from(sorted(parents)))
            wanted = draw(st.sampled_from(parents[name].choices))
            parameters[f"p{place}"] = parameter.model_copy(update={"when": {name: wanted}})
        else:
            parameters[f"p{place}"] = parameter
    return SearchSpace(parameters=parameters)


def belongs(configuration: dict[str, ParameterValue], space: SearchSpace) -> bool:
    active = dict(space.active(configuration))
    return list(active) == list(configuration) and all(
        holds(distribution_of(parameter), configuration[name]) for name, parameter in active.items()
    )


@given(spaces(finite=True), st.integers(0, 2**32), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_a_finite_space_is_gone_through_exactly_once(space: SearchSpace, seed: int, start: int) -> None:
    found = list(islice(shuffled(space, seed=seed, start=start), 3000))
    keys = [canonical_key(configuration) for configuration in found]
    assert len(keys) == len(set(keys))
    assert all(belongs(configuration, space) for configuration in found)
    size = space.size()
    assert size is not None
    assert len(found) <= size
    if size <= 3000 and not any(parameter.when for parameter in space.parameters.values()):
        assert len(found) == size


@given(spaces(), st.integers(0, 2**32), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_the_halton_sequence_stays_inside(space: SearchSpace, seed: int, start: int) -> None:
    assert all(belongs(configuration, space) for configuration in islice(halton(space, seed=seed, start=start), 5))


@given(spaces(), st.integers(0, 2**32), st.integers(0, 1000), st.sampled_from(["gp", "tpe", "random"]))
@settings(max_examples=60, deadline=None)
def test_samplers_stay_inside_and_repeat_themselves(space: SearchSpace, seed: int, draw: int, sampler: str) -> None:
    question = Question(SearchSpec(seed=seed), space, draw)
    once = list(islice(SAMPLERS[sampler].candidates(question), 2))
    assert once == list(islice(SAMPLERS[sampler].candidates(question), 2))
    assert all(belongs(configuration, space) for configuration in once)


@given(st.one_of(CATEGORICAL, integers(), floats(finite=True)))
def test_optuna_counts_the_same_values(parameter: Parameter) -> None:
    distribution = distribution_of(parameter)
    values = [value for found in shuffled(SearchSpace(parameters={"x": parameter}), seed=0) for value in found.values()]
    assert len(values) == value_count(parameter)
    assert distribution.single() == (len(values) == 1)
    assert all(holds(distribution, value) for value in values)
    assert len({internal_value(distribution, value) for value in values}) == len(values)


@given(spaces())
def test_a_space_survives_json(space: SearchSpace) -> None:
    assert SearchSpace.model_validate_json(space.model_dump_json()) == space


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5)),
        max_size=5,
    )
)
def test_the_key_does_not_depend_on_the_order(configuration: dict[str, ParameterValue]) -> None:
    turned = dict(reversed(configuration.items()))
    assert canonical_key(turned) == canonical_key(configuration)
