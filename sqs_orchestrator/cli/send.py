"""`send`: a one-way message."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..requester.publisher import Publisher
from .options import (
    DEFAULTS,
    Attributes,
    Body,
    Common,
    File,
    Positive,
    Seconds,
    attributes_of,
    body_of,
)
from .output import print_json
from .repeating import repeated


async def send(
    queue: str,
    body: Body = None,
    /,
    *,
    file: File = None,
    attribute: Attributes = None,
    type_: Annotated[str | None, Parameter(name="--type")] = None,
    delay: int = 0,
    group: str | None = None,
    deduplication_id: str | None = None,
    timeout: Seconds = 30.0,
    repeat: Positive = 1,
    concurrency: Positive = 10,
    common: Common = DEFAULTS,
) -> int:
    """Send a one-way message, and print its id.

    Parameters
    ----------
    queue
        The queue's name or URL.
    body
        The body, which travels as it is. Without it and --file: standard input.
    file
        A file with the body; `-` for standard input.
    attribute
        A message attribute: name=text or name:=number. May be repeated.
    type_
        The route: which of the worker's handlers takes it.
    delay
        Whole seconds until it can be received.
    group
        The message group; needed on FIFO queues.
    deduplication_id
        On FIFO queues.
    timeout
        Seconds for which it is tried.
    repeat
        Send it that often, and print how long each took.
    concurrency
        How many of them at a time.
    """
    text, attributes = body_of(body, file), attributes_of(attribute)
    async with common.connect() as sqs, Publisher(sqs, default_timeout=timeout) as publisher:

        async def once() -> str:
            return await publisher.send(
                queue,
                text,
                attributes=attributes,
                message_type=type_,
                delay=delay,
                group_id=group,
                deduplication_id=deduplication_id,
            )

        if repeat > 1:
            return await repeated(once, repeat, concurrency, what="sent", json=common.json)
        message_id = await once()
    if common.json:
        print_json({"message_id": message_id})
    else:
        print(message_id)
    return 0
