"use strict";
// Every chart is a function of the width it has; what it draws is in `data`, how in `page.view`.

const baselines = () => data.baseline_order;
// What marks stand for where there is room for one: never the policy itself.
const foil = () => (baselines().includes(still()) ? still() : data.main);

function errorAxis(view, label = "MAE") {
  return `${label} (${viewUnit(view)})`;
}

// Error of one way to run the chunks; relative to doing nothing where that was run in the same way.
function executionError(row) {
  const view = pooledView();
  const { value, ci_low, ci_high } = row[view === "normalized" || !data.one_unit ? "nmae" : "mae"];
  if (view !== "relative") return { value, low: ci_low, high: ci_high };
  return { value: value / row.baselines[still()], low: null, high: null };
}

// Dims in the chosen order; by limb with a line for each limb's name, whose `row` is missing.
function sortedDims(rows) {
  const order = document.querySelector("[data-sort-dims]")?.value ?? "index";
  if (order === "index") return rows;
  const worst = (a, b) => d3.descending(a.value ?? -Infinity, b.value ?? -Infinity);
  if (order === "error") return [...rows].sort(worst);
  return d3.groups(rows, (d) => d.row.group).flatMap(([group, own]) => [{ dim: `- ${group}`, name: group || t("other"), value: null }, ...own]);
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
    const told = (d) => [
      t("step {n}", { n: d.step }),
      `${data.policy} ${number(d.value)}${d.low == null ? "" : ` [${number(d.low)}, ${number(d.high)}]`}`,
      ...names.map((name) => `${data.baseline_names[name]} ${number(others.find((o) => o.name === name && o.step === d.step).value)}`),
    ].join(" · ");
    const readout = make("p", { class: "readout soft" }, t("Point at the curve to read a step."));
    return [
      key([
        { name: data.policy, stroke: COLOURS.policy, width: 3.5 },
        ...names.map((name) => ({ name: data.baseline_names[name], stroke: COLOURS[name], dash: DASHES[name] })),
      ]),
      readout,
      leading(plot({
        width, height: Math.min(400, Math.max(260, width * 0.42)), marginLeft: 52, marginRight: 14, marginTop: 32, marginBottom: 40,
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
          Plot.ruleX(rows, Plot.pointerX({ ariaHidden: "true", x: "step", stroke: "var(--soft)" })),
        ],
      }), (d) => openWorst({ step: d.step }, t("step {n}", { n: d.step })), (d) => {
        if (d) readout.textContent = told(d);
      }),
    ];
  },

  executions(width) {
    const view = pooledView();
    const rows = data.executions.map((row) => ({ ...row, ...executionError(row) }));
    const panel = (of, label, low, high) => {
      const known = rows.filter((d) => d[of] != null && !d.ensemble);
      const whole = rows.filter((d) => d[of] != null && d.ensemble);
      return plot({
        width: width < 620 ? width : width / 2 - 12, height: 250, marginLeft: 52, marginRight: 20, marginTop: 32, marginBottom: 42,
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
    side.append(panel("value", errorAxis(view), "low", "high"), panel("jerk", t("jerk, times the demonstration's")));
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
    const rows = sortedDims(data.dims.map((row) => ({ row, dim: row.dim, name: row.name, value: of(row) })));
    const marks = names.flatMap((name) => data.dims.map((row) => ({ dim: row.dim, name, value: of(row, name) })));
    const label = new Map(rows.map((d) => [d.dim, squeeze(d.name, most)]));
    const left = 16 + 7.4 * d3.max([...label.values()], (text) => text.length);
    const top = d3.max([...rows, ...marks], (d) => (Number.isFinite(d.value) ? d.value : 0)) || 1;
    return [
      key([
        { name: data.policy, stroke: COLOURS.policy, width: 9 },
        ...names.map((name) => ({ name: data.baseline_names[name], stroke: COLOURS[name], symbol: SYMBOLS[name] })),
      ]),
      leading(plot({
        width, height: 52 + rows.length * (rows.length > 10 ? 21 : 30), marginLeft: Math.max(48, left), marginRight: 96, marginTop: 30,
        ariaLabel: t("By dim, over the chunk"),
        ariaDescription: rows.map((d) => `${d.name}: ${number(d.value)}`).join("; "),
        x: { label: errorAxis(view), domain: [0, top], nice: true, grid: true, axis: "top", labelAnchor: "left", labelArrow: "none", ticks: Math.max(3, width / 110) },
        y: { label: null, domain: rows.map((d) => d.dim), tickFormat: (dim) => label.get(dim), tickSize: 0, padding: 0.28 },
        marks: [
          Plot.barX(rows, Plot.pointerY({ ariaHidden: "true", y: "dim", x1: 0, x2: top, fill: "var(--band)", maxRadius: Infinity })),
          Plot.barX(rows.filter((d) => d.row), { y: "dim", x: "value", fill: COLOURS.policy, rx: 2 }),
          Plot.text(page.view === view ? [] : [t("native")], { frameAnchor: "top-right", dx: 92, dy: -21, textAnchor: "end", fill: "var(--soft)" }),
          ...names.map((name) => Plot.dot(marks.filter((d) => d.name === name && Number.isFinite(d.value)), {
            y: "dim", x: "value", symbol: SYMBOLS[name], r: rows.length > 10 ? 4 : 5, fill: COLOURS[name], stroke: "var(--paper)", strokeWidth: 1,
          })),
          Plot.text(rows.filter((d) => d.row), { y: "dim", text: ({ row, value }) => (page.view === "native" ? `${number(row.mae)} ${data.units[row.dim]}` : number(value)), frameAnchor: "right", textAnchor: "end", dx: 92, fill: "var(--soft)", fontVariant: "tabular-nums" }),
        ],
      }), (d) => d.row && openWorst({ dim: d.dim }, d.name)),
    ];
  },

  density(width) {
    const few = data.density.length <= 4;
    const columns = few ? Math.min(data.density.length, Math.max(1, Math.floor(width / 260))) : Math.max(2, Math.floor(width / 190));
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
      const node = plot({
          width: side, height: side, marginLeft: 58, marginBottom: 36, marginTop: 6, marginRight: 8,
          ariaLabel: t("{name}: predicted against demonstrated", { name: row.name }),
          style: { ...FONT, fontSize: few ? "12px" : "10.5px" },
          x: { domain: [x1, x2], label: `${t("demonstrated")} (${unit})`, labelAnchor: "center", labelArrow: "none", ticks: few ? 6 : 3 },
          y: { domain: [x1, x2], label: t("predicted"), labelAnchor: "center", labelArrow: "none", ticks: few ? 6 : 3 },
          color: { type: "log", range: [colour("low"), colour("high")], interpolate: d3.interpolateRgb, unknown: colour("paper") },
          marks: [
            Plot.raster(cells, { width: plane.n, height: plane.n, x1, x2, y1: x1, y2: x2, imageRendering: "pixelated" }),
            Plot.line([[x1, x1], [x2, x2]], { stroke: "var(--ink)", strokeWidth: 1, strokeDasharray: "4,3" }),
            Plot.frame({ stroke: "var(--line)" }),
          ],
      });
      node.style.cursor = "pointer";
      node.addEventListener("click", (event) => {
        const place = d3.pointer(event, node);
        const [i, j] = ["x", "y"].map((axis, k) => Math.floor(((node.scale(axis).invert(place[k]) - x1) / (x2 - x1)) * plane.n));
        openCell(plane, i, j);
      });
      box.append(make("div", { class: "cell" }, make("h4", { title: row.name }, row.name), node));
    }
    return box;
  },

  progress(width) {
    const view = pooledView();
    const divisor = view === "relative" ? data.baselines[still()].chunk[data.one_unit ? "mae" : "nmae"].value : 1;
    const rows = data.progress[view === "relative" ? (data.one_unit ? "native" : "normalized") : view] ?? [];
    const y = (name) => (d) => d[name] / divisor;
    return plot({
      width, height: 290, marginLeft: 52, marginTop: 32, marginBottom: 40, marginRight: 24,
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
      .map((r) => ({ task: r.task, n: r.n_episodes, value: pooled(r), still: pooled(r, foil()), low: view === "relative" ? null : pooled(r, null, "_ci_low"), high: view === "relative" ? null : pooled(r, null, "_ci_high") }))
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
        Plot.tickX(rows.filter((d) => Number.isFinite(d.still)), { y: "task", x: "still", stroke: COLOURS[foil()], strokeWidth: 3, insetTop: 15, insetBottom: 1 }),
        Plot.ruleY(rows.filter((d) => d.low != null), { y: "task", x1: "low", x2: "high", stroke: "var(--ink)", strokeWidth: 1.5, dy: 7 }),
        Plot.text(rows, { y: "task", x: 0, text: (d) => `${shorten(d.task, most)} (${d.n})`, textAnchor: "start", dy: -13, dx: 2, fill: "var(--ink)" }),
        Plot.text(rows, { y: "task", x: "value", text: (d) => number(d.value), textAnchor: "start", dx: 5, dy: 8, fill: "var(--ink)", stroke: "var(--paper)", strokeWidth: 3 }),
      ],
    });
  },

  latency: (width) => latencyChart(width),

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
    const own = data.one_unit ? "mae" : "nmae";
    for (const box of document.querySelectorAll("[data-tile]")) {
      const { value, ci_low, ci_high } = data.summary[box.dataset.tile][metric];
      const ends = ci_low == null ? null : make("span", { class: "soft" }, `[${number(ci_low)}, ${number(ci_high)}]`);
      const against = data.baselines[data.main][box.dataset.tile];
      const other = view === "relative" ? against[own].value / data.baselines[still()][box.dataset.tile][own].value : against[metric].value;
      const percent = `${value < other ? "−" : "+"}${Math.round(Math.abs(100 * (value / other - 1)))}`;
      const beside = value && other ? make("span", { class: "soft" }, t("{baseline} {value}, {percent} %", { baseline: data.baseline_names[data.main], value: number(other), percent })) : null;
      box.replaceChildren(...[make("b", {}, number(value)), ` ${viewUnit(view)}`, ends, beside].filter(Boolean));
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
    const top = d3.max(rows, (row) => Math.max(pooled(row), pooled(row, foil()) || 0)) || 1;
    const share = (value) => `${(78 * value) / top}%`;
    const focused = strip.contains(document.activeElement) ? document.activeElement.dataset.index : null;
    strip.replaceChildren(...rows.map((row) => {
      const value = pooled(row);
      const doing = pooled(row, foil());
      const label = t("episode {episode}: error {error} {unit}, skill {skill}, {n} frames", {
        episode: row.episode_index, error: number(value), unit: viewUnit(pooledView()), skill: number(row[skill], 2), n: row.n_frames,
      });
      return make("button", {
        type: "button", title: label, "aria-label": label, "data-index": row.episode_index,
        "aria-pressed": String(page.player?.episode?.index === row.episode_index),
        onclick: () => openWorst({ episodes: new Set([row.episode_index]) }, t("this episode")),
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
  strip.before(key([
    { name: data.policy, stroke: COLOURS.policy, width: 9 },
    { name: names[foil()], stroke: COLOURS[foil()], dash: "5,3" },
  ]));
  sort.addEventListener("change", draw);
  page.listeners.push(draw);
  page.stripChanged = draw;
  draw();
}

// The row of the data behind a cell of a table, as `pooled` reads it.
function rowBehind(cell) {
  const kind = cell.closest("table").dataset.rows;
  const key = cell.closest("tr").dataset.key;
  if (kind === "horizon") return data.by_horizon[Number(key) - 1];
  if (kind === "tasks") return data.by_task.filter((row) => row.scope === "chunk")[Number(key)];
  if (kind === "episodes") return episodeRows.get(Number(key));
  const scope = cell.dataset.scope;
  const flat = (errors, prefix) => Object.fromEntries(["mae", "nmae", "relative"].flatMap((metric) =>
    ["value", "ci_low", "ci_high"].map((part) => [`${prefix}${metric}${part === "value" ? "" : `_${part}`}`, errors[metric]?.[part]])));
  return Object.assign(flat(data.summary[scope], ""), ...Object.keys(data.baselines).map((name) => flat(data.baselines[name][scope], `${name}_`)));
}

const episodeRows = new Map((data.by_episode ?? []).map((row) => [row.episode_index, row]));

// The table of ways to run the chunks: what a baseline errs is known in one unit alone.
function showWays() {
  const table = document.querySelector('table[data-rows="ways"]');
  if (!table) return;
  const view = pooledView();
  const foreign = view === "normalized" && data.one_unit;
  const [, head, best] = table.tHead.rows[0].cells;
  (head.querySelector(".sort") ?? head).textContent = t("MAE in {unit}", { unit: viewUnit(view) });
  const place = best.textContent === t("best baseline");
  for (const row of table.tBodies[0].rows) {
    const way = data.executions.find(({ name }) => name === row.cells[0].textContent);
    const { value, low, high } = executionError(way);
    row.cells[1].textContent = low == null ? number(value) : `${number(value)} [${number(low)}, ${number(high)}]`;
    if (!place) continue;
    const least = d3.min(data.baseline_order, (name) => way.baselines[name]);
    row.cells[2].textContent = foreign ? "–" : number(view === "relative" ? least / way.baselines[still()] : least);
  }
}

function setUpRows() {
  const go = {
    horizon: (key) => openWorst({ step: Number(key) }, t("step {n}", { n: key })),
    dims: (key) => openWorst({ dim: Number(key) }, data.dims.find((row) => row.dim === Number(key)).name),
    tasks(key) {
      const { task } = data.by_task.filter((row) => row.scope === "chunk")[Number(key)];
      openWorst({ episodes: new Set(data.by_episode.filter((row) => (row.tasks.length ? row.tasks : [row.task]).includes(task)).map((row) => row.episode_index)) }, task);
    },
    episodes: (key) => openWorst({ episodes: new Set([Number(key)]) }, t("this episode")),
  };
  setUpTables((kind, key) => go[kind](key));
  setUpStrip();
  setUpTiles();
  const sort = document.querySelector("[data-sort-dims]");
  sort?.addEventListener("change", () => page.changed());
  const follow = () => {
    showUnits(rowBehind);
    showWays();
  };
  page.listeners.push(follow);
}
