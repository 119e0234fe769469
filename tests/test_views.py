"""What a page is made of: packed arrays, clips, chosen episodes, languages, what is left out."""

from __future__ import annotations

import ast
import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

import fakes
from policyscope.commands.evaluate import evaluate
from policyscope.commands.report import ReportConfig, render, render_together
from policyscope.config import DatasetConfig, PageConfig
from policyscope.data.source import FrameSource
from policyscope.engine.footage import pictures
from policyscope.errors import Finding, UsageError
from policyscope.runs.chosen import chosen_episodes
from policyscope.runs.clips import clip_layout, make_clip, read_clips, write_clips
from policyscope.runs.content import OfflineRecord
from policyscope.runs.directory import RunDirectory
from policyscope.runs.episodes import episode_rows
from policyscope.runs.record import read_record
from policyscope.runs.rows import EpisodeRow
from policyscope.views.language import catalogue, english, speaker
from policyscope.views.offline import series, words
from policyscope.views.player import packed
from test_watch import Notes

VIEWS = Path(words.__file__).parents[1]


def unpacked(found: dict[str, Any]) -> np.ndarray:
    """What the page's script does."""
    steps = np.frombuffer(base64.b64decode(found["data"]), "<i2").reshape(found["shape"])
    values = np.array(found["low"]) + (steps.astype(float) + 32767) * np.array(found["scale"])
    return np.where(steps == -32768, np.nan, values)


@settings(deadline=None)
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3)),
        elements=st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))),
    )
)
def test_packed_arrays_come_back(values: np.ndarray) -> None:
    back = unpacked(json.loads(json.dumps(packed(values))))
    assert (np.isnan(back) == np.isnan(values)).all()
    for d in range(values.shape[-1]):
        known = values[..., d][~np.isnan(values[..., d])]
        if len(known):
            step = (known.max() - known.min()) / 65_000
            error = np.abs(back[..., d] - values[..., d])
            least = 65_000 * np.finfo(float).tiny  # nobody draws what is smaller
            assert np.nanmax(error) <= 0.51 * step + 1e-8 * np.abs(known).max() + least


@pytest.mark.parametrize(
    ("size", "n_frames", "n_cameras"),
    [((96, 96), 160, 1), ((640, 480), 400, 1), ((640, 480), 2000, 3), ((1920, 1080), 30, 2)],
)
def test_clips_stay_within_bounds(size: tuple[int, int], n_frames: int, n_cameras: int) -> None:
    width, height, stride = clip_layout(size, n_frames, n_cameras)
    assert max(width, height) <= min(320, max(size))
    assert max(width, height) >= min(170, max(size))
    assert width / height == pytest.approx(size[0] / size[1], rel=0.02)
    assert width * height * n_cameras * n_frames / stride < 30e6
    if size == (96, 96):
        assert (width, height, stride) == (96, 96, 1)


