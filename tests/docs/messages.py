"""Raw calls for a page, as they went over HTTP.

A page has them in JSON blocks, each after a comment with its name:

    <!-- captured: request -->

The tests make each of them anew, and compare. With `SQS_PAGES=write` in the environment they write
the page instead. What differs from run to run is replaced first: hosts, accounts, random ids and
times.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Final

from tests.faults.proxy import Answer, Call, Fault, FaultProxy

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "reference" / "wire-format.md"

_HEX: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HOST: Final = re.compile(r'https?://[^/"]+/[0-9]+/')
_TIME: Final = re.compile(r'(?<=")1[0-9]{12}(?=")')
_SECONDS: Final = re.compile(r'(?<=")1[0-9]{9}(?=")')
_TIME_TO_LIVE: Final = re.compile(r'("RequestTimeToLive": \{[^}]*"StringValue": ")[0-9]+')

_SHORT: Final = 60

_IDS: Final = ("0f8fad5bd9cb469fa16570867728950e", "7c9e6679f9954f1b8e2d6b0f3f3a2c11")
_UUIDS: Final = ("7a2d651a-4d80-4619-a910-5ff938313cc8", "9d3e0c9e-58c7-4a55-8d4c-2f0d5f3c2b1a")


class Recorder(FaultProxy):
    """A proxy that keeps what passes."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.seen: list[Call] = []

    async def _meet(self, call: Call, faults: set[Fault]) -> Answer | None:
        self.seen.append(call)
        return await super()._meet(call, faults)

    def first(self, operation: str, queue: str = "") -> dict[str, Any]:
        """The parameters of the first call of *operation* to a queue whose name begins so."""
        return next(
            call.parameters
            for call in self.seen
            if call.operation == operation and call.queue.rpartition("/")[2].startswith(queue)
        )


def shown(parameters: dict[str, Any]) -> str:
    """The parameters of a call as a page shows them: what differs from run to run is replaced."""
    text = _HOST.sub(
        "https://sqs.eu-west-1.amazonaws.com/123456789012/",
        json.dumps(parameters, ensure_ascii=False),
    )
    for form, examples in ((_HEX, _IDS), (_UUID, _UUIDS)):
        found = list(dict.fromkeys(form.findall(text)))
        assert len(found) <= len(examples), found
        for each, example in zip(found, examples, strict=False):
            text = text.replace(each, example)
    text = _TIME.sub("1767225600000", text)
    text = _SECONDS.sub("1767225600", text)
    # What is left of a timeout depends on how long the call took to leave.
    text = _TIME_TO_LIVE.sub(r"\g<1>5000", text)
    return _laid_out(json.loads(text))


def _laid_out(value: Any, indent: str = "") -> str:
    """JSON with what is short on one line."""
    if isinstance(value, dict) and "DataType" in value:
        # Not every program writes it first.
        value = dict(sorted(value.items(), key=lambda item: item[0] != "DataType"))
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or (indent and len(line) <= _SHORT):
        return line
    inner = f"{indent}  "
    if isinstance(value, list):
        items = [_laid_out(each, inner) for each in value]
    else:
        items = [f"{json.dumps(name)}: {_laid_out(each, inner)}" for name, each in value.items()]
    first, last = line[0], line[-1]
    return f"{first}\n{inner}" + f",\n{inner}".join(items) + f"\n{indent}{last}"


def check(name: str, parameters: dict[str, Any]) -> None:
    """Compare a block of the page with what a call was; or write it."""
    page = PAGE.read_text("utf-8")
    block = re.compile(rf"(<!-- captured: {name} -->\n```json\n)(.*?)(```\n)", re.DOTALL)
    found = block.search(page)
    assert found is not None, f"the page has no block {name!r}"
    made = f"{shown(parameters)}\n"
    if os.environ.get("SQS_PAGES") == "write":
        new = found[1] + made + found[3]
        PAGE.write_text(page[: found.start()] + new + page[found.end() :], "utf-8")
    else:
        assert found[2] == made, "SQS_PAGES=write writes the page anew"
