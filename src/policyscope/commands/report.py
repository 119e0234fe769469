"""Render stored runs again, without the policy; with the dataset only to add pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from policyscope.checks.comparison import Comparison
from policyscope.commands.compare import compare
from policyscope.config import CompareConfig, DatasetConfig, Language, ReportConfig
from policyscope.config.addresses import is_url
from policyscope.errors import DatasetError, OutputError
from policyscope.files import Door, write_text
from policyscope.runs.carried import brought
from policyscope.runs.chosen import chosen_episodes
from policyscope.runs.claim import held
from policyscope.runs.clips import read_clips, write_clips
from policyscope.runs.content import OfflineRecord, RolloutRecord
from policyscope.runs.directory import PAGE, RunDirectory, in_language
from policyscope.runs.episodes import episode_rows, rollout_rows
from policyscope.runs.record import read_complete, read_record
from policyscope.runs.rollouts import stored_rollouts
from policyscope.runs.rows import EpisodeRow
from policyscope.runs.sweep import SWEEP_PAGE, SweepRecord, read_sweep
from policyscope.views.offline.page import write_page
from policyscope.views.offline.picture import draw_picture
from policyscope.views.rollout.page import write_rollout_page
from policyscope.views.rollout.picture import draw_rollout
from policyscope.views.sweep.page import write_sweep_page

_TITLE = b"<title>policyscope: "
_SIGNS = {
    "html": _TITLE,
    "png": b"Software\0policyscope",
    "svg": b"<dc:title>policyscope",
    "pdf": b"/Creator (policyscope)",
}
_TAIL = 65_536


def render(config: ReportConfig) -> Path:
    """Draw ``report.png`` and ``report.html`` of a finished run.

    In another language they are ``report.zh.png`` and ``report.zh.html``, beside the English ones.

    Returns:
        The path of the page.

    Raises:
        OutputError: no finished run there.
        UsageError: ``--report.episodes`` names episodes that the run has not.
    """
    path = brought(config.run)
    read_record(path)  # a folder without one is not locked
    with held(path):
        return _rendered(path, read_complete(path), config)


def _rendered(path: Path, record: OfflineRecord | RolloutRecord, config: ReportConfig) -> Path:
    directory = RunDirectory(path)
    if config.model_card is not None:
        _write_card(record, Path(config.model_card).expanduser())
    languages: list[Language] = [config.lang]
    if config.lang != "en" and not (path / PAGE).exists():
        languages.insert(0, "en")  # which scripts and pages of sweeps look for
    formats = config.page.endings()
    for language in languages:
        for ending in ("html", *formats):
            file = path / in_language(f"report.{ending}", language)
            _require_ours(file, _SIGNS[ending], "run")
    if isinstance(record, RolloutRecord):
        episodes = list(stored_rollouts(path, rollout_rows(path, record)))
        clips = read_clips(path)
        for language in languages:
            draw_rollout(directory, record, episodes, language, formats)
            page = write_rollout_page(directory, record, episodes, clips, language)
        return page
    rows = episode_rows(path, record)
    chosen = chosen_episodes(rows, config.page.episodes)
    if config.page.episodes is not None:
        _fetch_pictures(path, record, rows, chosen)
    clips = read_clips(path)  # what can't be read is said before anything is drawn
    for language in languages:
        draw_picture(directory, record, rows, language, formats)
        page = write_page(directory, record, rows, chosen, clips, language)
    return page


def render_sweep(directory: Path, lang: Language) -> tuple[Path, SweepRecord]:
    """Draw ``sweep.html`` of a sweep again, as it stands.

    Returns:
        The path of the page, and the sweep.

    Raises:
        OutputError: the record can't be read, or another sweep is writing there.
    """
    record = read_sweep(directory)
    with held(directory):
        _require_ours(directory / SWEEP_PAGE, _TITLE, "sweep")
        return write_sweep_page(directory, record, lang), record


def render_together(runs: tuple[str, ...], output: str, lang: Language = "en") -> Path:
    """Write the page of a comparison: the first run is the base.

    Returns:
        The path of the page.

    Raises:
        OutputError: one of them is not a finished run, or the page can't be written.
        UsageError: fewer than two runs, one of them twice, or runs of two kinds.
    """
    return _page_of(compare(CompareConfig(runs=runs)), output, lang)


def write_beside(comparison: Comparison, config: CompareConfig) -> None:
    """Write the files that ``policyscope compare`` was asked for: page and JUnit.

    Raises:
        OutputError: one can't be written, or would replace a page that is none of ours.
        UsageError: a page of an evaluation beside a rollout.
    """
    from policyscope.views.compared.files import comparison_junit

    if config.html is not None:
        _page_of(comparison, config.html, config.lang)
    if config.junit is not None:
        write_text(Path(config.junit).expanduser(), comparison_junit(comparison))


def _page_of(comparison: Comparison, output: str, lang: Language) -> Path:
    from policyscope.views.compared.page import write_comparison

    page = Path(output).expanduser()
    _require_ours(page, _TITLE, "place for the page")
    return write_comparison(comparison, page, lang)


def _write_card(record: OfflineRecord | RolloutRecord, file: Path) -> None:
    """Write a model card's block.

    Raises:
        OutputError: numbers that may mean nothing, or the file is there and none of ours.
    """
    from policyscope.views.model_card import SIGN, model_card

    if record.forced or record.errors:
        raise OutputError(
            f"--model_card {file}",
            expected="a run without findings of severity error",
            found=", ".join(finding.code for finding in record.errors) or "a forced one",
            fix="mend what its findings name, then evaluate again",
        )
    _require_ours(file, SIGN.encode(), "--model_card")
    write_text(file, model_card(record))


def _require_ours(file: Path, sign: bytes, flag: str) -> None:
    """Raise where a page or a picture would replace a file that is none of ours.

    Raises:
        OutputError: something else lies there.
    """
    if not os.path.lexists(file):
        return
    door = Door(OutputError, f"another {flag}: nothing here was touched")
    with door.open(file) as stream:
        begin = stream.read(4096)
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))  # where a PDF has it
        if sign not in begin and sign not in stream.read(_TAIL):
            raise door.refuse(file, expected="one of policyscope's own to replace", found="a file")


def _played_lengths(
    path: Path, record: OfflineRecord, rows: Sequence[EpisodeRow], episodes: Sequence[int]
) -> dict[int, int]:
    """Frames of episodes up to the last evaluated one."""
    if not record.plan.spread:
        return {r.episode_index: (r.n_frames - 1) * record.plan.stride + 1 for r in rows}
    stored = RunDirectory(path).stored()
    return {s.index: int(s.frame_index[-1]) + 1 for s in stored if s.index in episodes}


def _fetch_pictures(
    path: Path, record: OfflineRecord, rows: Sequence[EpisodeRow], chosen: dict[int, str]
) -> None:
    """Add pictures that the run has not kept yet, where the dataset still lies where it lay."""
    kept = {clip.episode for clip in read_clips(path)}
    lacking = [e for e in chosen if e not in kept]
    root = record.dataset.root
    if not lacking or root is None or is_url(root) or not Path(root).is_dir():
        return  # the page says which pictures it lacks; an address in a file is never opened
    from policyscope.data.source import FrameSource
    from policyscope.engine.footage import episode_clips

    lengths = _played_lengths(path, record, rows, lacking)
    try:
        source = FrameSource(DatasetConfig(root=root), repo_id=record.dataset.repo_id)
        source.load(lacking)
        for episode in lacking:
            write_clips(path, episode_clips(source, episode, lengths[episode]))
    except DatasetError:
        return
