"""What the web application and the worker say to each other."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Order(BaseModel):
    drink: str
    name: str = Field(min_length=1, max_length=100)


class Drink(BaseModel):
    drink: str
    name: str
    made_by: str


class Thanks(BaseModel):
    name: str = Field(min_length=1, max_length=100)
