"""What must hold between the sections of a study file: a function per rule, which notes what is wrong and where."""

from __future__ import annotations

from collections.abc import Callable

from hpo_service.domain.study.fields import StudyFields
from hpo_service.domain.study.rules import (
    beginning,
    default,
    devices,
    goals,
    hyperparameters,
    limits,
    methods,
    objective,
    sections,
)
from hpo_service.domain.study.validation import Violations

Rule = Callable[[StudyFields, Violations], None]

BUILTIN_TRAINER: tuple[Rule, ...] = (
    sections.model_and_data_are_given,
    sections.a_loss_is_minimised,
    sections.what_is_selected_on_can_be_measured,
    hyperparameters.searched_values_are_possible,
    hyperparameters.alpha_is_given_once,
    methods.hyperparameters_go_together,
    methods.methods_suit_the_model,
    devices.batches_are_shared_equally,
    methods.methods_suit_packed_rows,
    default.default_can_be_read,
    default.default_can_be_trained,
)
OWN_OBJECTIVE: tuple[Rule, ...] = (
    objective.model_and_data_are_left_out,
    objective.default_is_of_the_space,
    objective.placeholders_are_known,
)
EVERY_STUDY: tuple[Rule, ...] = (
    sections.something_is_searched,
    sections.a_grid_is_finite,
    sections.a_protocol_has_its_sampler,
    sections.a_share_of_the_rows_can_be_had,
    beginning.enqueued_lie_in_the_space,
    sections.metrics_and_trackers_are_of_use,
    sections.the_budget_leaves_a_search,
    goals.costs_are_measured,
    goals.nothing_looks_at_the_loss_alone,
    devices.trials_can_share_a_device,
    devices.a_base_can_be_sharded,
)
NEW_STUDY: tuple[Rule, ...] = (
    beginning.a_search_can_begin_so,
    limits.seeds_are_of_32_bits,
    limits.values_can_be_stored,
    limits.parameters_are_few_with_short_names,
    limits.times_can_be_kept,
    objective.parameters_are_named_apart,
    objective.command_can_be_filled_in,
)
"""What a study must keep to be created; one that was created before a rule came to be goes on as it is."""


def rules_for(study: StudyFields, *, stored: bool = False) -> tuple[Rule, ...]:
    """Return the rules that a study must keep, in the order in which they are looked at.

    Args:
        study: what the file says.
        stored: it was created before, maybe by a version with fewer rules.
    """
    of_kind = BUILTIN_TRAINER if study.objective is None else OWN_OBJECTIVE
    return (*of_kind, *EVERY_STUDY, *(() if stored else NEW_STUDY))
