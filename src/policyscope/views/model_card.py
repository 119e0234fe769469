"""The results of a run as the ``model-index`` of a Hugging Face model card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from policyscope.errors import visible
from policyscope.runs.content import Complete, OfflineRecord, RolloutRecord
from policyscope.runs.parts import spans
from policyscope.runs.values import Value

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

SIGN = "# model-index of a run, by policyscope"
_MOST = 200  # letters of a text


def model_card(record: Complete) -> str:
    """A card's YAML block, in the hub's own hand (``huggingface_hub.ModelCardData``).

    Each metric has its interval, and how many episodes it comes from, in its ``args``.
    """
    from huggingface_hub import ModelCardData

    results = _offline(record) if isinstance(record, OfflineRecord) else _rollout(record)
    card = ModelCardData(
        model_name=_plain(record.policy.path.rstrip("/").rsplit("/", 1)[-1]) or record.policy.type,
        eval_results=results,
        tags=["robotics", "policyscope"],
    )
    return f"---\n{SIGN}\n{card.to_yaml()}\n---\n"


def _plain(text: str) -> str:
    """A text that acts nowhere, of bounded length."""
    return visible(text, most=_MOST)


def _result(metric: str, name: str, value: float, args: Any, **where: Any) -> Any:
    from huggingface_hub import EvalResult

    known: EvalResult = EvalResult(
        task_type="robotics",
        task_name="Robotics",
        metric_type=metric,
        metric_name=name,
        metric_value=value,
        metric_args=args,
        **where,
    )
    return known


def _rollout(record: RolloutRecord) -> list[EvalResult]:
    env, success, reward = record.env, record.success, record.closed_loop.max_reward
    imported = record.imported
    where: dict[str, Any] = {
        "dataset_type": _plain(env.type),
        "dataset_name": _plain(env.name),
        "dataset_args": {
            "episodes": record.n_episodes,
            "seeds": spans(record.dataset.episodes) if imported is None else None,
            "max_steps": max((t.max_steps or 0 for t in env.tasks), default=0) or None,
            "n_action_steps": record.policy.n_action_steps,
            "imported_from": imported.form if imported is not None else None,
        },
    }
    where["dataset_args"] = _known(where["dataset_args"])
    results = []
    if success.rate is not None:
        args: dict[str, Any] = {"k": success.k, "n": success.n, "interval": success.method}
        args |= {"ci95_low": success.ci_low, "ci95_high": success.ci_high}
        name = "Success rate"
        results.append(_result("success_rate", name, success.rate, _known(args), **where))
    if reward.value is not None:
        name = "Average max reward"
        results.append(_result("avg_max_reward", name, reward.value, _ends(reward), **where))
    return results


def _offline(record: OfflineRecord) -> list[EvalResult]:
    data, executed = record.dataset, record.summary.executed
    where: dict[str, Any] = {
        "dataset_type": _plain(data.repo_id),
        "dataset_name": _plain(data.repo_id),
        "dataset_split": data.split,
        "dataset_revision": data.revision,
        "dataset_args": {"episodes": spans(data.episodes), "stride": record.plan.stride},
    }
    units = set(record.actions.units)
    unit = _plain(next(iter(units))) if len(units) == 1 else "standard deviations"
    error = executed.mae if len(units) == 1 else executed.nmae
    results = []
    if error.value is not None:
        name = f"MAE of executed steps ({unit})"
        results.append(_result("mae", name, error.value, _ends(error), **where))
    for baseline, skill in record.skill.items():
        known = skill.executed
        if known.value is not None:
            name = f"Skill against {baseline}, executed steps"
            results.append(_result(f"skill_{baseline}", name, known.value, _ends(known), **where))
    return results


def _ends(known: Value) -> dict[str, Any]:
    return _known(
        {"ci95_low": known.ci_low, "ci95_high": known.ci_high, "n_episodes": known.n_episodes}
    )


def _known(args: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in args.items() if value is not None}
