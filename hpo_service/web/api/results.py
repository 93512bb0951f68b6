"""What a study found: its verdict, its report, the recommended configuration and its tables."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import Path as PathParameter
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from hpo_service.errors import NotFoundError
from hpo_service.presentation.documents.verdict import verdict_document
from hpo_service.presentation.exports.exporters import Written, export, exporters
from hpo_service.web.api.bodies import StudyName
from hpo_service.web.state import Asked

REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'"
"""The report is one file with its style and drawings in it; it has no script, and none runs."""


def show_verdict(service: Asked, name: StudyName) -> Response:
    """Say what the study found, with its numbers."""
    snapshot = service.reader.outline(name, 0)
    return JSONResponse(verdict_document(snapshot, service.reader.evidence(snapshot)))


def show_report(service: Asked, name: StudyName) -> Response:
    """Show the study's report, one page of HTML."""
    from hpo_service.presentation.report.page import render

    study = service.reader.measured(name)
    text = render(study.snapshot, study.evidence)
    return HTMLResponse(text, headers={"Content-Security-Policy": REPORT_POLICY})


def show_best(service: Asked, name: StudyName) -> Response:
    """Return the recommended configuration as YAML, with where each value is from."""
    from hpo_service.presentation.exports.best import missing_adapter
    from hpo_service.presentation.exports.best_config import best_config

    study = service.reader.measured(name)
    missing = missing_adapter(study.snapshot, study.evidence)
    return Response(best_config(study.snapshot, study.evidence, missing), media_type="application/yaml")


def export_study(
    service: Asked,
    name: StudyName,
    kind: Annotated[str, PathParameter(description="csv or parquet.", max_length=16, examples=["csv"])],
) -> Response:
    """Return the study's tables (trials, curves, attempts, scores) as one ZIP file."""
    if kind not in exporters(Written.ON_REQUEST):
        raise NotFoundError(f"there is no export {kind!r}: there is {', '.join(exporters(Written.ON_REQUEST))}")
    study = service.reader.measured(name)
    folder = Path(tempfile.mkdtemp(prefix="hpo-service-export-"))
    try:
        export(study, kind, folder / "tables")
        archive = shutil.make_archive(str(folder / "archive"), "zip", folder / "tables")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    cleanup = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    file_name = f"{study.snapshot.name}-{kind}.zip"
    return FileResponse(archive, media_type="application/zip", filename=file_name, background=cleanup)
