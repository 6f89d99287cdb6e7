"""What the web application and the worker say to each other."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Name = Annotated[str, Meta(min_length=1, max_length=100)]


class Order(Struct):
    drink: str
    name: Name


class Drink(Struct):
    drink: str
    name: str
    made_by: str


class Thanks(Struct):
    name: Name
