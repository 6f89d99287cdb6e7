"""`worker --health-port`: liveness and readiness over HTTP, as Kubernetes asks for them.

A thread answers, so that it does so while a handler blocks the event loop. Of several processes
the supervisor answers for all: each tells it each second, by a pipe, what it would have answered.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any, Final, TypeAlias

from ..health import Health
from .options import Failed
from .output import note

__all__ = ["REPORTS", "Facts", "Reports", "facts_of", "reporting", "serving"]

REPORTS: Final = "SQS_ORCHESTRATOR_REPORTS"
"""The environment variable that names, to a worker process, the pipe for its reports."""

INTERVAL: Final = 1.0
"""Seconds between two reports."""

SILENCE: Final = 10.0
"""Seconds without a report after which a process is not alive: all its threads stand still."""

SLOW: Final = 5.0
"""Seconds for which a client may keep its thread waiting."""

Facts: TypeAlias = dict[str, Any]
"""The health of one process, as JSON has it."""


def facts_of(pollers: Mapping[str, Callable[[], Health]]) -> Facts:
    """The health of this process and its pollers, by their places; none yet while it starts."""
    seen = {place: health() for place, health in pollers.items()}
    return {
        "process": os.getpid(),
        "healthy": bool(seen) and all(each.healthy for each in seen.values()),
        "alive": all(each.alive for each in seen.values()),
        "pollers": {place: dataclasses.asdict(each) for place, each in seen.items()},
    }


@contextlib.contextmanager
def serving(host: str, port: int, processes: Callable[[], list[Facts]]) -> Iterator[None]:
    """Answer at *port* with what *processes* gives. A thread calls it, at each request and some
    more often."""
    try:
        server = _Server(host, port, processes)
    except OSError as error:
        raise Failed(f"--health-port: cannot listen on {host}, port {port}: {error}") from None
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    note(f"health at port {server.server_address[1]} of {host}: /livez and /readyz")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, processes: Callable[[], list[Facts]]) -> None:
        self.processes = processes
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Request)

    def server_bind(self) -> None:
        # HTTPServer would ask the name server for the name of the host, which may take long.
        socketserver.TCPServer.server_bind(self)

    def service_actions(self) -> None:
        # Each half second. How long an event loop is blocked counts from when somebody asks.
        self.processes()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is none of our business."""


class _Request(BaseHTTPRequestHandler):
    server: _Server
    timeout = SLOW
    server_version = "sqs-orchestrator"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        kind = {"/livez": "alive", "/readyz": "healthy"}.get(path)
        if kind is None:
            self._answer(404, {"error": "there are /livez and /readyz"})
            return
        processes = self.server.processes()
        well = bool(processes) and all(each[kind] for each in processes)
        self._answer(200 if well else 503, {kind: well, "processes": processes})

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, status: int, facts: Facts) -> None:
        body = json.dumps(facts, default=_text, indent=2).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """A line for each probe would be too much."""


def _text(value: Any) -> str:
    return str(value.isoformat())


# ------------------------------------------------------------------- several processes


@contextlib.contextmanager
def reporting(pipe: int, facts: Callable[[], Facts]) -> Iterator[None]:
    """Write *facts* to *pipe* each second, from a thread."""
    over = threading.Event()

    def report() -> None:
        while True:
            try:
                os.write(pipe, json.dumps(facts(), default=_text).encode() + b"\n")
            except OSError:
                return  # the supervisor is gone
            if over.wait(INTERVAL):
                return

    thread = threading.Thread(target=report, name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


class Reports:
    """What the processes of a supervisor have told it. Any thread may ask."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._latest: dict[int, tuple[float, Facts]] = {}

    def began(self, process: int) -> None:
        """A process starts."""
        facts = {"process": process, "healthy": False, "alive": True, "pollers": {}}
        self._latest[process] = monotonic(), facts

    def heard(self, process: int, line: bytes) -> None:
        """A process has sent a report."""
        self._latest[process] = monotonic(), json.loads(line)

    def ended(self, process: int) -> None:
        """A process is over."""
        self._latest.pop(process, None)

    def processes(self) -> list[Facts]:
        """The health of each; one that is missing is being replaced."""
        now = monotonic()
        seen = []
        for when, facts in list(self._latest.values()):
            if now - when > SILENCE:
                facts = {**facts, "healthy": False, "alive": False, "silent": now - when}
            seen.append(facts)
        missing: Facts = {"process": None, "healthy": False, "alive": True, "pollers": {}}
        return seen + [missing] * (self._count - len(seen))
