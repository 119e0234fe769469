"""A PushT expert without memory: the current state alone decides, so a network can copy it.

The planner of ``../make_pusht_demos`` commits itself to a push and draws its candidates at random;
asked again one step later, it may change its mind. This one ranks a fixed list of pushes. What a
push does to the block is looked up: PushT's contact has no friction and the block no momentum, so
a push displaces the block in the block's own frame by an amount that depends on the pushing point,
the direction and the length alone (`push_table` measures it in gym-pusht). Units: those of the
512 x 512 board, radians, environment steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import gym_pusht
import gymnasium as gym
import numba
import numpy as np
import shapely.geometry as sg

RADIUS = 15.0  # of the agent
BACK = 12.0  # a push starts this far before the contact
TRAVEL_LEAD, PUSH_LEAD = 36.0, 30.0  # how far the target is ahead of the agent on its path
ON_LINE = 7.0  # this close to a push's line, the agent may push
INTO = 10.0  # so far inside the block it still touches it (it never is)
PATIENCE = 12.0  # steps: higher for fewer, longer pushes
LENGTHS = np.concatenate([np.arange(1.0, 12.0, 1.0), np.arange(12.0, 121.0, 4.0)])
OUTLINE = np.array(
    [(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)], float
)
GOAL = np.array([256.0, 256.0, math.pi / 4])
MIDDLE = OUTLINE.mean(0)
SPREAD = float(((OUTLINE - MIDDLE) ** 2).sum(1).mean())  # mean squared distance from MIDDLE


@dataclass(frozen=True)
class Table:
    """What the expert knows, all of it in the block's frame.

    Attributes:
        contact: (K, 2) the agent's position when the push touches the block.
        approach: (K,) whether the agent goes there to push; else it pushes there if it is there.
        direction: (K, 2) unit vector of the push.
        moved: (K, L, 3) displacement of the block after each of `LENGTHS`.
        obstacle: (E, 2) where the agent's centre must not be when it travels: a polygon.
        nodes: (M, 2) corners of the ways around the block.
        between: (M, M) length of the straight way between nodes, infinite where blocked.
        final: (M, K) the same from a node to the start of a push.
    """

    contact: np.ndarray
    approach: np.ndarray
    direction: np.ndarray
    moved: np.ndarray
    obstacle: np.ndarray
    nodes: np.ndarray
    between: np.ndarray
    final: np.ndarray

    def arrays(self) -> tuple[np.ndarray, ...]:
        """For numba."""
        return (
            self.contact,
            self.approach,
            self.direction,
            self.moved,
            self.obstacle,
            self.nodes,
            self.between,
            self.final,
        )


def _contacts(spacing: float, every: int, degrees: tuple[float, ...]) -> tuple[np.ndarray, ...]:
    """Where and along what the agent pushes: points along each edge, some directions at each."""
    block = sg.Polygon(OUTLINE)
    contact, direction, approach = [], [], []
    for a, b in zip(OUTLINE, np.roll(OUTLINE, -1, axis=0), strict=True):
        edge = (b - a) / np.linalg.norm(b - a)
        inward = np.array([-edge[1], edge[0]])
        count = max(2, round(float(np.linalg.norm(b - a)) / spacing))
        for number in range(count):
            share = (number + 0.5) / count
            touch = a + share * (b - a) - RADIUS * inward
            for angle in np.radians(degrees):
                along = math.cos(angle) * inward + math.sin(angle) * edge
                start = touch - BACK * along
                if block.distance(sg.Point(touch)) < RADIUS - 0.1:
                    continue  # a neighbouring edge is in the way
                if block.distance(sg.Point(start)) < RADIUS + 5:
                    continue
                contact.append(touch)
                direction.append(along)
                approach.append(number % every == every // 2)
    return np.array(contact), np.array(direction), np.array(approach)


def _measure(env: gym_pusht.envs.PushTEnv, contact: np.ndarray, along: np.ndarray) -> np.ndarray:
    """(L, 3) what a straight push does to a block at (256, 256, 0)."""
    origin, speed = np.array([256.0, 256.0]), 50.0
    env.block.angle = 0.0
    env.block.position = tuple(origin)
    env.block.velocity, env.block.angular_velocity = (0, 0), 0
    env.agent.position = tuple(origin + contact)
    env.agent.velocity = tuple(speed * along)
    env.space.reindex_shapes_for_body(env.agent)
    env.space.reindex_shapes_for_body(env.block)
    distance, pose = [0.0], [np.zeros(3)]
    while distance[-1] < LENGTHS[-1]:
        env.space.step(env.dt)
        distance.append(distance[-1] + speed * env.dt)
        pose.append(np.array([*(np.array(env.block.position) - origin), env.block.angle]))
    return np.stack([np.interp(LENGTHS, distance, np.array(pose)[:, i]) for i in range(3)], 1)


def push_table(spacing: float = 5.0, every: int = 5, degrees: tuple[float, ...] = (0,)) -> Table:
    """Measure every push once in gym-pusht, and the ways around the block."""
    env = gym.make("gym_pusht/PushT-v0", obs_type="state").unwrapped
    env.reset(seed=0)
    for shape in list(env.space.shapes):  # a board without walls
        if shape.body.body_type == shape.body.STATIC:
            env.space.remove(shape)
    contact, direction, approach = _contacts(spacing, every, degrees)
    moved = np.stack([_measure(env, c, d) for c, d in zip(contact, direction, strict=True)])
    block = sg.Polygon(OUTLINE)
    grown = sg.polygon.orient(block.buffer(RADIUS + 1, join_style="mitre"))
    ring = block.buffer(RADIUS + 14, join_style="mitre").exterior
    nodes = np.array(ring.coords)[:-1]
    starts = contact - BACK * direction

    def way(a: np.ndarray, b: np.ndarray) -> float:
        crossed = grown.buffer(-0.01).intersects(sg.LineString([a, b]))
        return math.inf if crossed else float(np.linalg.norm(b - a))

    return Table(
        contact,
        approach,
        direction,
        moved,
        np.array(grown.exterior.coords)[:-1],
        nodes,
        np.array([[way(a, b) for b in nodes] for a in nodes]),
        np.array([[way(a, b) for b in starts] for a in nodes]),
    )


@numba.njit(cache=True, fastmath=True)
def _error(x, y, angle, spread):
    """Root of the mean squared distance of the block's corners from their places in the goal.

    With a ``spread`` of 0 instead of `SPREAD`, how far the block's middle is from its place.
    """
    c, s = math.cos(angle), math.sin(angle)
    gc, gs = math.cos(GOAL[2]), math.sin(GOAL[2])
    dx = x + c * MIDDLE[0] - s * MIDDLE[1] - GOAL[0] - gc * MIDDLE[0] + gs * MIDDLE[1]
    dy = y + s * MIDDLE[0] + c * MIDDLE[1] - GOAL[1] - gs * MIDDLE[0] - gc * MIDDLE[1]
    return math.sqrt(dx * dx + dy * dy + 2 * (1 - math.cos(angle - GOAL[2])) * spread)


@numba.njit(cache=True)
def _blocked(ax, ay, bx, by, polygon):
    """Whether a segment crosses the polygon's outline."""
    n = len(polygon)
    for i in range(n):
        cx, cy = polygon[i, 0], polygon[i, 1]
        dx, dy = polygon[(i + 1) % n, 0], polygon[(i + 1) % n, 1]
        d1 = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        d2 = (bx - ax) * (dy - ay) - (by - ay) * (dx - ax)
        d3 = (dx - cx) * (ay - cy) - (dy - cy) * (ax - cx)
        d4 = (dx - cx) * (by - cy) - (dy - cy) * (bx - cx)
        if d1 * d2 < 0 and d3 * d4 < 0:
            return True
    return False


