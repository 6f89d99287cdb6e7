"""Looks at the built documentation with a browser: `nox -s site`.

Every page is opened as on a desk and as on a telephone, in light and in dark. What makes it hard
to read, leads nowhere or asks another machine for something is printed, and is a failure.
"""

from __future__ import annotations

import argparse
import functools
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote, urldefrag, urlsplit

from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Request,
    ViewportSize,
    sync_playwright,
)

WIDTHS: Final = (1280, 390)
Scheme = Literal["light", "dark"]
SCHEMES: Final[tuple[Scheme, ...]] = ("light", "dark")

UNDER: Final = "/en/latest/"
"""Where it is served, as at Read the Docs: a link from the root would lead elsewhere."""

# A browser that asks nobody for anything but the pages.
OPTIONS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# The layout, and then what the page's own script makes of it.
SETTLED: Final = "() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))"

LOOK: Final = Path(__file__).with_name("look.js").read_text("utf-8")
DRAWING: Final = Path(__file__).with_name("drawing.js").read_text("utf-8")


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """Serve *directory*; yields its URL."""

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            below = path.removeprefix(UNDER) if path.startswith(UNDER) else "no/such/place"
            return super().translate_path("/" + below)

        def log_message(self, *arguments: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *arguments: Any) -> None:
            """A page that was closed does not wait for the rest."""

    server = Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(directory)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{UNDER}"
    finally:
        server.shutdown()
        server.server_close()


class Visit:
    """One walk through all pages, and what was found."""

    def __init__(self, browser: Browser, base: str, directory: Path, pictures: Path | None) -> None:
        self.problems: list[str] = []
        self._browser = browser
        self._base = base
        self._directory = directory
        self._pictures = pictures
        self._ids: dict[str, set[str]] = {}
        self._links: dict[str, set[str]] = {}
        self._drawings: set[tuple[str, int, int, Scheme]] = set()

    def walk(self, names: Sequence[str]) -> None:
        """Look at the pages with these *names*, and follow their links."""
        for scheme in SCHEMES:
            for name in names:
                self._open(name, scheme)
        for drawing in sorted(self._drawings):
            self._look_at_drawing(*drawing)
        for page, links in self._links.items():
            for link in sorted(links):
                self._follow(page, link)

    def _open(self, name: str, scheme: Scheme) -> None:
        url = self._base + name
        where = f"{name or 'index'}, {scheme}"

        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.problems.append(f"{where}: {message.text}")

        def asked(request: Request) -> None:
            if not request.url.startswith((self._base, "data:", "blob:")):
                self.problems.append(f"{where}: asks {request.url}")

        page = self._browser.new_page(color_scheme=scheme, viewport=_viewport(WIDTHS[0]))
        page.on("console", said)
        page.on("pageerror", lambda error: self.problems.append(f"{where}: {error}"))
        page.on("request", asked)
        page.goto(url)
        for width in WIDTHS:
            page.set_viewport_size(_viewport(width))
            page.evaluate(SETTLED)
            found = page.evaluate(LOOK)
            self.problems += [f"{where}, {width} px: {each}" for each in found["problems"]]
            for each in found["drawings"]:
                self._drawings.add((each["url"], each["width"], each["height"], scheme))
            self._ids[url], self._links[url] = set(found["ids"]), set(found["links"])
            if self._pictures is not None:
                file = f"{name.strip('/').replace('/', '_') or 'index'}-{width}-{scheme}.png"
                page.screenshot(path=self._pictures / file, full_page=True)
        page.close()

    def _look_at_drawing(self, url: str, width: int, height: int, scheme: Scheme) -> None:
        page = self._browser.new_page(color_scheme=scheme, viewport=_viewport(width, height))
        page.goto(url)
        name = f"{url.removeprefix(self._base)}, {width} px, {scheme}"
        self.problems += [f"{name}: {each}" for each in page.evaluate(DRAWING)]
        page.close()

    def _follow(self, page: str, link: str) -> None:
        address, fragment = urldefrag(link)
        if urlsplit(link).hostname != urlsplit(self._base).hostname:
            return
        known = self._ids.get(address.removesuffix("index.html"))
        name = page.removeprefix(self._base) or "index"
        if known is None:
            # Files beside the pages, such as programs to download.
            if not (self._directory / address.removeprefix(self._base)).is_file():
                self.problems.append(f"{name}: a link that leads nowhere: {link}")
        elif fragment and unquote(fragment) not in known:
            self.problems.append(f"{name}: a link to a place that is not there: {link}")


def _viewport(width: int, height: int = 900) -> ViewportSize:
    return {"width": width, "height": height}


def main(arguments: Sequence[str]) -> int:
    """Look, and say what was seen; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.site", description=__doc__)
    parser.add_argument("directory", type=Path, help="where the pages were built")
    parser.add_argument("--browser", required=True, metavar="PATH", help="Chromium, or Chrome")
    parser.add_argument("--pictures", type=Path, metavar="DIRECTORY", help="keep a picture of each")
    parser.add_argument("--only", default="", metavar="TEXT", help="pages with this in the name")
    options = parser.parse_args(arguments)
    if options.pictures is not None:
        options.pictures.mkdir(parents=True, exist_ok=True)
    names = sorted(
        str(path.relative_to(options.directory)).removesuffix("index.html")
        for path in options.directory.rglob("*.html")
    )
    with serving(options.directory) as base, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=OPTIONS)
        visit = Visit(browser, base, options.directory, options.pictures)
        visit.walk([name for name in names if options.only in name])
        browser.close()
    problems = visit.problems
    if options.only:
        problems = [each for each in problems if "leads nowhere" not in each]
    for problem in problems:
        print(problem)
    print(f"{len(names)} pages, {len(WIDTHS)} widths, light and dark: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
