"""The page of the examples, in a real browser. `nox -s examples` brings what drives it."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from .conftest import HANGS, Street

if TYPE_CHECKING:
    from playwright import async_api
else:
    async_api = pytest.importorskip(
        "playwright.async_api", reason="Playwright is not here: `nox -s examples` brings it"
    )

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="there is no Chromium: apt-get install chromium, or name one by CHROMIUM=/path/to/it",
)

WIDTHS = [1280, 390]


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[async_api.Browser]:
    # Nothing of it but the page may reach for the network.
    quiet = ["background-networking", "component-update", "sync"]
    options = ["--disable-gpu", "--disable-quic", *(f"--disable-{each}" for each in quiet)]
    async with async_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=options, chromium_sandbox=False, timeout=1000 * HANGS
        )
        yield browser
        await browser.close()


async def opened(browser: async_api.Browser, street: Street, **options: Any) -> async_api.Page:
    """The page of a bar, where whatever goes wrong in it fails the test."""
    context = await browser.new_context(**options)
    page = await context.new_page()
    page.set_default_timeout(1000 * HANGS)
    await page.goto(street.bar("fastapi").url)
    return page


async def test_person_orders_and_sees_what_comes_of_it(
    browser: async_api.Browser, street: Street
) -> None:
    page = await opened(browser, street)
    problems: list[object] = []
    page.on("pageerror", lambda error: problems.append(error))
    output = page.get_by_role("status")

    async def order(drink: str, status: str) -> str:
        await page.get_by_role("radio", name=drink).check()
        await page.get_by_role("button", name="Order").click()
        await output.get_by_text(status).wait_for()
        return await output.inner_text()

    await page.get_by_label("For whom?").fill("Grace")
    assert '"name": "Grace"' in await order("Espresso", "200 OK")
    assert "the cake is sold out" in await order("Cake", "409 Conflict")
    assert "handler_error" in await order("Cocoa", "502 Bad Gateway")
    await page.get_by_role("button", name="Just say thanks").click()
    await output.get_by_text("202 Accepted").wait_for()
    await street.bar("fastapi").worker.say("thanks from Grace")
    # Enter in the field is the first button.
    await page.get_by_role("radio", name="Espresso").check()
    await page.get_by_label("For whom?").press("Enter")
    await output.get_by_text("200 OK").wait_for()
    assert problems == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_page_fits_and_has_its_colours(
    browser: async_api.Browser, street: Street, width: int, scheme: str
) -> None:
    viewport = {"width": width, "height": 800}
    page = await opened(browser, street, viewport=viewport, color_scheme=scheme)
    # The widest that it shows.
    await page.get_by_label("For whom?").fill("W" * 100)
    await page.get_by_role("button", name="Order").click()
    await page.get_by_text("200 OK").wait_for()
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    ink = await page.evaluate("getComputedStyle(document.body).color")
    assert ink == {"light": "rgb(0, 0, 0)", "dark": "rgb(255, 255, 255)"}[scheme]
    if directory := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=f"{directory}/{scheme}-{width}.png", full_page=True)


async def test_page_says_so_when_nobody_answers(browser: async_api.Browser, street: Street) -> None:
    page = await opened(browser, street)
    await page.context.set_offline(True)
    await page.get_by_role("button", name="Order").click()
    await page.get_by_text("No answer").wait_for()
