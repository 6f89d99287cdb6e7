"""The command line: `python -m sqs_orchestrator`, or `sqs-orchestrator`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="sqs-orchestrator",
        description="Requests and replies, and one-way messages, over Amazon SQS.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = commands.add_parser(
        "demo",
        help="show requests and replies between two processes, on an SQS server started here",
        description="A requester and a worker, two processes, exchange real requests through an"
        " SQS server that is started for it on this machine. Then it draws what happened, and"
        " exits with 1 if anything came out wrong. Needs no AWS account.",
    )
    demo.add_argument(
        "--requests",
        type=_positive,
        default=180,
        metavar="N",
        help="how many concurrent requests to make (default: %(default)s)",
    )
    demo.add_argument(
        "--concurrency",
        type=_positive,
        default=50,
        metavar="N",
        help="how many of them to make at a time (default: %(default)s)",
    )
    demo.set_defaults(run=_demo)

    options = parser.parse_args(arguments)
    code: int = options.run(options)
    return code


def _demo(options: argparse.Namespace) -> int:
    # Imported here: the other commands need none of it.
    from .demo import run

    return run(requests=options.requests, concurrency=options.concurrency)


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return number
