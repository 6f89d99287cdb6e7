"""Several worker processes, and starting them again: `worker --processes` and `--reload`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .output import note
from .repeating import together
from .serving import REPORTS, Reports

__all__ = ["LIFELINE", "supervise"]

LIFELINE: Final = "SQS_ORCHESTRATOR_LIFELINE"
"""The environment variable that names, to a worker process, the pipe that closes when its
supervisor is gone."""

LOOKS: Final = 0.5
"""Seconds between two looks at the files."""

PAUSE: Final = 1.0
"""Seconds until a process that was killed is replaced: it may be so again at once."""

LONGEST: Final = 1 << 20
"""Bytes of a report of a process, at most."""

ASKED: Final = (0, -signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGINT)
"""Exit codes of a process that was asked to stop: it may not have begun."""


def supervise(
    arguments: Sequence[str], count: int, watched: Path | None, reports: Reports | None = None
) -> int:
    """Run *count* processes of this program with *arguments*, and again when a Python file
    below *watched* changes; returns the exit code. *reports* hears what they report."""
    return asyncio.run(_Supervisor(arguments, count, watched, reports).run())


class _Supervisor:
    """Its processes are in sessions of their own: so Ctrl-C reaches them through it alone, and
    once. A process that cannot work (exit code above 0) ends all, since the others cannot work
    either; with *watched* it waits for a change."""

    def __init__(
        self,
        arguments: Sequence[str],
        count: int,
        watched: Path | None,
        reports: Reports | None,
    ) -> None:
        self._command = [sys.executable, "-m", __package__.partition(".")[0], *arguments]
        self._count = count
        self._watched = watched
        self._reports = reports
        self._lifeline, self._end = os.pipe()
        self._processes: set[asyncio.subprocess.Process] = set()
        self._asked: list[signal.Signals] = []
        self._failed = 0
        self._changed = asyncio.Event()
        """Set, and replaced, when files have changed or it stops."""

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number)
        note(f"process {os.getpid()} supervises {self._count} of its kind")
        watching = None if self._watched is None else loop.create_task(self._watch(self._watched))
        try:
            await together(*(self._keep() for _ in range(self._count)))
        finally:
            if watching is not None:
                watching.cancel()
        return self._failed

    def _stop(self, number: signal.Signals) -> None:
        # Each signal once more: the second has them stop at once.
        self._asked.append(number)
        self._tell(number)
        self._wake()

    def _tell(self, number: signal.Signals) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.send_signal(number)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _keep(self) -> None:
        """Keep one process running."""
        while not self._asked:
            changed = self._changed
            code = await self._process()
            if self._asked:
                if code not in ASKED:
                    self._failed = self._failed or (code if code > 0 else 1)
            elif changed.is_set():
                continue
            elif self._watched is not None:
                note("it starts again when a file changes")
                await changed.wait()
            elif code < 0:
                note(f"a worker process ended by {signal.Signals(-code).name}: starting another")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), PAUSE)
            elif code == 0:
                return  # its pollers have been stopped
            else:
                self._failed = code
                self._stop(signal.SIGTERM)

    async def _process(self) -> int:
        """Run one process; returns its exit code."""
        pipes = {LIFELINE: self._lifeline}
        reading = None
        if self._reports is not None:
            reading, pipes[REPORTS] = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**os.environ, **{name: str(pipe) for name, pipe in pipes.items()}},
                pass_fds=tuple(pipes.values()),
                start_new_session=True,
            )
        finally:
            if REPORTS in pipes:
                os.close(pipes[REPORTS])
        listening = None
        if self._reports is not None and reading is not None:
            self._reports.began(process.pid)
            work = self._listen(self._reports, process.pid, reading)
            listening = asyncio.get_running_loop().create_task(work)
        self._processes.add(process)
        if self._asked:
            process.send_signal(self._asked[-1])
        try:
            return await process.wait()
        finally:
            self._processes.discard(process)
            if listening is not None and self._reports is not None:
                listening.cancel()
                self._reports.ended(process.pid)

    async def _listen(self, reports: Reports, process: int, pipe: int) -> None:
        """Take the reports of one process until it ends."""
        reader = asyncio.StreamReader(limit=LONGEST)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", buffering=0)
        )
        try:
            async for line in reader:
                reports.heard(process, line)
        finally:
            transport.close()

    async def _watch(self, directory: Path) -> None:
        before = await asyncio.to_thread(_times, directory)
        while True:
            await asyncio.sleep(LOOKS)
            now = await asyncio.to_thread(_times, directory)
            if now != before:
                paths = sorted(path for path, _ in now.items() ^ before.items())
                note(f"{paths[0]} has changed: starting again")
                before = now
                # As Ctrl-C does: it does not wait for an idle poll.
                self._tell(signal.SIGINT)
                self._wake()


def _times(directory: Path) -> dict[str, float]:
    """When the Python files below *directory* were changed."""
    found: dict[str, float] = {}
    for place, directories, files in os.walk(directory):
        # What is installed or hidden is not what somebody works on.
        directories[:] = [
            each
            for each in directories
            if not each.startswith(".") and each not in ("node_modules", "site-packages")
        ]
        for name in files:
            if name.endswith(".py"):
                path = Path(place, name)
                try:
                    found[str(path)] = path.stat().st_mtime
                except OSError:
                    continue  # it has just gone
    return found
