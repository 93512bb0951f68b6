"""What can be told of a question's text before the database sees it, for refusals that say what is wrong.

The database refuses what is not allowed by its own means; nothing here is trusted to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from hpo_service.errors import UsageError

FIRST_WORDS = ("select", "with", "values")
REMEDY = "write one SELECT, or WITH ... SELECT; see docs/querying.md"

_TOKEN = re.compile(
    r"""
    (?P<blank>\s+|--[^\n]*)
    |(?P<comment>/\*)
    |(?P<escaped>[eE]'(?:[^'\\]|\\.|'')*')
    |(?P<string>'(?:[^']|'')*')
    |(?P<dollar>(?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag))
    |(?P<quoted>"(?:[^"]|"")*")
    |(?P<word>[^\W\d][\w$]*)
    |(?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


def one_question(text: str) -> str:
    """Return the text without what follows its last word: blanks, comments and a semicolon.

    Raises:
        UsageError: it is empty, holds several statements, or begins like one that is no question.
    """
    tokens = list(_tokens(text))
    words = [(kind, word, end) for kind, word, end in tokens if word != ";"]
    if not words:
        raise UsageError(f"the query is empty: {REMEDY}")
    _, first, _ = words[0]
    if first.lower() not in (*FIRST_WORDS, "("):
        raise UsageError(f"a query only reads, and this one begins with {first[:40].upper()}: {REMEDY}")
    end = words[-1][2]
    if any(word == ";" and place < end for _, word, place in tokens):
        raise UsageError(f"the query holds more than one statement: {REMEDY}")
    return text[:end]


def called(text: str) -> set[str]:
    """Return the names of what looks like a function call, as PostgreSQL reads names.

    Raises:
        UsageError: a name is written in a way (U&"...") that hides it.
    """
    tokens = [(kind, word) for kind, word, _ in _tokens(text)]
    names = set()
    for (kind, word), (_, following) in pairwise(tokens):
        if word in ("u", "U") and following == "&":
            raise UsageError(f"the query writes names or texts as U&: write them plainly; {REMEDY}")
        if following == "(" and kind == "word":
            names.add(word.lower())
        elif following == "(" and kind == "quoted":
            names.add(word[1:-1].replace('""', '"'))
    return names


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield kind, text and end of everything but blanks and comments."""
    place = 0
    while found := _TOKEN.match(text, place):
        kind = str(found.lastgroup)
        place = _end_of_comment(text, found.end()) if kind == "comment" else found.end()
        if kind not in ("blank", "comment"):
            yield kind, found[0], place


def _end_of_comment(text: str, place: int) -> int:
    """Where a comment ends, by PostgreSQL's rule: comments may hold comments."""
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(text, place)
        if edge is None:
            return len(text)
        depth += 1 if edge[0] == "/*" else -1
        place = edge.end()
    return place
