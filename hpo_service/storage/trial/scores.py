"""Per-example scores of a trial: what paired comparisons are made of."""

from __future__ import annotations

from sqlalchemy import select

from hpo_service.domain.trial.scores import Scores, Split
from hpo_service.storage import schema
from hpo_service.storage.database import Database
from hpo_service.storage.dialects.upsert import insert_or_replace
from hpo_service.storage.values import packed, unpacked

NLL_TYPE = "<f4"
TOKENS_TYPE = "<i4"


class ScoreStore:
    """Reads and writes `hpo_score`: little-endian float32 sums of NLL (nats) and int32 token counts, aligned.

    Of `test_answers` they are the metric that the study selects on, row by row, and ones.

    Every method belongs inside `database.transaction()`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, trial_id: int, split: Split, scores: Scores) -> None:
        """Write the scores of one split, replacing earlier ones; NLLs are rounded to float32.

        Raises:
            ValueError: the two lists differ in length.
        """
        if len(scores.nll) != len(scores.tokens):
            raise ValueError(
                f"trial {trial_id}: {len(scores.nll)} NLLs but {len(scores.tokens)} token counts in {split}"
            )
        values = {
            "trial_id": trial_id,
            "split": split,
            "nll": packed(scores.nll, NLL_TYPE),
            "tokens": packed(scores.tokens, TOKENS_TYPE),
        }
        self._database.connection.execute(
            insert_or_replace(self._database, schema.score, values, unique=["trial_id", "split"])
        )

    def load(self, trial_id: int, split: Split) -> Scores | None:
        """Return the scores of one split, or None where there are none."""
        row = self._database.connection.execute(
            select(schema.score.c.nll, schema.score.c.tokens).where(
                schema.score.c.trial_id == trial_id, schema.score.c.split == split
            )
        ).one_or_none()
        if row is None:
            return None
        return Scores(nll=unpacked(row.nll, NLL_TYPE), tokens=unpacked(row.tokens, TOKENS_TYPE))
