"""`demo`: requests and replies on this machine."""

from __future__ import annotations

from .options import Positive


def demo(*, requests: Positive = 180, concurrency: Positive = 50) -> int:
    """Show requests and replies between two processes, on an SQS server started here.

    A requester and a worker, two processes, exchange real requests through an SQS server that is
    started for it on this machine. Then it draws what happened, and exits with 1 if anything came
    out wrong. Needs no AWS account.

    Parameters
    ----------
    requests
        How many requests to make.
    concurrency
        How many of them to make at a time.
    """
    # Imported here: the help of the other commands needs none of it.
    from ..demo import run

    return run(requests=requests, concurrency=concurrency)
