"""The files that pages load: style sheets and scripts of the package, and nothing else on this machine."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fastapi import HTTPException
from starlette.responses import Response

MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@cache
def _assets() -> dict[str, tuple[bytes, str]]:
    """Every file of the folder with its media type, read once: a name is looked up here and never on the disk."""
    found = {entry.name: entry for entry in files(__package__).joinpath("assets").iterdir()}
    # pages have the report's colours, which its figures are drawn in
    found["colours.css"] = files("hpo_service.presentation.report").joinpath("templates", "colours.css")
    kinds = {name: MEDIA_TYPES.get(name[name.rfind(".") :]) for name in found}
    return {name: (found[name].read_bytes(), kind) for name, kind in kinds.items() if kind}


def asset(name: str) -> Response:
    """Return a style sheet, a script or an image of the pages."""
    if name not in _assets():
        raise HTTPException(404, f"there is no file {name[:100]!r}")
    content, kind = _assets()[name]
    return Response(content, media_type=kind, headers={"Cache-Control": "public, max-age=3600"})


def icon() -> Response:
    """Return the image that stands for the server in a browser's tabs."""
    return asset("icon.svg")
