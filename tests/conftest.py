"""What all tests share.

Tests that Hypothesis makes up run ten cases each, so that the unit tests take seconds. Where the
environment has `CI`, they run all hundred, the same ones every time. `HYPOTHESIS_PROFILE=full`
runs a hundred new ones.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# No deadlines: they would judge how busy the machine is. `ci` is Hypothesis's own profile.
settings.register_profile("dev", max_examples=10, deadline=None)
settings.register_profile("full", max_examples=100, deadline=None)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)


def pytest_report_header() -> str:
    """Say which copy is tested: an installed wheel, or the source tree."""
    spec = importlib.util.find_spec("sqs_orchestrator")
    assert spec is not None
    assert spec.origin is not None
    return f"testing: {Path(spec.origin).parent}"


def pytest_sessionstart() -> None:
    # pytest-asyncio asks for "the current loop" before it sets its own. With none ever set,
    # asyncio makes one to answer, which nobody closes; with None set, it says there is none.
    asyncio.set_event_loop(None)
    # A shell that runs this in the background has it ignore Ctrl-C, and so would all the
    # programs that the tests start and interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_aws_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No test may depend on the AWS settings of whoever runs it, nor spend their money."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ROLE_ARN", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    nowhere = str(tmp_path_factory.getbasetemp() / "no-such-file")
    monkeypatch.setenv("AWS_CONFIG_FILE", nowhere)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