@numba.njit(cache=True)
def _leave(ax, ay, polygon):
    """The agent's position, or the nearest one a little outside of the polygon if it is inside."""
    n, inside, best = len(polygon), False, 1e9
    ox, oy = ax, ay
    for i in range(n):
        cx, cy = polygon[i, 0], polygon[i, 1]
        dx, dy = polygon[(i + 1) % n, 0], polygon[(i + 1) % n, 1]
        if (cy > ay) != (dy > ay) and ax < (dx - cx) * (ay - cy) / (dy - cy) + cx:
            inside = not inside
        ex, ey = dx - cx, dy - cy
        share = min(1.0, max(0.0, ((ax - cx) * ex + (ay - cy) * ey) / (ex * ex + ey * ey)))
        px, py = cx + share * ex, cy + share * ey
        distance = math.hypot(px - ax, py - ay)
        if distance < best:
            best = distance
            length = math.hypot(ex, ey)
            ox, oy = px + 4 * ey / length, py - 4 * ex / length
    if inside:
        return ox, oy
    return ax, ay


@numba.njit(cache=True)
def _ways(bx, by, pose, table, travel, chain):
    """Shortest ways around the block, from a position in its frame to the start of every push.

    Fills ``travel`` (K) with their lengths and ``chain`` (K, M) with the nodes they pass, -1 after
    the last one.
    """
    _, _, _, _, obstacle, nodes, between, final = table
    c, s = math.cos(pose[2]), math.sin(pose[2])
    m, count = len(nodes), final.shape[1]
    cost = between.copy()
    follows = np.empty((m, m), np.int64)
    first = np.full(m, np.inf)
    for i in range(m):
        follows[:, i] = i
        x = pose[0] + c * nodes[i, 0] - s * nodes[i, 1]
        y = pose[1] + s * nodes[i, 0] + c * nodes[i, 1]
        if min(x, y) < 18 or max(x, y) > 494:  # the board ends here
            cost[i, :] = np.inf
            cost[:, i] = np.inf
        elif not _blocked(bx, by, nodes[i, 0], nodes[i, 1], obstacle):
            first[i] = math.hypot(bx - nodes[i, 0], by - nodes[i, 1])
    for k in range(m):
        for i in range(m):
            for j in range(m):
                if cost[i, k] + cost[k, j] < cost[i, j]:
                    cost[i, j] = cost[i, k] + cost[k, j]
                    follows[i, j] = follows[i, k]
    for k in range(count):
        travel[k] = np.inf
        chain[k, :] = -1
        enter, leave = -1, -1
        for i in range(m):
            for j in range(m):
                length = first[i] + (cost[i, j] if i != j else 0.0) + final[j, k]
                if length < travel[k]:
                    travel[k], enter, leave = length, i, j
        place = 0
        while enter >= 0:
            chain[k, place] = enter
            place += 1
            enter = follows[enter, leave] if enter != leave else -1


