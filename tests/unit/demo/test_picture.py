from __future__ import annotations

from collections import Counter

from sqs_orchestrator.demo import picture
from sqs_orchestrator.demo.picture import Scene


def scene(latencies: list[float], title: str = "some requests") -> Scene:
    return Scene(
        title,
        1.5,
        latencies,
        Counter(SendMessageBatch=2, ReceiveMessage=1),
        Counter(SendMessageBatch=1, DeleteMessageBatch=1),
    )


def test_latencies_draws_a_bar_per_bin() -> None:
    text = picture.latencies(scene([0.0052, 0.0069, 0.007, 0.021]))
    assert text.splitlines() == [
        "some requests: 1.50 s, half of the replies within 7 ms",
        f"         5 to 7 ms  {'█' * 40} 2",
        f"        7 to 10 ms  {'█' * 20} 1",
        "       10 to 15 ms  0",
        "       15 to 20 ms  0",
        f"       20 to 30 ms  {'█' * 20} 1",
    ]


def test_latencies_shows_a_single_value_among_many() -> None:
    text = picture.latencies(scene([0.0055] * 1000 + [0.0075]))
    assert text.splitlines()[-1] == "        7 to 10 ms  ▏ 1"


def test_latencies_counts_what_is_below_the_first_edge() -> None:
    assert (
        picture.latencies(scene([0.0001])).splitlines()[-1] == f"       0 to 1.5 ms  {'█' * 40} 1"
    )


def test_latencies_draws_nothing_without_replies() -> None:
    assert picture.latencies(scene([])) == "some requests: 1.50 s\n"


def test_calls_are_told_per_round_trip() -> None:
    rows = [line.split() for line in picture.calls([scene([0.1] * 4)]).splitlines()[2:]]
    assert rows == [
        ["DeleteMessageBatch", "0.00", "0.25", "0.25"],
        ["ReceiveMessage", "0.25", "0.00", "0.25"],
        ["SendMessageBatch", "0.50", "0.25", "0.75"],
        ["all", "0.75", "0.50", "1.25"],
    ]


def test_calls_leaves_out_what_a_scene_did_not_call() -> None:
    quiet = Scene("quiet", 1.0, [], Counter(), Counter())
    text = picture.calls([quiet, scene([0.1])])
    assert text.index("quiet") < text.index("some requests") < text.index("ReceiveMessage")
    assert text.count("ReceiveMessage") == 1


def test_stage_names_both_processes_and_both_queues() -> None:
    first, second = picture.stage(
        11, 22, ["http://h/1/orders", "http://h/1/replies_1"]
    ).splitlines()
    assert first.split() == [
        *("requester", "(process", "11)", "──▶", "orders", "──▶", "worker", "(process", "22)")
    ]
    assert second.split() == ["◀──", "replies_1", "◀──"]


def test_stage_cuts_long_names_short() -> None:
    _, second = picture.stage(11, 22, ["http://h/1/orders", f"http://h/1/{'r' * 60}"]).splitlines()
    assert second.split() == ["◀──", f"{'r' * 31}…", "◀──"]


def test_journey_tells_when_it_was_where() -> None:
    times = [line.split()[:2] for line in picture.journey([0.0051, 0.0123]).splitlines()[1:4]]
    assert times == [["0.0", "ms"], ["5.1", "ms"], ["12.3", "ms"]]


def test_mishaps_tells_what_came_instead_of_a_reply() -> None:
    text = picture.mishaps([("the handler refuses", "RemoteError: no", 0.0123)], ["a note"])
    assert "the handler refuses, after 12 ms:\n    RemoteError: no\n" in text
    assert "'a note'" in text


def test_mishaps_breaks_long_lines() -> None:
    text = picture.mishaps([("no reply", "so long " * 30, 0.5)], [])
    assert max(map(len, text.splitlines())) <= picture.WIDTH
    assert " ".join(text.split()).count("so long") == 30


def test_remains_names_the_queues_that_are_left() -> None:
    text = picture.remains(["http://h/1/orders"], [])
    assert [line.rpartition(": ")[2].strip() for line in text.splitlines()[1:]] == [
        "orders",
        "none",
    ]
