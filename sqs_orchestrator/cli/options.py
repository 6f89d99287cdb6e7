"""What many commands take: where SQS is, how to print, a body and its attributes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from cyclopts import Group, Parameter

from ..connection import Connection, connect

AWS_OPTIONS = Group("AWS", sort_key=90)
FLAG = Parameter(negative="")
"""A switch without its opposite."""


class Usage(Exception):
    """The command was called wrongly. Says how, on one line."""


class Failed(Exception):
    """The command failed. Says why, on one line."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AWS:
    """Where SQS is."""

    region: Annotated[str | None, Parameter(group=AWS_OPTIONS)] = None
    """The AWS region; else that of the environment or the profile."""
    profile: Annotated[str | None, Parameter(group=AWS_OPTIONS)] = None
    """A profile of the AWS configuration files."""
    endpoint_url: Annotated[str | None, Parameter(group=AWS_OPTIONS)] = None
    """Another endpoint than AWS's own, such as a server on this machine."""

    def connect(self) -> Connection:
        """A connection, to be entered."""
        return connect(
            region_name=self.region, profile_name=self.profile, endpoint_url=self.endpoint_url
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common(AWS):
    """Where SQS is, and how to print."""

    json: Annotated[bool, FLAG] = False
    """Print JSON, for programs."""


DEFAULTS = Common()

Attributes: TypeAlias = Annotated[
    list[str] | None, Parameter(name=["--attribute", "-a"], negative="")
]
Body: TypeAlias = Annotated[str | None, Parameter(allow_leading_hyphen=False)]
File: TypeAlias = Annotated[Path | None, Parameter(allow_leading_hyphen=True)]
Positive: TypeAlias = Annotated[int, Parameter(validator=lambda _, n: _check_positive(n))]
Port: TypeAlias = Annotated[int, Parameter(validator=lambda _, n: _check_port(n))]
Seconds: TypeAlias = Annotated[float, Parameter(validator=lambda _, n: _check_positive(n))]


def _check_positive(number: float | None) -> None:
    if number is not None and not number > 0:
        raise ValueError("must be greater than 0")


def _check_port(number: int | None) -> None:
    if number is not None and not 0 <= number <= 65535:
        raise ValueError("a port is from 0 to 65535")


def body_of(body: str | None, file: Path | None) -> str:
    """The text of a body: the argument, or what the file or the standard input has."""
    if body is not None:
        if file is not None:
            raise Usage("pass either BODY or --file")
        return body
    if file is not None and str(file) != "-":
        data = file.read_bytes()
    else:
        if file is None and sys.stdin.isatty():
            raise Usage("no body: pass BODY or --file, or pipe it into standard input")
        data = sys.stdin.buffer.read()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Usage(f"the body is not UTF-8 text: {error}") from None


def attributes_of(given: Sequence[str] | None) -> dict[str, Any] | None:
    """`name=text` and `name:=number` as attributes."""
    attributes: dict[str, Any] = {}
    for each in given or ():
        name, equals, text = each.partition("=")
        if not equals or not name.rstrip(":"):
            raise Usage(f"an attribute is name=text or name:=number, not {each!r}")
        if not name.endswith(":"):
            attributes[name] = text
            continue
        try:
            number = json.loads(text)
        except ValueError:
            number = None
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise Usage(f"{text!r} in {each!r} is no number")
        attributes[name[:-1]] = number
    return attributes or None
