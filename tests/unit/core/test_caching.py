"""`TTLCache`: for how long values are kept, and how many."""

from __future__ import annotations

from sqs_orchestrator.core.caching import TTLCache


def test_value_is_kept_for_its_time() -> None:
    cache: TTLCache[int] = TTLCache(60.0, 10)
    assert cache.get("a", 0.0) is None
    cache.put("a", 300, 0.0)
    cache.put("b", 500, 1.0)
    assert cache.get("a", 59.9) == 300
    assert cache.get("a", 60.0) is None
    assert len(cache) == 1
    assert cache.get("b", 60.0) == 500


def test_value_put_again_is_kept_from_then_on() -> None:
    cache: TTLCache[int] = TTLCache(60.0, 10)
    cache.put("a", 300, 0.0)
    cache.put("a", 200, 50.0)
    assert cache.get("a", 100.0) == 200
    assert cache.get("a", 110.0) is None


def test_oldest_of_too_many_values_is_dropped() -> None:
    cache: TTLCache[int] = TTLCache(60.0, 2)
    cache.put("a", 1, 0.0)
    cache.put("b", 2, 0.0)
    cache.put("a", 3, 0.0)
    cache.put("c", 4, 0.0)
    assert len(cache) == 2
    assert [cache.get(key, 0.0) for key in "abc"] == [3, None, 4]


def test_value_that_is_discarded_is_gone() -> None:
    cache: TTLCache[int] = TTLCache(60.0, 2)
    cache.put("a", 1, 0.0)
    cache.discard("a")
    cache.discard("b")
    assert cache.get("a", 0.0) is None
