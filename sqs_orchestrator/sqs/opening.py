"""Making the aiobotocore clients that stand behind a connection's port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import botocore.exceptions as boto
from aiobotocore.session import AioSession

from .client import BotoSQS
from .config import make_config

if TYPE_CHECKING:
    from aiobotocore.config import AioConfig


@asynccontextmanager
async def open_sqs(
    *,
    profile_name: str | None,
    config: AioConfig | None,
    session: AioSession | None,
    **settings: Any,
) -> AsyncIterator[BotoSQS]:
    """Two clients behind one port: one for long polls, so that they never keep the pool of
    connections from the other, which does the rest.

    Raises `ValueError` for settings that no client can be made of.
    """
    async with AsyncExitStack() as stack:
        try:
            if session is None:
                session = AioSession(profile=profile_name)
            merged = make_config(config)
            client, polling_client = [
                await stack.enter_async_context(
                    session.create_client("sqs", config=merged, **settings)
                )
                for _ in range(2)
            ]
        except boto.NoRegionError as error:
            raise ValueError(
                "no AWS region: pass connect(region_name=…), or set"
                " AWS_DEFAULT_REGION, or name a region in the AWS profile"
            ) from error
        except (
            boto.InvalidRegionError,
            boto.PartialCredentialsError,
            boto.ProfileNotFound,
            boto.ConfigParseError,
            boto.UnknownSignatureVersionError,
        ) as error:
            raise ValueError(f"no SQS client can be made of these settings: {error}") from error
        yield BotoSQS(client, polling_client)
