"""What the JSON of a queue's policy means, however it is written.

SQS does not return the text that it was given. It writes an account id as the ARN of the
account's root, a list with one item as that item, a number as text, and the keys in another
order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

_ROOT = re.compile(r"arn:[^:]+:iam::([0-9]{12}):root")
_DEFAULT_VERSION: Final = "2008-10-17"
"""The version of the policy language where a policy names none (IAM User Guide)."""


def meaning(policy: str) -> Any:
    """*policy* in a form that is equal for policies that mean the same. It knows access policies
    and those of dead-letter queues. What is not JSON stays text."""
    try:
        value = json.loads(policy)
        if isinstance(value, dict) and "Statement" in value:
            statements = map(_statement, _items(value["Statement"]))
            value = {"Version": _DEFAULT_VERSION, **value, "Statement": list(statements)}
        return _as_sets(value)
    except (ValueError, RecursionError):
        return policy


def _as_sets(value: Any) -> frozenset[Any]:
    """*value* without what makes no difference: a policy's lists have no order, one item is the
    same as a list of one, and a number or a boolean is the same as its text."""
    if isinstance(value, dict):
        return frozenset({frozenset((key, _as_sets(item)) for key, item in value.items())})
    if isinstance(value, list):
        return frozenset().union(*map(_as_sets, value))
    if isinstance(value, bool):
        return frozenset({"true" if value else "false"})
    if isinstance(value, (int, float)):
        return frozenset({str(int(value) if value == value // 1 else value)})
    return frozenset({value})


def _statement(statement: Any) -> Any:
    """A statement of an access policy. What IAM takes for the same gets the same form."""
    if not isinstance(statement, dict):
        return statement
    return {key: _ELEMENTS.get(key, _same)(value) for key, value in statement.items()}


def _same(value: Any) -> Any:
    return value


def _principal(principal: Any) -> Any:
    if isinstance(principal, str):
        principal = {"AWS": principal}  # "*" alone, which means everybody
    if isinstance(principal, dict) and "AWS" in principal:
        accounts = [_account(item) for item in _items(principal["AWS"])]
        return {**principal, "AWS": accounts}
    return principal


def _account(principal: Any) -> Any:
    root = _ROOT.fullmatch(principal) if isinstance(principal, str) else None
    return principal if root is None else root[1]


def _actions(actions: Any) -> Any:
    return [_lower(action) for action in _items(actions)]


def _conditions(conditions: Any) -> Any:
    """Case makes no difference in the names of keys, nor in the values of a `Bool`."""
    if not isinstance(conditions, dict):
        return conditions
    return {
        operator: {
            key.lower(): [_lower(item) for item in _items(wanted)] if "Bool" in operator else wanted
            for key, wanted in keys.items()
        }
        if isinstance(keys, dict)
        else keys
        for operator, keys in conditions.items()
    }


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_ELEMENTS: Final[dict[str, Callable[[Any], Any]]] = {
    "Principal": _principal,
    "NotPrincipal": _principal,
    "Action": _actions,
    "NotAction": _actions,
    "Condition": _conditions,
}
