"""From demonstrations to a report: ALOHA and LIBERO, a small ACT, on a CPU.

python run.py aloha --dataset.root DATA --output_dir outputs/aloha
python run.py libero --output_dir outputs/libero

ALOHA's demonstrations are a dataset (lerobot/aloha_sim_transfer_cube_human); LIBERO's are recorded
here, from its simulator, by a script that reaches for a point. Then lerobot-train, `policyscope
eval` on the episodes that it did not see, and `policyscope rollout`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import policyscope as ps
from policyscope.actions.meanings import UNDECLARED_UNIT
from policyscope.data.frames import FrameBatch
from policyscope.policies.base import Normalization, Policy, PolicySpec, Prediction

CHUNK = 10
REACHED = np.array([0.05, 0.10, 1.05])  # metres, in the frame of LIBERO's end effector
GAIN = 6.0  # of a metre that is left, in LIBERO's units of an action


class Reach(Policy):
    """Moves LIBERO's end effector towards a point, hand open, and holds its orientation."""

    spec = PolicySpec(
        path="reach",
        type="reach",
        sha256=None,
        n_parameters=0,
        chunk_size=1,
        n_action_steps=1,
        normalization=Normalization("IDENTITY", "identity", "none"),
        keys=frozenset({"observation.state"}),
    )

    def predict(self, batch: FrameBatch) -> Prediction:
        """[N, 1, 7]: displacement of the hand, of its orientation, and the gripper."""
        state = np.asarray(batch.observations[-1]["observation.state"], dtype=np.float64)
        action = np.zeros((len(state), 1, 7))
        action[:, 0, :3] = np.clip(GAIN * (REACHED - state[:, :3]), -1, 1)
        action[:, 0, 6] = -1
        return Prediction(ps.NativeActions(action, (UNDECLARED_UNIT,) * 7), 0.0)


@dataclass(frozen=True)
class Robot:
    """What differs between the two.

    Attributes:
        repo_id: name of the demonstrations.
        env: flags of the simulator.
        length: steps of an episode in the simulator.
        seen: episodes of the training, from the first on; the evaluation takes the others.
    """

    repo_id: str
    env: tuple[str, ...]
    length: int
    seen: int


ROBOTS = {
    "aloha": Robot(
        "lerobot/aloha_sim_transfer_cube_human",
        ("--env.type", "aloha", "--env.task", "AlohaTransferCube-v0"),
        400,
        3,
    ),
    "libero": Robot(
        "local/libero-reach",
        ("--env.type", "libero", "--env.task", "libero_spatial", "--env.task_ids", "0"),
        60,
        6,
    ),
}


def record(root: Path, out: Path, episodes: int, length: int) -> None:
    """LIBERO's simulator, played by the script, as a LeRobot dataset with both cameras."""
    env = ps.EnvConfig(
        type="libero", task="libero_spatial", task_ids="0", episode_length=length, timeout_s=300.0
    )
    config = ps.RolloutConfig(
        env=env,
        policy=ps.PolicyConfig(),
        n_episodes=episodes,
        video="none",
        record=str(root),
        output_dir=str(out),
    )
    ps.rollout(config, policy=Reach())


def run(*words: str) -> None:
    """A command, shown first."""
    print(f"$ {shlex.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", *words], check=True)


def train(robot: Robot, seen: int, root: Path, out: Path, steps: int) -> Path:
    """A small ACT by lerobot-train; the checkpoint's directory."""
    small = {
        "chunk_size": CHUNK, "n_action_steps": CHUNK, "dim_model": 64, "n_heads": 4,
        "dim_feedforward": 128, "n_encoder_layers": 1, "n_vae_encoder_layers": 1,
        "pretrained_backbone_weights": "null", "optimizer_lr": 3e-4,
    }  # fmt: skip
    run(
        "lerobot.scripts.lerobot_train",
        "--policy.type=act",
        "--policy.device=cpu",
        "--policy.push_to_hub=false",
        *(f"--policy.{key}={value}" for key, value in small.items()),
        f"--dataset.repo_id={robot.repo_id}",
        f"--dataset.root={root}",
        f"--dataset.episodes={json.dumps(list(range(seen)))}",
        "--batch_size=4",
        "--num_workers=0",
        f"--steps={steps}",
        f"--save_freq={steps}",
        f"--output_dir={out}",
    )
    return out / "checkpoints" / f"{steps:06d}" / "pretrained_model"


def main() -> None:
    """Demonstrations, training, evaluation, rollout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("robot", choices=sorted(ROBOTS))
    parser.add_argument("--dataset.root", dest="root", type=Path, help="of ALOHA's demonstrations")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400, help="of the training")
    parser.add_argument("--seen", type=int, help="episodes of the training")
    parser.add_argument("--length", type=int, help="steps of an episode in the simulator")
    parser.add_argument("--n_episodes", type=int, default=3, help="of the rollout")
    parser.add_argument("--max_frames", type=int, default=400, help="of the evaluation")
    known = parser.parse_args()
    robot, out = ROBOTS[known.robot], known.output_dir
    length = known.length or robot.length
    seen, root = known.seen or robot.seen, known.root
    if known.robot == "libero":
        root = out / "demonstrations"
        record(root, out / "recorded", seen + 2, length)
    elif root is None:
        parser.error("aloha: --dataset.root, the directory of its demonstrations")
    checkpoint = train(robot, seen, root, out / "training", known.steps)
    data = ("--dataset.repo_id", robot.repo_id, "--dataset.root", str(root))
    run(
        *("policyscope", "eval", "--policy.path", str(checkpoint), *data),
        *("--max_frames", str(known.max_frames), "--output_dir", str(out / "eval")),
    )
    run(
        *("policyscope", "rollout", "--policy.path", str(checkpoint), *robot.env),
        *("--env.episode_length", str(length), "--env.timeout_s", "300"),
        *("--n_episodes", str(known.n_episodes), "--output_dir", str(out / "rollout")),
    )


if __name__ == "__main__":
    main()
