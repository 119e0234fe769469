"""A policy behind a websocket, for whoever speaks openpi's protocol."""

from __future__ import annotations

import hmac
import http
import os
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

from rich.console import Console

from policyscope.actions.meanings import UNDECLARED_UNIT
from policyscope.actions.robots import Robot
from policyscope.actions.spaces import ActionSchema
from policyscope.checks.preflight import preflight_policy
from policyscope.commands.streams import complain
from policyscope.config import ServeConfig
from policyscope.data.facts import ACTION
from policyscope.data.source import FrameSource
from policyscope.errors import Finding, InputError, RefusedError, UsageError, errors_in, first_line
from policyscope.policies.alignment import align
from policyscope.policies.base import Policy
from policyscope.policies.checkpoint import Checkpoint
from policyscope.policies.open import CheckedPolicy, open_checkpoint, require_keys
from policyscope.policies.own import open_own
from policyscope.policies.reading import read_checkpoint
from policyscope.policies.remote.link import KEY
from policyscope.policies.remote.served import Served, ServedInput
from policyscope.policies.remote.serving import MOST_QUESTION, Answering, BadQuestionError
from policyscope.policies.remote.wire import require_extra
from policyscope.views.words import findings_text

_MOST_CLIENTS = 16
_FAILED, _BUSY = 1011, 1013


@final
@dataclass(frozen=True)
class Serving:
    """A server that listens.

    Attributes:
        url: by which it is asked.
        served: what it says of its policy.
        findings: what is to be said of the checkpoint, and of who may ask.
        run: answers until `stop` is called, or the process is interrupted.
        stop: ends it.
    """

    url: str
    served: Served
    findings: tuple[Finding, ...]
    run: Callable[[], None]
    stop: Callable[[], None]


def serve(config: ServeConfig) -> Serving:
    """Open a policy and listen; nobody is answered before ``run`` is called.

    Raises:
        CheckpointError: it can't be opened.
        RefusedError: findings of severity error.
        UsageError: the address or the certificate can't be used.
    """
    server = require_extra("websockets.sync.server")
    answering, findings = _opened(config)
    key = os.environ.get(KEY)
    if key is None and config.host not in ("127.0.0.1", "::1", "localhost"):
        findings = (*findings, _open_door(config.host))
    try:
        listening = server.serve(
            _handler(answering),
            config.host,
            config.port,
            ssl=_tls(config),
            origins=[None],  # no page in a browser may ask
            compression=None,
            process_request=_door(key),
            max_size=MOST_QUESTION,
        )
    except OSError as error:
        raise UsageError(
            f"--host {config.host} --port {config.port}",
            expected="an address to listen at",
            found=first_line(error),
            fix="--port 0 takes a free one",
        ) from error
    port = listening.socket.getsockname()[1]
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = f"{'wss' if config.tls_cert else 'ws'}://{host}:{port}"
    return Serving(url, answering.served, findings, listening.serve_forever, listening.shutdown)


def _opened(config: ServeConfig) -> tuple[Answering, tuple[Finding, ...]]:
    if config.asked.own:
        return _own(config), ()
    options = replace(config, policy=config.asked, checkpoint=None)
    checkpoint = read_checkpoint(options.policy)
    robot = _robot(checkpoint)
    alignment = align(checkpoint, robot, options)
    findings = preflight_policy(checkpoint, robot, alignment, options)
    blocking = [f for f in errors_in(findings) if not (config.force and f.forceable)]
    if blocking:
        raise RefusedError(tuple(blocking))
    policy = open_checkpoint(checkpoint, robot, alignment, options)
    return _answering(policy, robot, config.seed, checkpoint.n_parameters), findings


def _own(config: ServeConfig) -> Answering:
    """A class of the user's, made for the robot of a dataset."""
    robot = FrameSource(config.dataset, repo_id=config.dataset.name).facts.robot
    policy = open_own(config.asked.name, robot)
    require_keys(policy, robot)
    checked = CheckedPolicy(policy, robot.actions, config.n_action_steps)
    return _answering(checked, robot, config.seed, policy.spec.n_parameters)


