"""Callers who leave, and servers that stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import uuid
from pathlib import Path

import httpx
import pytest

from .conftest import EXAMPLES, HANGS, WATCHED, WEB, Bar, Process, Street, reply_queues, thorough

# ------------------------------------------------------------------ callers who leave


async def leave(bar: Bar, drink: str, name: str) -> None:
    """Order what takes its time, and close the connection once the worker is at it."""
    order = asyncio.create_task(bar.order(drink, name))
    await bar.worker.say(f"begins {drink} for {name}")
    order.cancel()
    await asyncio.wait([order])


async def test_request_goes_on_when_its_caller_has_left(bar: Bar) -> None:
    name = uuid.uuid4().hex
    await leave(bar, "filter", name)
    assert await bar.web.say(f"the request of {name} ended: (.*)") == ["reply"]


@thorough
async def test_request_is_cancelled_with_its_caller_where_aiohttp_is_told_so(
    street: Street,
) -> None:
    shared = street.bar("aiohttp")
    bar = street.web(shared, WATCHED, *WEB["aiohttp"], HANDLER_CANCELLATION="1")
    name = uuid.uuid4().hex
    await leave(bar, "cold brew", name)
    assert await bar.web.say(f"the request of {name} ended: (.*)") == ["CancelledError"]
    assert (await bar.get("/readyz")).json()["pending"] == 0
    assert (await bar.order("espresso")).status_code == 200


# ------------------------------------------------------------------- servers that stop

CUSTOMERS = 10


async def ask(bar: Bar, path: str, **body: str) -> int:
    """The status of an answer to a request that is sent in one packet.

    aiohttp reads no further once it stops: half a request would hold it for as long as it may.
    """
    url = httpx.URL(bar.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    content = json.dumps(body)
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: {url.host}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        f"{content}".encode()
    )
    try:
        _, status, *_ = (await reader.readuntil(b"\r\n")).split()
    finally:
        writer.close()
    return int(status)


async def test_terminated_server_answers_what_it_has_accepted(street: Street, bar: Bar) -> None:
    stopping = street.web(bar)
    assert stopping.url
    run = uuid.uuid4().hex
    answered: dict[str, int] = {}
    thanked: dict[str, int] = {}
    enough = asyncio.Event()

    async def customer(number: int) -> None:
        """Orders and says thanks, until nobody is there any more."""
        for visit in range(1_000):
            name = f"{run}-{number}-{visit}"
            try:
                answered[name] = await ask(stopping, "/orders", drink="espresso", name=name)
                thanked[name] = await ask(stopping, "/thanks", name=name)
            except (OSError, asyncio.IncompleteReadError):
                return  # nobody is there, or was there to take it
            if len(thanked) >= 5 * CUSTOMERS:
                enough.set()

    async def patient(number: int) -> None:
        """Waits for what takes its time."""
        name = f"{run}-patient-{number}"
        answered[name] = (await stopping.order("filter", name)).status_code

    async with asyncio.TaskGroup() as group:
        for number in range(CUSTOMERS):
            group.create_task(customer(number))
        await enough.wait()
        for number in range(CUSTOMERS):
            group.create_task(patient(number))
        await stopping.worker.say(f"begins filter for {run}-patient", CUSTOMERS)
        stopping.web.terminate()
    assert await stopping.web.ended() in (0, -signal.SIGTERM)
    assert {*answered.values()} == {200}
    assert {*thanked.values()} == {202}
    # Each drink that was made was served.
    assert {*stopping.worker.said(f"made .* for ({run}.*)")} == answered.keys()
    thanks = await stopping.worker.say(f"thanks from ({run}.*)", len(thanked))
    assert {*thanks} >= thanked.keys()


def open_bar(street: Street) -> tuple[Bar, set[str]]:
    """A bar, and the reply queues that there are once it is open."""
    bar = street.bar("fastapi")
    assert bar.url
    return bar, reply_queues(street.endpoint_url)


@thorough
async def test_server_without_patience_answers_a_500_and_leaves_nothing(street: Street) -> None:
    shared, before = open_bar(street)
    patience = ["--timeout-graceful-shutdown", "1"]
    bar = street.web(shared, *WEB["fastapi"], *patience)
    assert bar.url
    name = uuid.uuid4().hex
    waiting = asyncio.create_task(bar.order("cold brew", name))
    await bar.worker.say(f"begins cold brew for {name}")
    bar.web.terminate()
    assert (await waiting).status_code == 500
    assert await bar.web.ended() in (0, -signal.SIGTERM)
    assert reply_queues(street.endpoint_url) <= before


@thorough
async def test_each_of_two_server_processes_has_a_reply_queue_and_deletes_it(
    street: Street,
) -> None:
    shared, before = open_bar(street)
    bar = street.web(shared, *WEB["fastapi"], "--workers", "2")
    await bar.web.say("Application startup complete", 2)
    assert len(reply_queues(street.endpoint_url) - before) == 2
    names = [uuid.uuid4().hex for _ in range(20)]
    answers = await asyncio.gather(*(bar.order("espresso", name) for name in names))
    assert [each.json()["name"] for each in answers] == names
    bar.web.terminate()
    assert await bar.web.ended() in (0, -signal.SIGTERM)
    assert reply_queues(street.endpoint_url) <= before


# ------------------------------------------------------------- all of it, by one command


@pytest.mark.parametrize(
    ("framework", "end"),
    [
        ("fastapi", signal.SIGINT),  # Ctrl-C
        pytest.param("aiohttp", signal.SIGTERM, marks=thorough),  # a supervisor
        pytest.param("litestar", signal.SIGHUP, marks=thorough),  # a terminal that is closed
    ],
)
async def test_example_starts_by_one_command_and_all_of_it_stops_by_one_signal(
    framework: str, end: signal.Signals
) -> None:
    program = [str(EXAMPLES / "run.py"), framework, "--port", "0"]
    # Not in the directory of the example, nor with the test's own settings of AWS.
    process = Process(program, Path.cwd(), {"PYTHONSAFEPATH": ""})
    worker = 0
    try:
        (url,) = await process.say(r"The coffee bar is open: (http://[\d.:]+)")
        async with httpx.AsyncClient(timeout=HANGS, trust_env=False) as client:
            order = {"drink": "espresso", "name": "Ada"}
            answer = await client.post(f"{url}/orders", json=order)
        worker = int(answer.json()["made_by"].removeprefix("process "))
        process.signal(end)
        assert await process.ended() == 0
        assert process.said("Traceback") == []
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    finally:
        process.kill()
        if worker:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
