"use strict";
// Every chart is a function of the width it has; what it draws is in `data`, how in `page.view`.

const baselines = () => data.baseline_order;

function errorAxis(view, label = "MAE") {
  return `${label} (${viewUnit(view)})`;
}

const charts = {
  verdict(width) {
    const low = -1;
    const rows = [];
    const names = baselines();
    for (const name of names) {
      for (const scope of ["step1", "executed", "chunk"]) {
        const { value, ci_low, ci_high } = data.skill[name][scope];
        if (value == null) continue;
        const text = ci_low == null ? ratio(value) : `${ratio(value)} [${ratio(ci_low)}, ${ratio(ci_high)}]`;
        rows.push({
          against: data.baseline_names[name], scope: data.scopes[scope], text,
          value: Math.max(value, low), low: Math.max(ci_low ?? value, low), high: Math.max(ci_high ?? value, low),
          off: value < low, main: name === data.main,
          side: ci_low > 0 ? "good" : ci_high < 0 ? "bad" : "soft",
        });
      }
    }
    const side = (d) => `var(--${d.side})`;
    const narrow = width < 520;
    const left = narrow ? 92 : 104;
    const right = 14 + (narrow ? 6.3 : 6.9) * d3.max(rows, (d) => d.text.length);
    const fy = (name) => data.baseline_names[name];
    return plot({
      width, height: 58 + 118 * names.length, marginLeft: left, marginRight: right, marginTop: 22, marginBottom: 34,
      ariaLabel: t("Skill against each baseline"),
      ariaDescription: rows.map((d) => `${d.against}, ${d.scope}: ${d.text}`).join("; "),
      x: { domain: [low, 1], ticks: [-1, -0.5, 0, 0.5, 1], tickFormat: (v) => (v === low ? "≤ −1" : `${v}`.replace("-", "−")), label: t("worse ← skill → better"), labelAnchor: "center", labelArrow: "none" },
      y: { type: "point", label: null, domain: ["step1", "executed", "chunk"].map((s) => data.scopes[s]), tickSize: 0, padding: 0.6 },
      fy: { axis: null, domain: names.map(fy), padding: 0.26 },
      marks: [
        Plot.rect(names, { fy, x1: 0, x2: 1, fill: "var(--good)", fillOpacity: 0.09 }),
        Plot.rect(names, { fy, x1: low, x2: 0, fill: "var(--bad)", fillOpacity: 0.07 }),
        Plot.ruleX([0], { stroke: "var(--ink)", strokeWidth: 1.2 }),
        Plot.ruleY(rows, { fy: "against", y: "scope", x1: "low", x2: "high", stroke: side, strokeWidth: 2.5 }),
        Plot.dot(rows, { fy: "against", y: "scope", x: "value", r: 5, fill: side, filter: (d) => !d.off }),
        Plot.text(rows, { fy: "against", y: "scope", x: low, text: () => "◀", fill: side, filter: (d) => d.off, dx: 7, fontSize: 13 }),
        Plot.text(rows, { fy: "against", y: "scope", text: "text", frameAnchor: "right", textAnchor: "start", dx: 8, fill: side, fontSize: narrow ? 11 : 12, fontWeight: (d) => (d.main ? 700 : 400), fontVariant: "tabular-nums" }),
        Plot.text(names, { fy, text: (n) => t("against {baseline}", { baseline: fy(n) }), frameAnchor: "top-left", dx: 2 - left, dy: -17, fontWeight: 600, fill: "var(--ink)", fontSize: 13 }),
      ],
    });
  },

  horizon(width) {
    const view = pooledView();
    const names = baselines();
    const fps = data.fps;
    const rows = data.by_horizon.map((r) => ({
      step: r.step, seconds: r.seconds, value: pooled(r), low: pooled(r, null, "_ci_low"), high: pooled(r, null, "_ci_high"), n: r.n_frames,
    }));
    const others = names.flatMap((name) => data.by_horizon.map((r) => ({
      step: r.step, name, value: pooled(r, name), low: pooled(r, name, "_ci_low"), high: pooled(r, name, "_ci_high"),
    })));
    const band = (of) => of.filter((d) => d.low != null && d.high != null);
    const n = data.chunk_size;
    return [
      key([
        { name: data.policy, stroke: COLOURS.policy, width: 3.5 },
        ...names.map((name) => ({ name: data.baseline_names[name], stroke: COLOURS[name], dash: DASHES[name] })),
      ]),
      plot({
        width, height: Math.min(400, Math.max(260, width * 0.42)), marginLeft: 52, marginRight: 14, marginBottom: 40,
        ariaLabel: t("By horizon step"),
        ariaDescription: t("{policy}: {first} at step 1, {last} at step {n}", { policy: data.policy, first: number(rows[0].value), last: number(rows[n - 1].value), n }),
        x: { label: t("horizon step (a step is {ms} ms)", { ms: number(1000 / fps) }), domain: [n > 1 ? 1 : 0.5, n > 1 ? n : 1.5], labelAnchor: "center", labelArrow: "none", tickFormat: "d", ticks: d3.ticks(1, n, Math.min(n, width / 60)).filter(Number.isInteger) },
        y: { label: errorAxis(view), zero: true, nice: true, grid: true, labelArrow: "none" },
        marks: [
          Plot.rect([0], { x1: n > 1 ? 1 : 0.5, x2: Math.min(data.n_action_steps, n), fill: "var(--band)" }),
          ...names.map((name) => Plot.areaY(band(others.filter((d) => d.name === name)), { x: "step", y1: "low", y2: "high", fill: COLOURS[name], fillOpacity: 0.12 })),
          Plot.areaY(band(rows), { x: "step", y1: "low", y2: "high", fill: COLOURS.policy, fillOpacity: 0.22 }),
          ...names.map((name) => Plot.lineY(others.filter((d) => d.name === name), { x: "step", y: "value", stroke: COLOURS[name], strokeWidth: 2, strokeDasharray: DASHES[name] })),
          Plot.lineY(rows, { x: "step", y: "value", stroke: COLOURS.policy, strokeWidth: 3.2 }),
          ...(n < 60 ? [Plot.dot(rows, { x: "step", y: "value", fill: COLOURS.policy, r: 3 })] : []),
          Plot.ruleX(rows, Plot.pointerX({ x: "step", stroke: "var(--soft)" })),
          Plot.tip(rows, Plot.pointerX({
            x: "step", y: "value", fill: "var(--paper)", stroke: "var(--soft)", fontSize: 12,
            title: (d) => [
              t("step {n}", { n: d.step }),
              `${data.policy}: ${number(d.value)}${d.low == null ? "" : ` [${number(d.low)}, ${number(d.high)}]`}`,
              ...names.map((name) => `${data.baseline_names[name]}: ${number(others.find((o) => o.name === name && o.step === d.step).value)}`),
            ].join("\n"),
          })),
        ],
      }),
    ];
  },

  executions(width) {
    const rows = data.executions;
    const unit = data.one_unit || t("std");
    const panel = (of, label, low, high) => {
      const known = rows.filter((d) => d[of] != null && !d.ensemble);
      const whole = rows.filter((d) => d[of] != null && d.ensemble);
      return plot({
        width: width < 620 ? width : width / 2 - 12, height: 240, marginLeft: 52, marginRight: 20, marginBottom: 40,
        ariaLabel: label,
        ariaDescription: rows.filter((d) => d[of] != null).map((d) => `${d.name}: ${number(d[of])}`).join("; "),
        x: { type: "log", base: 2, domain: [0.8, data.chunk_size * 1.2], label: t("steps before the policy is asked again"), labelAnchor: "center", labelArrow: "none", ticks: known.map((d) => d.steps), tickFormat: "d" },
        y: { label, zero: true, nice: true, grid: true, labelArrow: "none" },
        marks: [
          ...(low ? [Plot.areaY(known.filter((d) => d[low] != null), { x: "steps", y1: low, y2: high, fill: COLOURS.policy, fillOpacity: 0.18 })] : [Plot.ruleY([1], { stroke: "var(--demo)", strokeDasharray: "3 3" })]),
          Plot.lineY(known, { x: "steps", y: of, stroke: COLOURS.policy, strokeWidth: 2.6 }),
          Plot.dot(known, { x: "steps", y: of, fill: COLOURS.policy, r: 4, title: (d) => `${d.name}: ${number(d[of])}`, tip: true }),
          Plot.dot(whole, { x: "steps", y: of, stroke: "var(--hold)", fill: "var(--paper)", strokeWidth: 2.2, symbol: "diamond", r: 6, title: (d) => `${d.name}: ${number(d[of])}`, tip: true }),
          Plot.ruleX(known.filter((d) => d.steps === data.n_action_steps), { x: "steps", stroke: "var(--soft)", strokeDasharray: "2 3" }),
        ],
      });
    };
    const side = make("div", { class: "pair" });
    side.append(panel("value", `MAE (${unit})`, "low", "high"), panel("jerk", t("jerk, times the demonstration's")));
    return [
      key([
        { name: t("one chunk after the other"), stroke: COLOURS.policy, width: 3 },
        ...(rows.some((d) => d.ensemble) ? [{ name: t("temporal ensemble"), stroke: "var(--hold)", symbol: "diamond" }] : []),
      ]),
      side,
    ];
  },

  dims(width) {
    const view = pooledView();
    const names = baselines();
    const of = (row, name) => {
      const native = name ? row[`${name}_mae`] : row.mae;
      if (view === "native") return native;
      if (view === "normalized") return row.excluded ? null : native / row.std;
      return native / row[`${still()}_mae`];
    };
    const most = width < 520 ? 16 : 34;
    const rows = data.dims.map((row) => ({ row, dim: row.dim, name: row.name, value: of(row) }));
    const marks = names.flatMap((name) => data.dims.map((row) => ({ dim: row.dim, name, value: of(row, name) })));
    const label = new Map(rows.map((d) => [d.dim, shorten(d.name, most)]));
    const left = 16 + 7.4 * d3.max([...label.values()], (text) => text.length);
    const top = d3.max([...rows, ...marks], (d) => (Number.isFinite(d.value) ? d.value : 0)) || 1;
    return [
      key([
        { name: data.policy, stroke: COLOURS.policy, width: 9 },
        ...names.map((name) => ({ name: data.baseline_names[name], stroke: COLOURS[name], symbol: SYMBOLS[name] })),
      ]),
      plot({
        width, height: 52 + rows.length * (rows.length > 10 ? 21 : 30), marginLeft: Math.max(48, left), marginRight: 96, marginTop: 30,
        ariaLabel: t("By dim, over the chunk"),
        ariaDescription: rows.map((d) => `${d.name}: ${number(d.value)}`).join("; "),
        x: { label: errorAxis(view), domain: [0, top], nice: true, grid: true, axis: "top", labelArrow: "none", ticks: Math.max(3, width / 110) },
        y: { label: null, domain: rows.map((d) => d.dim), tickFormat: (dim) => label.get(dim), tickSize: 0, padding: 0.28 },
        marks: [
          Plot.barX(rows, { y: "dim", x: "value", fill: COLOURS.policy, rx: 2 }),
          Plot.text(page.view === view ? [] : [t("native")], { frameAnchor: "top-right", dx: 92, dy: -21, textAnchor: "end", fill: "var(--soft)" }),
          ...names.map((name) => Plot.dot(marks.filter((d) => d.name === name && Number.isFinite(d.value)), {
            y: "dim", x: "value", symbol: SYMBOLS[name], r: rows.length > 10 ? 4 : 5, fill: COLOURS[name], stroke: "var(--paper)", strokeWidth: 1,
          })),
          Plot.text(rows, { y: "dim", text: ({ row, value }) => (page.view === "native" ? `${number(row.mae)} ${data.units[row.dim]}` : number(value)), frameAnchor: "right", textAnchor: "end", dx: 92, fill: "var(--soft)", fontVariant: "tabular-nums" }),
        ],
      }),
    ];
  },

  density(width) {
    const few = data.density.length <= 4;
    const columns = few ? Math.min(data.density.length, Math.max(1, Math.floor(width / 300))) : Math.max(2, Math.floor(width / 190));
    const side = Math.min(380, Math.floor((width - 16 * (columns - 1)) / columns));
    const box = make("div", { class: "grid", style: `grid-template-columns: repeat(${columns}, ${side}px)` });
    for (const plane of data.density) {
      const row = data.dims.find((d) => d.dim === plane.dim);
      const scaled = page.view === "normalized" && !row.excluded;
      const f = (v) => (scaled ? (v - row.mean) / row.std : v);
      const [x1, x2] = [f(plane.low), f(plane.high)];
      const cells = new Float64Array(plane.n * plane.n).fill(NaN);
      for (const [i, j, count] of plane.cells) cells[j * plane.n + i] = count;
      const unit = scaled ? t("std") : data.units[plane.dim];
      box.append(make("div", { class: "cell" },
        make("h4", { title: row.name }, row.name),
        plot({
          width: side, height: side, marginLeft: 46, marginBottom: 36, marginTop: 6, marginRight: 8,
          ariaLabel: t("{name}: predicted against demonstrated", { name: row.name }),
          style: { ...FONT, fontSize: few ? "12px" : "10.5px" },
          x: { domain: [x1, x2], label: `${t("demonstrated")} (${unit})`, labelAnchor: "center", labelArrow: "none", ticks: few ? 6 : 3 },
          y: { domain: [x1, x2], label: null, ticks: few ? 6 : 3 },
          color: { type: "log", range: [colour("low"), colour("high")], interpolate: d3.interpolateRgb, unknown: colour("paper") },
          marks: [
            Plot.raster(cells, { width: plane.n, height: plane.n, x1, x2, y1: x1, y2: x2, imageRendering: "pixelated" }),
            Plot.line([[x1, x1], [x2, x2]], { stroke: "var(--ink)", strokeWidth: 1, strokeDasharray: "4,3" }),
            Plot.frame({ stroke: "var(--line)" }),
            Plot.text([t("predicted")], { frameAnchor: "top-left", dx: 5, dy: 5, fill: "var(--ink)", stroke: "var(--paper)", strokeWidth: 3 }),
          ],
        })));
    }
    return box;
  },

  progress(width) {
    const view = pooledView();
    const divisor = view === "relative" ? data.baselines[still()].chunk[data.one_unit ? "mae" : "nmae"].value : 1;
    const rows = data.progress[view === "relative" ? (data.one_unit ? "native" : "normalized") : view] ?? [];
    const y = (name) => (d) => d[name] / divisor;
    return plot({
      width, height: 280, marginLeft: 52, marginBottom: 40, marginRight: 24,
      ariaLabel: t("Over the course of an episode"),
      x: { label: t("share of the episode"), domain: [0, 1], tickFormat: ".0%", labelAnchor: "center", labelArrow: "none", ticks: 5 },
      y: { label: errorAxis(view), zero: true, grid: true, nice: true, labelArrow: "none" },
      marks: [
        Plot.areaY(rows, { x: "x", y1: y("p10"), y2: y("p90"), fill: COLOURS.policy, fillOpacity: 0.16, curve: "monotone-x" }),
        Plot.areaY(rows, { x: "x", y1: y("p25"), y2: y("p75"), fill: COLOURS.policy, fillOpacity: 0.26, curve: "monotone-x" }),
        Plot.lineY(rows, { x: "x", y: y("p50"), stroke: COLOURS.policy, strokeWidth: 2.8, curve: "monotone-x" }),
      ],
    });
  },

  tasks(width) {
    const view = pooledView();
    const rows = data.by_task.filter((r) => r.scope === "chunk")
      .map((r) => ({ task: r.task, n: r.n_episodes, value: pooled(r), still: pooled(r, still()), low: view === "relative" ? null : pooled(r, null, "_ci_low"), high: view === "relative" ? null : pooled(r, null, "_ci_high") }))
      .sort((a, b) => d3.descending(a.value, b.value)).slice(0, 40);
    const most = Math.max(18, Math.floor(width / 9));
    return plot({
      width, height: 50 + 44 * rows.length, marginLeft: 8, marginRight: 60, marginTop: 30,
      ariaLabel: t("By task, over the chunk"),
      ariaDescription: rows.map((d) => `${d.task}: ${number(d.value)}`).join("; "),
      x: { label: errorAxis(view), grid: true, axis: "top", labelArrow: "none", zero: true, ticks: Math.max(3, width / 110) },
      y: { axis: null, domain: rows.map((d) => d.task), padding: 0.1 },
      marks: [
        Plot.barX(rows, { y: "task", x: "value", fill: COLOURS.policy, rx: 2, insetTop: 18, insetBottom: 4 }),
        Plot.tickX(rows.filter((d) => Number.isFinite(d.still)), { y: "task", x: "still", stroke: COLOURS[still()], strokeWidth: 3, insetTop: 15, insetBottom: 1 }),
        Plot.ruleY(rows.filter((d) => d.low != null), { y: "task", x1: "low", x2: "high", stroke: "var(--ink)", strokeWidth: 1.5, dy: 7 }),
        Plot.text(rows, { y: "task", x: 0, text: (d) => `${shorten(d.task, most)} (${d.n})`, textAnchor: "start", dy: -13, dx: 2, fill: "var(--ink)" }),
        Plot.text(rows, { y: "task", x: "value", text: (d) => number(d.value), textAnchor: "start", dx: 5, dy: 8, fill: "var(--ink)", stroke: "var(--paper)", strokeWidth: 3 }),
      ],
    });
  },

  latency(width) {
    const kinds = [["model_call", t("model call")], ["end_to_end", t("end to end")], ["queue_pop", t("queue pop")]]
      .filter(([name]) => data.latency[name]);
    const golden = 0.61803398875;
    const calls = kinds.flatMap(([name, title]) => data.latency[name].samples_ms.map((ms, i) => ({ title, ms: Math.max(ms, 1e-4), shift: ((i * golden) % 1) - 0.5 })));
    const marks = kinds.flatMap(([name, title]) => ["p50_ms", "p95_ms", "p99_ms"].filter((q) => data.latency[name][q] != null)
      .map((q) => ({ title, ms: data.latency[name][q], q: q.slice(0, 3) })));
    const { budget } = data.latency;
    const limits = [{ ms: budget.sync_ms, text: t("one step at {fps} Hz", { fps: +budget.fps.toFixed(2) }) }];
    if (budget.async_ms > budget.sync_ms) limits.push({ ms: budget.async_ms, text: t("{n} steps", { n: data.n_action_steps }) });
    const low = d3.min(calls, (d) => d.ms) / 1.6;
    const high = Math.max(d3.max(calls, (d) => d.ms), d3.max(limits, (d) => d.ms)) * 2.2;
    return plot({
      width, height: 84 + 74 * kinds.length, marginLeft: 88, marginRight: 16, marginTop: 34, marginBottom: 40,
      ariaLabel: t("One control step at batch 1"),
      ariaDescription: marks.map((d) => `${d.title} ${d.q}: ${number(d.ms)} ms`).join("; "),
      x: { type: "log", label: t("milliseconds"), domain: [low, high], labelAnchor: "center", labelArrow: "none", grid: true, ticks: Math.max(3, width / 120), tickFormat: (v) => `${v}` },
      y: { label: null, domain: kinds.map(([, title]) => title), tickSize: 0, padding: 0.2 },
      fx: { axis: null },
      marks: [
        Plot.ruleX(limits, { x: "ms", stroke: "var(--hold)", strokeWidth: 1.8, strokeDasharray: (d, i) => (i ? "2,3" : "7,3") }),
        ...limits.map((limit, i) => Plot.text([limit], { x: "ms", text: "text", frameAnchor: "top", dy: -8 - 15 * i, fill: "var(--hold)", textAnchor: "end", dx: 2, lineAnchor: "bottom" })),
        ...d3.range(5).map((lane) => Plot.dot(calls.filter((d, i) => i % 5 === lane), { x: "ms", y: "title", r: 2.4, fill: COLOURS.policy, fillOpacity: 0.5, dy: (lane - 2) * 5 })),
        Plot.tickX(marks, { x: "ms", y: "title", stroke: "var(--ink)", strokeWidth: 2, insetTop: 6, insetBottom: 6 }),
        Plot.text(kinds, { x: ([name]) => data.latency[name].p50_ms, y: ([, title]) => title, text: ([name, title]) => marks.filter((d) => d.title === title).map((d) => `${d.q} ${number(d.ms)}`).join(", "), dy: 31, dx: -8, textAnchor: "start", fill: "var(--ink)", stroke: "var(--paper)", strokeWidth: 3 }),
      ],
    });
  },

  throughput(width) {
    const { wall_s, model_s, data_s } = data.throughput;
    const other = Math.max(0, wall_s - model_s - data_s);
    const parts = [
      { name: t("model"), s: model_s, fill: COLOURS.policy },
      { name: t("reading and decoding"), s: data_s, fill: COLOURS.repeat_last },
      { name: t("pre- and postprocessing"), s: other, fill: COLOURS.dataset_mean },
    ];
    return [
      key(parts.map((part) => ({ name: `${part.name}: ${number(part.s)} s (${Math.round((100 * part.s) / (wall_s || 1))} %)`, stroke: part.fill, width: 9 }))),
      plot({
        width, height: 62, marginLeft: 4, marginRight: 14, marginBottom: 30, marginTop: 4,
        ariaLabel: t("Where the time of the evaluation went"),
        x: { label: t("seconds"), labelAnchor: "right", labelArrow: "none", ticks: Math.max(3, width / 100) },
        marks: [Plot.barX(parts, { x: "s", fill: "fill", order: null, insetRight: 1 })],
      }),
    ];
  },
};

