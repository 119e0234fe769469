"""A checkpoint that is served answers as it does at home, and whoever asks is a stranger."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import fakes
from policyscope.commands.evaluate import evaluate
from policyscope.commands.serve import Serving, serve
from policyscope.config import DatasetConfig, EvalConfig, PolicyConfig, RolloutConfig, ServeConfig
from policyscope.engine.progress import Watch
from policyscope.errors import RefusedError, RemoteError, UsageError
from policyscope.runs.record import read_record
from test_remote import certified, config, numbers

fake_servers = pytest.importorskip(
    "fake_servers", reason="the extra remote is not installed", exc_type=ImportError
)


@contextlib.contextmanager
def serving(checkpoint: Path, **settings: Any) -> Iterator[Serving]:
    served = serve(ServeConfig(checkpoint=str(checkpoint), port=0, device="cpu", **settings))
    with running(served):
        yield served


@contextlib.contextmanager
def running(served: Serving) -> Iterator[None]:
    thread = threading.Thread(target=served.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        served.stop()
        thread.join()


def predicted(run: Path) -> np.ndarray[Any, Any]:
    table = pq.read_table(run / "predictions.parquet")
    return np.stack(table["predicted"].to_numpy(zero_copy_only=False))


@pytest.mark.parametrize("name", ["smolvla", "diffusion", "act"])
def test_a_served_policy_answers_as_at_home(
    name: str, data: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    checkpoint = request.getfixturevalue(name)
    asked = {"samples": 1 if name == "act" else 2, "max_frames": 12, "seed": 3}
    local = evaluate(
        fakes.config_for(data, checkpoint, tmp_path / "local", latency_calls=0, **asked)
    )
    with serving(checkpoint, seed=3) as served:
        remote = evaluate(config(data, tmp_path / "remote", served.url, **asked))
    ours, theirs = predicted(local.directory), predicted(remote.directory)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-3)
    assert ours.std() > 1
    for key in ("type", "sha256", "chunk_size", "n_action_steps", "draws", "n_parameters"):
        assert remote.record["policy"][key] == local.record["policy"][key]
    assert "policy_not_reproducible" not in {f.code for f in remote.record.findings}


def test_other_noise_is_not_passed_off_as_ours(smolvla: Path, data: Path, tmp_path: Path) -> None:
    with (
        serving(smolvla) as served,
        pytest.raises(UsageError, match="expected 0, under which the policy is served; found 5"),
    ):
        evaluate(config(data, tmp_path, served.url, seed=5))


def test_a_run_goes_on_with_the_same_weights_behind_another_address(
    act: Path, data: Path, tmp_path: Path
) -> None:
    settings = {"max_frames": 12}
    with serving(act) as served:
        whole = evaluate(config(data, tmp_path / "whole", served.url, **settings)).directory
    with serving(act) as served:
        assert served.url not in str(read_record(whole).plan)
        again = evaluate(config(data, tmp_path / "whole", served.url, resume=True, **settings))
    assert again.record.plan == read_record(whole).plan


def test_closed_loop_asks_a_server(tmp_path: Path) -> None:
    pytest.importorskip("gym_pusht", reason="the extra pusht is not installed")
    from policyscope.commands.rollout import rollout

    runs = []
    with fake_servers.openpi() as server:
        for policy in (PolicyConfig(url=server.url), PolicyConfig(type="hold_state", chunk_size=6)):
            out = tmp_path / str(len(runs))
            settings = {"n_episodes": 2, "latency_calls": 0, "n_envs": "2", "video": "none"}
            env = replace(RolloutConfig().env, episode_length=20)
            runs.append(
                rollout(RolloutConfig(policy=policy, env=env, output_dir=str(out), **settings))  # type: ignore[arg-type]
            )
    rewards = [[e.sum_reward for e in run.record.episodes] for run in runs]
    assert rewards[0] == pytest.approx(rewards[1])
    assert "policy_not_reproducible" in {f.code for f in runs[0].record.findings}


def test_a_class_of_ones_own_is_served(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[1] / "examples" / "write_a_policy")
    dataset = DatasetConfig(repo_id="fake/data", root=str(data), action_units="px")
    own = PolicyConfig(type="drift:Drift")
    settings = config(data, tmp_path / "local", "ws://x", max_frames=15)
    local = evaluate(replace(settings, policy=own))
    served = serve(ServeConfig(policy=own, dataset=dataset, port=0))
    with running(served):
        remote = evaluate(config(data, tmp_path / "remote", served.url, max_frames=15))
    np.testing.assert_allclose(predicted(remote.directory), predicted(local.directory), rtol=1e-6)
    assert remote.record["policy"]["n_action_steps"] == 8


# ── strangers ─────────────────────────────────────────────────────────


def connect(url: str, **settings: Any) -> Any:
    from websockets.sync.client import connect

    return connect(url, compression=None, max_size=None, **settings)


def observation(**changes: Any) -> dict[str, Any]:
    seen = {
        fakes.STATE: fake_servers.array(np.zeros(2)),
        fakes.IMAGE: fake_servers.array(np.zeros((64, 64, 3)), "|u1"),
        "prompt": "push",
    }
    return {k: v for k, v in {**seen, **changes}.items() if v is not None}


def asked(served: Serving, message: Any) -> Any:
    with connect(served.url) as connection:
        connection.recv()
        packed = (
            message if isinstance(message, bytes | str) else fake_servers.msgpack.packb(message)
        )
        connection.send(packed)
        answer = connection.recv(timeout=20)
    return answer if isinstance(answer, str) else fake_servers.plain(answer)


@pytest.fixture(scope="module")
def served(act: Path) -> Iterator[Serving]:
    with serving(act) as known:
        yield known


def test_a_client_of_openpis_is_answered(served: Serving) -> None:
    with connect(served.url) as connection:
        said = fake_servers.msgpack.unpackb(connection.recv())["policyscope"]
    assert said["inputs"][fakes.IMAGE] == {"kind": "picture", "shape": [3, 64, 64]}
    answer = asked(served, observation())
    assert answer["actions"].shape == (6, 2)
    assert answer["server_timing"]["infer_ms"] > 0
    first = fake_servers.array(np.zeros((3, 64, 64)), "|u1")
    again = asked(served, observation(**{fakes.IMAGE: first}))
    assert np.array_equal(again["actions"], answer["actions"])
    bright = fake_servers.array(np.full((64, 64, 3), 255), "|u1")
    other = asked(served, observation(**{fakes.IMAGE: bright}))
    assert not np.array_equal(other["actions"], answer["actions"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({fakes.STATE: None}, "observation.state as numbers of shape.*found none"),
        ({fakes.STATE: [1.0, 2.0]}, "found list"),
        ({fakes.STATE: {b"__ndarray__": True, b"dtype": "|O"}}, "expected msgpack of numbers"),
        ({fakes.STATE: 3}, "found int"),
        ({fakes.IMAGE: 3}, "a picture"),
        ({"prompt": 7}, "prompt as a text"),
        ({"prompt": "x" * 20_000}, "prompt as a text of at most"),
        ({"policyscope": {"episode": -1, "frame": 0, "sample": 0}}, "whole numbers"),
        ({"policyscope": {"episode": True, "frame": 0, "sample": 0}}, "whole numbers"),
    ],
)
def test_a_question_that_is_none(change: dict[str, Any], said: str, served: Serving) -> None:
    answer = asked(served, observation(**change))
    assert isinstance(answer, str)
    assert re.search(said, answer)
    assert "Traceback" not in answer
    assert asked(served, observation())["actions"].shape == (6, 2)  # others go on


def test_messages_are_bounded(served: Serving) -> None:
    from websockets.exceptions import ConnectionClosed

    with connect(served.url) as connection:
        connection.recv()
        with contextlib.suppress(ConnectionClosed):
            connection.send(b"\0" * (65 * 2**20))
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=20)
    assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
    assert isinstance(asked(served, "a text"), str)
    assert isinstance(asked(served, b"\xc1"), str)


def test_a_page_in_a_browser_may_not_ask(served: Serving) -> None:
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus) as refused:
        connect(served.url, origin="http://evil.example")
    assert refused.value.response.status_code == 403


def test_a_server_does_not_hold_any_number_of_connections(served: Serving) -> None:
    from websockets.exceptions import ConnectionClosed

    with contextlib.ExitStack() as many:
        for _ in range(16):
            many.enter_context(connect(served.url)).recv(timeout=20)
        with pytest.raises(ConnectionClosed) as closed:
            many.enter_context(connect(served.url)).recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013


def test_who_has_the_key_may_ask(
    act: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = certified(tmp_path)
    monkeypatch.setenv("POLICYSCOPE_API_KEY", "sesame")
    with serving(act, tls_cert=str(certificate), tls_key=str(key)) as served:
        assert served.url.startswith("wss://127.0.0.1:")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        evaluate(config(data, tmp_path / "a", served.url, max_frames=2))
        for wrong in ("", "sesam", "sesame2"):
            monkeypatch.setenv("POLICYSCOPE_API_KEY", wrong)
            with pytest.raises(RemoteError, match="the key is wrong"):
                evaluate(config(data, tmp_path / "b", served.url))


def test_an_open_door_is_said(act: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for host, key, said in (("0.0.0.0", None, True), ("0.0.0.0", "k", False)):
        monkeypatch.setenv("POLICYSCOPE_API_KEY", key) if key else None
        with serving(act, host=host) as served:
            assert ("anybody_may_ask" in {f.code for f in served.findings}) is said


def test_what_can_not_be_served(act: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a checkpoint, or .*; found none"):
        ServeConfig()
    with pytest.raises(UsageError, match="both, or neither"):
        ServeConfig(checkpoint="x", tls_cert="y")
    broken = tmp_path / "broken"
    shutil.copytree(act, broken)
    (broken / "policy_postprocessor.json").unlink()
    with pytest.raises(RefusedError):
        serve(ServeConfig(checkpoint=str(broken), port=0))
    with (
        serving(act) as served,
        pytest.raises(UsageError, match=r"an address to listen at.*in use"),
    ):
        serve(ServeConfig(checkpoint=str(act), port=int(served.url.rpartition(":")[2])))


class _Killer(Watch):
    """Kills a server after some frames, and starts it again."""

    def __init__(self, words: list[str]) -> None:
        self.words, self.done = words, 0
        self.server = subprocess.Popen(words)

    def advance(self, frames: int) -> None:
        self.done += frames
        if self.done - frames < 16 <= self.done:
            self.server.kill()
            self.server.wait()
            self.server = subprocess.Popen(self.words)


@pytest.mark.slow
def test_a_process_that_is_killed_and_started_again_changes_no_number(
    smolvla: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policyscope.policies.remote.openpi.FIRST_S", 300.0)
    port = fake_servers.free_port()
    words = [sys.executable, "-m", "policyscope", "serve", str(smolvla), "--port", str(port)]
    patient = {"timeout_s": 60.0, "patience_s": 300.0}
    url = f"ws://127.0.0.1:{port}"
    killer = _Killer(words)
    try:
        whole = evaluate(config(data, tmp_path / "whole", url, policy=patient))
        asked = config(data, tmp_path / "cut", url, policy=patient)
        cut = evaluate(asked, killer)
        assert killer.done == 57
    finally:
        killer.server.kill()
        killer.server.wait()
    assert np.array_equal(predicted(cut.directory), predicted(whole.directory))
    assert numbers(cut.directory) == numbers(whole.directory)


@pytest.mark.slow
def test_a_real_smolvla_answers_as_at_home(shared: Path, tmp_path: Path) -> None:
    checkpoint = shared / "checkpoints" / "smolvla-pusht-small"
    dataset = DatasetConfig(
        repo_id="lerobot/pusht", root=str(shared / "datasets" / "pusht"), episodes="185:188"
    )
    runs = []
    with serving(checkpoint) as served:
        for policy in (PolicyConfig(path=str(checkpoint)), PolicyConfig(url=served.url)):
            asked = EvalConfig(
                policy=policy,
                dataset=dataset,
                stride=40,
                latency_calls=0,
                output_dir=str(tmp_path / str(len(runs))),
            )
            runs.append(predicted(evaluate(asked).directory))
    np.testing.assert_allclose(runs[1], runs[0], rtol=1e-4, atol=0.05)  # px of 512
