"""Which of the libraries for bodies are there: all that are installed, or less."""

from __future__ import annotations

import importlib.util

import pytest

from sqs_orchestrator import adapters, jsontext

SETS = {
    "none": (),
    "pydantic": ("pydantic",),
    "msgspec": ("msgspec",),
    "all": ("pydantic", "msgspec", "orjson"),
}


def missing(*names: str) -> list[str]:
    """Those of *names* that are not installed here."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def leave(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the library find *names* and no other; skip the test where one is not installed."""
    if missing(*names):
        pytest.skip(f"not installed: {', '.join(missing(*names))}")
    find = jsontext.installed
    monkeypatch.setattr(adapters, "installed", lambda name: find(name) if name in names else None)
    monkeypatch.setattr(adapters, "_cached_reader", adapters.make_reader)
    if "msgspec" not in names:
        monkeypatch.setattr(jsontext, "fast_loads", None)
    if "orjson" not in names:
        monkeypatch.setattr(jsontext, "fast_dumps", None)
