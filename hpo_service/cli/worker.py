"""`hpo-service worker`: one pull-worker, wherever it is started; and what workers there are."""

from __future__ import annotations

import logging
import os
import time
from typing import Annotated

import typer

from hpo_service.cli.examples import examples
from hpo_service.cli.options import AsJson, OutputFolder, Reason, StorageUrl, open_service, person
from hpo_service.errors import OutOfTimeError, UnfitWorkerError
from hpo_service.filestore.store import FileStore
from hpo_service.settings import Settings

app = typer.Typer(help="Work on studies; list and drain workers.", invoke_without_command=True, rich_markup_mode=None)


@app.callback(
    epilog=examples(
        "hpo-service worker",
        "hpo-service worker --study mine --until-finished",
        "CUDA_VISIBLE_DEVICES=3 hpo-service worker --storage postgresql://hpo@db/hpo",
        "hpo-service worker --label spot --label rack=7",
    )
)
def worker(
    context: typer.Context,
    study: Annotated[
        str | None, typer.Option("--study", metavar="STUDY", help="Only this study; by default any active one.")
    ] = None,
    until_finished: Annotated[
        bool, typer.Option("--until-finished", help="Exit when the study has ended instead of waiting for work.")
    ] = False,
    max_trials: Annotated[int | None, typer.Option("--max-trials", min=1, help="Exit after this many trials.")] = None,
    drain_seconds: Annotated[
        float, typer.Option("--drain-seconds", min=0, help="Time to save and leave after the first signal.")
    ] = 90.0,
    idle_seconds: Annotated[
        float | None, typer.Option("--idle-seconds", min=0, help="Exit after so long without a trial.")
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option("--time-limit", min=0, help="Seconds to stay. By default until HPO_SERVICE_STOP_AT, if set."),
    ] = None,
    max_device_hours: Annotated[
        float | None,
        typer.Option("--max-device-hours", min=0, help="Start no trial that would take its study beyond so many."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="LABEL",
            help="What studies may ask for; again for more. Also HPO_SERVICE_LABELS.",
        ),
    ] = None,
    storage: StorageUrl = None,
    output: OutputFolder = None,
) -> None:
    """Pull trials and run them until told to stop.

    SIGTERM, SIGHUP or Ctrl-C: save checkpoints, give the trials back, exit within --drain-seconds; a second one
    aborts. SIGUSR1 asks for the same, and never aborts. A worker may be killed at any moment: its trials are taken up
    by others. Before its first claim it makes sure that trials can run on this machine, and it leaves a study of which
    several trials in a row failed on it. Near the end of its time it takes no trial that would not reach its first
    checkpoint. Exit status: 0 done or told to leave, 7 the study of --study --until-finished failed, 9 it cannot work
    here, or another worker has its GPU, 11 its time is up and there is more to do.
    """
    if context.invoked_subcommand is not None:
        return
    from hpo_service.launch.devices import resources
    from hpo_service.launch.launch import LAUNCH
    from hpo_service.launch.launcher import job_here, seconds_left
    from hpo_service.service.workers import new_worker_id
    from hpo_service.worker.child import adopt_orphans
    from hpo_service.worker.options import WorkerOptions

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    service = open_service(storage, output)
    service.upgrade()
    has = resources([*service.settings.labels, *(label or ())])
    launch = os.environ.get(LAUNCH) or None
    if launch is not None and not service.launches.is_wanted(launch):
        logging.getLogger(__name__).info("launch %s wants no workers any more", launch)
        return
    if study is not None:
        service.checks.require(study, has)
    options = WorkerOptions(
        id=new_worker_id(),
        output=service.settings.output.resolve(),
        study=study,
        until_finished=until_finished,
        max_trials=max_trials,
        drain_seconds=drain_seconds,
        idle_seconds=idle_seconds,
        seconds=time_limit if time_limit is not None else seconds_left(os.environ, time.time()),
        max_device_hours=max_device_hours,
        has=has,
        store=service.settings.store,
        trainer=service.checks.trainer_processes(study, has.gpus),
        job=job_here(os.environ),
        launch=launch,
    )
    _tell_where(service.settings)
    adopt_orphans()
    try:
        service.supervisor(options).run()
    except UnfitWorkerError as error:
        service.workers.retire(options.id, str(error))
        raise
    except OutOfTimeError:
        service.workers.retire(options.id)
        raise
    service.workers.retire(options.id)
    if study is not None and until_finished:
        service.checks.require_success(study)


def _tell_where(settings: Settings) -> None:
    """Say in the worker's log what another node will see of what trials save here."""
    log = logging.getLogger(__name__)
    if settings.store:
        log.info("checkpoints and adapters are copied to %s", FileStore(settings.store).shown())
    else:
        log.info(
            "checkpoints and adapters stay in %s: on other nodes a trial goes on only where that folder is shared, and "
            "begins anew where it is not; HPO_SERVICE_STORE names a store that all nodes see",
            settings.output,
        )


@app.command("list", epilog=examples("hpo-service worker list", "hpo-service worker list --json"))
def list_workers(storage: StorageUrl = None, as_json: AsJson = False) -> None:
    """List the workers that registered, the latest first; those that left long ago are left out."""
    from hpo_service.cli.rendering.console import print_json, print_table
    from hpo_service.cli.rendering.tables import worker_table
    from hpo_service.presentation.documents.workers import workers_document

    found = open_service(storage).workers.list_all()
    if as_json:
        print_json(workers_document(found))
        return
    print_table(worker_table(found), "no workers: `hpo-service worker` starts one, `hpo-service launch` several")


@app.command("drain", epilog=examples('hpo-service worker drain node7-4711-a3f1 --reason "node goes down for service"'))
def drain_worker(
    worker_id: Annotated[str, typer.Argument(metavar="WORKER", help="Id of the worker, see `worker list`.")],
    reason: Reason = "asked for on the command line",
    storage: StorageUrl = None,
) -> None:
    """Have a worker save its trials, give them back and exit; it obeys at its next renewal."""
    open_service(storage).workers.drain(worker_id, reason, by=person())
    typer.echo(f"worker {worker_id} will give its trials back and exit")
