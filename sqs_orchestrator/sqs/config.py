"""The configuration of the library's own aiobotocore clients."""

from __future__ import annotations

import contextlib
import math
import re
import socket
from typing import Any, Final

import botocore.exceptions as boto
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from aiohttp.abc import AbstractResolver
from botocore.config import Config

from ..core.checks import check_type, shown
from ..texts import without_user_info

__all__ = ["connector_args", "make_config", "read_timeout_of", "warm_up"]

KEEPALIVE_TIMEOUT: Final = 50.0
"""How long an idle connection is kept, in seconds. aiobotocore's 12 s cost a quiet publisher
a TLS handshake for each message. AWS's own Java SDK keeps idle connections for 60 s; below
that, hardly ever does a request meet a connection that AWS is just closing."""

_AIOBOTOCORE_KEEPALIVE: Final = 12

PROBE_AFTER: Final = 15
"""Seconds of silence after which the kernel asks the peer whether it is still there. Its own
default is two hours; a long poll is silent for 20 s, and then the read timeout runs."""

PROBE_INTERVAL: Final = 5
"""Seconds between such questions."""

PROBES: Final = 3
"""Questions without an answer after which the peer counts as gone. So a poll whose peer is gone
fails after `PROBE_AFTER` + `PROBES` * `PROBE_INTERVAL` = 30 s of silence."""


def check_config(config: object) -> None:
    """Raise `ValueError` where *config* is neither an `AioConfig` nor `None`."""
    # botocore's own will do: it says less, and means the same.
    if config is not None:
        check_type("config", config, Config, "an aiobotocore.config.AioConfig")


def check_endpoint(name: str, url: str) -> None:
    """Raise `ValueError` where *url*, the setting *name*, is no URL of an endpoint."""
    check_no_user_info(name, url)
    if not _ENDPOINT.fullmatch(url):
        raise ValueError(f"{name} is a URL such as 'http://127.0.0.1:5566', not {shown(url)}")


def check_no_user_info(name: str, url: str) -> None:
    """Raise `ValueError`, without them, where *url* has a user name or a password.

    SQS knows neither, aiohttp would send them to whoever listens there, and errors and logs
    would show them.
    """
    without = without_user_info(url)
    if without != url:
        raise ValueError(
            f"{name} has a user name or a password in it: {shown(without)}. SQS knows neither: it "
            "wants AWS credentials (aws_access_key_id, a profile, a role)"
        )


_ENDPOINT: Final = re.compile(r"https?://[^/\s#?]+(/[^\s#?]*)?")


def check_session(session: object) -> None:
    """Raise `ValueError` where *session* is neither a session of aiobotocore nor `None`."""
    if session is not None:
        wanted = "what aiobotocore.session.get_session() gives"
        check_type("session", session, AioSession, wanted)


def make_config(
    user_config: Any = None,
    user_agent: str | None = None,
    resolver: AbstractResolver | None = None,
) -> AioConfig:
    """The configuration of the library's own clients; what *user_config* sets wins.

    *user_agent* is theirs where *user_config* names none and no application; *resolver* is how
    they look names up.

    Retries are off, since the library retries by itself, with a deadline and with knowledge
    of what may be repeated; so is parameter validation, since it checks messages before.
    """
    options: dict[str, Any] = {
        "retries": {"total_max_attempts": 1},
        "parameter_validation": False,
        "tcp_keepalive": True,
        "max_pool_connections": 50,
        "connect_timeout": 5.0,
    }
    connector: dict[str, Any] = {"keepalive_timeout": KEEPALIVE_TIMEOUT}
    if not _other_transport(user_config):
        connector.update(
            (name, value)
            for name, value in connector_args(resolver).items()
            if _accepts(connector_args={name: value})  # not every version of aiobotocore does
        )
    aio: dict[str, Any] = {}
    if _accepts(warm_up_loader_caches=True):
        aio["warm_up_loader_caches"] = True
    if user_config is not None:
        # Not by its merge(), which loses the connector arguments of one side; of which one
        # depends on the version.
        provided = dict(user_config._user_provided_options)  # noqa: SLF001 - all it offers
        connector.update(_connector_args_of(user_config, provided.pop("connector_args", None)))
        for name in ("http_session_cls", "warm_up_loader_caches"):
            # Older versions do not tell what was passed from what is a default.
            value = provided.pop(name, getattr(user_config, name, None) or None)
            if value is not None:
                aio[name] = value
        options.update(provided)
    if user_agent is not None and not options.get("user_agent_appid"):
        options.setdefault("user_agent", user_agent)
    return AioConfig(connector_args=connector, **aio, **options)


def connector_args(resolver: AbstractResolver | None = None) -> dict[str, Any]:
    """What connections of the library's own are made with."""
    # aiobotocore passes tcp_keepalive over: it has no use for socket options.
    args: dict[str, Any] = {"socket_factory": _socket}
    if resolver is not None:
        args["resolver"] = resolver
    return args


def _connector_args_of(config: Any, given: Any) -> dict[str, Any]:
    if given is not None:
        return dict(given)
    merged = dict(getattr(config, "connector_args", None) or {})
    if merged.get("keepalive_timeout") == _AIOBOTOCORE_KEEPALIVE:
        del merged["keepalive_timeout"]  # most likely its default, and nobody's wish
    return merged


def _other_transport(config: Any) -> bool:
    session = getattr(config, "http_session_cls", None)
    return session is not None and session.__name__ != "AIOHTTPSession"


def _accepts(**options: Any) -> bool:
    try:
        AioConfig(**options)
    except (TypeError, boto.ParamValidationError):
        return False
    return True


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket that notices a peer which is gone, even in the middle of a long poll: after 30 s
    where the platform lets that be set, else after the two hours of the kernel's default."""
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _PROBING:
        # A kernel older than its headers refuses one: the connection is worth more.
        with contextlib.suppress(OSError):
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


_PROBING: Final = [
    (getattr(socket, name), value)
    for name, value in (
        # macOS has another name for the first.
        ("TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE", PROBE_AFTER),
        ("TCP_KEEPINTVL", PROBE_INTERVAL),
        ("TCP_KEEPCNT", PROBES),
    )
    if hasattr(socket, name)
]


async def warm_up(*clients: Any) -> None:
    """Let *clients* read their certificates now. aiobotocore reads them for the first call, by a
    thread of the loop's default pool, and that may be taken up by handlers by then."""
    for client in clients:
        # Whatever goes wrong here, the first call tells; and this is nobody's public way.
        with contextlib.suppress(Exception):
            session = client._endpoint.http_session  # noqa: SLF001
            proxy = session._proxy_config.proxy_url_for(client.meta.endpoint_url)  # noqa: SLF001
            await session._get_session(proxy)  # noqa: SLF001


def read_timeout_of(config: Any) -> float:
    """The read timeout in seconds that *config* gives a client; `math.inf` for none."""
    timeout = getattr(config, "read_timeout", None)
    return math.inf if timeout is None else float(timeout)


def longest_call(config: Any) -> float:
    """Seconds that a call may take in all, apart from a long poll's own wait: to connect, and
    for the answer. `math.inf` where *config* has a timeout turned off.

    A read timeout alone would begin anew with every byte.
    """
    connect = getattr(config, "connect_timeout", None)
    return read_timeout_of(config) + (math.inf if connect is None else float(connect))


def attempts_of(config: Any) -> int:
    """How often the client itself tries a call."""
    retries = getattr(config, "retries", None) or {}
    return int(retries.get("total_max_attempts") or _LEGACY_ATTEMPTS)


_LEGACY_ATTEMPTS: Final = 5
"""Of botocore's, where no number is configured."""
