"""The library's own client configuration, and what of the user's wins."""

from __future__ import annotations

import math
import socket

from aiobotocore.config import AioConfig
from botocore.config import Config

from sqs_orchestrator.sqs.config import (
    KEEPALIVE_TIMEOUT,
    PROBE_AFTER,
    PROBE_INTERVAL,
    PROBES,
    make_config,
    read_timeout_of,
)


def test_own_config_leaves_retries_and_validation_to_the_library() -> None:
    config = make_config()
    assert config.retries == {"total_max_attempts": 1}
    assert config.parameter_validation is False
    assert config.connect_timeout == 5
    assert config.max_pool_connections == 50
    assert config.connector_args["keepalive_timeout"] == KEEPALIVE_TIMEOUT


def test_users_config_wins_where_it_sets_a_thing() -> None:
    config = make_config(
        AioConfig(
            connect_timeout=1,
            read_timeout=70,
            retries={"mode": "standard"},
            region_name="eu-west-1",
            connector_args={"keepalive_timeout": 3},
        )
    )
    assert config.connect_timeout == 1
    assert config.read_timeout == 70
    assert config.retries == {"mode": "standard"}
    assert config.region_name == "eu-west-1"
    assert config.connector_args["keepalive_timeout"] == 3
    assert config.max_pool_connections == 50


def test_users_config_keeps_ours_where_it_sets_nothing() -> None:
    for given in (AioConfig(), AioConfig(connector_args={"use_dns_cache": False}), Config()):
        config = make_config(given)
        assert config.connector_args["keepalive_timeout"] == KEEPALIVE_TIMEOUT
        assert config.retries == {"total_max_attempts": 1}


def test_users_connector_arguments_join_ours() -> None:
    config = make_config(AioConfig(connector_args={"use_dns_cache": False}))
    assert config.connector_args["use_dns_cache"] is False


def test_users_config_is_not_altered() -> None:
    given = AioConfig(read_timeout=70, connector_args={"keepalive_timeout": 3})
    make_config(given)
    assert given.connector_args == {"keepalive_timeout": 3}
    assert given.connect_timeout == 60


def test_config_survives_a_merge_by_the_session() -> None:
    # aiobotocore merges it into a session's default configuration.
    merged = AioConfig(user_agent_extra="x").merge(make_config())
    assert merged.retries == {"total_max_attempts": 1}
    assert merged.user_agent_extra == "x"


def test_sockets_notice_a_peer_that_is_gone() -> None:
    factory = make_config().connector_args.get("socket_factory")
    if factory is None:
        return  # this aiobotocore does not let one in
    made = factory((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("", 0)))
    with made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        # The kernel's own default is two hours.
        wanted = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
        for name, value in wanted.items():
            if hasattr(socket, name):
                assert made.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value
    assert PROBE_AFTER + PROBES * PROBE_INTERVAL == 30
    assert PROBE_AFTER < 20  # a long poll


def test_read_timeout_is_read() -> None:
    assert read_timeout_of(make_config()) == 60
    assert read_timeout_of(AioConfig(read_timeout=7)) == 7
    assert read_timeout_of(AioConfig(read_timeout=None)) == math.inf
