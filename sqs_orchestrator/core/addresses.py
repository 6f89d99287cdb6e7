"""Which reply addresses a worker answers.

Anybody who may write to a request queue chooses the reply address, so the worker does not
trust it. Of an address it uses only the account and the name of the queue, at its own
endpoint: it never contacts a host in the address. If the address names an AWS region, that
must be the worker's own. The account must be the one of the request queue, or one that the
worker was told of. The name must look like that of a reply queue. So nobody can make a worker
write to another queue, nor to the queues of the Java client's sweeper, which reads serialized
objects.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Final

from . import wire
from .checks import quoted, shown
from .names import (
    DEFAULT_PREFIX,
    JAVA_PREFIX,
    LEGACY_PREFIX,
    account_of,
    is_sweepers,
    is_sweepers_dead_letters,
    url_beside,
)

# Exactly the URLs that SQS, and the servers that imitate it, hand out. Nothing else that a URL
# may contain matches: credentials, escapes, dots between slashes, a query, capitals, digits
# that are not ASCII. The forms with `queue` are those of LocalStack and ElasticMQ.
_ADDRESS = re.compile(
    r"https?://(?P<host>[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?|\[[0-9a-f:.]{2,45}\])"
    r"(?::[0-9]{1,5})?"
    r"/(?:queue/[a-z0-9-]{1,32}/(?=[0-9]))?"
    r"(?P<account>[0-9]{1,20}|queue)"
    r"/(?P<name>[A-Za-z0-9_-]{1,80})"
)

AWS_SUFFIXES: Final = (
    "amazonaws.com",
    "api.aws",
    "amazonaws.com.cn",
    "api.amazonwebservices.com.cn",
    "amazonaws.eu",
    "api.amazonwebservices.eu",
    "c2s.ic.gov",
    "api.aws.ic.gov",
    "sc2s.sgov.gov",
    "api.aws.scloud",
    "cloud.adc-e.uk",
    "api.cloud-aws.adc-e.uk",
    "csp.hci.ic.gov",
    "api.aws.hci.ic.gov",
)
"""The ends of host names in AWS's partitions, for both IP versions. It is botocore's list, and a
test compares the two. It is written down here because the core reads no files, and because the
addresses that a worker answers must not change with the version of botocore."""

_AWS = rf"(?:{'|'.join(map(re.escape, AWS_SUFFIXES))})"
_REGION = r"(?P<region>[a-z]{2,}(?:-[a-z]+)+-[0-9]+)"
_HOSTS = (
    # sqs.<region>, its FIPS, dual-stack and interface-endpoint forms
    re.compile(rf"(?:[a-z0-9.-]+\.)?sqs(?:-fips)?\.{_REGION}(?:\.vpce)?\.{_AWS}"),
    # <region>.queue, of the first SDKs
    re.compile(rf"{_REGION}\.queue\.{_AWS}"),
)

DEFAULT_PREFIXES: Final = (DEFAULT_PREFIX, JAVA_PREFIX, LEGACY_PREFIX)
"""The prefixes of the reply queues that a worker answers by default."""


class Refused(Exception):
    """A reply address that the worker does not answer.

    Attributes:
        reason: The reason, safe to log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def checked_accounts(accounts: object) -> frozenset[str]:
    """The accounts that a worker answers beside its own.

    Raises:
        ValueError: It is not a collection of account ids.
    """
    several = isinstance(accounts, Collection) and not isinstance(accounts, (str, bytes))
    ids = accounts if isinstance(accounts, Collection) and several else (None,)
    if not all(map(_is_account, ids)):
        raise ValueError(
            "reply_accounts is a tuple of AWS account ids, such as ('123456789012',), not"
            f" {shown(accounts)}"
        )
    return frozenset(ids)


def _is_account(account: object) -> bool:
    # Not an int: an account may begin with zeros.
    return isinstance(account, str) and account.isascii() and account.isdigit()


def check_reply_address(
    reply_to: wire.ReplyTo,
    request_queue_url: str,
    *,
    region: str | None,
    prefixes: Sequence[str] | None,
    accounts: Collection[str] = (),
) -> str:
    """The URL of the queue to answer to, at the worker's own endpoint.

    Args:
        reply_to: The address.
        request_queue_url: The worker's own queue.
        region: The worker's own region; `None` if only the URL of its queue may tell it.
        prefixes: The name of the reply queue must begin with one of these. `None` allows any name
            but those of the Java client's sweeper.
        accounts: Accounts to answer beside the one of the request queue.

    Raises:
        Refused: The worker must not answer at this address.
    """
    return _checked(
        reply_to.queue_url,
        reply_to.correlation_id is not None,
        request_queue_url,
        region,
        None if prefixes is None else tuple(prefixes),
        frozenset(accounts),
    )


@lru_cache(maxsize=1024)  # every request of a requester carries the same address
def _checked(
    queue_url: str,
    has_correlation_id: bool,
    request_queue_url: str,
    region: str | None,
    prefixes: tuple[str, ...] | None,
    accounts: frozenset[str],
) -> str:
    address = _ADDRESS.fullmatch(queue_url)
    shown = quoted(queue_url, 160)
    if address is None:
        raise Refused(f"the reply address {shown} is not the URL of a standard queue")
    host, account, name = address["host"], address["account"], address["name"]
    named = region_of(host)
    if named is not None and named != (own := region or _region_of_url(request_queue_url)):
        raise Refused(
            f"the reply address {shown} is in the region {named}, the worker in "
            f"{own or 'one that is not known'}"
        )
    if account != account_of(request_queue_url) and account not in accounts:
        raise Refused(
            f"the reply address {shown} is in the account {account}, which is neither the "
            "request queue's own nor one of reply_accounts"
        )
    _check_name(name, has_correlation_id, prefixes, shown)
    return url_beside(request_queue_url, account, name)


def _check_name(
    name: str, has_correlation_id: bool, prefixes: Sequence[str] | None, shown: str
) -> None:
    # These are refused in any case: a reply would harm the Java programs that own the queues.
    if is_sweepers(JAVA_PREFIX, name):
        raise Refused(f"the reply address {shown} is a queue of the Java client's sweeper")
    if name.startswith(JAVA_PREFIX) and not has_correlation_id:
        raise Refused(
            f"the reply address {shown} has no correlation id: old Java clients spin on a reply "
            "without"
        )
    if prefixes is None:
        return
    if not any(name.startswith(prefix) and len(name) > len(prefix) for prefix in prefixes):
        raise Refused(
            f"the reply address {shown} does not begin with one of reply_queue_prefixes, or has "
            "nothing after it"
        )
    if any(is_sweepers_dead_letters(prefix, name) for prefix in prefixes):
        raise Refused(f"the reply address {shown} is the dead-letter queue of a sweeper")


@lru_cache(maxsize=256)
def region_of(host: str) -> str | None:
    """The AWS region in the name of a host of SQS; `None` for any other host."""
    if host == "queue.amazonaws.com":
        return "us-east-1"
    for form in _HOSTS:
        match = form.fullmatch(host)
        if match is not None:
            return match["region"]
    return None


def _region_of_url(url: str) -> str | None:
    _, _, rest = url.partition("://")
    return region_of(rest.partition("/")[0].partition(":")[0])
