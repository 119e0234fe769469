"""Runs hostile cases in one process, under a memory limit and a watchdog.

    python -m hostile.child GOOD RESULTS [every n-th case] [only names with this text]

`GOOD` holds the good files that `goods.write` wrote. Each case is tried through the command line's
`main`; what came of it is written as a line of JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import re
import resource
import shutil
import signal
import sys
import time
import tomllib
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostile.cases import WORDS, Case, cases
from hostile.faults import obey_permissions

MEMORY = 4 << 30
WATCHDOG_S, PATIENCE_S = 10, 120
"""Seconds of its own time, and of everybody's: a machine that is busy is no hang."""
_SAID = re.compile(r"^(error|refused|interrupted|usage)\b|^[╭│╰]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_STAGE = re.compile(
    r"^(reading policy and dataset|loading the policy.*|timing single calls.*|batch \d+.*"
    r"|choosing a batch size|predicting \d+ frames|computing metrics|starting the simulator"
    r"|keeping pictures for the page|running \d+ episodes|\d+/\d+ (episodes|frames).*|drawing .*)$"
)


class Hung(BaseException):
    """The watchdog's."""


def _alarm(*_: Any) -> None:
    raise Hung


def _watch(own_s: float, all_s: float) -> None:
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, _alarm)
    signal.setitimer(signal.ITIMER_PROF, own_s)
    signal.setitimer(signal.ITIMER_REAL, all_s)


def copy(good: Path, to: Path) -> None:
    """A copy whose files are links: cheap, and nobody writes in place."""
    shutil.copytree(good, to, copy_function=os.link)


def _filled(word: str, spoiled: Path, good: Path, out: Path) -> str:
    places = {"{}": spoiled, "{data}": good / "data", "{policy}": good / "policy"}
    places |= {"{run}": good / "run", "{out}": out}
    for name, place in places.items():
        word = word.replace(name, str(place))
    return word


def command_line() -> Callable[[list[str]], Any]:
    """The command line's entry, wherever the package keeps it."""
    project = Path(__file__).parents[2] / "pyproject.toml"
    entry = tomllib.loads(project.read_text())["project"]["scripts"]["policyscope"]
    module, _, name = entry.partition(":")
    main: Callable[[list[str]], Any] = vars(importlib.import_module(module))[name]
    return main


def attempt(words: list[str]) -> tuple[Any, str, str]:
    """Exit status (or what else ended it), standard output and standard error."""
    main = command_line()
    out, err = io.StringIO(), io.StringIO()
    _watch(WATCHDOG_S, PATIENCE_S)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(words)
        status: Any = "returned"
    except SystemExit as end:
        status = end.code
    except Hung:
        status = "hung"
    except BaseException:  # whatever a stranger's file sets free
        status = "traceback"
        err.write(traceback.format_exc())
    finally:
        _watch(0, 0)
    return status, out.getvalue(), err.getvalue()


def verdict(status: Any, out: str, err: str) -> str:
    """ "" where a case ended as it must; else what is wrong."""
    if status not in (0, 1, 2):
        return str(status)
    if "Traceback (most recent call last)" in err:
        return "traceback on standard error"
    if _CONTROL.search(out) or _CONTROL.search(err):
        return "control characters on the terminal"
    lines = [line for line in err.splitlines() if line.strip() and not _STAGE.match(line)]
    if status == 2:
        if not lines:
            return "silent"
        strange = [line for line in lines if not _SAID.match(line)]
        if strange:
            return f"not one line: {strange[0][:120]}"
        if sum(line.startswith("error") for line in lines) > 1:
            return "more than one error line"
        if max(map(len, lines)) > 3000:
            return "an endless line"
    elif lines:
        return f"chatter: {lines[0][:120]}"
    if re.search(r"\bnan\b|\binf\b", out, re.IGNORECASE):
        return "NaN or inf shown as a number"
    return ""


def _numbers(words: list[str], out: Path) -> Any:
    """Native errors of an accepted input: of the same command as a whole evaluation."""
    import policyscope as ps

    flags = dict(zip(words[1::2], words[2::2], strict=False))
    builtin = flags.get("--policy.type")
    run = ps.evaluate(
        ps.EvalConfig(
            policy=ps.PolicyConfig(
                path=flags.get("--policy.path"),
                type=builtin,  # type: ignore[arg-type]
                chunk_size=6,
            ),
            dataset=ps.DatasetConfig(
                repo_id="fake/data",
                root=flags["--dataset.root"],
                episodes="3:5",
                action_units="px",
            ),
            output_dir=str(out),
            max_frames=12,
            latency_calls=0,
            device="cpu",
            batch_size="6",
        )
    )
    summary = run.record["summary"]
    return [summary[scope][m]["value"] for scope in ("step1", "chunk") for m in ("mae", "mse")]


