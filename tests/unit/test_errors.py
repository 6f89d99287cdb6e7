"""What errors say of themselves."""

from __future__ import annotations

import copy
import pickle

import pytest

from sqs_orchestrator import RemoteError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RemoteError(code="bad_body"), "bad_body"),
        (RemoteError(type="KeyError"), "handler_error (KeyError)"),
        (RemoteError("no", code="refused", type="Reject"), "refused (Reject): no"),
    ],
)
def test_remote_error_says_what_it_knows(error: RemoteError, text: str) -> None:
    assert str(error) == text
    assert repr(error) == f"RemoteError({text!r})"
    for same in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert repr(same) == repr(error)
        assert same.message == error.message
