"""What tests of programs that use this library need: an SQS that runs here.

`MemorySQS` is an SQS in memory, as fast as tests like it and able to go wrong on demand;
`moto_server` runs moto's imitation of SQS over real HTTP.
"""

from __future__ import annotations

from .faults import Faults, Gate
from .memory import Call, MemoryServer, MemorySQS
from .moto import moto_server

__all__ = ["Call", "Faults", "Gate", "MemorySQS", "MemoryServer", "moto_server"]
