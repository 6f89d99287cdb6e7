"""The commands, and how each of them ends: in an exit code, and never in a traceback for what
the library or the system has said."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from cyclopts import App, CycloptsError

from .._version import __version__
from ..errors import (
    AccessDenied,
    InvalidMessage,
    MessageTooLarge,
    QueueNotFound,
    ReplyTimeout,
    SQSOrchestratorError,
    Throttled,
)
from .demo import demo
from .doctor import doctor
from .guide import guide
from .options import Failed, Usage
from .output import complain
from .peek import peek
from .policy import policy
from .queues import queues
from .redrive import redrive
from .request import request
from .send import send
from .stopping import Terminated
from .sweep import sweep
from .worker import worker

COMMANDS: Final[tuple[Callable[..., Any], ...]] = (
    demo,
    worker,
    send,
    request,
    queues,
    peek,
    redrive,
    sweep,
    doctor,
    policy,
    guide,
)

FAILED, WRONG_USE, INTERRUPTED, TERMINATED = 1, 2, 130, 143


def make_app() -> App:
    """The commands."""
    app = App(
        name="sqs-orchestrator",
        version=__version__,
        help="Requests and replies, and one-way messages, over Amazon SQS.",
        sort_key=None,
        help_format="markdown",
        suppress_keyboard_interrupt=False,  # that would exit here
    )
    for number, command in enumerate(COMMANDS):
        app.command(command, sort_key=number)
    app.register_install_completion_command(
        help="Let the shell complete commands and options (bash, zsh, fish)."
    )
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that knows ASCII only should see a ✓ as something, not as an error.
            stream.reconfigure(errors="backslashreplace")
    app = make_app()
    if not arguments:
        app.help_print([])
        return WRONG_USE
    try:
        result = app(
            list(arguments), exit_on_error=False, print_error=False, result_action="return_value"
        )
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough, as `head` has. At exit Python would flush, and say so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        return ended_by(error)
    return code_of(result)


def _open_what_is_closed() -> None:
    """Whoever started this may have closed a standard stream, and Python has `None` in its place.
    In this order each gets its own number again, which else the next socket would get."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115


def code_of(result: Any) -> int:
    """The exit code of a command that returned: most return nothing."""
    return result if isinstance(result, int) else 0


def ended_by(error: Exception) -> int:
    """Say on one line what ended a command, and what to do; returns the exit code.

    Raises what was not foreseen: that is a fault of this program.
    """
    match error:
        case CycloptsError():
            complain(f"{error} Try: sqs-orchestrator --help")
            return WRONG_USE
        case Terminated():
            return TERMINATED
        case Usage():
            complain(str(error))
            return WRONG_USE
        case Failed():
            complain(str(error))
            return FAILED
        case InvalidMessage() | MessageTooLarge():
            complain(str(error))
            return WRONG_USE
        case SQSOrchestratorError():
            complain(_with_advice(error))
            return FAILED
        case ValueError() if not isinstance(error, UnicodeError):
            # That is how the library refuses an argument.
            text = str(error)
            if text.startswith("no AWS region"):
                text = "no AWS region: pass --region, or set AWS_DEFAULT_REGION"
            complain(text)
            return WRONG_USE
        case OSError():
            name = f"{error.filename}: " if error.filename else ""
            complain(f"{name}{error.strerror or error}")
            return FAILED
    raise error


def _with_advice(error: SQSOrchestratorError) -> str:
    text = str(error) or type(error).__name__
    match error:
        case QueueNotFound():
            advice = "check its name, --region and --profile"
        case AccessDenied():
            advice = "`sqs-orchestrator doctor QUEUE` shows what is missing"
        case Throttled():
            advice = "try again later"
        case ReplyTimeout():
            advice = "is a worker running? --timeout waits for longer"
        case _:
            return text
    return f"{text} ({advice})"
