"""The prediction loop on Ray: `predict_rows` in many processes, its answers in the plan's order.

The grid of batches is cut into spans, some batches that follow one another. A worker opens dataset
and policy once, from the config, and answers span after span, batch by batch. Answers wait in
Ray's store until their turn comes, so that memory here does not grow with the workers. Whoever
dies is replaced, and asked again for what had not arrived.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, cast, final

import numpy as np
from numpy.typing import NDArray

from policyscope.checks.inputs import OfflineInputs, read_offline
from policyscope.config import EvalConfig
from policyscope.config.offline import PredictionOptions
from policyscope.config.parts import Device
from policyscope.data.facts import dataset_revision
from policyscope.data.frames import Rows
from policyscope.data.source import FrameSource
from policyscope.engine.offline import Clock, predict_rows
from policyscope.engine.progress import Watch
from policyscope.errors import UsageError, first_line
from policyscope.policies.base import Policy, PolicySpec
from policyscope.policies.opening import pick_device
from policyscope.runs.predictions import RowPredictions
from policyscope.sim.cluster import Place, joined, nodes, require_ray, shares

_SPAN = 16  # batches: reading ahead begins anew with each
_QUEUED = 2  # spans of a worker: it need not wait for the next one
_MOST_DEATHS = 6  # of workers at one span, or before one answers
_PATIENCE_S = 600.0  # with workers that do not come
_LATE_S = 60.0  # after the first, until which the others are waited for


@final
@dataclass(frozen=True)
class Opened:
    """What a worker opens.

    Attributes:
        config: of the run.
        episodes: of the plan.
        place: in which relative paths begin.
        cpus: threads that decode, and that compute.
    """

    config: EvalConfig
    episodes: tuple[int, ...]
    place: Place
    cpus: int


@final
class _Predictor:
    """In a worker's process: a dataset and a policy.

    Args:
        opened: which.
    """

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    def open(self) -> tuple[PolicySpec, str, str]:
        """Open both.

        Returns:
            What the policy is, the dataset's revision, and the machine's name.

        Raises:
            InputError: they can't be opened here.
        """
        policy, source = self._both
        return policy.spec, dataset_revision(source.facts.root), os.uname().nodename

    @cached_property
    def _both(self) -> tuple[Policy, FrameSource]:
        asked, config = self._opened, self._opened.config
        asked.place.enter()
        source = FrameSource(config.dataset, repo_id=config.dataset_name, threads=asked.cpus)
        source.require(asked.episodes)
        inputs = read_offline(config, source=source)
        policy = inputs.open_policy(config)
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(asked.cpus)
        return policy, source

    def predict(
        self, rows: NDArray[np.int64], first: int, batch_size: int
    ) -> Iterator[tuple[RowPredictions, float]]:
        """Answer rows of the plan, the first of which has that place; with seconds of reading."""
        policy, source = self._both
        clock, read = Clock(), 0.0
        for part in predict_rows(
            policy, source, rows, batch_size=batch_size, clock=clock, progress=Watch()
        ):
            yield replace(part, first=first + part.first), clock.data_s - read
            read = clock.data_s


@final
class _Worker:
    """The place of a process: where one dies, another begins."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start, self.deaths = start, 0
        self.begin()

    def begin(self) -> None:
        """Start a process; `opening` is None once it has opened what it needs."""
        self.actor = self._start()
        self.opening: Any = self.actor.open.remote()


@final
@dataclass(eq=False)
class _Span:
    """Rows of the plan that a worker is asked for in one go.

    Attributes:
        at: place of the first row that has not arrived.
        end: place after the last.
        worker: who is at work; None before and after.
        answers: what comes of it; None before somebody is asked.
        deaths: of those who were at work, since the last answer.
    """

    at: int
    end: int
    worker: _Worker | None = None
    answers: Any = None
    deaths: int = 0


