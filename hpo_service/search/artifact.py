"""What optuna-dashboard lists beside a trial or a study: a file that can be opened there."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Artifact:
    """A file by its id, which has hexadecimal digits and dashes alone."""

    id: str
    file_name: str
    media_type: str

    def described(self) -> str:
        """Return it as optuna-dashboard 0.21 reads it."""
        said = {"artifact_id": self.id, "filename": self.file_name, "mimetype": self.media_type, "encoding": None}
        return json.dumps(said)
