"""Policy servers: what they are asked, what is believed of their answers, and what breaks."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import fakes
from policyscope.commands.check import check
from policyscope.commands.evaluate import evaluate
from policyscope.config import CheckConfig, DatasetConfig, EvalConfig, PolicyConfig
from policyscope.config.addresses import Place, parse_place, parse_url
from policyscope.errors import NonFiniteError, OutputError, RemoteError, UsageError
from policyscope.runs.record import read_record

fake_servers = pytest.importorskip(
    "fake_servers", reason="the extra remote is not installed", exc_type=ImportError
)
HORIZON, array, held, npy = (getattr(fake_servers, n) for n in ("HORIZON", "array", "held", "npy"))

_TIMES = ("latency", "throughput", "environment", "policy", "findings")


def config(data: Path, out: Path, url: str, **settings: Any) -> EvalConfig:
    policy = PolicyConfig(url=url, **settings.pop("policy", {"timeout_s": 10.0}))
    settings = {"latency_calls": 0, "batch_size": "4", **settings}
    return EvalConfig(
        policy=policy,
        dataset=DatasetConfig(repo_id="fake/data", root=str(data), action_units="px"),
        output_dir=str(out),
        **settings,
    )


def numbers(run: Path) -> dict[str, Any]:
    """The record without times, names and addresses."""
    record = json.loads(json.dumps(read_record(run).to_json()))
    record["plan"].pop("policy")
    return {k: v for k, v in record.items() if k not in _TIMES}


def predictions(run: Path) -> Any:
    return pq.read_table(run / "predictions.parquet").drop_columns(["model_call_s"])


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with fake_servers.openpi() as server:
        out = tmp_path_factory.mktemp("run") / "o"
        return evaluate(config(data, out, server.url)).directory


# ── what is asked, and what comes of it ───────────────────────────────


def test_a_server_is_scored_as_the_built_in_that_it_repeats(
    data: Path, unbroken: Path, tmp_path: Path
) -> None:
    theirs = read_record(unbroken)
    built_in = PolicyConfig(type="hold_state", chunk_size=HORIZON)
    ours = evaluate(replace(config(data, tmp_path, "ws://x"), policy=built_in)).record
    for scope in ("step1", "chunk"):
        a, b = (r["summary"][scope]["mae"]["value"] for r in (ours, theirs))
        assert a == pytest.approx(b, rel=1e-6)
    assert theirs["policy"]["type"] == "openpi"
    assert theirs["policy"]["path"].startswith("ws://127.0.0.1:")
    assert theirs["inputs"] == {fakes.IMAGE: fakes.IMAGE, fakes.STATE: fakes.STATE}


def test_an_openpi_server_sees_what_rename_map_says(data: Path, tmp_path: Path) -> None:
    names = {fakes.IMAGE: "images[cam_high]", fakes.STATE: ["observation/state", "half[0:1]"]}
    with fake_servers.openpi(held("observation/state")) as server:
        evaluate(config(data, tmp_path, server.url, rename_map=json.dumps(names), max_frames=2))
    seen = server.seen[0]
    assert set(seen) == {"images", "observation/state", "half", "prompt"}
    picture = seen["images"]["cam_high"]
    assert (picture.shape, picture.dtype) == ((64, 64, 3), np.uint8)
    assert picture.std() > 50  # of the dataset's noise: no float that became nought or one
    assert seen["half"].tolist() == seen["observation/state"][:1].tolist()
    assert seen["prompt"] == "push the block"


def test_pictures_come_with_their_channels_first_where_that_is_asked(
    data: Path, tmp_path: Path
) -> None:
    shown = []
    for axes in ("hwc", "chw"):
        with fake_servers.openpi() as server:
            policy = {"pictures": axes}
            evaluate(config(data, tmp_path / axes, server.url, policy=policy, max_frames=1))
            shown.append(server.seen[0][fakes.IMAGE])
    assert np.array_equal(shown[0], np.moveaxis(shown[1], 0, -1))


def test_time_on_the_way_is_not_the_policys(data: Path, tmp_path: Path) -> None:
    def slow(seen: dict[str, Any]) -> dict[str, Any]:
        threading.Event().wait(0.02)
        return {**held()(seen), "server_timing": {"infer_ms": 1.0}}

    with fake_servers.openpi(slow) as server:
        run = evaluate(config(data, tmp_path, server.url, latency_calls=5, max_frames=4))
    latency = run.record.latency
    assert latency.model_call is not None
    assert latency.end_to_end is not None
    assert latency.network is not None
    assert latency.model_call.max_ms == pytest.approx(1.0)
    assert latency.network.min_ms > 18
    total = latency.model_call.mean_ms + latency.network.mean_ms
    assert total == pytest.approx(latency.end_to_end.mean_ms)


@pytest.mark.parametrize("said", [-1.0, 1e9, float("nan"), True, "1", None])
def test_a_time_that_can_not_be_is_not_believed(said: Any, data: Path, tmp_path: Path) -> None:
    def answer(seen: dict[str, Any]) -> dict[str, Any]:
        return {**held()(seen), "server_timing": {"infer_ms": said}}

    with fake_servers.openpi(answer) as server:
        run = evaluate(config(data, tmp_path, server.url, latency_calls=2, max_frames=2))
    assert run.record.latency.network is None
    assert 0 < run.record.latency.first_call_ms < 10_000


def test_a_policy_that_draws_by_itself_is_not_reproducible(data: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)

    def noisy(seen: dict[str, Any]) -> dict[str, Any]:
        return {"actions": array(seen[fakes.STATE] + draw.normal(size=(HORIZON, 2)))}

    said = {}
    for name, answer in (("noisy", noisy), ("still", held())):
        with fake_servers.openpi(answer) as server:
            run = evaluate(config(data, tmp_path / name, server.url, max_frames=4))
        said[name] = {f.code: f for f in run.record.findings}["policy_not_reproducible"]
    assert said["noisy"].severity == "warning"
    assert "Not reproducible" in said["noisy"].message
    assert said["still"].severity == "info"


def test_check_asks_a_server_and_sees_a_wrong_unit(data: Path) -> None:
    def degrees(seen: dict[str, Any]) -> dict[str, Any]:
        return {"actions": array(np.tile(np.deg2rad(seen[fakes.STATE]), (HORIZON, 1)))}

    dataset = DatasetConfig(repo_id="fake/data", root=str(data), action_units="deg")
    codes = []
    for answer in (held(), degrees):
        with fake_servers.openpi(answer) as server:
            found = check(CheckConfig(policy=PolicyConfig(url=server.url), dataset=dataset))
            codes.append({f.code for f in found.findings if f.severity != "info"})
    assert "unit_suspected" not in codes[0]
    assert codes[1] - codes[0]


def test_a_server_of_more_dims_is_asked_for_those_that_are_named(
    data: Path, tmp_path: Path
) -> None:
    def wide(seen: dict[str, Any]) -> dict[str, Any]:
        state = seen[fakes.STATE]
        return {"actions": array(np.tile([9e9, state[0], state[1]], (HORIZON, 1)), "<f8")}

    with fake_servers.openpi(wide) as server:
        with pytest.raises(Exception, match="action_dim_mismatch"):
            evaluate(config(data, tmp_path / "a", server.url))
        run = evaluate(config(data, tmp_path / "b", server.url, action_dims="1,2"))
    assert run.record["summary"]["step1"]["mae"]["value"] < 1e3


# ── what breaks ───────────────────────────────────────────────────────


def test_a_server_that_dies_and_comes_back_changes_no_number(
    data: Path, unbroken: Path, tmp_path: Path
) -> None:
    with fake_servers.openpi(dies_after=13) as server:
        run = evaluate(config(data, tmp_path, server.url)).directory
        assert server.calls == 57 + 2 + 1 + 1  # frames, the trial, the first call, the lost one
    assert predictions(run).equals(predictions(unbroken))
    assert numbers(run) == numbers(unbroken)


def test_a_run_whose_server_went_for_good_goes_on_later(
    data: Path, unbroken: Path, tmp_path: Path
) -> None:
    policy = {"patience_s": 0.3, "timeout_s": 10.0}
    server = fake_servers.Openpi()
    answer = server._answer

    def last(seen: dict[str, Any]) -> Any:
        if server.calls > 20:
            threading.Thread(target=server.stop).start()
            threading.Event().wait(0.3)
        return answer(seen)

    server._answer = last
    with pytest.raises(RemoteError, match="--resume"):
        evaluate(config(data, tmp_path, server.url, policy=policy))
    with fake_servers.openpi(port=server.port) as again:
        run = evaluate(config(data, tmp_path, again.url, policy=policy, resume=True)).directory
        assert again.calls < 57
    assert predictions(run).equals(predictions(unbroken))
    assert numbers(run) == numbers(unbroken)


def test_another_server_does_not_continue_a_run(data: Path, tmp_path: Path) -> None:
    with fake_servers.openpi(metadata={"policy": "a"}) as server:
        evaluate(config(data, tmp_path, server.url))
    with (
        fake_servers.openpi(metadata={"policy": "b"}, port=server.port) as server,
        pytest.raises(OutputError, match="policy"),
    ):
        evaluate(config(data, tmp_path, server.url, resume=True))


def test_a_server_that_comes_back_as_another_is_not_asked(data: Path, tmp_path: Path) -> None:
    server = fake_servers.Openpi(metadata={"policy": "a"}, dies_after=5)
    served = []

    def change(seen: dict[str, Any]) -> Any:
        served.append(seen)
        server._metadata = {"policy": "b"}
        return held()(seen)

    server._answer = change
    with pytest.raises(RemoteError, match="something else of itself"):
        evaluate(config(data, tmp_path, server.url))
    server.stop()


def test_an_answer_that_does_not_come_is_asked_for_again(data: Path, tmp_path: Path) -> None:
    asked = []

    def slow(seen: dict[str, Any]) -> Any:
        asked.append(seen)
        if len(asked) == 4:
            threading.Event().wait(0.6)
        return held()(seen)

    with fake_servers.openpi(slow) as server:
        policy = {"timeout_s": 0.3}
        evaluate(config(data, tmp_path / "a", server.url, policy=policy, max_frames=5))
        always = {"timeout_s": 0.001}
        server._answer = lambda seen: threading.Event().wait(0.1) or held()(seen)
        with pytest.raises(RemoteError, match=r"none within 0.001 s .* 3 times"):
            evaluate(config(data, tmp_path / "b", server.url, policy=always))


def test_nobody_is_there(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policyscope.policies.remote.openpi.FIRST_S", 0.1)
    url = f"ws://127.0.0.1:{fake_servers.free_port()}"
    with pytest.raises(RemoteError, match=r"a policy server within .*refused.*start the server"):
        evaluate(config(data, tmp_path, url))
    assert not (tmp_path / "run.json").exists()


# ── what a server answers is a stranger's ─────────────────────────────

_BOMB = {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f8", b"shape": [2**30, 2**30]}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({}, "actions as numbers.*found none"),
        ({"actions": [[1.0, 2.0]]}, "found list"),
        ({"actions": array([1.0, 2.0])}, r"shape \[2\]"),
        ({"actions": array(np.zeros((0, 2)))}, r"shape \[0, 2\]"),
        ({"actions": array(np.zeros((6, 2)), "|b1")}, "dtype bool"),
        ({"actions": array(np.zeros((20_000, 1)))}, r"shape \[20000, 1\]"),
        ({"actions": {**array([[1.0]]), b"dtype": "|O"}}, "dtype '|O'"),
        ({"actions": {**array([[1.0]]), b"dtype": "(1000,1000)f4"}}, "an array of dtype"),
        ({"actions": {**array([[1.0]]), b"dtype": "<V2"}}, "an array of dtype"),
        ({"actions": {**array([[1.0]]), b"shape": [1, 2]}}, r"shape \[1, 2\] and <f4 in 4 bytes"),
        ({"actions": {**array([[1.0]]), b"shape": [-1, -1]}}, "an array of shape"),
        ({"actions": {**array([[1.0]]), b"shape": [1] * 9}}, "an array of shape"),
        ({"actions": {**array([[1.0]]), b"data": "text"}}, "in str"),
        ({"actions": {b"__ndarray__": True}}, "msgpack of numbers"),
        ({"actions": _BOMB}, r"in 8 bytes"),
        ([1, 2], "a table with actions; found list"),
        (b"\xc1", "msgpack of numbers"),
        (b"\x91" * 5000 + b"\xc0", "msgpack of numbers"),
        (fake_servers.msgpack.packb([[]] * 20_000), "more than 10000 tables"),
        (b"\0" * (17 * 2**20), "at most 16,777,216 bytes; found a larger one"),
        ("Traceback\n  File x\nKeyError: 'observation/state'\n", "KeyError: 'observation/state'"),
        ("\x1b[31mred", r"\\x1b\[31mred"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) and value.isprintable() else "",
)
def test_an_answer_that_is_none(answer: Any, said: str, data: Path, tmp_path: Path) -> None:
    with (
        fake_servers.openpi(lambda _: answer) as server,
        pytest.raises(RemoteError, match=said.replace("'|O'", r"'\|O'")),
    ):
        evaluate(config(data, tmp_path, server.url))


def test_an_answer_that_changes_its_shape_or_is_not_finite(data: Path, tmp_path: Path) -> None:
    bad = {"shape": np.zeros((HORIZON - 1, 2)), "nan": np.full((HORIZON, 2), np.nan)}
    for name, kind in (("shape", Exception), ("nan", NonFiniteError)):
        with fake_servers.openpi() as server:
            good = server._answer

            def turn(
                seen: Any,
                server: Any = server,
                good: Any = good,
                name: str = name,
            ) -> Any:
                return good(seen) if server.calls < 30 else {"actions": array(bad[name])}

            server._answer = turn
            with pytest.raises(kind, match="shape" if name == "shape" else "finite"):
                evaluate(config(data, tmp_path / name, server.url))


@pytest.mark.parametrize(
    "said",
    [
        {"policyscope": 1},
        {"policyscope": {"version": 2}},
        {"policyscope": {"version": 1, "chunk_size": 10**9}},
    ],
)
def test_a_server_that_says_nonsense_of_itself(said: Any, data: Path, tmp_path: Path) -> None:
    with (
        fake_servers.openpi(metadata=said) as server,
        pytest.raises(RemoteError, match="what policyscope serve says"),
    ):
        evaluate(config(data, tmp_path, server.url))


# ── who may ask ───────────────────────────────────────────────────────


def test_a_key_comes_from_the_environment_and_is_written_nowhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_servers.openpi(key="sesame-17") as server:
        with pytest.raises(RemoteError, match=r"401: the key is wrong.*POLICYSCOPE_API_KEY"):
            evaluate(config(data, tmp_path / "a", server.url))
        monkeypatch.setenv("POLICYSCOPE_API_KEY", "sesame-17")
        run = evaluate(config(data, tmp_path / "b", server.url, max_frames=3))
    for file in run.directory.rglob("*"):
        assert not file.is_file() or b"sesame-17" not in file.read_bytes()


def test_a_server_without_a_websocket(data: Path, tmp_path: Path) -> None:
    with fake_servers.openpi() as server, pytest.raises(RemoteError, match="HTTP status 200"):
        evaluate(config(data, tmp_path, server.url + "/healthz"))


def test_tls_needs_a_certificate_that_is_trusted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = certified(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with fake_servers.openpi(tls=tls) as server:
        with pytest.raises(RemoteError, match=r"certificate.*SSL_CERT_FILE"):
            evaluate(config(data, tmp_path / "a", server.url))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        evaluate(config(data, tmp_path / "b", server.url, max_frames=2))


def certified(folder: Path) -> tuple[Path, Path]:
    """A certificate of this machine's own."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    said = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=me"
    named = ["-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(
            ["openssl", *said.split(), *named, "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("no openssl on this machine")
    return certificate, key


# ── addresses and places ──────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("ws://robot:8000", "ws://robot:8000"),
        ("wss://robot", "wss://robot:443"),
        ("ws://robot/a/b?c=d", "ws://robot:80/a/b?c=d"),
        ("tcp://10.0.0.1", "zmq://10.0.0.1:5555"),
        ("zmq://[::1]:7", "zmq://[::1]:7"),
    ],
)
def test_addresses(text: str, url: str) -> None:
    assert parse_url(text).url == url
    assert parse_url(url).url == url


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grpc://robot:8080", r"pickles both ways.*ws://"),
        ("http://robot", "ws://, wss:// or zmq://"),
        ("robot:8000", "ws://, wss:// or zmq://"),
        ("ws://", "with a host"),
        ("ws://robot:99999", "with a host"),
        ("zmq://robot/path", "with a host"),
        ("ws://me:secret@robot", "POLICYSCOPE_API_KEY"),
    ],
)
def test_addresses_that_are_none(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as found:
        EvalConfig(policy=PolicyConfig(url=text), dataset=DatasetConfig(repo_id="a/b"))
    assert "secret" not in str(found.value)
    assert "\n" not in str(found.value)


def test_places() -> None:
    assert parse_place("observation/state") == Place("observation/state")
    assert parse_place("images[cam_high]") == Place("images", ("cam_high",))
    assert parse_place("a[b][c][2:]") == Place("a", ("b", "c"), slice(2, None))
    for text in ("", "[a]", "a[", "a]", "a[b]c"):
        with pytest.raises(UsageError, match="--rename_map"):
            parse_place(text)


def test_rename_map_names_what_is_there(data: Path, tmp_path: Path) -> None:
    with fake_servers.openpi() as server, pytest.raises(UsageError, match=r"observation\.nose"):
        evaluate(config(data, tmp_path, server.url, rename_map='{"observation.nose": "x"}'))


def test_a_server_is_one_policy() -> None:
    with pytest.raises(UsageError, match="exactly one of them; found several"):
        EvalConfig(
            policy=PolicyConfig(path="x", url="ws://a"), dataset=DatasetConfig(repo_id="a/b")
        )


# ── GR00T ─────────────────────────────────────────────────────────────

_NAMES = {fakes.IMAGE: "video.top", fakes.STATE: ["state.x[0:1]", "state.y[1:2]"]}


def modalities(*, flat: bool = False, lags: tuple[int, ...] = (0,)) -> dict[str, Any]:
    keys = {"video": ["top"], "state": ["x", "y"], "action": ["x", "y"], "language": ["task"]}
    said: dict[str, Any] = {}
    for name, names in keys.items():
        table = {
            "delta_indices": list(range(HORIZON)) if name == "action" else list(lags),
            "modality_keys": [f"{name}.{key}" if flat else key for key in names],
        }
        if flat and name == "language":
            table["modality_keys"] = ["annotation.human.task_description"]
        if name == "language":
            table["delta_indices"] = [0]
        said[name] = {
            "__ModalityConfig_class__": True,
            "as_json": json.dumps(table) if flat else table,
        }
    return said


def moved(seen: dict[str, Any]) -> Any:
    state = seen["state"]
    assert len(seen["language"]["task"]) == len(state["x"])
    actions = {k: npy(np.repeat(state[k][:, -1:], HORIZON, axis=1)) for k in ("x", "y")}
    return [actions, {}]


def moved_flat(seen: dict[str, Any]) -> Any:
    assert isinstance(seen["annotation.human.task_description"][0], str)
    return {
        f"action.{k}": npy(np.repeat(seen[f"state.{k}"][:, -1:, 0], HORIZON, axis=1))
        for k in ("x", "y")
    }


@pytest.mark.parametrize("flat", [False, True], ids=["N1.6", "N1.5"])
def test_groot_is_scored_as_the_built_in_that_it_repeats(
    flat: bool, data: Path, unbroken: Path, tmp_path: Path
) -> None:
    said = modalities(flat=flat)
    with fake_servers.groot(said, moved_flat if flat else moved, flat=flat) as server:
        run = evaluate(config(data, tmp_path, server.url, rename_map=json.dumps(_NAMES))).directory
    assert predictions(run).equals(predictions(unbroken))
    assert server.calls < 57 / 4 + 5  # batches of four
    picture = (server.seen[-1] if flat else server.seen[-1]["video"])[
        "video.top" if flat else "top"
    ]
    assert (picture.shape[1:], picture.dtype) == ((1, 64, 64, 3), np.uint8)


def test_groot_is_shown_the_past_that_it_asks_for(data: Path, tmp_path: Path) -> None:
    with fake_servers.groot(modalities(lags=(-2, 0)), moved) as server:
        names = json.dumps(_NAMES)
        evaluate(config(data, tmp_path, server.url, rename_map=names, max_frames=4))
    states = server.seen[-1]["state"]["x"]
    assert states.shape == (4, 2, 1)
    assert states[3, 0] == states[1, 1]  # two steps before the fourth frame is the second
    assert states[0, 0] == states[0, 1]  # before an episode nothing is


@pytest.mark.parametrize("fault", ["hangs_at", "dies_at"])
def test_groot_that_hangs_or_dies_changes_no_number(
    fault: str, data: Path, unbroken: Path, tmp_path: Path
) -> None:
    policy = {"timeout_s": 0.5 if fault == "hangs_at" else 30.0, "patience_s": 10.0}
    settings: dict[str, Any] = {"rename_map": json.dumps(_NAMES), "policy": policy}
    with fake_servers.groot(modalities(), moved, **{fault: 7}) as server:
        if fault == "dies_at":
            threading.Timer(0.5, _again, (server.port,)).start()
        run = evaluate(config(data, tmp_path, server.url, **settings)).directory
    for later in _LATER:
        later.stop()
    _LATER.clear()
    assert predictions(run).equals(predictions(unbroken))


_LATER: list[Any] = []


def _again(port: int) -> None:
    _LATER.append(fake_servers.Groot(modalities(), moved, port=port))


def test_groot_wants_its_token(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = json.dumps(_NAMES)
    with fake_servers.groot(modalities(), moved, token="sesame") as server:
        with pytest.raises(RemoteError, match=r"Invalid API token.*POLICYSCOPE_API_KEY"):
            evaluate(config(data, tmp_path / "a", server.url, rename_map=names))
        monkeypatch.setenv("POLICYSCOPE_API_KEY", "sesame")
        evaluate(config(data, tmp_path / "b", server.url, rename_map=names, max_frames=1))


def test_groot_says_what_it_lacks(data: Path, tmp_path: Path) -> None:
    with fake_servers.groot(modalities(), moved) as server:
        with pytest.raises(UsageError, match=r"video\.top, state\.x, state\.y.*found none for"):
            evaluate(config(data, tmp_path, server.url))
        names = json.dumps({**_NAMES, fakes.IMAGE: ["video.top", "video.nose"]})
        with pytest.raises(UsageError, match=r"video\.nose, which it does not read"):
            evaluate(config(data, tmp_path, server.url, rename_map=names))


def _npy_of(header: str, body: bytes = b"") -> dict[str, Any]:
    text = header.encode() + b" " * (118 - len(header) - 1) + b"\n"
    start = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little")
    return {"__ndarray_class__": True, "as_npy": start + text + body}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([{"x": npy(np.zeros((1, 6, 1)))}, {}], "y as numbers.*found none"),
        ([{k: npy(np.zeros((9, 6, 1))) for k in "xy"}, {}], "chunks of one length"),
        ({"error": "boom\nValueError: video.top"}, "ValueError: video.top"),
        ("text", "a table of actions"),
        (b"ERROR", "msgpack of numbers"),
        (
            [{"x": _npy_of("{'descr':'<f8','fortran_order':False,'shape':(1073741824,999)}")}, {}],
            "in 0 bytes",
        ),
        ([{"x": _npy_of("{'descr':'|O','fortran_order':False,'shape':(1,)}", b"\0" * 8)}, {}], "O"),
        ([{"x": {"__ndarray_class__": True, "as_npy": b"PK\3\4"}}, {}], "msgpack of numbers"),
        ([{"x": {"__ndarray_class__": True, "as_npy": 3}}, {}], "a int as a .npy file"),
    ],
)
def test_groot_answers_nonsense(answer: Any, said: str, data: Path, tmp_path: Path) -> None:
    with (
        fake_servers.groot(modalities(), lambda _: answer) as server,
        pytest.raises(RemoteError, match=said),
    ):
        evaluate(config(data, tmp_path, server.url, rename_map=json.dumps(_NAMES)))


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ([], "no table of modalities"),
        ({**modalities(), "action": 3}, "modalities"),
        ({"video": {}, "state": {}, "action": {}}, "modality_keys"),
        (modalities(lags=(0, 5)), "the past and the present"),
        (modalities(lags=tuple(range(-900, 1))), "at most 64 steps"),
    ],
)
def test_groot_says_nonsense_of_itself(said: Any, found: str, data: Path, tmp_path: Path) -> None:
    with (
        fake_servers.groot(said, moved) as server,
        pytest.raises(RemoteError, match=re.escape(found)),
    ):
        evaluate(config(data, tmp_path, server.url, rename_map=json.dumps(_NAMES)))
