"""Whatever writers do, and wherever they die: a reader sees the last bundle whose manifest was written, or none."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hpo_service.filestore import store as module
from hpo_service.filestore.store import FileStore

PLACES = st.sampled_from(["s/trials/a/attempt-1/checkpoint", "s/trials/a/attempt-2/checkpoint", "t"])
CONTENTS = st.dictionaries(st.sampled_from(["state", "in/weights", "in/seal"]), st.text("ab", max_size=2), min_size=1)


class Killed(BaseException):
    """Stands in for SIGKILL."""


class Writers(RuleBasedStateMachine):
    """Writers of several places, each of them a process of its own, against what a reader should find."""

    def __init__(self) -> None:
        super().__init__()
        self.url = f"memory://{uuid.uuid4().hex}"
        self.writers: dict[str, FileStore] = {}
        self.expected: dict[str, dict[str, str]] = {}
        self.folder = tempfile.TemporaryDirectory()

    def _files(self, contents):
        files = {}
        for name, text in contents.items():
            files[name] = Path(self.folder.name) / uuid.uuid4().hex
            files[name].write_text(text)
        return files

    @rule(place=PLACES, contents=CONTENTS)
    def put(self, place, contents):
        self.writers.setdefault(place, FileStore(self.url)).put(place, self._files(contents), {})
        self.expected[place] = contents

    @rule(place=PLACES, contents=CONTENTS, label=st.sampled_from(["filestore.parts", "filestore.manifest"]))
    def die(self, place, contents, label):
        def reach(reached):
            if reached == label:
                raise Killed

        writer = self.writers.pop(place, FileStore(self.url))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "reach", reach)
            with pytest.raises(Killed):
                writer.put(place, self._files(contents), {})
        if label == "filestore.manifest":
            self.expected[place] = contents

    @rule(place=PLACES, text=st.binary(max_size=8))
    def tear(self, place, text):
        reader = FileStore(self.url)
        reader._fs.pipe_file(reader._path(place, f"manifest-{9:020d}9-{uuid.uuid4().hex[:8]}.json"), text)

    @rule(place=PLACES)
    def remove(self, place):
        self.writers.setdefault(place, FileStore(self.url)).remove(place)
        self.expected.pop(place, None)

    @invariant()
    def a_reader_sees_what_was_written_last(self):
        reader = FileStore(self.url)
        for place in ("s/trials/a/attempt-1/checkpoint", "s/trials/a/attempt-2/checkpoint", "t"):
            bundle = reader.newest(place)
            if place not in self.expected:
                assert bundle is None
                continue
            assert bundle is not None
            folder = Path(self.folder.name) / uuid.uuid4().hex
            reader.fetch(bundle, folder)
            assert {name: (folder / name).read_text() for name in bundle.files} == self.expected[place]

    def teardown(self):
        self.folder.cleanup()


TestWriters = Writers.TestCase
TestWriters.settings = settings(max_examples=40, stateful_step_count=12, deadline=None)
