"""What the command line can do without its extra: the demo and the guide."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .._version import __version__
from .guide import guide

EXTRA = "pip install 'sqs-orchestrator[cli]'"

WITHOUT = ("demo", "guide", "--version", "--help", "-h")
"""What needs no extra."""


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="sqs-orchestrator",
        description="Requests and replies, and one-way messages, over Amazon SQS.",
        epilog=f"The other commands come with: {EXTRA}",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    demo = commands.add_parser(
        "demo",
        help="requests and replies between two processes, on an SQS server started here",
    )
    for name, default, text in (
        ("--requests", 180, "how many requests to make (default: %(default)s)"),
        ("--concurrency", 50, "how many of them to make at a time (default: %(default)s)"),
    ):
        demo.add_argument(name, type=_positive, default=default, metavar="N", help=text)
    commands.add_parser("guide", help="print a guide to the library, in Markdown")
    if arguments and arguments[0] not in WITHOUT:
        print(f"sqs-orchestrator: {arguments[0]!r} needs the extra: {EXTRA}", file=sys.stderr)
        return 2
    try:
        options = parser.parse_args(arguments)
    except SystemExit as end:  # it has said why
        return end.code if isinstance(end.code, int) else 2
    if arguments[0] == "guide":
        guide()
        return 0
    from ..demo import run as run_demo

    try:
        return run_demo(requests=options.requests, concurrency=options.concurrency)
    except KeyboardInterrupt:
        return 130


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return number
