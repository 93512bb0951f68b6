"""A bundle: files that were put together and are believed together, as its manifest names them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from hpo_service.wire.digests import digest_of_text

FORMAT = 1


@dataclass(frozen=True)
class Bundle:
    """What a manifest says; it is written after all files, and carries a digest of each and of itself.

    Attributes:
        place: folder of the bundle in its store.
        files: SHA-256 of each file, by its path within the bundle.
        size: bytes of all of them.
        about: what its writer says of it; JSON values.
    """

    place: str
    files: Mapping[str, str]
    size: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def manifest(self) -> bytes:
        """The manifest's text."""
        said = {"format": FORMAT, "files": dict(self.files), "size": self.size, "about": dict(self.about)}
        return json.dumps({**said, "digest": _digest(said)}, indent=1).encode()

    @classmethod
    def read(cls, place: str, manifest: bytes) -> Self | None:
        """Read a manifest; None where it is not as it was written: cut short, changed, or of a later version."""
        try:
            said = json.loads(manifest)
            if said.pop("digest") != _digest(said) or said["format"] != FORMAT:
                return None
            return cls(place, dict(said["files"]), int(said["size"]), dict(said["about"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _digest(said: Mapping[str, Any]) -> str:
    return digest_of_text(json.dumps(said, sort_keys=True))
