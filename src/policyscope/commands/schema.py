"""A first draft of an action schema, from what a dataset says about itself."""

from __future__ import annotations

from policyscope.actions.declared import FLAG, as_yaml, drafted
from policyscope.config import SchemaConfig
from policyscope.data.source import FrameSource
from policyscope.errors import visible


def draft_schema(config: SchemaConfig) -> str:
    """The text of a file for ``--dataset.actions``.

    Raises:
        InputError: the dataset can't be read.
    """
    robot = FrameSource(config.dataset, repo_id=config.dataset.name).facts.robot
    known = robot.actions.meanings
    source = f"as it is known for {robot.robot_type or 'this dataset'}"
    heading = [
        f"What each action dim of {visible(robot.name)} is, {source if known else 'by its name'}.",
        "" if known else "A draft: names don't tell units; read every line, mend what is wrong.",
        f"Then: {FLAG} THIS_FILE. The words are explained in docs/actions.md.",
    ]
    return as_yaml(known or drafted(robot.actions.names), [line for line in heading if line])
