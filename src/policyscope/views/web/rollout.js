"use strict";
// Charts of a closed-loop run: outcomes, times, paths and actions of its episodes.

const GOOD = "var(--good)";
const BAD = "var(--bad)";
const hue = (success) => (success == null ? "var(--soft)" : success ? GOOD : BAD);
const played = (index) => data.episodes.some((e) => e.index === index);
const show = (index) => page.player?.open(index, true);
const percents = (v) => `${Math.round(100 * v)} %`;
const byIndex = new Map(data.by_episode.map((row) => [row.index, row]));
const outcomeKey = () => {
  const unknown = data.by_episode.every((row) => row.success == null);
  return key(unknown
    ? [{ name: t("unknown"), stroke: hue(null), width: 9 }]
    : [{ name: t("success"), stroke: GOOD, width: 9 }, { name: t("failure"), stroke: BAD, width: 9 }]);
};

const charts = {
  rate(width) {
    const { rate, ci_low, ci_high, k, n } = data.success;
    const edges = [data.detectable?.lower, data.detectable?.higher].filter((v) => v != null);
    return plot({
      width, height: 130, marginLeft: 20, marginRight: 24, marginTop: 44, marginBottom: 40,
      ariaLabel: t("Success rate"),
      ariaDescription: `${k}/${n}, ${percents(rate)}${ci_low == null ? "" : ` [${percents(ci_low)}, ${percents(ci_high)}]`}`,
      x: { domain: [0, 1], label: t("success rate"), labelAnchor: "center", labelArrow: "none", tickFormat: percents, ticks: 5, grid: true },
      y: { axis: null, domain: [-1, 1] },
      marks: [
        Plot.rect([0], { x1: 0, x2: 1, y1: -0.35, y2: 0.35, fill: "var(--panel)" }),
        Plot.rect([0], { x1: 0, x2: rate, y1: -0.35, y2: 0.35, fill: COLOURS.policy, fillOpacity: 0.3 }),
        Plot.ruleX(edges, { stroke: "var(--soft)", strokeDasharray: "4,3", strokeWidth: 1.5 }),
        ...(ci_low == null ? [] : [Plot.ruleY([0], { x1: ci_low, x2: ci_high, stroke: "var(--ink)", strokeWidth: 3 }), Plot.tickX([ci_low, ci_high], { y: null, stroke: "var(--ink)", strokeWidth: 2, insetTop: 16, insetBottom: 16 })]),
        Plot.dot([rate], { x: rate, y: 0, r: 7, fill: COLOURS.policy, stroke: "var(--paper)", strokeWidth: 2 }),
        Plot.text([0], { x: rate, text: () => `${k}/${n}: ${percents(rate)}`, frameAnchor: "top", dy: -20, fontWeight: 700, fontSize: 15, fill: "var(--ink)", textAnchor: rate > 0.8 ? "end" : rate < 0.2 ? "start" : "middle" }),
      ],
    });
  },

  curve(width) {
    const { time_s, share, low, high, end } = data.curve;
    if (!time_s.length) return make("p", { class: "soft" }, t("Nobody noted when an episode succeeded."));
    const rows = time_s.map((s, i) => ({ s, share: share[i], low: low[i], high: high[i] }));
    rows.push({ ...rows[rows.length - 1], s: end });
    return plot({
      width, height: 280, marginLeft: 52, marginRight: 20, marginTop: 16, marginBottom: 40,
      ariaLabel: t("Succeeded by then"),
      ariaDescription: rows.map((d) => `${number(d.s)} s: ${percents(d.share)}`).join("; "),
      x: { domain: [0, end], label: t("seconds"), labelAnchor: "center", labelArrow: "none", ticks: Math.max(3, width / 90) },
      y: { domain: [0, 1], label: null, grid: true, tickFormat: percents, ticks: 5 },
      marks: [
        Plot.areaY(rows, { x: "s", y1: "low", y2: "high", fill: COLOURS.policy, fillOpacity: 0.18, curve: "step-after" }),
        Plot.lineY(rows, { x: "s", y: "share", stroke: COLOURS.policy, strokeWidth: 2.8, curve: "step-after" }),
      ],
    });
  },

  ended(width) {
    const rows = data.ended;
    const open = (d) => {
      const first = data.by_episode.find((row) => row.ended === d.kind && played(row.index));
      if (first) show(first.index);
    };
    return leading(plot({
      width, height: 60 + 44 * rows.length, marginLeft: 8, marginRight: 44, marginTop: 8, marginBottom: 40,
      ariaLabel: t("How episodes ended"),
      ariaDescription: rows.map((d) => `${d.name}: ${d.n}`).join("; "),
      x: { label: t("episodes"), labelAnchor: "center", labelArrow: "none", zero: true, grid: true, ticks: d3.ticks(0, d3.max(rows, (d) => d.n) ?? 1, Math.max(2, width / 110)).filter(Number.isInteger), tickFormat: "d" },
      y: { axis: null, domain: rows.map((d) => d.kind), padding: 0.1 },
      marks: [
        Plot.barX(rows, Plot.pointerY({ ariaHidden: "true", y: "kind", x1: 0, x2: d3.max(rows, (d) => d.n), fill: "var(--band)", maxRadius: Infinity })),
        Plot.barX(rows, { y: "kind", x: "n", fill: (d) => hue(d.kind === "success"), rx: 2, insetTop: 18, insetBottom: 4 }),
        Plot.text(rows, { y: "kind", x: 0, text: "name", textAnchor: "start", dy: -12, dx: 2, fill: "var(--ink)" }),
        Plot.text(rows, { y: "kind", x: "n", text: (d) => String(d.n), textAnchor: "start", dx: 6, dy: 8, fill: "var(--ink)" }),
      ],
    }), open);
  },

  // Over the board, or rewards over time: a line for each episode.
  paths(width) {
    const onBoard = data.paths.some((p) => p.xy);
    const lines = data.paths.filter((p) => p.xy || p.reward).map((p) => {
      const { shape, values } = unpack(p.xy ?? p.reward);
      const at = (i) => (p.xy ? [values[2 * i], values[2 * i + 1]] : [((i / Math.max(shape[0] - 1, 1)) * p.steps) / data.fps, values[i]]);
      return { index: p.index, block: p.block, points: d3.range(shape[0]).map(at) };
    });
    const dots = lines.flatMap(({ index, points }) => points.map(([x, y]) => ({ x, y, index })));
    const side = Math.min(width, 520);
    const size = onBoard
      ? { width: side, height: (side * data.plane.height) / data.plane.width }
      : { width, height: 300 };
    const blocks = lines.filter((d) => d.block).map((d) => ({ x: d.block[0], y: d.block[1], index: d.index }));
    const node = plot({
      ...size, marginLeft: 46, marginRight: 10, marginTop: onBoard ? 8 : 28, marginBottom: 38,
      ariaLabel: onBoard ? t("Paths over the board") : t("Reward over time"),
      x: onBoard ? { domain: [0, data.plane.width], label: data.units[0], labelAnchor: "center", labelArrow: "none", ticks: 5 } : { label: t("seconds"), labelAnchor: "center", labelArrow: "none" },
      y: onBoard ? { domain: [data.plane.height, 0], label: null, ticks: 5 } : { label: t("reward"), grid: true, labelArrow: "none" },
      marks: [
        ...(data.goal ? [Plot.line([...data.goal, data.goal[0]], { fill: GOOD, fillOpacity: 0.25, stroke: null })] : []),
        ...lines.map((d) => Plot.line(d.points, { stroke: hue(byIndex.get(d.index).success), strokeWidth: 1, strokeOpacity: 0.5 })),
        Plot.dot(blocks, { x: "x", y: "y", symbol: "times", r: 5, stroke: (d) => hue(byIndex.get(d.index).success), strokeWidth: 1.8 }),
        ...(onBoard ? [Plot.frame({ stroke: "var(--line)" })] : []),
        Plot.dot(dots, Plot.pointer({ ariaHidden: "true", x: "x", y: "y", r: 4, fill: (d) => hue(byIndex.get(d.index).success), stroke: "var(--paper)" })),
      ],
    });
    const readout = make("p", { class: "readout soft" }, t("Point at a line to see whose it is."));
    const told = (d) => {
      const row = byIndex.get(d.index);
      readout.textContent = t("{name}: {how}, max reward {reward}", { name: row.name, how: row.success == null ? t("unknown") : row.success ? t("success") : t("failure"), reward: number(row.max_reward) });
    };
    const marks = [
      ...(data.goal ? [{ name: t("goal"), stroke: "color-mix(in srgb, var(--good) 30%, var(--paper))", width: 9 }] : []),
      ...(blocks.length ? [{ name: t("block at the end"), stroke: "var(--ink)", symbol: "cross" }] : []),
    ];
    return [outcomeKey(), marks.length ? key(marks) : null, readout, leading(node, (d) => show(d.index), (d) => d && told(d))];
  },

  actions(width) {
    const trained = data.executed_actions.some((d) => d.trained_std);
    const rows = data.executed_actions.filter((d) => !trained || d.trained_std);
    const most = width < 520 ? 14 : 26;
    const name = new Map(rows.map((d) => [d.dim, squeeze(d.name, most)]));
    const bars = rows.flatMap((d) => {
      const f = (v) => (trained ? (v - d.trained_mean) / d.trained_std : v);
      const own = { dim: d.dim, who: "executed", mid: f(d.mean), low: f(d.mean - d.std), high: f(d.mean + d.std) };
      return trained ? [own, { dim: d.dim, who: "training", mid: 0, low: -1, high: 1 }] : [own];
    });
    const dy = (who) => (trained ? (who === "executed" ? -5 : 5) : 0);
    const fill = { executed: COLOURS.policy, training: "var(--soft)" };
    return [
      key([{ name: t("executed"), stroke: fill.executed, width: 7 }, ...(trained ? [{ name: t("training"), stroke: fill.training, width: 7 }] : [])]),
      plot({
        width, height: 60 + 30 * rows.length, marginLeft: 20 + 7.4 * (d3.max([...name.values()], (s) => s.length) ?? 4), marginRight: 16, marginTop: 8, marginBottom: 40,
        ariaLabel: t("Executed actions"),
        ariaDescription: rows.map((d) => `${d.name}: ${number(d.mean)} ± ${number(d.std)} ${d.unit}`).join("; "),
        x: { label: trained ? t("in standard deviations of the training actions") : t("native units"), labelAnchor: "center", labelArrow: "none", grid: true, ticks: Math.max(3, width / 110) },
        y: { type: "point", label: null, domain: rows.map((d) => d.dim), tickFormat: (dim) => name.get(dim), tickSize: 0, padding: 0.6 },
        marks: ["executed", "training"].flatMap((who) => {
          const own = bars.filter((d) => d.who === who);
          return [
            Plot.ruleY(own, { y: "dim", x1: "low", x2: "high", stroke: fill[who], strokeWidth: 6, dy: dy(who) }),
            Plot.dot(own, { y: "dim", x: "mid", r: 3.5, fill: "var(--paper)", stroke: "var(--ink)", dy: dy(who) }),
          ];
        }),
      }),
    ];
  },

  latency: (width) => latencyChart(width),
};

