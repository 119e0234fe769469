"use strict";
// Charts of several runs: a colour and a dash a run.

const HUES = ["policy", "hold", "repeat", "mean", "warn", "soft"].map((name) => `var(--${name})`);
const LINES = ["", "7,3", "2,3", "10,3,2,3", "4,2", "1,2"];
const hue = (i) => HUES[i % HUES.length];
const runs = data.runs.map((run, i) => ({ ...run, i }));
const runKey = () => key(runs.map((run) => ({ name: run.name, stroke: hue(run.i), dash: LINES[run.i % LINES.length] })));

const charts = {
  skills(width) {
    const low = -1;
    const rows = runs.flatMap((run) => Object.entries(run.skill).filter(([, known]) => known.chunk.value != null).map(([name, known]) => ({
      run: run.i, against: data.baseline_names[name], value: Math.max(known.chunk.value, low), off: known.chunk.value < low,
      low: Math.max(known.chunk.ci_low ?? known.chunk.value, low), high: Math.max(known.chunk.ci_high ?? known.chunk.value, low),
    })));
    const names = [...new Set(rows.map((d) => d.against))];
    return [runKey(), plot({
      width, height: 40 + names.length * (34 + 22 * runs.length), marginLeft: 100, marginRight: 20, marginTop: 6, marginBottom: 36,
      ariaLabel: t("Skill over the whole chunk"),
      x: { domain: [low, 1], label: t("worse ← skill → better"), labelAnchor: "center", labelArrow: "none", ticks: 5 },
      y: { type: "point", axis: null, domain: runs.map((run) => run.i), padding: 0.7 },
      fy: { label: null, domain: names, padding: 0.15 },
      marks: [
        Plot.rect(names, { fy: (d) => d, x1: 0, x2: 1, fill: "var(--good)", fillOpacity: 0.08 }),
        Plot.rect(names, { fy: (d) => d, x1: low, x2: 0, fill: "var(--bad)", fillOpacity: 0.06 }),
        Plot.axisFy({ anchor: "left", label: null }),
        Plot.ruleX([0], { stroke: "var(--ink)" }),
        Plot.ruleY(rows, { fy: "against", y: "run", x1: "low", x2: "high", stroke: (d) => hue(d.run), strokeWidth: 2.5 }),
        Plot.dot(rows.filter((d) => !d.off), { fy: "against", y: "run", x: "value", r: 5, fill: (d) => hue(d.run) }),
        Plot.text(rows.filter((d) => d.off), { fy: "against", y: "run", x: low, text: () => "◀", dx: 7, fill: (d) => hue(d.run) }),
      ],
    })];
  },

  horizons(width) {
    const rows = (run) => run.by_horizon.map((r) => ({ step: r.step, value: r[data.metric], low: r[`${data.metric}_ci_low`], high: r[`${data.metric}_ci_high`] }));
    return [runKey(), plot({
      width, height: Math.min(400, Math.max(260, width * 0.42)), marginLeft: 52, marginRight: 14, marginBottom: 40,
      ariaLabel: t("By horizon step"),
      x: { label: t("horizon step"), labelAnchor: "center", labelArrow: "none", tickFormat: "d", ticks: Math.max(4, width / 80) },
      y: { label: `MAE (${data.unit})`, zero: true, nice: true, grid: true, labelArrow: "none" },
      marks: runs.flatMap((run) => [
        Plot.areaY(rows(run).filter((d) => d.low != null), { x: "step", y1: "low", y2: "high", fill: hue(run.i), fillOpacity: 0.14 }),
        Plot.lineY(rows(run), { x: "step", y: "value", stroke: hue(run.i), strokeWidth: 2.6, strokeDasharray: LINES[run.i % LINES.length] }),
      ]),
    })];
  },

  dims(width) {
    const rows = runs.flatMap((run) => run.dims.map((d) => ({ run: run.i, name: d.name, value: d.nmae }))).filter((d) => d.value != null);
    const names = [...new Set(rows.map((d) => d.name))];
    const most = width < 520 ? 16 : 34;
    const symbols = ["circle", "square", "triangle", "diamond", "star", "cross"];
    return [
      key(runs.map((run) => ({ name: run.name, stroke: hue(run.i), symbol: symbols[run.i % 6] }))),
      plot({
        width, height: 52 + names.length * 24, marginLeft: 20 + 7.4 * d3.max(names, (n) => Math.min(n.length, most)), marginRight: 16, marginTop: 30,
        ariaLabel: t("By dim, over the chunk, in units of the standard deviation"),
        x: { label: `MAE (${t("std")})`, zero: true, grid: true, axis: "top", labelArrow: "none", ticks: Math.max(3, width / 110) },
        y: { label: null, type: "point", domain: names, tickFormat: (n) => shorten(n, most), tickSize: 0, padding: 0.6 },
        marks: [
          Plot.ruleY(names, { stroke: "var(--line)" }),
          ...runs.map((run) => Plot.dot(rows.filter((d) => d.run === run.i), { y: "name", x: "value", symbol: symbols[run.i % 6], r: 5, fill: hue(run.i), stroke: "var(--paper)" })),
        ],
      }),
    ];
  },
};
