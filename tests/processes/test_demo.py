"""The demo checks itself; here, that it ends well as its users start it."""

from __future__ import annotations

import asyncio
import sys

import pytest


@pytest.mark.server
@pytest.mark.slow
async def test_demo_ends_well_and_leaves_nothing() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "sqs_orchestrator", "demo", "--requests", "40"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(120):
            output, errors = (text.decode() for text in await process.communicate())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output + errors
    assert errors == ""
    assert "All as it should be: 60 requests, and each got its own reply." in output
    assert "after the demo deleted its own:     none" in output
