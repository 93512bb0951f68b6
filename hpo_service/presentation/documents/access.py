"""Access tokens and webhooks, as plain data without their secrets."""

from __future__ import annotations

from typing import Any

from hpo_service.presentation.documents.plain import plain
from hpo_service.service.access import AccessList, AccessRow
from hpo_service.service.posting import shown
from hpo_service.service.webhooks import WebhookRow

SHOWN = ("id", "name", "role", "created_at", "expires_at", "revoked_at", "used_at")


def access_document(row: AccessRow) -> dict[str, Any]:
    """Return what may be known of a token; times in seconds since 1970."""
    document: dict[str, Any] = plain({name: getattr(row, name) for name in SHOWN})
    return document


def access_list_document(found: AccessList) -> list[dict[str, Any]]:
    """Return all tokens, oldest first."""
    return [access_document(row) for row in found.tokens]


def webhook_list_document(found: list[WebhookRow]) -> list[dict[str, Any]]:
    """Return all webhooks, oldest first; of their URLs no more than the host."""
    kept = ("id", "study", "allow_link_local", "created_at", "sent_at", "error")
    return [plain({"url": shown(row.url), **{name: getattr(row, name) for name in kept}}) for row in found]
