"""The examples are found and run, and a wrong one fails."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from tests.docs.examples import Example, find, run, run_pytest


def examples(tmp_path: Path, text: str) -> list[Example]:
    page = tmp_path / "page.md"
    page.write_text(text)
    return find(page)


def test_find_takes_python_blocks_alone_with_their_lines(tmp_path: Path) -> None:
    found = examples(
        tmp_path,
        "# Title\n\n```sh\nls\n```\n\n```python\na = 1\n```\n\n!!! note\n\n"
        "    ```py title='x'\n    if a:\n        b = 2\n    ```\n\n"
        "````python\nc = '''\n```\n'''\n````\n",
    )
    assert [(each.line, each.code) for each in found] == [
        (8, "a = 1"),
        (14, "if a:\n    b = 2"),
        (19, "c = '''\n```\n'''"),
    ]


def test_find_keeps_the_reason_for_skipping(tmp_path: Path) -> None:
    comment = "<!-- example: skip: needs an account -->\n"
    text = f"{comment}\n```python\n1 / 0\n```\n\n```python\nx = 1\n```\n"
    assert [each.skip for each in examples(tmp_path, text)] == ["needs an account", None]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<!-- example: skip -->\n```python\nx\n```\n", "page.md:1: say why"),
        ("\n<!-- example: skipp: x -->\n```python\nx\n```\n", "page.md:2: 'skipp' is none of"),
        ("<!-- example: continues -->\n\nText.\n```python\nx\n```\n", "page.md:3: a comment"),
    ],
)
def test_find_refuses_a_wrong_comment(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        examples(tmp_path, text)


async def test_run_fails_with_the_example_and_names_its_line(tmp_path: Path) -> None:
    (example,) = examples(tmp_path, "\n\n```python\na = 1\nawait missing\n```\n")
    with pytest.raises(NameError) as caught:
        await run(example)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].lineno == 5


async def test_run_goes_on_with_the_names_of_the_block_before(tmp_path: Path) -> None:
    text = "```python\na = 1\n```\n<!-- example: continues -->\n```python\nb = a + 1\n```\n"
    _, second = examples(tmp_path, text)
    assert (await run(second))["b"] == 2


async def test_run_goes_on_with_the_first_block_of_the_page(tmp_path: Path) -> None:
    text = (
        "```python\na = 1\n```\n```python\na = 2\n```\n"
        "<!-- example: continues: first -->\n```python\nb = a + 1\n```\n"
    )
    assert (await run(examples(tmp_path, text)[2]))["b"] == 2


async def test_run_keeps_what_the_block_prints_and_forgets_what_was_printed_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        "```python\nprint('old')\n```\n<!-- example: continues -->\n"
        "```python\nprint('one', 1)\nprint()\n```\n"
    )
    _, second = examples(tmp_path, text)
    assert (await run(second))["printed"] == ["one 1", ""]
    assert capsys.readouterr().out == "old\none 1\n\n"


async def test_run_cancels_a_block_again_that_takes_its_time(tmp_path: Path) -> None:
    (example,) = examples(
        tmp_path,
        "<!-- example: beside\nawait begun.wait()\n-->\n"
        "```python\nimport asyncio\nbegun = asyncio.Event()\ntry:\n    begun.set()\n"
        "    await asyncio.Event().wait()\nfinally:\n    await asyncio.Event().wait()\n```\n",
    )
    await run(example)


async def test_run_does_what_stands_before_and_after(tmp_path: Path) -> None:
    (example,) = examples(
        tmp_path,
        "<!-- example: before\nseen = ['before']\n-->\n<!-- example: after\n"
        "seen.append('after')\n-->\n```python\nseen.append('block')\n```\n",
    )
    assert (await run(example))["seen"] == ["before", "block", "after"]


async def test_run_awaits_what_the_example_gives_to_asyncio_run(tmp_path: Path) -> None:
    (example,) = examples(
        tmp_path,
        "```python\nimport asyncio\nseen = []\nasync def main():\n    await asyncio.sleep(0)\n"
        "    seen.append('main')\nif __name__ == '__main__':\n    asyncio.run(main())\n```\n",
    )
    assert (await run(example))["seen"] == ["main"]


async def test_run_cancels_an_endless_block_when_what_is_beside_it_has_ended(
    tmp_path: Path,
) -> None:
    (example,) = examples(
        tmp_path,
        "<!-- example: beside\nawait begun.wait()\n-->\n"
        "```python\nimport asyncio\nbegun = asyncio.Event()\nended = False\ntry:\n"
        "    begun.set()\n    await asyncio.Event().wait()\nfinally:\n    ended = True\n```\n",
    )
    assert (await run(example))["ended"]


@pytest.mark.parametrize(
    ("beside", "block"),
    [
        ("await asyncio.Event().wait()", "1 / 0"),
        ("await asyncio.sleep(0)\n1 / 0", "await asyncio.Event().wait()"),
    ],
)
async def test_run_fails_with_a_block_or_with_what_is_beside_it(
    tmp_path: Path, beside: str, block: str
) -> None:
    (example,) = examples(
        tmp_path,
        "<!-- example: before\nimport asyncio\n-->\n"
        f"<!-- example: beside\n{beside}\n-->\n```python\n{block}\n```\n",
    )
    with pytest.raises(ZeroDivisionError):
        await run(example)


PROJECT = """
<!-- example: before
# shop.py
def price(count):
    return 7 * count
-->
<!-- example: pytest: helper.py -->
```python
from shop import price
```

<!-- example: pytest: test_it.py -->
```python
from helper import price
def test_price():
    assert price(6) == 42
```
"""


def test_run_pytest_runs_tests_in_the_project_of_the_page(tmp_path: Path) -> None:
    helper, tests = examples(tmp_path, PROJECT)
    run_pytest(helper, tmp_path)
    assert not (tmp_path / "shop.py").exists()
    run_pytest(tests, tmp_path)


def test_run_pytest_fails_with_the_tests(tmp_path: Path) -> None:
    _, tests = examples(tmp_path, PROJECT.replace("42", "43"))
    with pytest.raises(AssertionError, match="1 failed"):
        run_pytest(tests, tmp_path)
