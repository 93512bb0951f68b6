"""Examples at the foot of every command's help."""

from __future__ import annotations


def examples(*lines: str) -> str:
    r"""Lay out command lines as the `epilog` of a command.

    The `\b` keeps the help formatter from joining the lines into a paragraph.
    """
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
