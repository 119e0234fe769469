"""Draws the README's pictures of pages from what ``policyscope demo`` left: needs Chromium.

python3 -m uv run policyscope demo && python3 -m uv run python scripts/pictures.py outputs/demo docs
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import FloatRect, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
WIDTH, HEIGHT = 1100, 760
MOVING_WIDTH = 800
STRIDE = 2  # frames of the episode for one of the moving picture
MOST_BYTES = 2_000_000


def opened(browser: Any, page: Path, theme: str, scale: float) -> Page:
    """A report, its player's pictures decoded and the player at the top."""
    context = browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=theme, device_scale_factor=scale
    )
    shown: Page = context.new_page()
    shown.goto(page.resolve().as_uri())
    shown.locator("[data-player]").scroll_into_view_if_needed()
    shown.wait_for_function("page.player.arrays.sheets[0].every((s) => s.complete)")
    for _ in range(2):  # what is drawn when it comes into view moves what is below
        shown.evaluate(
            "scrollBy(0, document.querySelector('[data-player]').getBoundingClientRect().top - 60)"
        )
        shown.wait_for_timeout(800)
    return shown


def moving(page: Page) -> Iterator[Image.Image]:
    """The player, frame after frame of its episode."""
    box = page.locator("[data-player]").bounding_box()
    below = page.locator("[data-player] .transport").bounding_box()
    assert box is not None, "it is in view"
    assert below is not None, "it sticks to the window's lower edge"
    high = below["y"] + below["height"] - box["y"]
    clip = FloatRect(x=box["x"], y=box["y"], width=box["width"], height=high)
    for _ in range(0, page.evaluate("page.player.episode.n_frames"), STRIDE):
        picture = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
        high = round(picture.height * MOVING_WIDTH / picture.width)
        yield picture.resize((MOVING_WIDTH, high), Image.Resampling.LANCZOS)
        for _ in range(STRIDE):
            page.keyboard.press("ArrowRight")


def write_moving(frames: list[Image.Image], path: Path) -> None:
    """An animation that every index page and README shows: GIF, in one palette."""
    palette = frames[len(frames) // 2].quantize(200, dither=Image.Dither.NONE)
    drawn = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    lasts = [100 * STRIDE] * (len(drawn) - 1) + [2500]
    drawn[0].save(path, save_all=True, append_images=drawn[1:], duration=lasts, loop=0)
    size = path.stat().st_size
    print(f"{path}: {len(drawn)} frames, {size / 1e6:.2f} MB")
    assert size < MOST_BYTES, "too large for a README"


def main() -> None:
    """Draw them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="--output_dir of the demo")
    parser.add_argument("docs", type=Path)
    known = parser.parse_args()
    games = known.demo.with_name(f"{known.demo.name}-games") / "report.html"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        write_moving(list(moving(opened(browser, games, "light", 1))), known.docs / "player.gif")
        page = opened(browser, known.demo / "report.html", "light", 1.5)
        page.screenshot(path=known.docs / "report-player.png")
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(500)
        page.screenshot(path=known.docs / "report-verdict.png")
        page.evaluate("document.querySelector('#error').scrollIntoView()")
        page.wait_for_timeout(800)
        page.screenshot(path=known.docs / "report-error.png")
        browser.close()


if __name__ == "__main__":
    main()
