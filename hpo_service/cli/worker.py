"""`hpo-service worker`: one pull-worker, for a terminal, a Slurm array, a pod or a unit file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpo_service.bootstrap import Service


def work(service: Service, study: str | None, *, until_finished: bool, max_trials: int | None, drain: float) -> int:
    """Register a worker and work until there is nothing to do, or a signal comes."""
    from hpo_service.bootstrap import new_worker_id
    from hpo_service.worker.supervisor import WorkerOptions

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    service.upgrade()
    options = WorkerOptions(
        id=new_worker_id(),
        output=Path(service.settings.output).resolve(),
        study=study,
        until_finished=until_finished,
        max_trials=max_trials,
        drain_seconds=drain,
    )
    if study is not None:
        service.snapshot(study)
    service.supervisor(options).run()
    service.retire(options.id)
    return 0
