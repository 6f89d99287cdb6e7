from __future__ import annotations

import pytest

from sqs_orchestrator import cli, demo


def test_demo_takes_its_size_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, int]] = []

    def run(**sizes: int) -> int:
        seen.append(sizes)
        return 7

    monkeypatch.setattr(demo, "run", run)
    assert cli.main(["demo"]) == 7
    assert cli.main(["demo", "--requests", "3", "--concurrency", "2"]) == 7
    assert seen == [{"requests": 180, "concurrency": 50}, {"requests": 3, "concurrency": 2}]


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5"])
def test_main_says_what_number_it_takes(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["demo", f"--requests={number}"])
    assert f"--requests: {number!r} is no whole number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["dance"], ["demo", "--requests", "0"]])
def test_main_refuses_a_wrong_command_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: sqs-orchestrator" in capsys.readouterr().err
