"""Tracebacks in the log."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from sqs_orchestrator.logs import get_logger


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("tests.logs")
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\x85", "\u2028"])
def test_text_of_an_exception_cannot_pass_for_a_line_of_the_log(
    logged: io.StringIO, end: str
) -> None:
    logger = get_logger("tests.logs")
    cause = KeyError("why")
    try:
        raise RuntimeError(f"no{end}ERROR forged \x1b[31mü") from cause
    except RuntimeError:
        logger.exception("it failed")
    first, *rest = logged.getvalue().splitlines()
    assert first == "ERROR it failed"
    assert all(line.startswith("  ") for line in rest)
    assert "KeyError: 'why'" in rest[0]
    assert "\\x1b[31mü" in rest[-1]


class Unshowable(Exception):
    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise RuntimeError("a bug")


def test_exception_that_cannot_be_shown_does_not_disturb_who_logs_it(logged: io.StringIO) -> None:
    get_logger("tests.logs").error("it failed", exc_info=Unshowable())
    first, *rest = logged.getvalue().splitlines()
    assert first == "ERROR it failed"
    # Newer Pythons show what they can of it.
    assert "Unshowable" in rest[0]
    assert all(line.startswith("  ") for line in rest)


def test_traceback_at_length_is_cut_in_its_middle(logged: io.StringIO) -> None:
    get_logger("tests.logs").error("it failed", exc_info=ValueError("\nx\x01" * 300_000 + "end"))
    lines = logged.getvalue().splitlines()
    assert len(logged.getvalue()) < 1_000_000
    assert lines[1].startswith("  ValueError")
    assert lines[-1].endswith("end")
    assert any("characters ..." in line for line in lines)


def test_record_keeps_the_exception(caplog: pytest.LogCaptureFixture) -> None:
    error = RuntimeError("no")
    get_logger("tests.logs").error("it failed", exc_info=error)
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[1] is error


def test_line_without_a_traceback_stays_as_it_is(logged: io.StringIO) -> None:
    get_logger("tests.logs").error("it failed", exc_info=True)
    assert logged.getvalue() == "ERROR it failed\nNoneType: None\n"
