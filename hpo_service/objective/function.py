"""Running `package.module:function` as a trial."""

from __future__ import annotations

import importlib
import numbers

from hpo_service.domain.trial.outcome import Outcome, OutcomeKind
from hpo_service.errors import TrialError
from hpo_service.objective.context import TrialContext
from hpo_service.wire.child import TrialLink


def run_function(name: str, link: TrialLink) -> Outcome:
    """Import the function, call it with a trial context and take its value.

    Raises:
        TrialError: it cannot be imported or returns something that is not a number.
    """
    module_name, _, attribute = name.partition(":")
    try:
        function = importlib.import_module(module_name)
        for part in attribute.split("."):
            function = getattr(function, part)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise TrialError(f"objective {name} cannot be imported ({error}): run workers where Python finds it") from error
    if not callable(function):
        raise TrialError(f"objective {name} is not a function")
    link.started()
    value = function(TrialContext(link))
    if link.stop() is not None:
        return link.stopped()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TrialError(f"objective {name} returned {value!r}: it must return a number")
    return Outcome(kind=OutcomeKind.COMPLETE, reason="the objective returned its value", value=float(value))
