"""Start an example on this machine: `python docs/examples/run.py fastapi`. Ctrl-C stops it.

Three things start: an SQS server (moto's imitation, in this process), the worker, and the web
server with the application, each a process of its own. They find the server as they would find
AWS: by the environment.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from sqs_orchestrator import connect
from sqs_orchestrator.testing import moto_server

HERE = Path(__file__).resolve().parent
UVICORN = ["-m", "uvicorn", "app:app", "--log-level", "warning"]
WEB = {"fastapi": UVICORN, "aiohttp": ["app.py"], "litestar": UVICORN}
"""What starts the web server of each."""

TIME_TO_STOP = 30.0
"""Seconds that each process has to finish what it is at."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Start an example. Ctrl-C stops it.")
    parser.add_argument("example", choices=WEB)
    parser.add_argument("--port", type=int, default=8000, help="default: 8000, or one that is free")
    options = parser.parse_args()
    # Whoever terminates it, or closes its terminal, means the same.
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.default_int_handler)
    with moto_server() as sqs_url:
        os.environ |= {
            "AWS_ENDPOINT_URL_SQS": sqs_url,
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
        }
        asyncio.run(create_queue())
        try:
            return run(options.example, free_port(options.port))
        except KeyboardInterrupt:
            return 0


async def create_queue() -> None:
    """Elsewhere, whoever sets the account up does this."""
    async with connect() as sqs:
        await sqs.create_queue("orders", dead_letter_queue=True)


def run(example: str, port: int) -> int:
    """Run worker and web server until one of them ends; returns the exit code."""
    os.environ["PORT"] = str(port)
    web = WEB[example] + (["--port", str(port)] if WEB[example] is UVICORN else [])
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes.append(start(example, "worker.py"))
        processes.append(start(example, *web))
        said = False
        while all(process.poll() is None for process in processes):
            if not said and (said := answers(port)):
                print(f"\nThe coffee bar is open: http://127.0.0.1:{port} (Ctrl-C closes it)\n")
            time.sleep(0.2)
        return 1
    finally:
        # The web server first: what it has accepted still gets its answer.
        for process in reversed(processes):
            stop(process)


def start(example: str, *command: str) -> subprocess.Popen[bytes]:
    # In a session of its own: Ctrl-C comes to this process alone, which stops them in order.
    return subprocess.Popen([sys.executable, *command], cwd=HERE / example, start_new_session=True)


def stop(process: subprocess.Popen[bytes]) -> None:
    # As Ctrl-C would: a worker that has nothing to do then ends at once.
    process.send_signal(signal.SIGINT)
    try:
        process.wait(TIME_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    """Whether the web application is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def free_port(wanted: int) -> int:
    """That port, or another if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
