"""What the rows of a study are like, told before anything is trained on them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

MANY_TRUNCATED = 0.05
MANY_UNSUPERVISED = 0.01
MANY_DUPLICATES = 0.05
MUCH_PADDING = 0.3
MANY_UNENDED = 0.05
FEW_HELD_OUT = 50
"""Below this many held-out rows the noise of their choice is larger than most differences between configurations."""


# What columns usually hold that other trainers or other formats read, so that leaving them out changes what is learned.
MEANINGFUL = {
    "a system text": ("system", "system_prompt"),
    "earlier rounds": ("history", "context", "messages", "conversations", "input"),
    "tools or calls of them": ("tools", "functions", "tool_calls", "function_call"),
    "thoughts": ("reasoning", "reasoning_content", "thinking"),
    "what is no text": ("image", "images", "audio", "audios", "video", "videos"),
    "what is learned of a row": ("label", "labels", "attention_mask", "completion_mask", "loss_mask"),
    "where packed rows begin": ("position_ids", "seq_lengths"),
    "preferences": ("chosen", "rejected"),
    "options of a chat template": ("chat_template_kwargs", "documents"),
}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PartReport(_Record):
    """Rows of one part, or of all; token counts are those of rows before they are cut to length."""

    rows: int = Field(description="Rows that have something to learn: those that are used.")
    tokens: int = Field(description="Tokens of the rows used, after the cut.")
    supervised_tokens: int = Field(description="Tokens that are learned.")
    p50: int = Field(description="Half of the rows have at most this many tokens.")
    p90: int
    p99: int
    longest: int = Field(description="Tokens of the longest row.")
    truncated: int = Field(description="Rows cut to `max_length`.")
    unsupervised: int = Field(description="Rows dropped because no learned token is left after the cut.")
    groups: int | None = Field(default=None, description="Groups, where `data.group` names them.")

    @property
    def truncated_share(self) -> float:
        """Share of the rows that are cut."""
        return self.truncated / max(1, self.rows + self.unsupervised)

    @property
    def unsupervised_share(self) -> float:
        """Share of the rows that nothing can be learned from."""
        return self.unsupervised / max(1, self.rows + self.unsupervised)


class TurnsReport(_Record):
    """What became of the assistant's turns of conversations."""

    turns: int = Field(description="Turns of the assistant.")
    marked: int = Field(description="Not learned because the row says so.")
    hidden: int = Field(description="Not learned because the chat template does not show them as they were written.")
    altered: int = Field(description="Learned, though the chat template leaves out or changes a part of them.")
    left_out: dict[str, int] = Field(description="How often the chat template leaves out a field or a role, by name.")

    def warnings(self, learn: str) -> list[str]:
        """What of the conversations is not learned, or not shown to the model."""
        found = []
        if self.hidden and learn != "all":
            remedy = "use a template with {% generation %} marks, or the prompt-completion format"
            found.append(
                f"{self.hidden} of {self.turns} turns of the assistant are not learned, since the chat template does "
                f"not show them as they were written: {remedy}"
            )
        if self.altered:
            found.append(
                f"{self.altered} of {self.turns} turns of the assistant are learned as the chat template shows them, "
                "without a part of what was written (earlier reasoning, for instance)"
            )
        for name, count in self.left_out.items():
            found.append(f"the chat template leaves out {name} ({count} times): the model will not see it")
        return found


class Understanding(_Record):
    """What rows say beside what is learned of them."""

    rows: int = Field(default=0, description="Rows that were tokenised.")
    columns_unused: dict[str, int] = Field(
        default_factory=dict, description="Columns that the format does not read: how many rows fill each."
    )
    turns: TurnsReport | None = Field(default=None, description="Turns of the assistant, where rows are conversations.")
    rows_plain: int = Field(
        default=0, description="Prompts with completions that are not rendered with the chat template that there is."
    )
    rows_unended: int = Field(default=0, description="Rows of which no end mark is learned, before the cut.")
    padding_tokens: int = Field(default=0, description="Padding taken off rows that came tokenised.")

    def warnings(self, format_name: str, learn: str) -> list[str]:
        """What the rows say and the model will not learn, and what it will do instead."""
        found = self.turns.warnings(learn) if self.turns else []
        if self.rows_unended > MANY_UNENDED * self.rows:
            remedy = "the chat template or the tokenizer needs an end mark that is a special token (EOS)"
            found.append(f"{self.rows_unended} of {self.rows} rows teach no end, so the model may never stop: {remedy}")
        if self.rows_plain:
            remedy = "where it shall answer in a chat, say data.as_chat: true"
            found.append(f"the model has a chat template, and the {format_name} rows are learned without it: {remedy}")
        named = {name: meaning for meaning, names in MEANINGFUL.items() for name in names}
        for name in sorted(named.keys() & self.columns_unused):
            what = f"column {name!r} usually holds {named[name]}, and {self.columns_unused[name]} rows fill it"
            found.append(f"{what}, but the format {format_name} does not read it: remove it, or change the format")
        return found


