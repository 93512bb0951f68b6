"""Study files as they lie on this machine's disk, or come from elsewhere."""

from __future__ import annotations

import difflib
import glob
import importlib.util
import json
from pathlib import Path

import hpo_service
from hpo_service.domain.study.sources import BUILTIN, Surroundings, is_pattern
from hpo_service.domain.studyfile.reader import StudyFile, read_study
from hpo_service.domain.sweepfile.translation import Translated, translate
from hpo_service.errors import StudyFileError


def read_study_file(path: Path) -> StudyFile:
    """Read a study file with its warnings; relative paths in it start at its own folder.

    Args:
        path: of the file, or `builtin:NAME` for one that comes with the package.

    Raises:
        StudyFileError: the file cannot be read or is wrong; one line with file, line and key.
    """
    if str(path).startswith(BUILTIN):
        path = _builtin(str(path))
    text = _text_of(path)
    return read_study(text, str(path), surroundings(path.absolute().parent))


def read_sweep_file(path: Path) -> Translated:
    """Read a sweep file of Weights & Biases as a study file, named as the file is where the sweep has no name.

    Raises:
        StudyFileError: the file cannot be read or is no sweep file; one line with file, line and key.
    """
    return translate(_text_of(path), str(path), path.stem)


def _builtin(name: str) -> Path:
    """Where a study file of the package lies: inside an installed copy, or at the top of the tree."""
    package = Path(hpo_service.__file__).parent
    folder = next((each for each in (package / "_studies", package.parent / "studies") if each.is_dir()), package)
    path = folder / f"{name.removeprefix(BUILTIN)}.yaml"
    if not path.is_file():
        there = ", ".join(f"{BUILTIN}{each.stem}" for each in sorted(folder.glob("*.yaml"))) or "none"
        raise StudyFileError(f"{name}: there is no such study; those are {there}", file=name)
    return path


def _text_of(path: Path) -> str:
    try:
        # reading a pipe may never end
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise StudyFileError(f"{path}: is no regular file but a pipe or a device; save it first", file=str(path))
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = bytes(error.object[: error.start]).count(b"\n") + 1
        reason = f"{path}:{line}: is not UTF-8 text; save it as UTF-8"
        raise StudyFileError(reason, file=str(path), line=line) from None
    except OSError as error:
        reason = f"{path}: {error.strerror or error}{_nearest_file(path)}"
        raise StudyFileError(reason, file=str(path)) from None


def read_foreign_study(text: str, name: str) -> StudyFile:
    """Read a study file that was sent from another machine, looking at nothing on this one.

    What it names is read by the workers alone, so an absolute path is taken as it is; a relative one has no folder
    to start at and is refused.

    Args:
        text: its content, YAML or JSON.
        name: as messages shall call it.

    Raises:
        StudyFileError: something is wrong; one line with line and key.
    """
    return read_study(text, name, NOWHERE)


NOWHERE = Surroundings(
    absolute=lambda name: name,
    exists=lambda name: name.startswith("/"),
    architecture=lambda _: None,
    start="a study file that is sent has no folder: write an absolute path, as the workers know it",
)
"""The surroundings of a study file that was sent: no answer tells what lies on this machine."""


def surroundings(folder: Path) -> Surroundings:
    """Answer a study file's questions about this machine.

    Args:
        folder: where relative paths start.
    """

    def absolute(name: str) -> str:
        try:
            return str(folder / Path(name).expanduser())
        except RuntimeError:  # ~nobody: there is no such user
            return name

    def exists(name: str) -> bool:
        try:
            # of an absolute pattern, which pathlib does not take
            return Path(name).exists() or (is_pattern(name) and bool(glob.glob(name, recursive=True)))  # noqa: PTH207
        except (OSError, ValueError):  # a name that no file can have
            return False

    def text(name: str) -> str | None:
        try:
            return Path(name).read_text(encoding="utf-8-sig") if Path(name).is_file() else None
        except (OSError, ValueError):
            return None

    return Surroundings(absolute, exists, _architecture, installed=is_installed, text=text)


def is_installed(package: str) -> bool:
    """Whether a package can be imported on this machine; it is not."""
    found = importlib.util.find_spec(package)
    # a folder of that name, as some of them leave behind, is no package
    return found is not None and found.origin is not None


def _architecture(folder: str) -> str | None:
    try:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        return str(config["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _nearest_file(path: Path) -> str:
    try:
        names = [file.name for file in path.parent.iterdir() if file.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; the nearest is {path.parent / close[0]}" if close else ""
