"""The first page: all studies."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from hpo_service.presentation.documents.study import study_lines_document
from hpo_service.web.pages.page import page
from hpo_service.web.state import Asked


def home(request: Request, service: Asked) -> Response:
    """Show all studies with stage and progress."""
    return page(request, "home.html", studies=study_lines_document(service.study_lines.all()))