def test_every_picture_is_where_the_clip_says(tmp_path: Path) -> None:
    n, stride = 141, 2
    shades = range(40, 40 + n, stride)
    frames = (np.full((20, 30, 3), s, np.uint8) for s in shades)
    clip = make_clip(7, "cam", frames, n_frames=n, layout=(30, 20, stride))
    write_clips(tmp_path, [clip])
    (held,) = read_clips(tmp_path)
    assert held == clip
    per_sheet = held.columns * held.rows
    assert len(held.sheets) == -(-len(shades) // per_sheet)
    for i, shade in enumerate(shades):
        sheet = Image.open(io.BytesIO(held.sheets[i // per_sheet]))
        row, column = divmod(i % per_sheet, held.columns)
        assert abs(sheet.getpixel((column * 30 + 15, row * 20 + 10))[0] - shade) <= 2


@pytest.mark.parametrize("video", [False, True])
def test_footage_is_what_lerobot_reads(video: bool, tmp_path: Path) -> None:
    from lerobot.datasets import LeRobotDataset

    root = fakes.write_dataset(tmp_path / "d", video=video)
    source = FrameSource(DatasetConfig(root=str(root)), repo_id="fake/data")
    source.load([1, 2])
    items = LeRobotDataset("fake/data", root=root, episodes=[1, 2])
    shown = list(pictures(source, 2, fakes.IMAGE, range(0, 7, 2)))
    assert len(shown) == 4
    for at, picture in zip(range(0, 7, 2), shown, strict=True):
        wanted = items[12 + at][fakes.IMAGE].permute(1, 2, 0).numpy() * 255
        np.testing.assert_allclose(picture, wanted, atol=0.51)


def test_worst_median_and_best_are_chosen() -> None:
    rows = [
        EpisodeRow(
            scope="chunk",
            episode_index=e,
            n_frames=9,
            task="",
            mae=mae,
            mse=None,
            nmae=None,
            nmse=None,
        )
        for e, mae in ((4, 3.0), (5, 1.0), (6, 9.0), (8, 2.0), (9, 5.0))
    ]
    assert chosen_episodes(rows, None) == {6: "worst", 4: "median", 5: "best"}
    assert chosen_episodes(rows, "5:7,9") == {5: "best", 6: "worst", 9: ""}
    with pytest.raises(UsageError, match="7, which was not evaluated"):
        chosen_episodes(rows, "7")
    with pytest.raises(UsageError, match=r"--report\.episodes"):
        chosen_episodes(rows, "all")


def test_episodes_to_play_are_checked_before_the_run(data: Path, tmp_path: Path) -> None:
    config = fakes.config_for(data, "repeat_last", tmp_path / "o", episodes="0:3")
    notes = Notes()
    with pytest.raises(
        UsageError, match=r"--report\.episodes: expected indices from 0 to 2; found 5"
    ):
        evaluate(replace(config, report=PageConfig("5")), notes)
    assert notes.news == []
    evaluate(replace(config, report=PageConfig("1"), overwrite=True))
    assert {clip.episode for clip in read_clips(tmp_path / "o")} == {1}


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("views") / "o"
    evaluate(fakes.config_for(data, "repeat_last", out))
    return out


def embedded(page: Path) -> dict[str, Any]:
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    assert text is not None
    found: dict[str, Any] = json.loads(text[1])
    return found


def test_the_page_holds_the_predictions(run: Path) -> None:
    found = embedded(render(ReportConfig(str(run))))
    stored = {episode.index: episode for episode in RunDirectory(run).stored()}
    assert [e["index"] for e in found["episodes"]] == sorted(stored)
    for e in found["episodes"]:
        episode = stored[e["index"]]
        chunks = unpacked(e["chunks"])[:, 0]
        wanted = np.where(episode.is_pad[..., None], np.nan, episode.predicted[0].values)
        np.testing.assert_allclose(chunks, wanted, atol=np.ptp(wanted[~np.isnan(wanted)]) / 6e4)
        error = np.abs(episode.predicted[0].values - episode.target.values).mean(axis=-1)
        frame0 = error[0][~episode.is_pad[0]].mean()
        shown = unpacked(e["errors"]["native"])[0, 0]
        assert shown == pytest.approx(frame0, rel=1e-2)
    # every unpadded step of every chunk is counted once in each dim's plane
    steps = sum(int((~episode.is_pad).sum()) for episode in stored.values())
    for plane in found["density"]:
        assert sum(count for _, _, count in plane["cells"]) == steps


def test_what_does_not_fit_is_left_out_and_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = read_record(run)
    assert isinstance(record, OfflineRecord)
    chosen = chosen_episodes(episode_rows(run, record), None)
    with monkeypatch.context() as small:
        small.setattr(series, "_PAGE_BYTES", 501)
        small.setattr(series, "_ACTION_BYTES", 500)
        page = render(ReportConfig(str(run)))
        text = page.read_text()
    found = embedded(page)
    assert all(not e["clips"] for e in found["episodes"])
    assert len(found["episodes"]) < 6
    assert f"Actions of {6 - len(found['episodes'])} episodes are left out" in text
    assert "larger than 15 MB" in text
    worst = next(iter(chosen))
    assert worst in [e["index"] for e in found["episodes"]]  # it comes first
    assert sum(bool(e["clips"]) for e in embedded(render(ReportConfig(str(run))))["episodes"]) == 3


def test_the_page_stays_below_15_mb(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    evaluate(fakes.config_for(data, "repeat_last", out))
    noise = b"RIFF....WEBP" + np.random.default_rng(0).bytes(4_500_000)
    heavy = [replace(clip, sheets=(noise,)) for clip in read_clips(out)]
    assert len(heavy) == 3
    write_clips(out, heavy)
    page = render(ReportConfig(str(out)))
    assert 12e6 < page.stat().st_size < 15e6
    assert "larger than 15 MB" in page.read_text()
    assert [bool(e["clips"]) for e in embedded(page)["episodes"]].count(True) == 2


def test_more_pictures_come_from_the_dataset(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    evaluate(fakes.config_for(data, "repeat_last", out))
    kept = {clip.episode for clip in read_clips(out)}
    other = next(e for e in range(6) if e not in kept)
    page = render(ReportConfig(str(out), PageConfig(str(other))))
    assert [e["index"] for e in embedded(page)["episodes"] if e["clips"]] == [other]
    assert {clip.episode for clip in read_clips(out)} == {*kept, other}


def test_a_page_without_pictures_says_so(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    evaluate(fakes.config_for(data, "repeat_last", out))
    (out / "clips.parquet").unlink()
    assert "No pictures of any episode." in render(ReportConfig(str(out))).read_text()


def test_pictures_that_cannot_be_read_cost_a_warning(tmp_path: Path) -> None:
    """A built-in policy needs none: the numbers stand."""
    video = fakes.write_dataset(tmp_path / "v", video=True)
    for file in video.rglob("*.mp4"):
        file.write_bytes(b"not a video")
    record = evaluate(fakes.config_for(video, "repeat_last", tmp_path / "o")).record
    assert [f["code"] for f in record["findings"]] == ["pictures_left_out"]
    render(ReportConfig(str(tmp_path / "o")))


def _said() -> set[str]:
    """Every text that goes through a catalogue, found in templates, scripts and modules."""
    said = {*words.BASELINE_NAMES.values(), *words.SPLIT_NAMES.values(), words.CAVEAT}
    said |= {"error", "warning", "info", "model call", "queue pop", "end to end"}
    for file in (VIEWS / "web").glob("*.j2"):
        said |= set(re.findall(r'\b_\("([^"]+)"', file.read_text()))
    for file in (VIEWS / "web").glob("*.js"):
        said |= set(re.findall(r'\bt\("([^"]+)"', file.read_text()))
    for file in VIEWS.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "say":
                said |= {a.value for a in node.args if isinstance(a, ast.Constant)}
            if isinstance(node, ast.Assign) and "text" in {
                getattr(t, "id", "") for t in node.targets
            }:
                texts = (c.value for c in ast.walk(node.value) if isinstance(c, ast.Constant))
                said |= {t for t in texts if isinstance(t, str) and file.name == "words.py"}
    return said


def test_the_catalogue_is_complete() -> None:
    known = catalogue("zh")
    assert len(_said()) > 150
    assert sorted(_said() - known.keys()) == []
    for text, translated in known.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", translated))


def test_finding_codes_have_a_chinese_title() -> None:
    source = VIEWS.parent
    codes = set()
    for file in source.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == Finding.__name__:
                first = node.args[0] if node.args else None
                codes |= {first.value} if isinstance(first, ast.Constant) else set()
    assert len(codes) > 15
    assert sorted(codes - catalogue("zh").keys()) == []


def test_the_page_speaks_chinese(run: Path) -> None:
    text = render(ReportConfig(str(run), lang="zh")).read_text()
    assert '<html lang="zh-Hans">' in text
    assert speaker("zh")("Verdict") == "结论" in text
    assert english("{n} steps", n=3) == "3 steps"
    assert english("{k} held samples of {n} episodes", k=21, n=1) == "21 held samples of 1 episode"
    assert "保持当前状态" in text


def test_the_page_of_several_runs_compares_them(run: Path, data: Path, tmp_path: Path) -> None:
    evaluate(fakes.config_for(data, "hold_state", tmp_path / "hold"))
    page = render_together((str(tmp_path / "hold"), str(run)), str(tmp_path / "a.html"))
    content = embedded(page)
    by_episode = [row for row in content["rows"] if row["table"] == "episode"]
    base = [r.mae for r in episode_rows(tmp_path / "hold", read_record(tmp_path / "hold"), "chunk")]
    assert len(by_episode) == len(base) == len(content["episodes"])
    assert {len(e["others"]) for e in content["episodes"]} == {1}  # both policies, one player
    mine, theirs = (
        {s.index: s for s in RunDirectory(p).stored()} for p in (tmp_path / "hold", run)
    )
    for e in content["episodes"]:
        for shown, stored in ((e["chunks"], mine), (e["others"][0]["chunks"], theirs)):
            chunks = stored[e["index"]].predicted[0].values
            kept = ~stored[e["index"]].is_pad
            np.testing.assert_allclose(unpacked(shown)[:, 0][kept], chunks[kept], atol=1e-2)
    evaluate(fakes.config_for(data, "hold_state", tmp_path / "few", episodes="0:5"))
    other = render_together((str(run), str(tmp_path / "few")), str(tmp_path / "b.html"))
    assert "not comparable" in other.read_text()
    assert embedded(other)["rows"] == embedded(other)["episodes"] == []
    with pytest.raises(UsageError, match="different runs"):
        render_together((str(run), str(run)), str(tmp_path / "c.html"))


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", "of the 2 worst of 6"), ("zh", "6 个回合中误差最大的 2 个")],
)
def test_a_page_lists_so_many_episodes_and_says_where_all_are(
    language: Any, said: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many a run has: the worst ones."""
    run = evaluate(fakes.config_for(data, "hold_state", tmp_path / "o"))
    monkeypatch.setattr("policyscope.views.offline.page.MOST_ROWS", 2)
    page = render(ReportConfig(str(run.directory), lang=language)).read_text("utf-8")
    shown = json.loads(page.split('id="data">')[1].split("</script>")[0])
    errors = {r.episode_index: r.mae for r in episode_rows(run.directory, run.record)}
    worst = sorted(errors, key=lambda e: errors[e])[-2:]
    assert [row["episode_index"] for row in shown["by_episode"]] == worst
    assert said in page