class ShownPiece(_Record):
    """A stretch of a row, all of it learned or none."""

    text: str
    learned: bool
    tokens: int


class ShownRow(_Record):
    """A row as the model sees it, cut to length."""

    origin: str = Field(description="File and row.")
    format: str
    tokens_uncut: int = Field(description="Tokens before the cut.")
    pieces: list[ShownPiece] = Field(description="In order; learned and not by turns.")

    @property
    def summary(self) -> str:
        """Where the row stands, how long it is and how much of it is learned, in one line."""
        kept = sum(piece.tokens for piece in self.pieces)
        learned = sum(piece.tokens for piece in self.pieces if piece.learned)
        cut = f", cut from {self.tokens_uncut}" if kept < self.tokens_uncut else ""
        return f"{self.origin} ({self.format}): {kept} tokens{cut}, {learned or 'none'} learned"

    def marked(self, begin: str = "[[", end: str = "]]") -> str:
        """The text of the row with marks around what is learned."""
        return "".join(f"{begin}{piece.text}{end}" if piece.learned else piece.text for piece in self.pieces)


class DataReport(_Record):
    """The data of a study as the model will see them."""

    source: str
    format: str = Field(description="Shape of the rows, as found or as given.")
    learn: str
    max_length: int
    rows_read: int
    rows_split: int = Field(description="Rows cut into parts: fewer than read where `max_rows` is set.")
    leaked: int = Field(description="Held-out rows removed because they stand in another part too.")
    repeated: int = Field(description="Held-out rows removed because they stand in their part already.")
    duplicates: int = Field(description="Training rows that repeat another; they are kept.")
    rows_without_weight: int = Field(default=0, description="Rows left out because they say that their weight is 0.")
    understanding: Understanding = Understanding()
    longest_row: str = Field(description="Where the longest row stands.")
    padding_share: float = Field(description="Share of a training batch of 8 random rows that is padding.")
    parts: dict[str, PartReport]
    whole: PartReport
    fingerprint: str = Field(description="SHA-256 of all token ids and labels, in order.")

    def of_source(self, source: str) -> DataReport:
        """The same report of equal data that lie elsewhere."""
        where = self.longest_row
        if where.startswith(self.source):
            where = source + where.removeprefix(self.source)
        return self.model_copy(update={"source": source, "longest_row": where})

    def warnings(self) -> list[str]:
        """What is probably not meant, each with what to do about it."""
        found = []
        whole, train = self.whole, self.parts["train"]
        if whole.truncated_share > MANY_TRUNCATED:
            remedy = f"raise data.max_length (99% of the rows have at most {whole.p99})"
            found.append(f"{whole.truncated_share:.0%} of the rows are cut to {self.max_length} tokens: {remedy}")
        if whole.unsupervised_share > MANY_UNSUPERVISED:
            remedy = "raise data.max_length, or shorten the prompts"
            found.append(f"{whole.unsupervised_share:.0%} of the rows have nothing to learn and are dropped: {remedy}")
        found += self.understanding.warnings(self.format, self.learn)
        if self.duplicates > MANY_DUPLICATES * train.rows:
            found.append(f"{self.duplicates} of {train.rows} training rows repeat another: remove them from the data")
        for name in ("validation", "test"):
            if self.parts[name].rows < FEW_HELD_OUT:
                remedy = f"give more rows or a larger data.split.{name}"
                found.append(f"{self.parts[name].rows} {name} rows tell configurations apart poorly: {remedy}")
        if self.padding_share > MUCH_PADDING:
            remedy = "data.pack_rows: true saves it"
            found.append(f"{self.padding_share:.0%} of a training batch is padding: {remedy}")
        return found
