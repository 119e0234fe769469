"""report.html in a real browser: from a file, without a network, at three widths."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import fakes
from policyscope.commands.evaluate import evaluate
from policyscope.commands.report import ReportConfig, render, render_together
from policyscope.config import PageConfig
from policyscope.runs.directory import RunDirectory
from policyscope.views.words import number, ratio

pytestmark = pytest.mark.slow

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS = (390, 1280, 1920)
EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
SMALL, LARGE = 40, 42


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three samples a frame on a dataset whose texts attack the page."""
    folder = tmp_path_factory.mktemp("page")
    root = fakes.write_dataset(
        folder / "d",
        lengths=(23, SMALL, 31, LARGE, 20, 28),
        tasks=(EVIL, "</script><b>hold still</b>"),
        names=[EVIL, "y"],
    )
    policy = fakes.write_policy(folder / "p", root, "smolvla")
    out = folder / "o"
    config = fakes.config_for(root, policy, out, samples=3, latency_calls=8)
    evaluate(config)
    render(ReportConfig(str(out)))
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no {CHROMIUM} on this machine (.ci/run installs it)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


class Opened:
    """A page with everything that went wrong in it."""

    def __init__(self, browser: Any, path: Path, width: int, theme: str = "light") -> None:
        size = {"width": width, "height": 844 if width < 600 else 900}
        self.context = browser.new_context(viewport=size, color_scheme=theme, offline=True)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._request)
        self.page.goto(path.resolve().as_uri())

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def _request(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.wrong.append(f"request: {request.url[:80]}")

    def show_everything(self) -> None:
        for chart in self.page.locator("[data-chart]").all():
            chart.scroll_into_view_if_needed()
            chart.locator("svg, .squares").first.wait_for()

    def until(self, condition: str) -> None:
        """Wait for a condition (the page's policy forbids Playwright's own, which needs eval)."""
        for _ in range(200):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never: {condition}")

    def frame(self) -> int:
        return int(self.page.locator("[data-scrub]").input_value())

    def picture(self) -> str:
        return str(
            self.page.evaluate("document.querySelector('[data-cameras] canvas').toDataURL()")
        )

    def fan(self) -> list[str]:
        paths = self.page.locator("[data-actions] .cell").first.locator("[data-fan]").all()
        return [str(path.get_attribute("d")) for path in paths]


@pytest.fixture
def opened(request: pytest.FixtureRequest, browser: Any, run: Path) -> Iterator[Opened]:
    found = Opened(browser, run / "report.html", request.param)
    yield found
    found.context.close()
    assert found.wrong == []


at_all_widths = pytest.mark.parametrize("opened", WIDTHS, indirect=True)


@at_all_widths
def test_it_opens_alone_and_nothing_sticks_out(opened: Opened) -> None:
    opened.show_everything()
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert loaded < 2000
    assert page.locator("h1").inner_text().startswith(("Better", "Worse", "Not clearly"))


@at_all_widths
def test_strangers_texts_are_text(opened: Opened) -> None:
    opened.show_everything()
    assert opened.page.title() != "owned"
    assert EVIL in opened.page.locator("#provenance").inner_text()
    assert "<script>document" in opened.page.locator("[data-task]").inner_text() + str(
        opened.page.locator("[data-actions] h4").first.inner_text()
    )
    assert opened.page.locator("img[src='x']").count() == 0


@at_all_widths
def test_the_player_plays_scrubs_and_steps(opened: Opened) -> None:
    page = opened.page
    player = page.locator("[data-player]")
    player.scroll_into_view_if_needed()
    opened.until("page.player.arrays.sheets[0].every((s) => s.complete)")
    page.evaluate("page.player.seek(0)")
    before, fan = opened.picture(), opened.fan()
    assert len(fan) == 3  # one path a sample
    page.get_by_role("button", name="one frame on").click()
    assert opened.frame() == 1
    assert opened.picture() != before
    assert opened.fan() != fan
    page.get_by_role("button", name="one frame back").click()
    assert opened.frame() == 0
    assert opened.picture() == before
    player.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert opened.frame() == 11
    page.keyboard.press("End")
    n = page.evaluate("page.player.episode.n_frames")
    assert opened.frame() == n - 1
    page.keyboard.press("Home")
    assert opened.frame() == 0
    page.locator("[data-scrub]").fill("7")
    assert opened.frame() == 7
    assert page.locator("[data-clock]").inner_text() == f"frame 8 of {n}, 0.7 s"
    page.locator("[data-speed]").select_option("4")
    page.get_by_role("button", name="play", exact=True).click()
    opened.until("page.player.frame >= 12")
    page.get_by_role("button", name="pause").click()
    stopped = opened.frame()
    assert 12 <= stopped < n
    page.wait_for_timeout(200)
    assert opened.frame() == stopped
    page.keyboard.press("Escape")
    player.focus()
    page.keyboard.press("Space")
    opened.until(f"page.player.frame > {stopped} || page.player.frame === {n - 1}")


@at_all_widths
def test_keys_are_the_players_while_it_is_in_view(opened: Opened) -> None:
    page = opened.page
    last = page.evaluate("page.player.episode.n_frames") - 1
    page.keyboard.press("ArrowRight")  # at the verdict: nobody sees the player
    assert opened.frame() == 0
    page.locator("[data-actions]").scroll_into_view_if_needed()
    page.get_by_role("button", name="one frame on").click()
    page.keyboard.press("ArrowRight")
    assert opened.frame() == 2
    scrolled = page.evaluate("scrollY")
    page.keyboard.press("End")
    page.wait_for_timeout(100)
    assert opened.frame() == last
    assert page.evaluate("scrollY") == scrolled
    page.keyboard.press("Home")
    page.keyboard.press("Space")  # the button has the focus, and is not pressed again
    opened.until("page.player.frame >= 2")
    page.keyboard.press("Space")
    assert page.evaluate("page.player.timer") is None
    before = page.evaluate("page.player.episode.index")
    page.keyboard.press("n")
    assert page.evaluate("page.player.episode.index") != before
    page.locator("[data-speed]").focus()  # a field keeps its own keys
    page.keyboard.press("ArrowRight")
    assert opened.frame() == 0
    strip = page.locator("[data-errors]")
    assert "error of the chunk of each frame" in page.locator("[data-errors-label]").inner_text()
    box = strip.bounding_box()
    assert box is not None
    strip.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    n = page.evaluate("page.player.episode.n_frames")
    assert abs(opened.frame() - (n - 1) / 2) <= 1
    plot = page.locator("[data-actions] svg").last
    box = plot.bounding_box()
    assert box is not None
    plot.click(position={"x": box["width"] - 11, "y": box["height"] / 2})
    assert opened.frame() >= n - 2


@at_all_widths
def test_the_bar_of_the_player_covers_no_button(opened: Opened) -> None:
    page = opened.page
    for share in (0.2, 0.35, 0.5):  # of the window, that the player has come in from below
        page.evaluate(
            "(share) => scrollBy(0, document.querySelector('[data-player]')"
            ".getBoundingClientRect().top - innerHeight * (1 - share))",
            share,
        )
        page.wait_for_timeout(400)
        covered = page.evaluate(
            "() => { const bar = document.querySelector('.transport').getBoundingClientRect();"
            "return [...document.querySelectorAll('[data-preset], [data-episode]')]"
            ".some((b) => b.getBoundingClientRect().bottom > bar.top); }"
        )
        assert not covered


@at_all_widths
def test_units_switch_in_place(opened: Opened, run: Path) -> None:
    page = opened.page
    opened.show_everything()
    record = json.loads((run / "run.json").read_text())
    first = record["by_horizon"][0]
    wanted = {
        "native": first["mae"],
        "normalized": first["nmae"],
        "relative": first["mae"] / first["hold_state_mae"],
    }
    seen = set()
    for view, value in wanted.items():
        page.locator(f"input[name=view][value={view}]").check(force=True)
        chart = page.locator("[data-chart=horizon]")
        chart.scroll_into_view_if_needed()
        page.wait_for_timeout(500)
        label = str(chart.locator("svg[role=img]").first.get_attribute("aria-description"))
        shown = float(re.search(r": ([\d.e+-]+) at step 1,", label)[1])  # type: ignore[index]
        assert shown == pytest.approx(value, rel=6e-3)
        seen.add(page.locator("[data-actions] h4").last.inner_text())
        # the cards beside the verdict follow, and say their unit, as do the tables
        metric = {"native": "mae", "normalized": "nmae", "relative": "relative"}[view]
        unit = {"native": "px", "normalized": "std", "relative": "× hold state"}[view]
        card = page.locator("[data-tile=executed]").inner_text()
        assert card.startswith(f"{number(record['summary']['executed'][metric]['value'])} {unit}")
        page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
        heads = page.locator("[data-error-head]").all_inner_texts()
        assert all(head.startswith(f"MAE in {unit}") for head in heads)
        assert len(heads) >= 3
        cell = page.locator("table[data-rows=horizon] tbody tr").first.locator("td").nth(1)
        assert cell.inner_text().startswith(number(value))
    assert seen == {"y (px)", "y (std)"}


def _worst(run: Path, step: int | None = None, dim: int | None = None) -> tuple[int, int]:
    """Episode and frame of the largest error, from the stored predictions."""
    found = []
    for stored in RunDirectory(run).stored():
        error = np.mean([np.abs(p.values - stored.target.values) for p in stored.predicted], axis=0)
        error[stored.is_pad] = np.nan
        kept = error if step is None else error[:, [step - 1]]
        kept = kept if dim is None else kept[..., [dim]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # steps beyond the end have no mean
            score = np.nanmean(kept, axis=(1, 2))
        found.append((float(np.nanmax(score)), stored.index, int(np.nanargmax(score))))
    return max(found)[1:]


@at_all_widths
def test_rows_sort_and_lead_to_their_worst_frame(opened: Opened, run: Path) -> None:
    page = opened.page
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")

    def shown() -> tuple[int, int]:
        return page.evaluate("page.player.episode.index"), opened.frame()

    def row(kind: str, key: int) -> Any:
        return page.locator(f"table[data-rows={kind}] tr[data-key='{key}'] .lead")

    row("horizon", 4).click()
    assert shown() == _worst(run, step=4)
    assert "step 4" in page.locator("[data-why]").inner_text()
    row("dims", 1).click()
    assert shown() == _worst(run, dim=1)
    assert page.evaluate("document.activeElement.matches('[data-player]')")
    page.keyboard.press("ArrowLeft")  # the keys are there at once
    assert shown() == (_worst(run, dim=1)[0], max(_worst(run, dim=1)[1] - 1, 0))
    row("tasks", 0).click()
    assert page.evaluate("page.player.episode.task.includes('onerror')")
    table = pq.read_table(run / "by_episode.parquet").to_pylist()
    errors = {r["episode_index"]: r["mae"] for r in table if r["scope"] == "chunk"}
    head = page.locator("table[data-rows=episodes] thead .sort", has_text="MAE")
    for press in (
        sorted(errors, key=lambda e: -errors[e]),
        sorted(errors, key=lambda e: errors[e]),
    ):
        head.click()
        rows = page.locator("table[data-rows=episodes] tbody tr").all()
        assert [int(r.get_attribute("data-key") or -1) for r in rows] == press
    assert head.locator("..").get_attribute("aria-sort") == "ascending"


@pytest.mark.parametrize("opened", [1280], indirect=True)
def test_charts_lead_to_frames(opened: Opened, run: Path) -> None:
    page = opened.page
    opened.show_everything()
    cell = page.locator("[data-chart=density] svg[role=img]").first
    cell.scroll_into_view_if_needed()
    plane = page.evaluate("data.density[0]")
    i, j, _ = max(plane["cells"], key=lambda c: c[2])
    at = page.evaluate(
        "([i, j]) => { const svg = document.querySelector('[data-chart=density] svg[role=img]');"
        "const p = data.density[0];"
        "const v = (k) => p.low + (k + 0.5) / p.n * (p.high - p.low);"
        "return [svg.scale('x').apply(v(i)), svg.scale('y').apply(v(j))]; }",
        [i, j],
    )
    cell.click(position={"x": at[0], "y": at[1]})
    frame, episode = opened.frame(), page.evaluate("page.player.episode.index")
    stored = next(e for e in RunDirectory(run).stored() if e.index == episode)
    edges = plane["low"], (plane["high"] - plane["low"]) / plane["n"]
    places = [
        np.floor((values[frame, ~stored.is_pad[frame], 0] - edges[0]) / edges[1])
        for values in (stored.target.values, *(p.values for p in stored.predicted))
    ]
    assert any(((places[0] == i) & (p == j)).any() for p in places[1:])
    assert "predicted near" in page.locator("[data-why]").inner_text()
    chart = page.locator("[data-chart=horizon] svg[role=img]").last
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    chart.hover(position={"x": box["width"] - 15, "y": 100})
    assert "step 6" in page.locator(".readout").inner_text()
    chart.click(position={"x": box["width"] - 15, "y": 100})
    assert (page.evaluate("page.player.episode.index"), opened.frame()) == _worst(run, step=6)


def test_many_dims_sort_and_filter(browser: Any, tmp_path: Path) -> None:
    names = [f"kLeftHandIndexFinger{i:02d}" for i in range(14)]
    root = fakes.write_dataset(tmp_path / "d", dim=14, state_dim=14, names=names)
    evaluate(fakes.config_for(root, "hold_state", tmp_path / "o"))
    render(ReportConfig(str(tmp_path / "o")))
    opened = Opened(browser, tmp_path / "o" / "report.html", 390)
    page = opened.page
    opened.show_everything()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    views = page.locator("[name=view]").evaluate_all("(all) => all.map((one) => one.value)")
    assert views == ["native", "normalized"]  # hold state is not relative to itself

    errors = page.evaluate("data.dims.map((row) => row.mae)")
    worst_first = sorted(range(14), key=lambda d: -errors[d])
    assert page.locator("[data-sort-dims]").input_value() == "error"
    drawn = page.locator("[data-chart=dims] svg[role=img]").last
    for order, wanted in (("error", worst_first), ("index", list(range(14)))):
        page.locator("[data-sort-dims]").select_option(order)
        drawn.scroll_into_view_if_needed()
        page.wait_for_timeout(500)
        described = str(drawn.get_attribute("aria-description"))
        assert [int(d) for d in re.findall(r"Finger(\d\d)", described)] == wanted
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    page.locator("details:has([data-rows=dims]) input[type=search]").fill("finger07")
    assert page.locator("table[data-rows=dims] tbody tr:visible").count() == 1
    assert _serious(opened) == []
    opened.context.close()
    assert opened.wrong == []


@pytest.mark.parametrize("opened", [1280], indirect=True)
def test_scripts_and_tables_round_alike(opened: Opened) -> None:
    for value in (0, -0.0041, 0.996, 9.996, 99.96, -134.02, -85.15, -3.2, 123456, 0.00009, 0.25):
        shown = opened.page.evaluate(f"[number({value}), ratio({value})]")
        minus = [text.replace("−", "-") for text in shown]
        assert [re.sub(r"e([+-])(\d)$", r"e\g<1>0\2", text) for text in minus] == [
            number(value),
            ratio(value),
        ]


@at_all_widths
def test_the_strip_sorts_and_opens_the_worst(opened: Opened, run: Path) -> None:
    page = opened.page
    table = pq.read_table(run / "by_episode.parquet").to_pylist()
    rows = [r for r in table if r["scope"] == "chunk"]

    def order() -> list[int]:
        return [
            int(b.get_attribute("data-index")) for b in page.locator("[data-strip] button").all()
        ]

    worst_first = [r["episode_index"] for r in sorted(rows, key=lambda r: -r["mae"])]
    assert order() == worst_first
    page.locator("[data-sort]").select_option("length")
    longest = sorted(rows, key=lambda r: -r["n_frames"])
    assert order() == [r["episode_index"] for r in longest]
    assert order()[:2] == [3, 1]
    page.locator("[data-sort]").select_option("index")
    assert order() == sorted(worst_first)
    page.locator("[data-preset=best]").click()
    assert page.evaluate("page.player.episode.index") == worst_first[-1]
    page.locator(f"[data-strip] [data-index='{worst_first[0]}']").click()
    assert page.evaluate("page.player.episode.index") == worst_first[0]
    assert page.evaluate("page.player.episode.role") == "worst"
    pressed = page.locator("[data-strip] [aria-pressed=true]")
    assert int(str(pressed.get_attribute("data-index"))) == worst_first[0]
    without = next(e for e in worst_first if not _has_pictures(page, e))
    page.locator(f"[data-strip] [data-index='{without}']").click()
    assert f"--report.episodes {without}" in page.locator("[data-missing]").inner_text()


def _has_pictures(page: Any, episode: int) -> bool:
    return bool(
        page.evaluate("(e) => data.episodes.find((x) => x.index === e).clips.length > 0", episode)
    )


def _serious(opened: Opened) -> list[tuple[str, list[Any]]]:
    """What axe-core finds that would keep somebody out."""
    from axe_playwright_python.sync_playwright import Axe

    return [
        (v["id"], [n["target"] for n in v["nodes"]][:3])
        for v in Axe().run(opened.page).response["violations"]
        if v["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_axe_finds_nothing_serious(
    browser: Any, run: Path, tmp_path: Path, theme: str, width: int, language: Any
) -> None:
    shutil.copytree(run, tmp_path / "o")
    page = render(ReportConfig(str(tmp_path / "o"), lang=language))
    opened = Opened(browser, page, width, theme)
    assert (
        opened.page.locator("html").get_attribute("lang") == {"en": "en", "zh": "zh-Hans"}[language]
    )
    opened.page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    opened.show_everything()
    serious = _serious(opened)
    opened.context.close()
    assert serious == []
    assert opened.wrong == []


def test_a_stored_run_renders_to_the_same_bytes(run: Path, tmp_path: Path) -> None:
    out = shutil.copytree(run, tmp_path / "o")
    for config in (
        ReportConfig(str(out)),
        ReportConfig(str(out), PageConfig("0,2"), "zh"),
    ):
        first = render(config).read_bytes()
        assert render(config).read_bytes() == first


def test_the_player_shows_the_frame_of_the_dataset(browser: Any, tmp_path: Path) -> None:
    """Pictures that tell their own frame: every one is a shade of its own."""
    root = tmp_path / "d"
    n = 150  # more than two sheets of 64
    from lerobot.datasets import LeRobotDataset

    features: dict[str, Any] = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": None},
        "action": {"dtype": "float32", "shape": (2,), "names": None},
        fakes.IMAGE: {
            "dtype": "image",
            "shape": (32, 48, 3),
            "names": ["height", "width", "channel"],
        },
    }
    dataset = LeRobotDataset.create(
        "fake/data", fps=10, features=features, root=root, use_videos=False
    )
    for t in range(n):
        position = np.array([t, t % 7], np.float32)
        picture = np.full((32, 48, 3), t + 50, np.uint8)
        dataset.add_frame(
            {
                "observation.state": position,
                "action": position + 1,
                fakes.IMAGE: picture,
                "task": "t",
            }
        )
    dataset.save_episode()
    dataset.finalize()
    evaluate(fakes.config_for(root, "repeat_last", tmp_path / "o"))
    opened = Opened(browser, render(ReportConfig(str(tmp_path / "o"))), 1280)
    page = opened.page
    page.locator("[data-player]").scroll_into_view_if_needed()
    opened.until("page.player.arrays.sheets[0].every((s) => s.complete)")
    for t in (0, 1, 63, 64, 100, 128, n - 1):
        page.evaluate("(t) => page.player.seek(t)", t)
        shade = page.evaluate(
            "() => { const c = document.querySelector('[data-cameras] canvas');"
            "const copy = new OffscreenCanvas(c.width, c.height).getContext('2d');"
            "copy.drawImage(c, 0, 0);"
            "return copy.getImageData(c.width / 2, c.height / 2, 1, 1).data[0]; }"
        )
        assert abs(shade - (t + 50)) <= 2
    opened.context.close()
    assert opened.wrong == []


def test_a_comparison_has_one_player_for_both(browser: Any, run: Path, tmp_path: Path) -> None:
    other, root = tmp_path / "hold", json.loads((run / "run.json").read_text())["dataset"]["root"]
    evaluate(fakes.config_for(Path(root), "hold_state", other))
    page = render_together((str(other), str(run)), str(tmp_path / "both.html"))
    first = page.read_bytes()
    render_together((str(other), str(run)), str(page))
    assert page.read_bytes() == first
    for width in WIDTHS:
        opened = Opened(browser, page, width)
        opened.show_everything()
        assert opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert opened.page.evaluate("document.title") != "owned"
        opened.page.locator("[data-chart=episodes] [data-open='3']").click(force=True)
        assert opened.page.evaluate("page.player.episode.index") == 3
        opened.page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
        opened.page.locator("table[data-rows=dim] tr[data-key='1'] .lead").click()
        assert "largest difference" in opened.page.locator("[data-why]").inner_text()
        plot = opened.page.locator("[data-chart=dims] svg[role=img]")
        plot.scroll_into_view_if_needed()
        opened.page.wait_for_timeout(300)
        plot.hover(position={"x": 200, "y": 20})
        plot.click(position={"x": 200, "y": 20})
        assert "largest difference" in opened.page.locator("[data-why]").inner_text()
        opened.page.locator("table[data-rows=episode] tr[data-key='2'] .lead").click()
        assert opened.page.evaluate("page.player.episode.index") == 2
        fan = opened.page.locator("[data-actions] .cell").first.locator("[data-fan]")
        assert [fan.nth(i).get_attribute("data-layer") for i in range(fan.count())] == ["0", "1"]
        assert all(fan.nth(i).get_attribute("d") for i in range(2))
        assert _serious(opened) == []
        opened.context.close()
        assert opened.wrong == []


def test_rollouts_are_compared_seed_by_seed(browser: Any, tmp_path: Path) -> None:
    from policyscope.commands.rollout import rollout
    from test_rollout import Seeker, config

    rollout(config(tmp_path / "hold", n_episodes=4))
    rollout(config(tmp_path / "seeker", n_episodes=4), policy=Seeker(broken_at=(1001, 3)))
    runs = (str(tmp_path / "hold"), str(tmp_path / "seeker"))
    page = render_together(runs, str(tmp_path / "both.html"), "zh")
    for width, theme in ((390, "dark"), (1280, "light")):
        opened = Opened(browser, page, width, theme)
        opened.show_everything()
        squares = opened.page.locator(".squares button")
        assert squares.count() == 8
        won = [squares.nth(i).get_attribute("class") for i in range(8)]
        assert won == ["lost"] * 4 + ["won apart", "lost", "won apart", "won apart"]
        squares.nth(6).click()
        assert opened.page.evaluate("page.player.episode.index") == 2
        assert opened.page.evaluate("page.player.arrays.layers.length") == 2
        assert _serious(opened) == []
        assert opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        opened.context.close()
        assert opened.wrong == []


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes in simulation, of which the second fails."""
    from policyscope.commands.rollout import rollout
    from test_rollout import Seeker, config

    out = tmp_path_factory.mktemp("rollout") / "o"
    asked = config(out, n_episodes=3, video="chosen", latency_calls=8)
    rollout(asked, policy=Seeker(broken_at=(1001, 3)))
    return out


@pytest.mark.parametrize(
    ("width", "theme", "language"),
    [(390, "dark", "zh"), (1280, "light", "en"), (1920, "dark", "en")],
)
def test_the_page_of_a_rollout(
    browser: Any, played: Path, width: int, theme: str, language: Any
) -> None:
    opened = Opened(browser, render(ReportConfig(str(played), lang=language)), width, theme)
    page = opened.page
    opened.show_everything()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    drawn = page.locator("[data-chart]").evaluate_all("(all) => all.map((c) => c.dataset.chart)")
    assert {"rate", "curve", "ended", "paths", "actions"} <= set(drawn)
    described = page.locator("[data-chart=rate] svg[role=img]").get_attribute("aria-description")
    assert str(described).startswith("2/3, 67 % [")
    bars = page.locator("[data-strip] button")
    assert bars.count() == 3
    page.locator("[data-sort]").select_option("success")
    assert bars.first.get_attribute("data-index") == "1"  # the failure
    bars.first.click()
    assert page.evaluate("page.player.episode.index") == 1
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    page.locator("table[data-rows=episodes] tr[data-key='2'] .lead").click()
    assert page.evaluate("page.player.episode.index") == 2
    assert page.locator("img").count() == 0  # charts, no picture of charts
    headline = page.locator("h1").inner_text()
    assert headline.startswith("Success 2/3" if language == "en" else "成功率 2/3")
    assert _serious(opened) == []
    opened.context.close()
    assert opened.wrong == []


@pytest.mark.parametrize("width", [390, 1280])
def test_the_player_plays_a_rollout(browser: Any, played: Path, width: int) -> None:
    opened = Opened(browser, render(ReportConfig(str(played))), width)
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.locator("[data-player]").scroll_into_view_if_needed()
    page.locator("[data-preset=first_success]").click()
    assert page.evaluate("page.player.episode.index") == 0
    opened.until("page.player.arrays.sheets[0].every((s) => s.complete)")
    before, fan = opened.picture(), opened.fan()
    page.get_by_role("button", name="one frame on").click()
    assert opened.picture() != before
    assert opened.fan() != fan  # it loses the step that was executed
    assert opened.fan()[0].count("L") == fan[0].count("L") - 1
    page.get_by_role("button", name="play", exact=True).click()
    opened.until("page.player.frame === page.player.episode.n_frames - 1")
    opened.context.close()
    assert opened.wrong == []


def test_the_error_strip_of_a_strided_run(browser: Any, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    evaluate(fakes.config_for(data, "repeat_last", out, stride=3))
    opened = Opened(browser, render(ReportConfig(str(out))), 1280)
    opened.until("document.querySelectorAll('svg path').length > 5")
    paths = opened.page.evaluate(
        "[...document.querySelectorAll('path')].map(p => p.getAttribute('d'))"
    )
    assert not [d for d in paths if d and "NaN" in d]
    assert not opened.wrong
    opened.context.close()