function setUpStrip() {
  const strip = document.querySelector("[data-strip]");
  const sort = document.querySelector("[data-sort]");
  const worst = (d) => d.max_reward ?? -Infinity;
  const orders = {
    reward: (a, b) => d3.ascending(worst(a), worst(b)),
    index: (a, b) => d3.ascending(a.index, b.index),
    success: (a, b) => d3.ascending(Number(a.success ?? -1), Number(b.success ?? -1)) || d3.ascending(worst(a), worst(b)),
    length: (a, b) => d3.descending(a.steps ?? 0, b.steps ?? 0),
  };
  const top = d3.max(data.by_episode, (d) => d.max_reward) || 1;
  const draw = () => {
    const rows = [...data.by_episode].sort(orders[sort.value]);
    const focused = strip.contains(document.activeElement) ? document.activeElement.dataset.index : null;
    strip.replaceChildren(...rows.map((row) => {
      const how = row.success == null ? t("unknown") : row.success ? t("success") : t("failure");
      const label = t("{name}: {how}, max reward {reward}", { name: row.name, how, reward: number(row.max_reward) });
      const height = Math.max(0, (78 * (row.max_reward ?? 0)) / top);
      return make("button", {
        type: "button", title: label, "aria-label": label, "data-index": row.index,
        "aria-pressed": String(page.player?.episode?.index === row.index), onclick: () => show(row.index),
      },
      make("span", { class: "tower" },
        rows.length <= 60 ? make("b", {}, number(row.max_reward, 2)) : null,
        make("i", { style: `height: ${height}%; background: ${hue(row.success)}` })),
      make("span", {}, row.short));
    }));
    if (focused != null) strip.querySelector(`[data-index="${focused}"]`)?.focus();
  };
  strip.style.setProperty("--least", `max(1.6rem, ${0.5 * d3.max(data.by_episode, (row) => row.short.length)}rem)`);
  strip.before(outcomeKey());
  sort.addEventListener("change", draw);
  page.listeners.push(draw);
  page.stripChanged = draw;
  draw();
}

function setUpRows() {
  const task = (name) => data.by_episode.filter((row) => row.task === name && played(row.index));
  setUpTables((kind, key) => {
    if (kind === "episodes") show(Number(key));
    else if (task(key).length) show((task(key).find((row) => row.success === false) ?? task(key)[0]).index);
  });
  setUpStrip();
}
