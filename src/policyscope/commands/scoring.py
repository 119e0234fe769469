"""From stored predictions to episodes that can be scored, beside demonstrations and baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import final

import numpy as np

from policyscope.actions.spaces import NativeActions
from policyscope.commands.preparation import Prepared
from policyscope.data.facts import ACTION
from policyscope.engine.blind import Learned
from policyscope.engine.footage import footage
from policyscope.engine.progress import RunningScore, Watch
from policyscope.metrics.ensembling import executed
from policyscope.metrics.sums import Measure, ScoredEpisode
from policyscope.policies.base import PolicySpec
from policyscope.policies.builtin import baseline_chunks
from policyscope.runs.directory import RunDirectory
from policyscope.runs.predictions import StoredEpisode


@final
class Scoring:
    """Reads predictions of an evaluation back, with all that they are scored against.

    Args:
        prepared: the evaluation.
        spec: of the opened policy.
        directory: of the run.

    Attributes:
        prepared: see above.
        inputs: policy and dataset.
        directory: see above.
        measure: what is summed.
    """

    def __init__(self, prepared: Prepared, spec: PolicySpec, directory: RunDirectory) -> None:
        self.prepared, self.inputs, self.directory = prepared, prepared.inputs, directory
        self._spec = spec
        facts, alignment = self.inputs.source.facts, self.inputs.alignment
        dims = list(alignment.dataset_dims)
        known = facts.robot.stats[ACTION].items()
        arrays = {name: np.asarray(values).reshape(-1) for name, values in known}
        whole = facts.robot.actions.dim
        self.measure = Measure.of(
            alignment.schema,
            {name: values[dims] for name, values in arrays.items() if values.size == whole},
            horizon=spec.chunk_size,
            n_action_steps=spec.n_action_steps,
            fps=facts.robot.fps,
            action_kind=alignment.action_kind,
            ensembled=spec.ensembling is not None,
        )

    def scored(
        self, episodes: Sequence[int], learned: Learned | None = None
    ) -> Iterator[ScoredEpisode]:
        """Stored episodes, beside the blind baselines where they are given."""
        return (self.beside(stored, learned) for stored in self.directory.parts(episodes))

    def beside(self, stored: StoredEpisode, learned: Learned | None = None) -> ScoredEpisode:
        """The same of one that is at hand."""
        index = stored.index
        alignment, source = self.inputs.alignment, self.inputs.source
        episode, ensembling = source.episode(index), self._spec.ensembling
        dims, units, at = list(alignment.dataset_dims), alignment.schema.units, stored.frame_index
        baselines = baseline_chunks(
            episode,
            self._spec.chunk_size,
            stats=source.facts.robot.stats,
            action_kind=alignment.action_kind,
        )
        known = {name: chunks.values for name, chunks in baselines.items()}
        if learned is not None:
            known |= learned.chunks(source, episode)
        plan = self.prepared.plan
        whole = -(-episode.length // plan.stride) if plan.spread else len(at)
        return ScoredEpisode(
            index=index,
            frame_index=at,
            tasks=tuple(episode.tasks[i] for i in at),
            predicted=stored.predicted,
            target=stored.target,
            is_pad=stored.is_pad,
            baselines={
                name: NativeActions(chunks[at][:, :, dims], units) for name, chunks in known.items()
            },
            executed=()
            if ensembling is None
            else tuple(executed(sample, ensembling) for sample in stored.predicted),
            weight=whole / len(at),
        )

    def told(self, watch: Watch) -> Callable[[StoredEpisode], None]:
        """What tells a watch how each finished episode came out."""
        running = RunningScore(self.inputs.alignment.schema, self.measure.stats["std"])

        def tell(stored: StoredEpisode) -> None:
            scored = self.beside(stored)
            pictures = footage(self.inputs.source, stored.index, scored.frame_index.tolist())
            watch.scored(running.add(scored, pictures))

        return tell
