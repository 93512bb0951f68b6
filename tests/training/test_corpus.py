"""Docstring pairs and pre-training text from a library's source."""

import ast
import sys
from pathlib import Path

import pytest

from hpo_service.errors import DataError
from hpo_service.training.builtin.corpus import docstring_pairs, first_sentence, source_documents

LIBRARY = '''\
"""The module says what it is for."""

class Shelf(Base, key=int):
    """Keeps books in order. Never loses one.

    Later paragraphs stay.
    """

    def put(self, book, *, place=None):
        """Put a book in its place."""
        return place

    async def wait(self):
        "Wait until the shelf is free."

def count(shelf: Shelf) -> int:
    """Return how many books there are, e.g. 3 or 4."""
    try:
        def inner():
            """Say something about the inside."""
    finally:
        pass

def plain(): return 1
'''


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "shelf.py").write_text(LIBRARY)
    return tmp_path


@pytest.fixture(scope="module")
def stdlib_pairs() -> list[dict[str, str]]:
    return docstring_pairs()


def test_functions_methods_and_classes_each_give_a_pair(library: Path) -> None:
    assert sorted((row["prompt"], row["completion"]) for row in docstring_pairs(library)) == [
        ("async def Shelf.wait(self):\n", "Wait until the shelf is free."),
        ("class Shelf(Base):\n", "Keeps books in order."),
        ("def Shelf.put(self, book, *, place=None):\n", "Put a book in its place."),
        ("def count(shelf: Shelf):\n", "Return how many books there are, e.g. 3 or 4."),
        ("def inner():\n", "Say something about the inside."),
    ]


def test_a_sentence_that_differs_only_in_case_and_punctuation_is_kept_once(library: Path) -> None:
    (library / "again.py").write_text('def put(book):\n    """put a book, in its PLACE!"""\n')
    rows = docstring_pairs(library)
    assert [row["prompt"] for row in rows if "ook" in row["completion"]].count("def put(book):\n") == 1
    assert len(rows) == 5


def test_tests_and_installed_packages_are_not_the_library(library: Path) -> None:
    before = docstring_pairs(library)
    for folder in ("test", "site-packages/thing", "idlelib", "lib2to3"):
        (library / folder).mkdir(parents=True)
        (library / folder / "more.py").write_text('def more():\n    """Something that must not count."""\n')
    assert docstring_pairs(library) == before


def test_a_file_that_is_not_valid_python_is_passed_over(library: Path) -> None:
    before = docstring_pairs(library)
    (library / "broken.py").write_text("def :\n")
    (library / "bytes.py").write_bytes(b"# \xff\xfe\n")
    assert docstring_pairs(library) == before


def test_sources_are_never_imported(library: Path) -> None:
    (library / "danger.py").write_text('raise SystemExit("imported")\n')
    docstring_pairs(library)
    assert "danger" not in sys.modules


def test_the_order_does_not_depend_on_where_a_pair_was_found(
    library: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "zz.py").write_text(LIBRARY)
    assert docstring_pairs(elsewhere) == docstring_pairs(library)


def test_a_folder_without_source_names_the_folder_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"no Python source found under {tmp_path}.*data\.source"):
        docstring_pairs(tmp_path)
    with pytest.raises(DataError, match="no Python source"):
        source_documents(100, tmp_path)


@pytest.mark.parametrize(
    "docstring, expected",
    [
        ("Return the value.  It may be None.", "Return the value."),
        ("Return a thing\n    over two lines\n\n    More.", "Return a thing over two lines."),
        ("Uses names, e.g. Path. Done.", "Uses names, e.g. Path."),
        ("Reads file.txt and returns it", "Reads file.txt and returns it."),
        ("Too short.", ""),
        ("spam(a, b) -> the spam", ""),
        ("    >>> spam()\n    1", ""),
        (":param x: the x of it", ""),
        ("word " * 60, ""),
        ("", ""),
    ],
)
def test_the_first_sentence_is_one_line_of_prose_or_nothing(docstring: str, expected: str) -> None:
    assert first_sentence(docstring) == expected


def test_held_out_sentences_are_cut_from_the_text_to_pre_train_on(library: Path) -> None:
    [text] = source_documents(10_000, library)
    assert not any(row["completion"] in text for row in docstring_pairs(library))
    assert "Later paragraphs stay." in text
    assert "The module says what it is for." in text
    assert "return place" in text


def test_source_without_its_summaries_is_still_python(library: Path) -> None:
    (library / "umlaut.py").write_text(
        'def f():\n    x = "ä"; "no docstring"\n\ndef g():\n    """Über alles hinaus."""\n'
    )
    for text in source_documents(10_000, library):
        ast.parse(text)
        assert "hinaus" not in text


def test_the_text_is_as_long_as_asked_for_and_always_the_same(library: Path) -> None:
    (library / "other.py").write_text("x = 1\n" * 200)
    texts = source_documents(900, library)
    assert sum(map(len, texts)) == 900
    assert texts == source_documents(900, library)


def test_the_standard_library_gives_a_few_thousand_short_pairs(stdlib_pairs: list[dict[str, str]]) -> None:
    assert len(stdlib_pairs) > 3000
    assert all(set(row) == {"prompt", "completion"} for row in stdlib_pairs)
    assert max(len(row["prompt"]) + len(row["completion"]) for row in stdlib_pairs) <= 300
    assert {row["prompt"] for row in stdlib_pairs} > {"class Path(PurePath):\n"}
    assert len({row["completion"].casefold() for row in stdlib_pairs}) == len(stdlib_pairs)
