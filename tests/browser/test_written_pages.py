"""What is written as HTML, the report and the documentation, in Chromium: at three widths, in light and in dark."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import ROOT, Window
from tests.unit.presentation import story
from tests.unit.presentation.report.test_page import page_of

pytestmark = pytest.mark.xdist_group("browser")

WIDTHS = (420, 1000, 1400)
SCHEMES = ("light", "dark")
FIGURES = """
[...document.querySelectorAll('figure svg')].map(svg => {
    const box = svg.getBoundingClientRect();
    const marks = [...svg.querySelectorAll('path, use, circle, rect, line, text')]
        .filter(mark => mark.getBoundingClientRect().width + mark.getBoundingClientRect().height > 0);
    return {width: box.width, height: box.height, right: box.right, marks: marks.length};
})
"""
NARROWEST = 500  # below that its letters cannot be read: it is scrolled instead
FEWEST_MARKS = 10


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, *_: Any) -> None:
        """Keep the tests' output readable."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address that serves it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_report_draws_every_figure_at_every_width(chromium: Any, tmp_path: Path, scheme: str) -> None:
    page = page_of(story.snapshot())
    (tmp_path / "report.html").write_text(page)
    context = chromium.new_context(color_scheme=scheme)
    window = Window(context.new_page(), "file://")
    for width in WIDTHS:
        window.page.set_viewport_size({"width": width, "height": 900})
        window.page.goto(f"file://{tmp_path}/report.html")
        figures = window.page.evaluate(FIGURES)
        assert len(figures) == page.count("<figure>") > 5
        for figure in figures:
            assert figure["width"] >= NARROWEST, figure
            assert figure["marks"] >= FEWEST_MARKS, figure
        assert (width, window.overflow(), window.grave()) == (width, 0, [])
    assert (window.complaints, window.elsewhere) == ([], [])
    context.close()


def test_the_report_is_printed_whole(chromium: Any, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(page_of(story.snapshot()))
    context = chromium.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(f"file://{tmp_path}/report.html")
    printed = page.pdf(format="A4")
    page.emulate_media(media="print")
    paper = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--paper')")
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") > 1
    assert paper.strip().lower() in ("#fff", "#ffffff", "white"), "paper is white, whatever the screen was"
    context.close()


def test_every_page_of_the_documentation_fits_every_width(chromium: Any, site: tuple[Path, str]) -> None:
    folder, origin = site
    built = folder / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(built)]
    subprocess.run(command, cwd=ROOT, check=True)
    pages = [path for path in sorted(built.rglob("*.html")) if path.name != "404.html"]
    assert len(pages) > 20
    # colours change no widths
    for scheme, width in [*itertools.product(["light"], WIDTHS), ("dark", WIDTHS[1])]:
        context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        window = Window(context.new_page(), origin)
        for path in pages:
            window.page.goto(f"{origin}/{path.relative_to(folder)}")
            assert (str(path), width, window.overflow()) == (str(path), width, 0)
        assert (window.complaints, window.elsewhere) == ([], [])
        context.close()
