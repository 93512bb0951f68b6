"""A folder of weights on the Hugging Face hub: what would be uploaded, and the upload."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hpo_service.errors import ConflictError, HpoServiceError, UsageError

TOKEN = "HF_TOKEN"  # noqa: S105 - the variable's name
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True)
class Upload:
    """Files of a folder that go to a repository.

    Attributes:
        repository: OWNER/NAME.
        folder: whose files.
        files: bytes of each, by its path within the folder.
        private: whether a repository that is made for it is private.
    """

    repository: str
    folder: Path
    files: dict[str, int]
    private: bool


def prepare(repository: str, folder: Path, *, private: bool) -> Upload:
    """Look at what would be uploaded; nothing leaves this machine.

    Raises:
        UsageError: the repository's name cannot be one.
        ConflictError: the folder holds no weights.
    """
    if not REPOSITORY.fullmatch(repository):
        raise UsageError(f"{repository!r} names no repository of the hub: write OWNER/NAME, such as me/mine-lora")
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(_visible(folder))}
    if not any(name.endswith(WEIGHTS) for name in files):
        raise ConflictError(
            f"{folder} holds no weights to upload: `hpo-service report STUDY` writes best/ where its adapter is, "
            "`hpo-service train STUDY` trains one"
        )
    return Upload(repository, folder, files, private)


def upload(wanted: Upload) -> str:
    """Upload in one commit, into a repository that is made where there is none; return its address.

    Raises:
        UsageError: there is no token, or the hub's library is not installed.
        HpoServiceError: the hub refuses it or cannot be reached; the message never holds the token.
    """
    # a file with lines of another system's leaves an end of line, which errors quote in another form
    token = "".join(os.environ.get(TOKEN, "").split())
    if not token:
        raise UsageError(
            f"{TOKEN} is not set: set it to a token that may write to {wanted.repository}, or look with --dry-run"
        )
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UsageError("huggingface_hub is not installed here: pip install 'hpo-service[train]'") from None
    api = HfApi(token=token)
    try:
        made = api.create_repo(wanted.repository, private=wanted.private, exist_ok=True)
        api.upload_folder(
            repo_id=wanted.repository,
            folder_path=str(wanted.folder),
            allow_patterns=list(wanted.files),
            commit_message="Upload by hpo-service",
        )
    # HTTP libraries raise of their own where there is no network
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split()).replace(token, "***")[:300]
        raise HpoServiceError(
            f"{wanted.repository} was not uploaded ({reason}): see that {TOKEN} may write to it and the hub answers"
        ) from None
    return str(made)


def _visible(folder: Path) -> Iterable[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path
