"""Adapters and reports as the artifacts of optuna-dashboard: read where they lie, or made when they are asked for."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO

from bottle import HTTPError

from hpo_service.bootstrap import Service
from hpo_service.errors import HpoServiceError


@dataclass(frozen=True)
class DashboardArtifacts:
    """An `optuna.artifacts` store that only reads: nothing is copied, and what Optuna's tables name is looked up."""

    service: Service

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open what goes by an id of `service/artifacts.py`.

        Raises:
            HTTPError: 404 there is nothing of the kind any more, or it is on another machine.
        """
        from hpo_service.presentation.report.page import render

        try:
            source = self.service.artifacts.find(artifact_id)
            if source.file is not None:
                return source.file.open("rb")
            study = self.service.reader.measured(source.study)
        except (HpoServiceError, OSError) as error:
            raise HTTPError(404, str(error)) from error
        return io.BytesIO(render(study.snapshot, study.evidence).encode())

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Refuse, as the route does before.

        Raises:
            HTTPError: 405 always.
        """
        del content_body
        raise HTTPError(405, f"artifact {artifact_id}: what trials keep is written by their workers")

    def remove(self, artifact_id: str) -> None:
        """Leave the file alone: it goes with its trial, whatever becomes of Optuna's study."""
