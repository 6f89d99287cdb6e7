"""The conformance vectors of the wire format, which the documentation publishes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

PATH: Final = Path(__file__).resolve().parent.parent / "docs" / "reference" / "wire-vectors.json"

VECTORS: Final[dict[str, Any]] = json.loads(PATH.read_text("utf-8"))


def vectors(kind: str) -> pytest.MarkDecorator:
    """Runs a test with each vector of that kind."""
    return pytest.mark.parametrize(
        "vector", [pytest.param(vector, id=vector["name"]) for vector in VECTORS[kind]]
    )


def unpacked(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Message attributes, with bytes where JSON has base64."""
    return {
        name: {
            field: base64.b64decode(content) if field == "BinaryValue" else content
            for field, content in value.items()
        }
        for name, value in attributes.items()
    }
