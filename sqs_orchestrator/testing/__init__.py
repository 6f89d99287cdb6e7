"""What tests of programs that use this library need: an SQS that runs here.

`connect` connects to a `MemoryServer`, an SQS in memory, as fast as tests like it and able to
go wrong on demand (`MemorySQS` is one client of it);
`VirtualTimeLoop` lets its hours pass in a moment; and `moto_server` runs moto's imitation of
SQS over real HTTP.
"""

from __future__ import annotations

from .connecting import connect
from .faults import Faults, Gate
from .loop import Deadlock, VirtualTimeLoop
from .memory import Call, MemoryServer, MemorySQS
from .moto import moto_server

__all__ = [
    "Call",
    "Deadlock",
    "Faults",
    "Gate",
    "MemorySQS",
    "MemoryServer",
    "VirtualTimeLoop",
    "connect",
    "moto_server",
]
