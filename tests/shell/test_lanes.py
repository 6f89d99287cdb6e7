"""`Lanes`: entries in, batch calls out, each entry told what became of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from sqs_orchestrator.core.batching import LIMIT_KEPT, Policy
from sqs_orchestrator.errors import (
    AccessDenied,
    MessageTooLarge,
    QueueError,
    QueueNotFound,
    SendError,
    Throttled,
)
from sqs_orchestrator.sending.lanes import MOST_IDLE, Entry, Lanes
from sqs_orchestrator.sqs.port import Failure
from sqs_orchestrator.tasks import TaskOwner
from sqs_orchestrator.testing import VirtualTimeLoop
from tests.shell.requesters import timers
from tests.shell.workers import until

STANDARD = Policy(linger=0.02)
PATIENT = Policy(linger=1.5, patient=True)
ORDERED = Policy(linger=0.02, most_in_flight=1)

BUSY = Throttled("slow down", code="RequestThrottled", transient=True)
LOST = QueueError("broke off", code="ConnectionClosedError", transient=True, maybe_done=True)
DENIED = AccessDenied("no", code="AccessDenied")
THEIR_FAULT = Failure("InternalError", "sorry", sender_fault=False)
OUR_FAULT = Failure("InvalidParameterValue", "what is this", sender_fault=True)

Outcome = str | None | QueueError | SendError


def now() -> float:
    return asyncio.get_running_loop().time()


class Item(Entry):
    """An entry that keeps what it hears."""

    __slots__ = ("name", "outcomes")

    def __init__(self, name: str, *, size: int = 100, expires: float = math.inf) -> None:
        super().__init__(size, expires)
        self.name = name
        self.outcomes: list[Outcome] = []

    def __repr__(self) -> str:
        return self.name

    def done(self, result: str | None) -> None:
        self.outcomes.append(result)

    def failed(self, error: QueueError | SendError) -> None:
        self.outcomes.append(error)


class Server:
    """Takes a second for each batch; `answer` says what to answer."""

    def __init__(self) -> None:
        self.batches: list[tuple[float, str, str]] = []
        self.answer: Callable[[Sequence[Item]], Sequence[str | Failure | None]] = lambda batch: [
            f"id of {item}" for item in batch
        ]
        self.in_flight = self.most_in_flight = 0
        self.seconds = 1.0

    async def __call__(self, url: str, batch: Sequence[Item]) -> Sequence[str | Failure | None]:
        self.batches.append((now(), url, "".join(item.name for item in batch)))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.seconds)
            return self.answer(batch)
        finally:
            self.in_flight -= 1

    @property
    def sent(self) -> list[str]:
        return [batch for _, _, batch in self.batches]

    def fails(self, error: QueueError, times: float = math.inf) -> None:
        """Let the next *times* batches end with *error*."""
        left = times
        well = self.answer

        def answer(batch: Sequence[Item]) -> Sequence[str | Failure | None]:
            nonlocal left
            left -= 1
            if left < 0:
                return well(batch)
            raise error

        self.answer = answer

    def refuses(self, name: str, failure: Failure, times: float = math.inf) -> None:
        """Let the entry *name* fail *times* times."""
        left = times
        well = self.answer

        def answer(batch: Sequence[Item]) -> Sequence[str | Failure | None]:
            nonlocal left
            results = list(well(batch))
            for place, item in enumerate(batch):
                if item.name == name and left > 0:
                    left -= 1
                    results[place] = failure
            return results

        self.answer = answer

    def refuses_batches(
        self, error: QueueError, predicate: Callable[[Sequence[Item]], bool]
    ) -> None:
        """Let batches fail as a whole for which *predicate* is true."""
        well = self.answer

        def answer(batch: Sequence[Item]) -> Sequence[str | Failure | None]:
            if predicate(batch):
                raise error
            return well(batch)

        self.answer = answer


@pytest.fixture
def server() -> Server:
    return Server()


@asynccontextmanager
async def lanes_to(server: Server, policy: Policy = STANDARD) -> AsyncIterator[Lanes[Item]]:
    async def closing() -> None:
        pass

    owner = TaskOwner("owner", closing)
    await owner.start()
    try:
        yield Lanes(owner, server, lambda url: policy, name="SendMessageBatch")
    finally:
        await owner.stop()


def items(names: str, **settings: float) -> list[Item]:
    return [Item(name, expires=settings.get("expires", math.inf)) for name in names]


def add(lanes: Lanes[Item], entries: Sequence[Item], url: str = "url") -> None:
    for entry in entries:
        lanes.add(url, entry)


# --------------------------------------------------------------------- batching


async def test_entries_of_one_moment_travel_together(server: Server) -> None:
    async with lanes_to(server) as lanes:
        entries = items("abc")
        add(lanes, entries)
        await asyncio.sleep(2)
    assert server.sent == ["abc"]
    assert [entry.outcomes for entry in entries] == [["id of a"], ["id of b"], ["id of c"]]


async def test_lone_entry_goes_without_delay(server: Server) -> None:
    async with lanes_to(server) as lanes:
        await asyncio.sleep(5)
        add(lanes, items("a"))
        await asyncio.sleep(2)
    assert server.batches == [(5.0, "url", "a")]


async def test_thousand_entries_make_a_hundred_batches(server: Server) -> None:
    async with lanes_to(server) as lanes:
        entries = [Item(f"{number} ") for number in range(1000)]
        add(lanes, entries)
        await lanes.flush()
    assert len(server.batches) == lanes.batches == 100
    assert server.most_in_flight == STANDARD.most_in_flight
    assert "".join(server.sent) == "".join(entry.name for entry in entries)
    assert all(entry.outcomes == [f"id of {entry}"] for entry in entries)


async def test_busy_lane_fills_its_batches(server: Server) -> None:
    async with lanes_to(server, Policy(linger=10.0)) as lanes:
        add(lanes, items("a"))
        for name in "bcdef":
            await asyncio.sleep(0.1)
            add(lanes, items(name))
        await asyncio.sleep(3)
    assert server.batches == [(0.0, "url", "a"), (1.0, "url", "bcdef")]


async def test_entry_lingers_no_longer_than_allowed(server: Server) -> None:
    async with lanes_to(server) as lanes:
        add(lanes, items("a"))
        await asyncio.sleep(0.5)
        add(lanes, items("b"))
        await asyncio.sleep(3)
    assert server.sent == ["a", "b"]
    assert server.batches[1][0] == pytest.approx(0.52)


async def test_patient_lane_waits_for_company(server: Server) -> None:
    async with lanes_to(server, PATIENT) as lanes:
        add(lanes, items("a"))
        await asyncio.sleep(1.0)
        add(lanes, items("b"))
        await asyncio.sleep(5)
    assert server.batches == [(1.5, "url", "ab")]


async def test_patient_lane_sends_a_batch_that_fills_up_at_once(server: Server) -> None:
    async with lanes_to(server, PATIENT) as lanes:
        for name in "abcdefghijk":
            add(lanes, items(name))
            await asyncio.sleep(0.01)
        await asyncio.sleep(5)
    assert server.sent == ["abcdefghij", "k"]
    assert [at for at, _, _ in server.batches] == pytest.approx([0.09, 1.6])


async def test_queues_have_lanes_of_their_own(server: Server) -> None:
    async with lanes_to(server) as lanes:
        add(lanes, items("a"), "one")
        add(lanes, items("b"), "two")
        await asyncio.sleep(2)
    assert server.batches == [(0.0, "one", "a"), (0.0, "two", "b")]


async def test_few_idle_lanes_are_kept(server: Server) -> None:
    async with lanes_to(server) as lanes:
        for number in range(MOST_IDLE + 5):
            add(lanes, items("a"), f"queue {number}")
            await asyncio.sleep(0.01)
        await asyncio.sleep(2)
        add(lanes, items("a"), "queue 5")
        await asyncio.sleep(2)
        add(lanes, items("a"), "another")
        await asyncio.sleep(2)
        assert not lanes._lanes
        # Those that were used last.
        assert len(lanes._idle) == MOST_IDLE
        assert list(lanes._idle)[-2:] == ["queue 5", "another"]
        assert "queue 6" not in lanes._idle
        assert "queue 7" in lanes._idle


async def test_lane_that_was_idle_serves_again(server: Server) -> None:
    async with lanes_to(server) as lanes:
        add(lanes, items("ab"))
        await asyncio.sleep(5)
        [kept] = lanes._idle.values()
        add(lanes, items("c"))
        assert lanes._lanes == {"url": kept}
        await lanes.flush()
        add(lanes, items("d"))
        assert kept.flushing
    assert server.sent[:2] == ["ab", "c"]


async def test_lane_that_failed_begins_afresh(server: Server) -> None:
    server.fails(BUSY, times=3)
    async with lanes_to(server) as lanes:
        [withdrawn] = items("a")
        add(lanes, [withdrawn])
        await until(lambda: len(server.batches) == 3 and not server.in_flight)
        await asyncio.sleep(0)
        lanes.withdraw("url", withdrawn)
        assert not lanes._lanes
        assert not lanes._idle
        # Without the pause of the one before.
        began = now()
        add(lanes, items("b"))
        await asyncio.sleep(2)
    assert server.batches[-1] == (began, "url", "b")


async def test_withdrawn_entry_leaves_no_lane_at_work(server: Server) -> None:
    async with lanes_to(server) as lanes:
        withdrawn = Item("b")
        add(lanes, [withdrawn])
        lanes.withdraw("url", withdrawn)
        await asyncio.sleep(0.1)
        assert not lanes._lanes


async def test_idle_lanes_set_no_timers(server: Server) -> None:
    async with lanes_to(server, PATIENT) as lanes:
        add(lanes, items("a"))
        await asyncio.sleep(10)
        assert not timers()
        [withdrawn] = items("b")
        add(lanes, [withdrawn])
        await asyncio.sleep(0.1)
        assert len(timers()) == 1
        lanes.withdraw("url", withdrawn)
        await asyncio.sleep(0.1)
        assert not timers()


# --------------------------------------------------------------------- failures


async def test_success_brings_back_the_first_pause(server: Server) -> None:
    well = server.answer
    # Full batches, so that the lane goes on after the first.
    entries = [Item(f"{number} ") for number in range(20)]

    def answer(batch: Sequence[Item]) -> Sequence[str | Failure | None]:
        if len(server.batches) in (7, 14):
            return well(batch)
        raise BUSY

    server.answer = answer
    async with lanes_to(server, ORDERED) as lanes:
        add(lanes, entries)
        await until(lambda: all(entry.outcomes for entry in entries))
    # The server takes a second for each; the rest are pauses.
    pauses = [later[0] - sooner[0] - 1 for sooner, later in pairwise(server.batches)]
    assert pauses[6] == 0
    for place, most in enumerate((0.1, 0.2, 0.4, 0.8, 1.6, 3.2)):
        assert most / 2 <= pauses[place] + 1e-9 <= most + 2e-9
        assert most / 2 <= pauses[7 + place] + 1e-9 <= most + 2e-9


async def test_refused_entry_reaches_only_its_caller(server: Server) -> None:
    server.refuses("b", OUR_FAULT)
    async with lanes_to(server) as lanes:
        a, b, c = entries = items("abc")
        add(lanes, entries)
        await asyncio.sleep(2)
    assert server.sent == ["abc"]
    assert a.outcomes == ["id of a"]
    assert c.outcomes == ["id of c"]
    [error] = b.outcomes
    assert isinstance(error, SendError)
    assert error.code == "InvalidParameterValue"
    assert "what is this" in str(error)


async def test_entry_that_failed_on_the_servers_side_goes_again(server: Server) -> None:
    server.refuses("b", THEIR_FAULT, times=1)
    async with lanes_to(server) as lanes:
        entries = items("abc")
        add(lanes, entries)
        await asyncio.sleep(5)
    assert server.sent == ["abc", "b"]
    assert [entry.outcomes for entry in entries] == [["id of a"], ["id of b"], ["id of c"]]


async def test_throttled_entry_goes_again_although_sqs_calls_it_the_senders_fault(
    server: Server,
) -> None:
    server.refuses("b", Failure("RequestThrottled", "slow down", sender_fault=True), times=2)
    async with lanes_to(server) as lanes:
        entries = items("abc")
        add(lanes, entries)
        await asyncio.sleep(5)
    assert server.sent == ["abc", "b", "b"]
    assert [entry.outcomes for entry in entries] == [["id of a"], ["id of b"], ["id of c"]]


@pytest.mark.parametrize(
    ("code", "kind"),
    [("AWS.SimpleQueueService.NonExistentQueue", QueueNotFound), ("AccessDenied", AccessDenied)],
)
async def test_entry_is_refused_with_the_same_errors_as_a_call(
    server: Server, code: str, kind: type[QueueError]
) -> None:
    server.refuses("a", Failure(code, "no", sender_fault=False))
    async with lanes_to(server) as lanes:
        [entry] = items("a")
        add(lanes, [entry])
        await asyncio.sleep(100)
    [error] = entry.outcomes
    assert type(error) is kind
    assert len(server.batches) == 1


async def test_passing_error_is_tried_again_by_all_in_their_order(server: Server) -> None:
    server.fails(BUSY, times=2)
    async with lanes_to(server) as lanes:
        entries = items("abc")
        add(lanes, entries)
        await asyncio.sleep(10)
    assert server.sent == ["abc"] * 3
    assert [entry.outcomes for entry in entries] == [["id of a"], ["id of b"], ["id of c"]]


async def test_lasting_error_reaches_all_of_the_batch_at_once(server: Server) -> None:
    server.fails(DENIED)
    async with lanes_to(server) as lanes:
        entries = items("abc")
        add(lanes, entries)
        await asyncio.sleep(1.5)
        assert [entry.outcomes for entry in entries] == [[DENIED]] * 3
        await asyncio.sleep(100)
    assert len(server.batches) == 1


async def test_entry_is_not_tried_past_its_time(server: Server) -> None:
    server.fails(BUSY)
    async with lanes_to(server) as lanes:
        [entry] = items("a", expires=5.0)
        add(lanes, [entry])
        await asyncio.sleep(100)
    [error] = entry.outcomes
    assert error is BUSY
    assert server.batches[-1][0] < 5.0 + 5.0


async def test_entry_remembers_that_it_may_have_been_done(server: Server) -> None:
    server.fails(LOST, times=1)
    well = server.answer
    async with lanes_to(server) as lanes:
        [entry] = items("a")
        add(lanes, [entry])
        await asyncio.sleep(1.01)
        server.fails(BUSY)
        await asyncio.sleep(3)
        assert entry.last_error is BUSY
        assert entry.maybe_done
        server.answer = well
    assert entry.outcomes == []


async def test_unexpected_error_reaches_the_batch_and_not_the_owner(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble(batch: Sequence[Item]) -> Sequence[str]:
        raise ZeroDivisionError("a bug")

    well, server.answer = server.answer, stumble
    async with lanes_to(server) as lanes:
        entries = items("ab")
        add(lanes, entries)
        await asyncio.sleep(2)
        for entry in entries:
            [error] = entry.outcomes
            assert isinstance(error, QueueError)
            assert "a bug" in str(error)
            assert error.maybe_done
        assert "a bug" in caplog.text
        server.answer = well
        [later] = items("c")
        add(lanes, [later])
        await asyncio.sleep(2)
        assert later.outcomes == ["id of c"]


async def test_answer_for_another_number_of_entries_is_none(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = lambda batch: ["one id"]
    async with lanes_to(server) as lanes:
        entries = items("ab")
        add(lanes, entries)
        await asyncio.sleep(2)
    for entry in entries:
        [error] = entry.outcomes
        assert isinstance(error, QueueError)
        assert error.maybe_done
    assert "1 results for 2 entries" in caplog.text


async def test_entry_that_stumbles_over_its_result_harms_no_other(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    class Clumsy(Item):
        __slots__ = ()

        def done(self, result: str | None) -> None:
            raise ZeroDivisionError("a bug")

    async with lanes_to(server) as lanes:
        entries = [Clumsy("a"), Item("b")]
        add(lanes, entries)
        await asyncio.sleep(2)
        assert entries[1].outcomes == ["id of b"]
        assert not lanes._lanes
    assert "a bug" in caplog.text


@pytest.mark.parametrize("seconds", [0.0, 0.02])
async def test_lane_that_only_fails_makes_few_calls(server: Server, seconds: float) -> None:
    server.seconds = seconds
    server.fails(BUSY)
    async with lanes_to(server) as lanes:
        add(lanes, [Item(f"{number} ") for number in range(1000)])
        await asyncio.sleep(10)
        early = len(server.batches)
        await asyncio.sleep(100)
    assert early <= STANDARD.most_in_flight + 20
    assert len(server.batches) - early <= 100 * 0.5


async def test_entry_that_only_fails_makes_few_calls(server: Server) -> None:
    server.seconds = 0.0
    server.refuses("a", THEIR_FAULT)
    async with lanes_to(server) as lanes:
        add(lanes, items("ab"))
        await asyncio.sleep(100)
    assert len(server.batches) <= 60


async def test_batches_that_fail_together_pause_the_lane_once(server: Server) -> None:
    server.fails(BUSY, times=STANDARD.most_in_flight)
    async with lanes_to(server) as lanes:
        entries = [Item(f"{number} ") for number in range(160)]
        add(lanes, entries)
        await asyncio.sleep(1.0)
        await asyncio.sleep(2.2)
        # A first pause of at most 0.1 s, then one batch that shows it works again.
        assert sum(bool(entry.outcomes) for entry in entries) == 160
    assert len(server.batches) == 2 * STANDARD.most_in_flight


async def test_lane_in_trouble_probes_with_one_batch(server: Server) -> None:
    server.fails(BUSY, times=STANDARD.most_in_flight)
    async with lanes_to(server) as lanes:
        add(lanes, [Item(f"{number} ") for number in range(160)])
        await asyncio.sleep(1.5)
        assert server.in_flight == 1
        await asyncio.sleep(1.0)
        assert server.in_flight == 15


# ----------------------------------------------------- batches refused as a whole

REFUSALS = {
    "ElasticMQ": QueueError("SQS refused it (MessageTooLong)", code="InvalidAttributeValue"),
    "SQS": QueueError(
        "Batch requests cannot be longer than 350 bytes.", code="BatchRequestTooLong"
    ),
    "a proxy": QueueError("Request Entity Too Large", code="413"),
    "without a sign": QueueError("no", code="InvalidParameterValue"),
}


def over(most: int) -> Callable[[Sequence[Item]], bool]:
    return lambda batch: sum(item.size for item in batch) > most


def with_(*names: str) -> Callable[[Sequence[Item]], bool]:
    return lambda batch: any(item.name in names for item in batch)


@pytest.mark.parametrize("refusal", list(REFUSALS.values()), ids=list(REFUSALS))
async def test_batch_refused_for_its_size_goes_in_parts_and_the_limit_is_kept_to(
    server: Server, refusal: QueueError
) -> None:
    server.refuses_batches(refusal, over(350))
    async with lanes_to(server) as lanes:
        entries = items("abcdefghij")
        add(lanes, entries)
        await lanes.flush()
        assert [entry.outcomes for entry in entries] == [[f"id of {name}"] for name in "abcdefghij"]
        assert server.most_in_flight == 1
        assert lanes.batches == len(server.batches) <= 10
        # Also by the lane that comes after the one that learnt it.
        assert not lanes._lanes
        before = len(server.batches)
        add(lanes, items("klmnopqrst"))
        await lanes.flush()
    later = server.sent[before:]
    assert "".join(sorted("".join(later))) == "klmnopqrst"
    assert max(map(len, later)) <= 3
    assert len(later) <= 5


async def test_limit_that_is_gone_is_found_out(server: Server) -> None:
    well = server.answer
    server.refuses_batches(REFUSALS["SQS"], over(350))
    async with lanes_to(server) as lanes:
        add(lanes, items("abcdefghij"))
        await lanes.flush()
        server.answer = well
        before = len(server.batches)
        add(lanes, items("abcdefghij"))
        await lanes.flush()
        assert server.sent[before:] != ["abcdefghij"]
        await asyncio.sleep(LIMIT_KEPT)
        before = len(server.batches)
        add(lanes, items("abcdefghij"))
        await lanes.flush()
        assert server.sent[before:] == ["abcdefghij"]


async def test_limit_of_one_queue_is_none_of_another(server: Server) -> None:
    server.refuses_batches(REFUSALS["SQS"], lambda batch: over(350)(batch) and "a" in str(batch))
    async with lanes_to(server) as lanes:
        add(lanes, items("abcdefghij"), "one")
        await lanes.flush()
        before = len(server.batches)
        add(lanes, items("klmnopqrst"), "two")
        await lanes.flush()
    assert server.sent[before:] == ["klmnopqrst"]


async def test_batch_refused_for_one_entry_leaves_the_others_alone(server: Server) -> None:
    refusal = QueueError("what is this", code="InvalidParameterValue")
    server.refuses_batches(refusal, with_("d"))
    async with lanes_to(server) as lanes:
        entries = items("abcdefghij")
        add(lanes, entries)
        await asyncio.sleep(20)
        before = len(server.batches)
        add(lanes, items("0123456789"))
        await asyncio.sleep(5)
    for entry in entries:
        assert entry.outcomes == ([refusal] if entry.name == "d" else [f"id of {entry.name}"])
    assert server.sent[before:] == ["0123456789"]


@pytest.mark.parametrize(
    ("refusal", "limit"),
    list(zip(REFUSALS.values(), [0, 350, 0, None], strict=True)),
    ids=list(REFUSALS),
)
async def test_message_refused_for_its_size_alone_is_too_large(
    server: Server, refusal: QueueError, limit: int | None
) -> None:
    server.refuses_batches(refusal, over(350))
    async with lanes_to(server) as lanes:
        entries = [Item("a"), Item("b", size=400), Item("c")]
        add(lanes, entries)
        await asyncio.sleep(20)
    a, b, c = entries
    assert (a.outcomes, c.outcomes) == (["id of a"], ["id of c"])
    [error] = b.outcomes
    if limit is None:
        assert error is refusal
    else:
        assert isinstance(error, MessageTooLarge)
        assert (error.size, error.limit, error.code) == (400, limit, refusal.code)
        assert error.queue == "url"


@pytest.mark.parametrize("sender_fault", [True, False])
async def test_entry_refused_for_its_size_is_too_large(server: Server, sender_fault: bool) -> None:
    text = "One or more parameters are invalid. Reason: Message must be shorter than 90 bytes."
    server.refuses("b", Failure("InvalidParameterValue", text, sender_fault=sender_fault))
    async with lanes_to(server) as lanes:
        a, b = entries = items("ab")
        add(lanes, entries)
        await asyncio.sleep(5)
    assert a.outcomes == ["id of a"]
    [error] = b.outcomes
    assert isinstance(error, MessageTooLarge)
    assert (error.size, error.limit) == (100, 90)


@pytest.mark.parametrize(
    "error",
    [
        DENIED,
        QueueNotFound("gone", code="QueueDoesNotExist"),
        QueueError("no key", code="KMS.DisabledException"),
        QueueError("no certificate", code="ClientConnectorCertificateError"),
        QueueError("who knows", code="Odd", maybe_done=True),
    ],
    ids=lambda error: error.code,
)
async def test_refusal_that_is_for_no_entry_and_no_size_is_not_asked_for_again(
    server: Server, error: QueueError
) -> None:
    server.fails(error)
    async with lanes_to(server) as lanes:
        entries = items("abc")
        add(lanes, entries)
        await asyncio.sleep(20)
    assert server.sent == ["abc"]
    assert [entry.outcomes for entry in entries] == [[error]] * 3


async def test_parts_hear_what_became_of_them_before_the_others_do(server: Server) -> None:
    server.refuses_batches(REFUSALS["SQS"], over(350))
    async with lanes_to(server) as lanes:
        entries = items("abcdefghij")
        add(lanes, entries)
        await asyncio.sleep(2.5)
        assert [len(entry.outcomes) for entry in entries] == [1] * 3 + [0] * 7


async def test_part_that_fails_for_a_passing_reason_goes_again_with_what_follows_it(
    server: Server,
) -> None:
    server.refuses_batches(REFUSALS["SQS"], over(350))
    async with lanes_to(server, ORDERED) as lanes:
        entries = items("abcdefghij")
        add(lanes, entries)
        await asyncio.sleep(1.5)
        server.fails(LOST, times=1)
        await asyncio.sleep(1)
        add(lanes, items("k"))
        # What was in that call may have been done, and nothing after it was tried.
        assert [entry.maybe_done for entry in entries] == [True] * 3 + [False] * 7
        await asyncio.sleep(20)
    assert server.sent[:2] == ["abcdefghij", "abc"]
    assert "".join(server.sent[2:]).endswith("k")
    assert all(entry.outcomes == [f"id of {entry.name}"] for entry in entries)
    # In their order: only what was refused or lost was sent before.
    taken = [name for batch in server.sent[2:] if len(batch) <= 3 for name in batch]
    assert taken == list("abcdefghijk")


async def test_parts_of_an_ordered_lane_keep_the_order(server: Server) -> None:
    server.refuses_batches(REFUSALS["without a sign"], with_("c", "h"))
    taken: list[str] = []
    well = server.answer

    def answer(batch: Sequence[Item]) -> Sequence[str | Failure | None]:
        results = well(batch)
        taken.extend(item.name for item in batch)
        return results

    server.answer = answer
    async with lanes_to(server, ORDERED) as lanes:
        add(lanes, items("abcdefghij"))
        await asyncio.sleep(0.5)
        add(lanes, items("klm"))
        await asyncio.sleep(30)
    assert server.most_in_flight == 1
    assert "".join(taken) == "abdefgijklm"


async def test_loss_of_the_queue_ends_the_parts(server: Server) -> None:
    gone = QueueNotFound("gone", code="QueueDoesNotExist")
    server.refuses_batches(REFUSALS["SQS"], over(350))
    async with lanes_to(server) as lanes:
        entries = items("abcdefghij")
        add(lanes, entries)
        await asyncio.sleep(2.5)
        server.fails(gone)
        await asyncio.sleep(20)
    assert len(server.batches) == 3
    for entry in entries[3:]:
        [error] = entry.outcomes
        assert isinstance(error, QueueNotFound)


async def test_withdrawn_and_expired_entries_do_not_travel_in_a_later_part(server: Server) -> None:
    server.refuses_batches(REFUSALS["SQS"], over(350))
    async with lanes_to(server) as lanes:
        entries = items("abcdefghij")
        entries[8].expires = 2.5
        add(lanes, entries)
        await asyncio.sleep(1.5)
        for entry in (entries[3], entries[9]):
            assert not lanes.withdraw("url", entry)
        await asyncio.sleep(20)
    assert server.sent == ["abcdefghij", "abc", "ef", "gh"]
    assert (entries[3].outcomes, entries[9].outcomes) == ([], [])
    assert entries[8].outcomes == [REFUSALS["SQS"]]


async def test_owner_that_ends_meanwhile_ends_the_parts(server: Server) -> None:
    server.refuses_batches(REFUSALS["SQS"], over(350))
    async with lanes_to(server) as lanes:
        entries = items("abcdefghij")
        add(lanes, entries)
        await asyncio.sleep(2.5)
    assert [len(entry.outcomes) for entry in entries] == [1] * 3 + [0] * 7
    assert server.sent == ["abcdefghij", "abc", "def"]


# ------------------------------------------------------------------------- FIFO


async def test_ordered_lane_keeps_order_over_failures(server: Server) -> None:
    server.fails(BUSY, times=1)
    async with lanes_to(server, ORDERED) as lanes:
        add(lanes, items("abc"))
        await asyncio.sleep(0.5)
        add(lanes, items("def"))
        await asyncio.sleep(10)
    assert server.most_in_flight == 1
    assert server.sent == ["abc", "abcdef"]


async def test_ordered_lane_tries_failed_entry_before_later_ones(server: Server) -> None:
    server.refuses("b", THEIR_FAULT, times=2)
    async with lanes_to(server, ORDERED) as lanes:
        add(lanes, items("ab"))
        await asyncio.sleep(0.5)
        add(lanes, items("cd"))
        await asyncio.sleep(10)
    assert server.sent == ["ab", "bcd", "b"]


# ------------------------------------------------------------------- withdrawing


async def test_withdrawn_entry_does_not_travel(server: Server) -> None:
    async with lanes_to(server) as lanes:
        a, b = items("ab")
        add(lanes, [a, b])
        assert lanes.withdraw("url", a)
        await asyncio.sleep(2)
    assert server.sent == ["b"]
    assert a.outcomes == []


async def test_entry_withdrawn_in_flight_hears_nothing(server: Server) -> None:
    async with lanes_to(server) as lanes:
        [entry] = items("a")
        add(lanes, [entry])
        await asyncio.sleep(0.5)
        assert not lanes.withdraw("url", entry)
        await asyncio.sleep(2)
    assert entry.outcomes == []


@pytest.mark.parametrize("error", [BUSY, DENIED])
async def test_entry_withdrawn_in_flight_is_not_tried_again(
    server: Server, error: QueueError
) -> None:
    server.fails(error)
    async with lanes_to(server) as lanes:
        [entry] = items("a")
        add(lanes, [entry])
        await asyncio.sleep(0.5)
        lanes.withdraw("url", entry)
        await asyncio.sleep(100)
        assert not lanes._lanes
    assert len(server.batches) == 1
    assert entry.outcomes == []


async def test_entry_withdrawn_between_tries_is_not_tried_again(server: Server) -> None:
    server.fails(BUSY)
    async with lanes_to(server) as lanes:
        [entry] = items("a")
        add(lanes, [entry])
        await asyncio.sleep(1.01)
        assert lanes.withdraw("url", entry)
        await asyncio.sleep(100)
        assert not lanes._lanes
    assert len(server.batches) == 1


# ---------------------------------------------------------------- flush and end


async def test_flush_sends_what_lingers_and_waits_for_it(server: Server) -> None:
    async with lanes_to(server, PATIENT) as lanes:
        [entry] = items("a")
        add(lanes, [entry])
        await lanes.flush()
        assert now() == 1.0
        assert entry.outcomes == ["id of a"]


async def test_flush_of_nothing_returns_at_once(server: Server) -> None:
    async with lanes_to(server) as lanes:
        await lanes.flush()
        assert now() == 0.0


async def test_entry_added_while_flushing_does_not_linger(server: Server) -> None:
    async with lanes_to(server, PATIENT) as lanes:
        add(lanes, items("a"))
        flushing = asyncio.create_task(lanes.flush())
        await asyncio.sleep(0.5)
        add(lanes, items("b"), "other")
        await flushing
    assert server.batches == [(0.0, "url", "a"), (0.5, "other", "b")]


async def test_flush_sends_what_follows_from_the_last_result(server: Server) -> None:
    async with lanes_to(server, PATIENT) as lanes:

        class Followed(Item):
            __slots__ = ()

            def done(self, result: str | None) -> None:
                # Whoever hears of it does the next thing a turn of the loop later.
                asyncio.get_running_loop().call_soon(add, lanes, items("b"))

        lanes.add("url", Followed("a"))
        await lanes.flush()
    assert server.batches == [(0.0, "url", "a"), (1.0, "url", "b")]


async def test_flush_waits_for_further_tries(server: Server) -> None:
    server.fails(BUSY, times=2)
    async with lanes_to(server) as lanes:
        [entry] = items("a")
        add(lanes, [entry])
        await lanes.flush()
        assert entry.outcomes == ["id of a"]


async def test_lanes_of_an_owner_that_ended_forget_what_waited(server: Server) -> None:
    async with lanes_to(server, PATIENT) as lanes:
        add(lanes, items("abc"))
        await asyncio.sleep(0.1)
        assert len(timers()) == 1
        assert len(lanes) == 3
    assert not timers()
    assert len(lanes) == 0
    assert server.sent == []


async def test_lanes_of_an_owner_that_ended_keep_no_timer_busy(server: Server) -> None:
    server.fails(BUSY)
    async with lanes_to(server) as lanes:
        add(lanes, [Item(f"{number} ") for number in range(30)])
        await asyncio.sleep(1.01)  # the first tries have failed, and wait for the next
    # Not by sleeping: with a timer that is always due, time would stand still.
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.jump(10)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not lanes._lanes
    assert not timers()
