"""Optuna's log, kept off the terminal."""

from __future__ import annotations

import optuna


def leave_logging_to_the_application() -> None:
    """Take Optuna's own handler away and pass its warnings on to whatever logging the application has set up."""
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