@numba.njit(cache=True)
def _inside(x, y, margin):
    return margin < x < 512 - margin and margin < y < 512 - margin


@numba.njit(cache=True)
def _fits(x, y, angle):
    """Whether the block at this pose lies within the walls."""
    c, s = math.cos(angle), math.sin(angle)
    for i in range(len(OUTLINE)):
        px = x + c * OUTLINE[i, 0] - s * OUTLINE[i, 1]
        py = y + s * OUTLINE[i, 0] + c * OUTLINE[i, 1]
        if not _inside(px, py, 9.0):
            return False
    return True


@numba.njit(cache=True)
def _score(ax, ay, bx, by, pose, table, travel, chain, spread, scores, chosen, at_once):
    """Score every push with its best length: gain per time. Fills the last three arrays (K)."""
    contact, approach, direction, moved, obstacle = table[:5]
    c, s = math.cos(pose[2]), math.sin(pose[2])
    error = _error(pose[0], pose[1], pose[2], spread)
    for k in range(len(contact)):
        scores[k] = -1e9
        ux, uy = direction[k, 0], direction[k, 1]
        ahead = (contact[k, 0] - ax) * ux + (contact[k, 1] - ay) * uy
        aside = abs((contact[k, 0] - ax) * uy - (contact[k, 1] - ay) * ux)
        sx, sy = contact[k, 0] - BACK * ux, contact[k, 1] - BACK * uy
        at_once[k] = aside < ON_LINE and -INTO < ahead < BACK + 5
        if at_once[k]:
            time = max(0.0, ahead) / 10
        else:
            if not approach[k] or not _inside(
                pose[0] + c * sx - s * sy, pose[1] + s * sx + c * sy, 20.0
            ):
                continue
            if not _blocked(bx, by, sx, sy, obstacle):
                travel[k], chain[k, 0] = math.hypot(bx - sx, by - sy), -1
            time = (travel[k] + math.hypot(bx - ax, by - ay)) / 18 + 3.0
            if not time < 1e8:
                continue
        for n in range(len(LENGTHS)):
            ex, ey = contact[k, 0] + LENGTHS[n] * ux, contact[k, 1] + LENGTHS[n] * uy
            if not _inside(pose[0] + c * ex - s * ey, pose[1] + s * ex + c * ey, 18.0):
                break
            mx, my, ma = moved[k, n, 0], moved[k, n, 1], moved[k, n, 2]
            x, y, angle = pose[0] + c * mx - s * my, pose[1] + s * mx + c * my, pose[2] + ma
            total = time + LENGTHS[n] / 10
            score = (error - _error(x, y, angle, spread)) / (total + PATIENCE)
            if score > scores[k] and _fits(x, y, angle):
                scores[k], chosen[k] = score, n