@final
class RayWorkers:
    """Workers that predict; called, they do as `predict_rows` does.

    They begin to open policy and dataset as soon as they are there. Use it as a context manager:
    leaving it ends every worker, however it is left.

    Args:
        ray: the module, joined.
        opened: what each opens.
        n: workers.
        gpu: whether each takes one.
        revision: of the dataset as it lies here.
    """

    def __init__(self, ray: Any, opened: Opened, n: int, *, gpu: bool, revision: str) -> None:
        kind = ray.remote(num_cpus=opened.cpus, num_gpus=int(gpu), scheduling_strategy="SPREAD")(
            _Predictor
        )
        self._ray, self._n, self._revision = ray, n, revision
        self._spec: PolicySpec | None = None
        self._start = lambda: kind.remote(opened)
        self._workers: list[_Worker] = []
        self._spans: deque[_Span] = deque()  # that are asked for, in the order of the plan
        wrong = ray.exceptions
        self._lost = (wrong.RayActorError, wrong.ObjectLostError, wrong.NodeDiedError)

    def __enter__(self) -> Self:
        try:
            for _ in range(self._n):
                self._workers.append(_Worker(self._start))
        except BaseException:
            self.close()
            raise
        return self

    def ready(self, spec: PolicySpec) -> None:
        """Wait until one has opened what it needs, and all have that are on their way.

        Args:
            spec: of the policy as it was opened here.

        Raises:
            InputError: they can't open it, or find something else.
        """
        self._spec = spec
        while not self._free:
            self._listen()
        late = time.monotonic() + _LATE_S
        while len(self._free) < self._n and (left := late - time.monotonic()) > 0:
            self._listen(left)

    @property
    def _free(self) -> list[_Worker]:
        """Who has opened what is needed."""
        return [worker for worker in self._workers if worker.opening is None]

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every worker."""
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers = []

    def __call__(
        self,
        policy: Policy,
        source: FrameSource,
        rows: Rows,
        *,
        start: int = 0,
        batch_size: int,
        clock: Clock,
        progress: Watch,
    ) -> Generator[RowPredictions]:
        """See `predict_rows`; policy and source are those that each worker has."""
        del policy, source
        rows, size = np.asarray(rows, dtype=np.int64), _SPAN * batch_size
        left = deque(_Span(at, min(at + size, len(rows))) for at in range(start, len(rows), size))
        while left or self._spans:
            while left and len(self._spans) < _QUEUED * self._n:
                self._spans.append(left.popleft())
            self._hand_out(rows, batch_size)
            first = self._spans[0]
            if not self._listen():
                continue
            try:
                part, read_s = self._get(next(first.answers))
            except StopIteration:
                assert first.at == first.end, "a worker answers all or raises"
                self._spans.popleft()
                continue
            except self._lost as error:
                self._again(first, error)
                continue
            first.at, first.deaths = part.end, 0
            n = int((rows[part.first : part.end, 2] == 0).sum())
            clock.data_s += read_s
            clock.model_s += float(part.model_s[0])
            clock.n_frames += n
            progress.advance(n)
            yield part

    def _hand_out(self, rows: NDArray[np.int64], batch_size: int) -> None:
        """Ask workers for the spans that nobody is asked for, whoever has least to do first."""
        free = self._free
        load = {id(worker): 0 for worker in free}
        for span in self._spans:
            if span.worker is not None:
                load[id(span.worker)] += 1
        for span in self._spans:
            if span.answers is not None:
                continue
            worker = min(free, key=lambda one: load[id(one)], default=None)
            if worker is None or load[id(worker)] >= _QUEUED:
                return
            load[id(worker)] += 1
            predict = worker.actor.predict.options(num_returns="streaming")
            span.worker = worker
            span.answers = predict.remote(rows[span.at : span.end], span.at, batch_size)

    def _listen(self, patience_s: float = _PATIENCE_S) -> bool:
        """Wait until something happens; whether the first span has an answer, or an end."""
        opening = {worker.opening: worker for worker in self._workers if worker.opening is not None}
        first = self._spans[0].answers if self._spans else None
        others = [span for span in list(self._spans)[1:] if span.worker is not None]
        ends = {span.answers.completed(): span for span in others}
        awaited = [*opening, *ends, *([] if first is None else [first])]
        ready, _ = self._ray.wait(awaited, timeout=patience_s, fetch_local=False)
        if not ready and not self._free:
            raise _without_workers(f"none within {patience_s:g} s")
        for one in ready:
            if one is first:
                return True
            if one in opening:
                self._opened(opening[one])
            else:
                self._ended(ends[one])
        return False

    def _opened(self, worker: _Worker) -> None:
        try:
            spec, revision, machine = self._get(worker.opening)
        except self._lost as error:
            worker.deaths += 1
            self._replace(worker, worker.deaths, error)
            return
        if (spec, revision) != (self._spec, self._revision):
            raise UsageError(
                "--engine ray",
                expected="the same policy and dataset on all machines",
                found=f"others on {machine}",
                fix="paths that lead to the same files everywhere, and the same versions",
            )
        worker.opening, worker.deaths = None, 0

    def _ended(self, span: _Span) -> None:
        """Note that a span has all its answers, or that nobody is at work at it."""
        try:
            self._ray.get(span.answers.completed())
        except self._lost as error:
            self._again(span, error)
        else:
            span.worker = None

    def _again(self, span: _Span, error: Exception) -> None:
        """Have a span asked for again, whose worker is gone, or what that had answered."""
        worker, span.worker, span.answers = span.worker, None, None
        span.deaths += 1
        if worker is not None:
            self._replace(worker, span.deaths, error)
        elif span.deaths >= _MOST_DEATHS:
            raise _without_workers(first_line(error))

    def _replace(self, worker: _Worker, deaths: int, error: Exception) -> None:
        """Have another process begin where one died."""
        if deaths >= _MOST_DEATHS:
            raise _without_workers(first_line(error)) from error
        for span in self._spans:
            if span.worker is worker:
                span.worker = span.answers = None
        self._ray.kill(worker.actor)
        worker.begin()

    def _get(self, answer: Any) -> Any:
        """What a worker answered; what it raised is raised here as it was there."""
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error


def _without_workers(why: str) -> UsageError:
    return UsageError(
        "--engine ray",
        expected="workers that live",
        found=why,
        fix="fewer --ray.workers or a smaller --batch_size where memory is short; --engine local "
        "shows what else is wrong",
    )


def require_workers(config: PredictionOptions, scripted: Policy | None) -> None:
    """Raise, before anything is read, where ``--engine ray`` can't be.

    Raises:
        UsageError: Ray is not installed, or nobody but this process has the policy.
    """
    if config.engine != "ray":
        return
    require_ray(config.ray)
    if scripted is not None:
        raise UsageError(
            "--engine ray",
            expected="a policy that workers can open by its name",
            found=f"an object of this process, {scripted.spec.path}",
            fix="--policy.type my_module:MyPolicy, or --engine local",
        )


@contextlib.contextmanager
def on_ray(config: EvalConfig, inputs: OfflineInputs) -> Iterator[RayWorkers]:
    """Workers of Ray, as ``--ray`` says, that open what was read here.

    Args:
        config: of the run.
        inputs: policy and dataset as they lie here; the policy need not be open.

    Raises:
        UsageError: there is no Ray, or no room in it.
    """
    with joined(config.ray) as ray:
        machines = nodes(ray)
        device = _device(config, inputs, machines)
        gpu = device == "cuda"
        n, cpus = shares(config.ray, machines, gpu=gpu)
        first = str(inputs.episodes[0])  # others when asked for
        own = replace(
            config, dataset=replace(config.dataset, episodes=first), device=cast(Device, device)
        )
        opened = Opened(own, inputs.episodes, Place.here(), cpus)
        revision = dataset_revision(inputs.source.facts.root)
        with RayWorkers(ray, opened, n, gpu=gpu, revision=revision) as workers:
            yield workers


def _device(config: EvalConfig, inputs: OfflineInputs, machines: Sequence[tuple[int, int]]) -> str:
    """Where workers should have the policy: where it is here, or will be."""
    there = inputs.opened
    if there is not None and there.spec.device != "remote":
        return there.spec.device
    if inputs.checkpoint is None or not any(gpus for _, gpus in machines):
        return config.device  # and torch need not be asked, which takes seconds to come
    return pick_device(config.device)