// The cards beside the verdict, in the unit that is chosen.
function setUpTiles() {
  page.listeners.push(() => {
    const view = pooledView();
    const metric = { native: "mae", normalized: "nmae", relative: "relative" }[view];
    for (const box of document.querySelectorAll("[data-tile]")) {
      const { value, ci_low, ci_high } = data.summary[box.dataset.tile][metric];
      const ends = ci_low == null ? null : make("span", { class: "soft" }, `[${number(ci_low)}, ${number(ci_high)}]`);
      box.replaceChildren(...[make("b", {}, number(value)), ` ${viewUnit(view)}`, ends].filter(Boolean));
    }
  });
}

function setUpStrip() {
  const strip = document.querySelector("[data-strip]");
  const sort = document.querySelector("[data-sort]");
  const skill = `skill_${data.main}`;
  const orders = {
    error: (a, b) => d3.descending(pooled(a), pooled(b)),
    index: (a, b) => d3.ascending(a.episode_index, b.episode_index),
    skill: (a, b) => d3.ascending(a[skill] ?? Infinity, b[skill] ?? Infinity),
    length: (a, b) => d3.descending(a.n_frames, b.n_frames),
  };
  const draw = () => {
    const rows = [...data.by_episode].sort(orders[sort.value]);
    const top = d3.max(rows, (row) => Math.max(pooled(row), pooled(row, still()) || 0)) || 1;
    const share = (value) => `${(78 * value) / top}%`;
    const focused = strip.contains(document.activeElement) ? document.activeElement.dataset.index : null;
    strip.replaceChildren(...rows.map((row) => {
      const value = pooled(row);
      const doing = pooled(row, still());
      const label = t("episode {episode}: error {error} {unit}, skill {skill}, {n} frames", {
        episode: row.episode_index, error: number(value), unit: viewUnit(pooledView()), skill: number(row[skill], 2), n: row.n_frames,
      });
      return make("button", {
        type: "button", title: label, "aria-label": label, "data-index": row.episode_index,
        "aria-pressed": String(page.player?.episode?.index === row.episode_index),
        onclick: () => page.player?.open(row.episode_index, true),
      },
      make("span", { class: "tower" },
        Number.isFinite(doing) ? make("u", { style: `bottom: ${share(doing)}` }) : null,
        rows.length <= 60 ? make("b", {}, number(value, 2)) : null,
        make("i", { style: `height: ${share(value)}` })),
      make("span", {}, String(row.episode_index)));
    }));
    if (focused != null) strip.querySelector(`[data-index="${focused}"]`)?.focus();
  };
  const names = data.baseline_names;
  if (names[still()]) {
    strip.before(key([
      { name: data.policy, stroke: COLOURS.policy, width: 9 },
      { name: names[still()], stroke: COLOURS[still()], dash: "5,3" },
    ]));
  }
  sort.addEventListener("change", draw);
  page.listeners.push(draw);
  page.stripChanged = draw;
  draw();
}
