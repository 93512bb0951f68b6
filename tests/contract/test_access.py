"""Access tokens and idempotency keys, on both kinds of database."""

from __future__ import annotations

import threading

import pytest

from hpo_service.domain.access import Role
from hpo_service.errors import ConflictError, NotFoundError
from hpo_service.service.access import Access, AccessKind
from hpo_service.service.idempotency import Idempotency
from hpo_service.storage.access.requests import IdempotentRequestStore
from hpo_service.storage.access.tokens import AccessTokenStore


@pytest.fixture
def access(connect):
    database = connect()
    return Access(database, AccessTokenStore(database))


@pytest.fixture
def idempotency(access):
    return Idempotency(access.db, IdempotentRequestStore(access.db))


def test_a_token_is_recognised_until_it_is_revoked(access):
    issued = access.issue("anna", Role.OPERATOR)
    assert access.anybody()
    found = access.recognise(issued.secret, AccessKind.TOKEN)
    assert (found.name, found.role) == ("anna", Role.OPERATOR)
    assert access.recognise(issued.secret, AccessKind.SESSION) is None
    assert access.recognise(issued.secret + "0", AccessKind.TOKEN) is None
    access.revoke(issued.row.id)
    access.revoke(issued.row.id)
    assert access.recognise(issued.secret, AccessKind.TOKEN) is None
    assert not access.anybody()
    listed = access.list_all()
    assert [row.state(listed.now) for row in listed.tokens] == ["revoked"]


def test_an_unknown_id_is_answered_with_the_nearest(access):
    with pytest.raises(NotFoundError, match="token list"):
        access.revoke("nobody")


def test_a_link_is_spent_by_one_of_many(access, connect):
    code, found = access.link(Role.ADMIN).secret, []

    def follow():
        database = connect()
        found.append(Access(database, AccessTokenStore(database)).follow_link(code))

    threads = [threading.Thread(target=follow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(session is not None for session in found) == 1


def test_what_is_over_is_forgotten_and_tokens_are_not(access, monkeypatch):
    monkeypatch.setattr("hpo_service.service.access.KEPT_SECONDS", -1.0)
    token = access.issue("anna", Role.VIEWER)
    session = access.open_session(token.secret)
    access.revoke(token.row.id)
    access.tidy()
    assert [row.id for row in access.list_all().tokens] == [token.row.id]
    with access.db.transaction():
        assert access.rows.valid(session.row.id) is None


def test_what_two_ask_for_at_once_under_one_key_is_done_once(access, connect):
    owner, done, answers = access.issue("anna", Role.OPERATOR).row.id, [], []

    def ask():
        database = connect()

        def act():
            done.append(1)
            return {"n": len(done)}

        answers.append(Idempotency(database, IdempotentRequestStore(database)).once(owner, "k", "f", act))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1
    assert sorted(replayed for _, replayed in answers) == [False, True, True, True]
    assert {answer["n"] for answer, _ in answers} == {1}


def test_a_key_is_free_after_a_failure_and_bound_after_success(access, idempotency):
    owner = access.issue("anna", Role.OPERATOR).row.id

    def broken():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        idempotency.once(owner, "k", "f", broken)
    assert idempotency.once(owner, "k", "f", lambda: {"a": 1}) == ({"a": 1}, False)
    with pytest.raises(ConflictError, match="another request"):
        idempotency.once(owner, "k", "g", broken)


def test_keys_are_forgotten_after_a_while(access, idempotency, monkeypatch):
    monkeypatch.setattr("hpo_service.service.idempotency.KEPT_SECONDS", -1.0)
    owner = access.issue("anna", Role.OPERATOR).row.id
    idempotency.once(owner, "k", "f", lambda: {"a": 1})
    idempotency.tidy()
    assert idempotency.once(owner, "k", "g", lambda: {"a": 2}) == ({"a": 2}, False)
