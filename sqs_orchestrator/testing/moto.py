"""moto's SQS over real HTTP, inside this process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["moto_server"]


@contextmanager
def moto_server() -> Iterator[str]:
    """Run a moto server in a thread, on a free port of 127.0.0.1; gives its endpoint URL.

    Pass any access key and secret with it. What it holds is gone when it ends, and it shares
    its queues with every other moto server of this process. Its clock ticks once a second,
    and it slows down with the messages that it stores: fine for tests, not for benchmarks.

    Raises:
        ImportError: moto is not installed.
    """
    server = _server_class()(ip_address="127.0.0.1", port=0, verbose=False)
    with _quiet(logging.getLogger("werkzeug")):
        server.start()
        try:
            _one_server_header(server)
            host, port = server.get_host_and_port()
            yield f"http://{host}:{port}"
        finally:
            server.stop()


def settings(url: str) -> dict[str, str]:
    """What the environment has to say for `connect()` to find the server at *url*."""
    return {
        "AWS_ENDPOINT_URL_SQS": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_SESSION_TOKEN": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def forget_queues() -> None:
    """Drop all queues that the moto servers of this process share."""
    from moto.backends import get_backend

    for regions in get_backend("sqs").values():
        regions.reset()


def _one_server_header(server: Any) -> None:
    """Let werkzeug add no `Server` header to moto's: in asyncio's debug mode, aiohttp refuses
    responses that have two."""
    inner = server._server  # noqa: SLF001 - moto makes it, and passes no handler on
    base: Any = inner.RequestHandlerClass

    def send_header(self: Any, keyword: str, value: str) -> None:
        if keyword.lower() != "server" or value != self.version_string():
            base.send_header(self, keyword, value)

    inner.RequestHandlerClass = type("Handler", (base,), {"send_header": send_header})


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Werkzeug, on which moto runs, prints a line for every call unless it is told a level."""
    before = logger.level
    if before == logging.NOTSET:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _server_class() -> Any:
    try:
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        raise ImportError(
            "the moto server is not installed: pip install 'sqs-orchestrator[testing]'"
        ) from error
    return ThreadedMotoServer
