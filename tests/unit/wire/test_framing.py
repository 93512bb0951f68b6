"""One document a line, on both sides of a pipe and in files."""

from __future__ import annotations

import io

import pytest

from hpo_service.domain.trial.report import Report
from hpo_service.wire.framing import BadLine, read_lines, write_line
from hpo_service.wire.messages import TO_CHILD, Continue, Shutdown


def test_what_is_written_is_read_back_in_order() -> None:
    stream = io.BytesIO()
    messages = [Continue(trial="a"), Continue(trial="line\nbreak"), Shutdown()]
    for message in messages:
        write_line(stream, message)
    assert len(stream.getvalue().splitlines()) == 3
    stream.seek(0)
    assert list(read_lines(stream, TO_CHILD)) == messages


@pytest.mark.parametrize("line", [b"", b"not json", b'{"type": "dance"}', b"\xff\xfe", b'{"type": "shutdown", "no'])
def test_a_bad_line_is_told_as_such_and_the_next_one_is_read(line: bytes) -> None:
    bad, good = read_lines(io.BytesIO(line + b'\n{"type": "shutdown"}\n'), TO_CHILD)
    assert isinstance(bad, BadLine)
    assert bad.beginning == line + b"\n"
    assert bad.problem
    assert good == Shutdown()


def test_of_a_long_bad_line_the_beginning_is_told() -> None:
    (bad,) = read_lines(io.BytesIO(b"x" * 10_000), TO_CHILD)
    assert bad == BadLine(b"x" * 200, bad.problem)


def test_a_report_is_written_as_it_always_was() -> None:
    stream = io.BytesIO()
    write_line(stream, Report(step=3, fraction=0.25, value=float("nan"), metrics={"train_loss": 1.5}))
    assert stream.getvalue() == b'{"step":3,"fraction":0.25,"value":NaN,"metrics":{"train_loss":1.5}}\n'
