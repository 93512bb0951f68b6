"""A row understood: what of it is shown to the model, and what of that may be learned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpo_service.training.data.conversation import Message, content_of


@dataclass(frozen=True)
class Example:
    """A row understood: a completion after a prompt that is not learned, a conversation, or token ids.

    Without `messages`, `completion` is learned and `prompt` is not; plain text has an empty prompt. Of `messages` the
    assistant's are learned, but for those whose places are `unlearned`; it may call `tools`. A row that came as `ids`
    may say in `labels` which of them are learned; `padding` is how many ids it had beside them. `group` keeps rows in
    one part of the split; `weight` is what its loss is multiplied with in training.
    """

    origin: str
    prompt: str = ""
    completion: str = ""
    messages: tuple[Message, ...] = ()
    unlearned: frozenset[int] = frozenset()
    tools: tuple[dict[str, Any], ...] = ()
    ids: Sequence[int] = ()
    labels: Sequence[int] = ()
    padding: int = 0
    group: str | None = None
    weight: float = 1.0

    @property
    def content(self) -> str:
        """All the text of the row, by which it is recognised again."""
        if self.ids:
            # a letter before each, so that ids stay apart where spacing does not count
            return "".join(f"t{token}" for token in self.ids)
        tools = [json.dumps(self.tools, sort_keys=True)] if self.tools else []
        return "\x1f".join([self.prompt, self.completion, *map(content_of, self.messages), *tools])