def _same(found: Any, good: Any) -> bool:
    return all(abs(a - b) <= 1e-6 * abs(b) for a, b in zip(found, good, strict=True))


class Trial:
    """Tries cases one after the other in a folder of its own."""

    def __init__(self, good: Path, scratch: Path) -> None:
        self._good, self._scratch, self._n = good, scratch, 0
        self._right = json.loads((good / "right.json").read_text())

    def run(self, case: Case) -> str:
        """ "" where it ended as it must; else what is wrong."""
        self._n += 1
        folder = self._scratch / str(self._n)
        folder.mkdir(parents=True)
        spoiled, out = folder / "spoiled", folder / "out"
        try:
            if case.good:
                copy(self._good / case.good, spoiled)
                for extra in self._good.glob("*.parquet"):
                    os.link(extra, folder / extra.name)
                case.damage(spoiled)
            else:
                spoiled = self._good / "data"
            words = [_filled(word, spoiled, self._good, out) for word in case.words]
            status, said, err = attempt(words)
            wrong = verdict(status, said, err)
            if (folder / "ran").exists():
                return "code ran"
            if not wrong and status in (0, 1) and case.exact:
                wrong = self._compare(case, words, out, folder)
            return wrong if not wrong else f"{wrong} ({status})\n{err[-3000:]}"
        finally:
            _remove(folder)

    def warm_up(self) -> None:
        """Import what is imported late, on good input, so that no case is cut off within it."""
        main = command_line()
        for kind in ("policy", "data", "run", "rollout"):
            words = [_filled(w, self._good / kind, self._good, self._good) for w in WORDS[kind]]
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()) as err,
                contextlib.suppress(SystemExit),
            ):
                main(words)
            assert not _SAID.search(err.getvalue()), err.getvalue()

    def _compare(self, case: Case, words: list[str], out: Path, folder: Path) -> str:
        if words[0] == "check":
            _watch(WATCHDOG_S, PATIENCE_S)
            try:
                found = _numbers(words, folder / "numbers")
            except Hung:
                return "hung"
            except Exception as error:
                from policyscope import PolicyscopeError

                return "" if isinstance(error, PolicyscopeError) else f"evaluate: {error!r}"
            finally:
                _watch(0, 0)
        else:
            directory = out if (out / "run.json").is_file() else folder / "spoiled"
            summary = json.loads((directory / "run.json").read_text())["summary"]
            found = [summary[s][m]["value"] for s in ("step1", "chunk") for m in ("mae", "mse")]
        right = self._right["act" if case.good == "policy" else case.good.partition("_")[0]]
        return "" if _same(found, right) else f"wrong numbers: {found} for {right}"


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if not path.is_symlink() and path.exists() and not os.access(path, os.R_OK):
            path.chmod(0o600)
    shutil.rmtree(folder)


def limited() -> None:
    """Bound what this process may take, before it takes anything."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    obey_permissions()


def chosen(every: int, text: str) -> Iterator[Case]:
    """A fixed share of the cases, spread over all of them."""
    for i, case in enumerate(cases()):
        if i % every == 0 and text in case.name:
            yield case


def main() -> None:
    """See the module."""
    good, results = Path(sys.argv[1]), Path(sys.argv[2])
    every = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    text = sys.argv[4] if len(sys.argv) > 4 else ""
    limited()
    warnings.simplefilter("default")
    logging.raiseExceptions = False
    trial = Trial(good, results.parent / "scratch")
    trial.warm_up()
    with results.open("w") as file:
        for case in chosen(every, text):
            print(json.dumps({"begun": case.name}), file=file, flush=True)
            start = time.perf_counter()
            wrong = trial.run(case)
            row = {"case": case.name, "wrong": wrong, "s": round(time.perf_counter() - start, 3)}
            print(json.dumps(row), file=file, flush=True)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        print(json.dumps({"peak": peak}), file=file, flush=True)


if __name__ == "__main__":
    main()
