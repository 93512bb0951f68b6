"""A shared folder or object storage: bundles are put whole or not at all, found, fetched and removed."""

from __future__ import annotations

import logging
import posixpath
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hpo_service.errors import FileStoreError
from hpo_service.failpoint import reach
from hpo_service.filestore.bundle import Bundle
from hpo_service.wire.digests import digest_of

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
"""Which extra of this package brings what a kind of URL needs."""
LOCAL = ("", "file")
"""Kinds of URL that name a folder."""
PARTS = "parts"
TRIES = 2
"""How often a bundle is fetched: its writer may put a newer one in its place meanwhile."""

log = logging.getLogger(__name__)


class FileStore:
    """Bundles below one URL.

    Nothing is renamed, which object storage cannot do: files are put under the names of their digests, then a manifest
    under a name of its own, then what it does not name is removed. A reader believes the newest manifest that is whole,
    and of the files only what has the digest that it names. One process writes to a place at a time.

    Every method raises FileStoreError where the store does not answer as it should; the message names the store.
    """

    def __init__(self, url: str) -> None:
        """Name a store; it is opened when it is first used.

        Args:
            url: e.g. `s3://bucket/folder`, `gs://...`, `az://...`, or a folder that the nodes share.
        """
        self.url = url
        self._put: dict[str, frozenset[str]] = {}

    def put(self, place: str, files: Mapping[str, Path], about: Mapping[str, Any]) -> Bundle:
        """Put files in the place of those that are there; until it returns, readers see the old ones.

        Args:
            place: folder within the store.
            files: by the path that each has within the bundle.
            about: what readers are told of it; JSON values.
        """
        with self._asking(f"{place} cannot be written"):
            digests = {name: digest_of(path) for name, path in files.items()}
            known = self._put.get(place, frozenset())
            for name, digest in digests.items():
                if digest not in known:
                    self._fs.put_file(str(files[name]), self._part(place, digest))
            reach("filestore.parts")
            size = sum(path.stat().st_size for path in files.values())
            bundle = Bundle(place, digests, size, about)
            manifest = self._path(place, f"manifest-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json")
            self._fs.pipe_file(manifest, bundle.manifest)
            reach("filestore.manifest")
            self._put[place] = frozenset(digests.values())
            named = {manifest, *(self._part(place, digest) for digest in digests.values())}
            self._remove([path for path in self._found(place) if path not in named])
        return bundle

    def publish(self, place: str, files: Mapping[str, Path]) -> None:
        """Put files under their own names, for people; each is there whole or as it was before."""
        with self._asking(f"{place} cannot be written"):
            for name, path in files.items():
                target = self._path(place, name)
                # an object is whole or not there by itself; a file of a folder is once it is renamed
                written = f"{target}.{uuid.uuid4().hex[:8]}" if self._kind in LOCAL else target
                self._fs.put_file(str(path), written)
                if written != target:
                    self._fs.mv(written, target)

    def newest(self, place: str) -> Bundle | None:
        """Return the bundle that lies in a place; None where there is none that is whole."""
        with self._asking(f"{place} cannot be read"):
            manifests = [path for path in self._found(place) if posixpath.basename(path).startswith("manifest-")]
            for path in sorted(manifests, reverse=True):
                bundle = Bundle.read(place, self._fs.cat_file(path))
                if bundle is not None:
                    return bundle
        return None

    def fetch(self, bundle: Bundle, folder: Path) -> None:
        """Bring the files of a bundle into a folder, which is new; none of them is there where that fails."""
        try:
            with self._asking(f"{bundle.place} cannot be fetched"):
                for name, digest in bundle.files.items():
                    target = folder / name
                    if not target.resolve().is_relative_to(folder.resolve()):
                        raise OSError(f"{name} leads out of the bundle")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self._fs.get_file(self._part(bundle.place, digest), str(target))
                    if digest_of(target) != digest:
                        raise OSError(f"{name} is not as it was put there")
        except FileStoreError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def folders(self, place: str) -> list[str]:
        """Return the names of the folders in a place."""
        with self._asking(f"{place} cannot be listed"):
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(self._path(place), detail=True)
            except FileNotFoundError:
                return []
            names = [posixpath.basename(each["name"].rstrip("/")) for each in found if each["type"] == "directory"]
            return sorted(set(names))

    def size(self, place: str) -> int:
        """Return the bytes of everything in a place, also of what no manifest names."""
        with self._asking(f"{place} cannot be listed"):
            return sum(self._sizes(place).values())

    def remove(self, place: str) -> None:
        """Remove everything in a place; it need not be there."""
        with self._asking(f"{place} cannot be removed"):
            self._put.pop(place, None)
            self._remove(self._found(place))
            with suppress(FileNotFoundError):  # folders are left where there are such
                self._fs.rm(self._path(place), recursive=True)

    def shown(self, place: str = "") -> str:
        """The URL of a place, without a password."""
        parts = urlsplit(self.url)
        known = self.url if parts.password is None else self.url.replace(f":{parts.password}@", ":***@")
        return f"{known.rstrip('/')}/{place}".rstrip("/")

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system, and the folder in it."""
        from fsspec.core import url_to_fs

        fs, folder = url_to_fs(self.url, **({"auto_mkdir": True} if self._kind in LOCAL else {}))
        return fs, str(folder)

    @property
    def _fs(self) -> Any:
        return self._opened[0]

    @property
    def _kind(self) -> str:
        return urlsplit(self.url).scheme

    def _path(self, *parts: str) -> str:
        _, root = self._opened
        return posixpath.join(root.rstrip("/"), *parts)

    def _part(self, place: str, digest: str) -> str:
        return self._path(place, PARTS, digest)

    def _found(self, place: str) -> list[str]:
        return sorted(self._sizes(place))

    def _sizes(self, place: str) -> dict[str, int]:
        self._fs.invalidate_cache()
        try:
            found = self._fs.find(self._path(place), detail=True)
        except FileNotFoundError:
            return {}
        return {path: int(about.get("size") or 0) for path, about in found.items()}

    def _remove(self, paths: list[str]) -> None:
        """Remove files, manifests first: what is left of a bundle whose removal broke off is believed by nobody."""
        manifests = [path for path in paths if posixpath.basename(path).startswith("manifest-")]
        for some in (manifests, [path for path in paths if path not in manifests]):
            if some:
                self._fs.rm(some)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileStoreError:
            raise
        # every kind of storage has errors of its own, and they share no base
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise FileStoreError(f"{self.shown()}: {what} ({reason}): {self._remedy(error)}") from error

    def _remedy(self, error: Exception) -> str:
        if isinstance(error, ImportError):
            extra = EXTRAS.get(self._kind)
            return f"pip install 'hpo-service[{extra}]'" if extra else f"install what fsspec needs for {self._kind}"
        if isinstance(error, ValueError):
            return "see that HPO_SERVICE_STORE is a folder, or a URL such as s3://bucket/folder"
        return "see that the store answers from this node and its credentials are in the environment"


def fetched(url: str, folder: Path) -> str | None:
    """Bring the bundle at a URL into a new folder; say why it could not be."""
    try:
        store = FileStore(url)
        bundle = store.newest("")
        if bundle is None:
            return f"there is nothing whole at {store.shown()}"
        store.fetch(bundle, folder)
    except FileStoreError as error:
        return str(error)
    return None


@lru_cache(maxsize=8)
def store_at(url: str) -> FileStore | None:
    """The one store of this URL in this process; None where there is none."""
    return FileStore(url) if url else None
