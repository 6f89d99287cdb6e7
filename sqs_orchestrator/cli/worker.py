"""`worker`: runs the pollers of an application until a signal stops them."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cyclopts import Parameter

from .._version import __version__
from ..connection import Connection
from ..errors import SQSOrchestratorError
from ..health import Health
from ..logs import about, get_logger
from ..texts import printable
from ..worker.making import NoPoller, made
from ..worker.poller import Poller
from .options import AWS, DEFAULTS, FLAG, Failed, Port, Positive, Usage
from .output import note
from .repeating import together
from .serving import REPORTS, Facts, Reports, facts_of, reporting, serving
from .supervising import LIFELINE, supervise

Level = Literal["debug", "info", "warning", "error"]

_log = get_logger(__name__)

LINES: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def worker(
    pollers: Annotated[list[str], Parameter(negative="")],
    /,
    *,
    processes: Positive = 1,
    uvloop: Annotated[bool, FLAG] = False,
    reload: Annotated[bool, FLAG] = False,
    health_port: Port | None = None,
    health_host: str = "0.0.0.0",
    app_dir: Path = Path(),
    log_level: Level = "info",
    aws: AWS = DEFAULTS,
) -> int:
    """Run pollers until SIGINT or SIGTERM, then drain.

    Each module:name is a function that gets the connection and returns a Poller; or an async
    context manager of one, which may open on the way what the handlers need.

    Parameters
    ----------
    pollers
        Where the pollers are: module:name, one or several.
    processes
        How many processes run all of them. One that is killed is replaced.
    uvloop
        Run them on uvloop's event loop.
    reload
        For development: start again when a Python file below --app-dir changes.
    health_port
        Answer /livez and /readyz over HTTP on this port.
    health_host
        The address to answer on; "::" for IPv6.
    app_dir
        Where the modules are.
    log_level
        Which lines of the log to show, on standard error.
    """
    places = [_Place.parse(each) for each in pollers]
    directory = app_dir.resolve()
    if uvloop and importlib.util.find_spec("uvloop") is None:
        raise Usage("--uvloop needs: pip install uvloop")
    logging.basicConfig(level=log_level.upper(), format=LINES)
    for name in ("aiobotocore", "botocore"):
        # What they say at each start is nothing to those who run a worker.
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.root.level))
    lifeline = os.environ.pop(LIFELINE, None)
    if lifeline is None and (processes > 1 or reload):
        options = [f"--app-dir={directory}", f"--log-level={log_level}", *_options_of(aws)]
        command = ["worker", *pollers, *options, *(["--uvloop"] if uvloop else [])]
        watched = directory if reload else None
        if health_port is None:
            return supervise(command, processes, watched)
        reports = Reports(processes)
        with serving(health_host, health_port, reports.processes):
            return supervise(command, processes, watched, reports)
    sys.path.insert(0, str(directory))
    health: dict[str, Callable[[], Health]] = {}

    def facts() -> Facts:
        return facts_of(dict(health))

    pipe = os.environ.pop(REPORTS, None)
    with ExitStack() as stack:
        if pipe is not None:
            stack.enter_context(reporting(int(pipe), facts))
        elif health_port is not None:
            stack.enter_context(serving(health_host, health_port, lambda: [facts()]))
        _run(_work(places, directory, aws, lifeline, health), uvloop)
    return 0


def _options_of(aws: AWS) -> list[str]:
    given = {
        "--region": aws.region,
        "--profile": aws.profile,
        "--endpoint-url": aws.endpoint_url,
    }
    return [f"{name}={value}" for name, value in given.items() if value is not None]


def _run(work: Coroutine[Any, Any, None], uvloop: bool) -> None:
    factory: Any = importlib.import_module("uvloop").new_event_loop if uvloop else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)


async def _work(
    places: Sequence[_Place],
    directory: Path,
    aws: AWS,
    lifeline: str | None,
    health: dict[str, Callable[[], Health]],
) -> None:
    if lifeline is not None:
        # Without its supervisor it stops, as if asked to.
        stop = partial(os.kill, os.getpid(), signal.SIGTERM)
        asyncio.get_running_loop().add_reader(int(lifeline), _stop_once, int(lifeline), stop)
    async with AsyncExitStack() as stack:
        factories = [place.load(directory) for place in places]
        sqs = await stack.enter_async_context(aws.connect())
        pollers = [
            await _made(stack, place, factory, directory, sqs)
            for place, factory in zip(places, factories, strict=True)
        ]
        for place, poller in zip(places, pollers, strict=True):
            health[str(place)] = poller.health
            _say(place, poller, sqs)
        if len(pollers) == 1:
            await pollers[0].run()
            return
        await together(
            *(_told(place, poller) for place, poller in zip(places, pollers, strict=True))
        )


async def _told(place: _Place, poller: Poller) -> None:
    """Run one poller of several. If it fails, say so at once: the error is raised only when the
    others have drained, which may take as long as a poll."""
    try:
        await poller.run()
    except Exception as error:
        _log.error(
            "%s has failed, so all stop: %s",
            place,
            printable(str(error)),
            extra=about(poller.queue),
        )
        raise


def _stop_once(lifeline: int, stop: Callable[[], None]) -> None:
    asyncio.get_running_loop().remove_reader(lifeline)
    stop()


def _say(place: _Place, poller: Poller, sqs: Connection) -> None:
    client = getattr(sqs.port, "client", None)
    where = "" if client is None else f" at {client.meta.endpoint_url}"
    note(
        f"sqs-orchestrator {__version__}, process {os.getpid()}: {place} listens on"
        f" {poller.queue}{where}"
    )


@dataclass(frozen=True)
class _Place:
    """Where a poller is to be found."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> _Place:
        module, colon, name = text.partition(":")
        if not module or not colon or not name:
            raise Usage(f"a poller is given as module:name, not {text!r}")
        return cls(module, name)

    def load(self, directory: Path) -> Callable[[Connection], Any]:
        """The function that makes the poller."""
        try:
            found: Any = importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{self.module}.".startswith(f"{error.name}."):
                raise Failed(f"{self.module} cannot be imported: {error}") from error
            raise Usage(f"there is no module {error.name!r}; --app-dir says where it is") from None
        except Exception as error:
            raise Failed(
                f"{self.module} cannot be imported: {_where(error, directory)}"
                f"{type(error).__name__}: {error}"
            ) from error
        for part in self.name.split("."):
            if not hasattr(found, part):
                raise Usage(f"{self.module} has no {self.name!r}")
            found = getattr(found, part)
        if isinstance(found, Poller) or not callable(found):
            raise Usage(
                f"{self} is no function that gets the connection and returns a Poller:"
                f" {type(found).__name__}"
            )
        factory: Callable[[Connection], Any] = found
        return factory


def _where(
    error: BaseException, directory: Path, factory: Callable[[Connection], Any] | None = None
) -> str:
    """The place in the application below *directory*, since no traceback shows it; that of
    *factory*, which was called, if it did not begin."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames:
        return ""
    for frame in reversed(frames):
        path = Path(frame.filename)
        if path.is_relative_to(directory) and "site-packages" not in path.parts:
            return f"{frame.filename}, line {frame.lineno}: "
    code = getattr(inspect.unwrap(factory), "__code__", None) if factory is not None else None
    if code is not None:
        return f"{code.co_filename}, line {code.co_firstlineno}: "
    return f"{frames[-1].filename}, line {frames[-1].lineno}: "


async def _made(
    stack: AsyncExitStack,
    place: _Place,
    factory: Callable[[Connection], Any],
    directory: Path,
    sqs: Connection,
) -> Poller:
    try:
        return await made(stack, factory, sqs)
    except NoPoller as error:
        raise Usage(f"{place} {error}") from None
    except SQSOrchestratorError:
        raise  # which says what to do
    except Exception as error:
        where = _where(error, directory, factory)
        raise Failed(f"{place} failed: {where}{type(error).__name__}: {error}") from error
