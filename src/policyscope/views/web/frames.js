"use strict";
// From a number to the frame that makes it: looks through what the player has.

// Mean absolute error of the n-th chunk, of one dim or one step where `want` names it: a dim in its
// own unit, several dims in units of the standard deviation where they have no unit in common.
function chunkError({ chunks, asked }, n, demonstrated, want) {
  const [, samples, horizon, width] = chunks.shape;
  const dims = want.dim == null ? data.dims.filter((row) => data.one_unit || !row.excluded) : [{ dim: want.dim, std: 1 }];
  const [first, end] = want.step == null ? [0, horizon] : [want.step - 1, want.step];
  let sum = 0;
  let count = 0;
  for (let k = 0; k < samples; k++) {
    for (let h = first; h < end; h++) {
      for (const { dim, std } of dims) {
        const error = chunks.values[((n * samples + k) * horizon + h) * width + dim] - demonstrated.values[(asked[n] + h) * width + dim];
        if (!Number.isFinite(error)) continue;
        sum += Math.abs(error) / (data.one_unit ? 1 : std);
        count += 1;
      }
    }
  }
  return count ? sum / count : -Infinity;
}

// The frame of the largest error; of a comparison, of the largest difference between the first two.
function worstFrame(want) {
  let best = null;
  for (const episode of data.episodes) {
    if (want.episodes && !want.episodes.has(episode.index)) continue;
    const { layers: [one, two], demonstrated } = page.player.read(episode);
    best ??= { index: episode.index, frame: 0, score: -Infinity };
    if (!demonstrated) continue;
    one.asked.forEach((frame, n) => {
      const own = chunkError(one, n, demonstrated, want);
      const score = two && n < two.asked.length ? Math.abs(chunkError(two, n, demonstrated, want) - own) : own;
      if (score > best.score) best = { index: episode.index, frame, score };
    });
  }
  return best;
}

function openWorst(want, what) {
  if (!page.player) return;
  if (want.episodes?.size === 0) {
    page.player.say(t("None of these episodes is in this page."));
    return;
  }
  const found = worstFrame(want);
  if (!found) {
    page.player.open([...(want.episodes ?? [])][0], true);
    return;
  }
  const several = data.layers?.length > 1;
  const values = { what, episode: found.index, frame: found.frame + 1 };
  const why = several
    ? t("Frame {frame} of episode {episode}: of {what}, the largest difference in this page.", values)
    : t("Frame {frame} of episode {episode}: of {what}, the largest error in this page.", values);
  page.player.open(found.index, true, found.frame, found.score > -Infinity ? why : "");
}

// Frames of the page whose chunk has a step in cell (i, j) of the plane of a dim.
function framesInCell({ dim, low, high, n: size }, i, j) {
  const place = (v) => Math.min(Math.max(Math.floor(((v - low) / (high - low)) * size), 0), size - 1);
  const found = [];
  for (const episode of data.episodes) {
    const { layers: [{ chunks, asked }], demonstrated } = page.player.read(episode);
    const [, samples, horizon, width] = chunks.shape;
    asked.forEach((frame, n) => {
      for (let at = 0; at < samples * horizon; at++) {
        const target = demonstrated.values[(frame + (at % horizon)) * width + dim];
        const value = chunks.values[(n * samples * horizon + at) * width + dim];
        if (place(target) === i && place(value) === j && Number.isFinite(value)) {
          found.push({ index: episode.index, frame });
          return;
        }
      }
    });
  }
  return found;
}

let turn = { cell: "", at: -1 };

// The frames of a cell, one after the other.
function openCell(plane, i, j) {
  const found = page.player ? framesInCell(plane, i, j) : [];
  if (!found.length) return;
  const cell = [plane.dim, i, j].join();
  turn = { cell, at: turn.cell === cell ? (turn.at + 1) % found.length : 0 };
  const { index, frame } = found[turn.at];
  const middle = (k) => plane.low + ((k + 0.5) / plane.n) * (plane.high - plane.low);
  page.player.open(index, true, frame, t("{i} of {n} frames with {name} demonstrated near {x} and predicted near {y} {unit}; choose the cell again for the next.", {
    i: turn.at + 1, n: found.length, name: data.names[plane.dim], x: number(middle(i)), y: number(middle(j)), unit: data.units[plane.dim],
  }));
}
