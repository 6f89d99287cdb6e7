"""`policy`: the least IAM policy."""

from __future__ import annotations

import json
import re
from typing import Annotated, Final

from ..core.names import DEFAULT_PREFIX, check_prefix, is_queue_name
from ..core.redrive import dead_letter_queue
from .options import AWS, DEFAULTS, FLAG, Usage
from .permissions import Role, least_policy

AWS_KEY: Final = "alias/aws/sqs"
"""The key of SQS's own, which everybody of the account may use through SQS."""

_ARN: Final = re.compile(r"arn:[a-z-]+:sqs:[a-z0-9-]+:[0-9]{12}:.+")
_WANTED: Final = ("QueueArn", "RedrivePolicy", "KmsMasterKeyId")


async def policy(
    queue: str,
    /,
    *,
    requester: Annotated[bool, FLAG] = False,
    worker: Annotated[bool, FLAG] = False,
    prefix: str = DEFAULT_PREFIX,
    no_sweeping: Annotated[bool, FLAG] = False,
    dead_letter_queue: str | None = None,
    aws: AWS = DEFAULTS,
) -> int:
    """Print the least IAM policy for a requester, a worker, or (without either) one that is both.

    Parameters
    ----------
    queue
        The request queue: its name or URL, or its ARN, for which SQS is not asked.
    requester
        For who sends requests and messages.
    worker
        For who handles them.
    prefix
        With what the names of the reply queues begin.
    no_sweeping
        Without what only sweeping needs: ReplyQueue(sweep_interval=None).
    dead_letter_queue
        With an ARN: the name of the dead-letter queue.
    """
    check_prefix(prefix)
    key: str | None = None
    if queue.startswith("arn:"):
        if not _ARN.fullmatch(queue) or not is_queue_name(queue.rpartition(":")[2]):
            raise Usage(f"{queue!r} is no queue's ARN: arn:aws:sqs:<region>:<account>:<name>")
        arn, dead = queue, None
        if dead_letter_queue is not None:
            if not is_queue_name(dead_letter_queue):
                raise Usage(f"--dead-letter-queue is a queue's name, not {dead_letter_queue!r}")
            dead = f"{arn.rpartition(':')[0]}:{dead_letter_queue}"
    else:
        if dead_letter_queue is not None:
            raise Usage("--dead-letter-queue is for an ARN: of a queue, SQS knows it")
        arn, dead, key = await _asked(queue, aws)
    named: dict[Role, bool] = {"requester": requester, "worker": worker}
    roles = [role for role, given in named.items() if given] or list(named)
    made = least_policy(
        roles, arn, dead_letter_arn=dead, prefix=prefix, sweeping=not no_sweeping, key=key
    )
    print(json.dumps(made, indent=2))
    return 0


async def _asked(queue: str, aws: AWS) -> tuple[str, str | None, str | None]:
    """The ARNs of the queue and of its dead-letter queue, and its key."""
    async with aws.connect() as sqs:
        url = await sqs.queue_url(queue)
        found = await sqs.patiently(lambda: sqs.port.get_queue_attributes(url, _WANTED))
    arn = found["QueueArn"]
    target = dead_letter_queue(found.get("RedrivePolicy"))
    dead = None if target is None else f"{arn.rsplit(':', 2)[0]}:{target.account}:{target.name}"
    key = found.get("KmsMasterKeyId")
    return arn, dead, None if key in (None, "", AWS_KEY) else key
