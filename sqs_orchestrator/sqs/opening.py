"""Opening the port that stands behind a connection: the lean one, or the stock client's."""

from __future__ import annotations

import os
import platform
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import botocore.exceptions as boto
from aiobotocore.session import AioSession

from .._version import __version__
from ..logs import get_logger
from ..texts import without_user_info
from .calls import RemoteSQS
from .config import check_no_user_info, make_config, warm_up
from .credentials import MISCONFIGURED, Keeper, check_session_keys, from_chain
from .resolver import Resolver, Threads
from .transport import Transport
from .transports.lean import open_lean
from .transports.stock import StockTransport
from .transports.switching import SwitchingTransport
from .transports.template import NotPlain, template_of

if TYPE_CHECKING:
    from aiobotocore.config import AioConfig

logger = get_logger(__name__)

LEAN_VARIABLE: Final = "SQS_ORCHESTRATOR_LEAN"
"""The environment variable that turns the lean path off, by `0`, `false`, `no` or `off`."""


@asynccontextmanager
async def open_sqs(
    *,
    profile_name: str | None,
    config: AioConfig | None,
    session: AioSession | None,
    lean: bool | None = None,
    **settings: Any,
) -> AsyncIterator[RemoteSQS]:
    """The port by a client or, where that gives the same results, by connections beside it.

    *lean* says whether the lean path may be taken; `None` leaves that to the environment.

    Raises `ValueError` for settings that no client can be made of.
    """
    if lean is None:
        lean = os.environ.get(LEAN_VARIABLE, "").strip().lower() not in ("0", "false", "no", "off")
    async with AsyncExitStack() as stack:
        threads = Threads()
        stack.callback(threads.close)
        resolver = Resolver(threads) if Resolver.is_needed() else None
        keeper: Keeper | None = None
        try:
            if session is None:
                own = AioSession(profile=profile_name)
                keeper = Keeper(from_chain(profile_name, _region_of(settings, config)))
                stack.callback(keeper.close)
                own.register_component("credential_provider", keeper)
            else:
                own = session
                if settings.get("aws_access_key_id") is None:
                    await check_session_keys(session)
            merged = make_config(config, _user_agent_of(own), resolver)
            client = await stack.enter_async_context(
                own.create_client("sqs", config=merged, **settings)
            )
            # One from the environment or the profile has passed no check of connect()'s.
            check_no_user_info("the endpoint URL", client.meta.endpoint_url)
            try:
                if not lean:
                    raise NotPlain("it is turned off")
                if session is not None:
                    raise NotPlain("the session is the caller's own")
                template = await template_of(client)
                lean_transport = await stack.enter_async_context(
                    open_lean(template, own.get_config_variable("ca_bundle"), threads)
                )
                transport: Transport = SwitchingTransport(client, lean_transport)
            except NotPlain as unfit:
                logger.debug("calls take the stock client's path: %s", unfit)
                # Long polls must never keep the pool of connections from the other calls.
                polling_client = await stack.enter_async_context(
                    own.create_client("sqs", config=merged, **settings)
                )
                await warm_up(client, polling_client)
                transport = StockTransport(client, polling_client)
        except boto.NoRegionError as error:
            raise ValueError(
                "no AWS region: pass connect(region_name=…), or set"
                " AWS_DEFAULT_REGION, or name a region in the AWS profile"
                f"{' (AWS_REGION is not read)' if os.environ.get('AWS_REGION') else ''}"
            ) from error
        except (
            *MISCONFIGURED,
            boto.InvalidRegionError,
            boto.UnknownSignatureVersionError,
        ) as error:
            raise ValueError(f"no SQS client can be made of these settings: {error}") from error
        except ValueError as error:
            shown = without_user_info(str(error))
            if shown == str(error):
                raise
            raise ValueError(shown) from None  # botocore shows the URL that it refuses
        if keeper is not None:
            keeper.clock = transport.clock
        yield RemoteSQS(client, transport)


def _region_of(settings: dict[str, Any], config: AioConfig | None) -> str | None:
    """The region that the clients are told, where they are: roles are assumed there too."""
    region: str | None = settings.get("region_name") or getattr(config, "region_name", None)
    return region


def _user_agent_of(session: AioSession) -> str | None:
    """Who calls. botocore composes its own text anew for each call, a seventh of a call's CPU;
    one that is given to it is taken as it is."""
    if session.get_config_variable("user_agent_appid"):
        return None  # AWS finds the application by it, and botocore puts it in only there
    client = f"{session.user_agent_name}/{session.user_agent_version}"
    return f"sqs-orchestrator/{__version__} {client} Python/{platform.python_version()}"
