"""`request`: a message that wants a reply."""

from __future__ import annotations

import time
from typing import Annotated

from cyclopts import Parameter

from ..core.names import DEFAULT_PREFIX
from ..message import Reply
from ..requester.publisher import Publisher
from ..requester.reply_queue import ReplyQueue
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
from .output import print_body, print_json
from .repeating import repeated
from .stopping import terminable


async def request(
    queue: str,
    body: Body = None,
    /,
    *,
    file: File = None,
    attribute: Attributes = None,
    type_: Annotated[str | None, Parameter(name="--type")] = None,
    group: str | None = None,
    deduplication_id: str | None = None,
    timeout: Seconds = 30.0,
    prefix: str = DEFAULT_PREFIX,
    repeat: Positive = 1,
    concurrency: Positive = 10,
    common: Common = DEFAULTS,
) -> int:
    """Send a request, and print the body of its reply.

    Parameters
    ----------
    queue
        The request queue's name or URL.
    body
        The body, which travels as it is. Without it and --file: standard input.
    file
        A file with the body; `-` for standard input.
    attribute
        A message attribute: name=text or name:=number. May be repeated.
    type_
        The route: which of the worker's handlers takes it.
    group
        The message group; needed on FIFO queues.
    deduplication_id
        On FIFO queues.
    timeout
        Seconds for everything, until the reply is here.
    prefix
        With what the name of the reply queue begins.
    repeat
        Ask that often, and print how long each took.
    concurrency
        How many of them at a time.
    """
    text, attributes = body_of(body, file), attributes_of(attribute)
    async with (
        terminable(),
        common.connect() as sqs,
        # It lives for one command: it leaves sweeping to those who stay.
        ReplyQueue(sqs, prefix=prefix, sweep_interval=None) as replies,
        Publisher(sqs, reply_queue=replies, default_timeout=timeout) as publisher,
    ):

        async def once() -> Reply:
            return await publisher.request(
                queue,
                text,
                attributes=attributes,
                message_type=type_,
                group_id=group,
                deduplication_id=deduplication_id,
            )

        if repeat > 1:
            return await repeated(once, repeat, concurrency, what="replies", json=common.json)
        began = time.perf_counter()
        reply = await once()
        seconds = time.perf_counter() - began
    if common.json:
        facts = {
            "body": reply.body,
            "attributes": dict(reply.attributes),
            "message_id": reply.message_id,
            "seconds": seconds,
        }
        print_json(facts)
    else:
        print_body(reply.body)
    return 0