@numba.njit(cache=True)
def plan(agent, pose, table):
    """The best push at a state.

    Returns:
        its contact and direction (2, 2) on the board, its length (negative: there is none),
        whether it can begin at once, and the corners (n, 2) of the way to its start.
    """
    contact, _, direction, _, obstacle, nodes = table[:6]
    c, s = math.cos(pose[2]), math.sin(pose[2])
    ax = c * (agent[0] - pose[0]) + s * (agent[1] - pose[1])
    ay = -s * (agent[0] - pose[0]) + c * (agent[1] - pose[1])
    count = len(contact)
    travel, chain = np.empty(count), np.empty((count, len(nodes) + 1), np.int64)
    bx, by = _leave(ax, ay, obstacle)
    _ways(bx, by, pose, table, travel, chain)
    scores, chosen = np.empty(count), np.zeros(count, np.int64)
    at_once = np.zeros(count, np.bool_)
    for spread in (SPREAD, 0.0):  # in a corner where no push helps, away from the corner
        _score(ax, ay, bx, by, pose, table, travel, chain, spread, scores, chosen, at_once)
        k = np.argmax(scores)
        if scores[k] > 0:
            break
    push, way = np.zeros((2, 2)), np.empty((len(nodes) + 3, 2))
    if scores[k] <= 0:
        return push, -1.0, False, way[:0]
    way[0] = ax, ay
    way[1] = bx, by
    n = 2
    while chain[k, n - 2] >= 0:
        way[n] = nodes[chain[k, n - 2]]
        n += 1
    way[n] = contact[k] - BACK * direction[k]
    turn = np.array([[c, s], [-s, c]])
    push[0], push[1] = contact[k] @ turn + pose[:2], direction[k] @ turn
    return push, LENGTHS[chosen[k]], at_once[k], way[: n + 1] @ turn + pose[:2]


@numba.njit(cache=True)
def _point(way, distance):
    """The point of a polyline at a distance from its beginning; its end if it is shorter."""
    for i in range(len(way) - 1):
        leg = way[i + 1] - way[i]
        length = math.hypot(leg[0], leg[1])
        if distance <= length and length > 0:
            return way[i] + distance / length * leg
        distance -= length
    return way[-1].copy()


@numba.njit(cache=True)
def chunk(agent, velocity, pose, table, horizon):
    """(horizon, 2) targets for the coming steps: one push, and the way to it.

    The target stays ahead of the agent, on the way to the push's start and then on the push's
    line. The agent's own motion is known exactly: nothing can push it back.
    """
    push, length, begun, way = plan(agent, pose, table)
    targets = np.empty((horizon, 2))
    position, speed = agent.copy(), velocity.copy()
    goal, distance = agent.copy(), 0.0
    for j in range(horizon):
        if length < 0:
            goal = np.array([256.0, 256.0])
        else:
            ahead = (push[0] - position) @ push[1]
            if not begun:
                aside = push[0] - position - ahead * push[1]
                near = -INTO < ahead < BACK + 5
                begun = near and math.hypot(aside[0], aside[1]) < ON_LINE
                goal = _point(way, TRAVEL_LEAD + distance)
                distance += TRAVEL_LEAD / 2
            if begun:
                goal = position + min(PUSH_LEAD, max(0.0, ahead + length)) * push[1]
        targets[j, 0] = min(508.0, max(4.0, goal[0]))
        targets[j, 1] = min(508.0, max(4.0, goal[1]))
        for _ in range(10):
            speed += (100 * (targets[j] - position) - 20 * speed) * 0.01
            position += speed * 0.01
    return targets
