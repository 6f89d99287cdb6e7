"""What tests of programs that use this library need: an SQS that runs here.

`connect` connects to a `MemoryServer`, an SQS in memory, as fast as tests like it and able to
go wrong on demand (`MemorySQS` is one client of it);
`VirtualTimeLoop` lets its hours pass in a moment; and `moto_server` runs moto's imitation of
SQS over real HTTP. `answer`, `run_until_idle`, `sent` and `message` make tests short; they go with
the fixtures of the pytest plugin, `sqs`, `publisher` and `sqs_server`.
"""

from __future__ import annotations

from .connecting import MemoryConnection, connect
from .faults import Faults, Gate
from .helpers import answer, message, run_until_idle, sent
from .loop import Deadlock, VirtualTimeLoop
from .memory import LoggedCall, MemoryServer, MemorySQS
from .moto import moto_server

__all__ = [
    "Deadlock",
    "Faults",
    "Gate",
    "LoggedCall",
    "MemoryConnection",
    "MemorySQS",
    "MemoryServer",
    "VirtualTimeLoop",
    "answer",
    "connect",
    "message",
    "moto_server",
    "run_until_idle",
    "sent",
]