def _answering(policy: Policy, robot: Robot, seed: int, n_parameters: int) -> Answering:
    spec = policy.spec
    served = Served(
        type=re.sub(r"[^\w.:-]", "_", spec.type)[:100] or "policy",
        sha256=spec.sha256,
        n_parameters=n_parameters,
        chunk_size=spec.chunk_size,
        n_action_steps=spec.n_action_steps,
        inputs={
            key: ServedInput(
                kind="picture" if key in robot.cameras else "numbers",
                shape=list(robot.features[key]),
            )
            for key in sorted(spec.keys)
        },
        lags=list(spec.steps),
        draws=spec.draws,
        seed=seed,
        action_names=list(robot.actions.names),
    )
    return Answering(policy, served)


def _robot(checkpoint: Checkpoint) -> Robot:
    """A robot that has just what the checkpoint reads, under the names by which it is fed."""
    before = {policy: source for source, policy in checkpoint.renames.items()}
    settings = checkpoint.settings
    shapes = {
        before.get(key, key): tuple(settings.input_features[key].shape)
        for key in checkpoint.inputs
        if "empty_camera" not in key
    }
    kinds = {before.get(key, key): kind for key, kind in checkpoint.inputs.items()}
    dim = checkpoint.action_dim
    names = tuple(settings.action_feature_names or ())
    if len(names) != dim:
        names = tuple(f"action[{i}]" for i in range(dim))
    return Robot(
        kind="dataset",
        name=checkpoint.path,
        fps=settings.fps or 1.0,
        robot_type=None,
        actions=ActionSchema(names, (UNDECLARED_UNIT,) * dim),
        state_names=tuple(f"state[{i}]" for i in range(checkpoint.state_dim or 0)),
        features={**shapes, ACTION: (dim,)},
        cameras={key: shape for key, shape in shapes.items() if kinds[key] == "VISUAL"},
    )


def _open_door(host: str) -> Finding:
    return Finding(
        "anybody_may_ask",
        "warning",
        f"expected a key, since {host} can be reached from other machines; found none: anybody "
        "may ask.",
        f"{KEY}=… in the environment of both sides, and --tls_cert, so that nobody reads it",
    )


def _tls(config: ServeConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except (OSError, ValueError) as error:
        raise UsageError(
            "--tls_cert / --tls_key",
            expected="a certificate and its private key, in PEM files",
            found=first_line(error),
            fix="--tls_cert cert.pem --tls_key key.pem",
        ) from error
    return context


def _door(key: str | None) -> Callable[[Any, Any], Any]:
    """What looks at a request before it becomes a websocket."""

    def look(connection: Any, request: Any) -> Any:
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        given = request.headers.get_all("Authorization")
        if key is not None and not any(
            hmac.compare_digest(one.encode(), f"Api-Key {key}".encode()) for one in given
        ):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "a key is needed\n")
        return None

    return look


def _handler(answering: Answering) -> Callable[[Any], None]:
    closed = require_extra("websockets").exceptions.ConnectionClosed
    seats = threading.BoundedSemaphore(_MOST_CLIENTS)

    def talk(connection: Any) -> None:
        connection.send(answering.hello())
        for count, message in enumerate(connection):
            try:
                answer = answering.answer(message, count)
            except InputError as error:  # said as openpi's server says it: a text, then the end
                if not isinstance(error, BadQuestionError):
                    complain(error)  # here alone: it may name files
                connection.send(f"expected {error.expected}; found {error.found}")
                connection.close(_FAILED, "see the text before")
                return
            connection.send(answer)

    def handle(connection: Any) -> None:
        if not seats.acquire(blocking=False):
            connection.close(_BUSY, "too many connections")
            return
        try:
            talk(connection)
        except closed:
            pass
        finally:
            seats.release()

    return handle


def serve_and_say(config: ServeConfig, out: Console) -> int:
    """Serve until interrupted, and say where; the exit status."""
    serving = serve(config)
    if serving.findings:
        out.print(findings_text(serving.findings))
    out.print(
        f"{serving.served.type} at {serving.url}: policyscope eval --policy.url {serving.url} …",
        markup=False,
        soft_wrap=True,
    )
    try:
        serving.run()
    except KeyboardInterrupt:
        serving.stop()
    return 0
