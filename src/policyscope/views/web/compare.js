"use strict";
// Charts of a comparison: every run against the base, a colour a run (as in the player).

const HUES = ["policy", "hold", "repeat", "mean", "warn", "soft"].map((name) => `var(--${name})`);
const SHAPES = ["circle", "square", "triangle", "diamond", "star", "cross"];
const others = data.run_names.map((name, i) => ({ name, i })).slice(1);
const several = others.length > 1;
const of = (table) => data.rows.filter((row) => row.table === table);
const runKey = () => several ? key(others.map(({ name, i }) => ({ name, stroke: HUES[i], symbol: SHAPES[i] }))) : null;
const labelled = (rows, name) => rows.map((row) => ({ ...row, label: name(row) }));

const ofTask = (task) => ({ episodes: new Set(data.episodes.filter((e) => e.task === task).map((e) => e.index)) });

// Ratios with whiskers, a line for each label; on a log scale ½ and 2 are equally far from 1.
function forest(rows, width, title, open) {
  const names = [...new Set(rows.map((d) => d.label))];
  const most = width < 520 ? 14 : 34;
  const ends = rows.flatMap((d) => [d.ratio_low ?? d.ratio, d.ratio_high ?? d.ratio]).filter((v) => v > 0);
  const reach = Math.max(1.05, Math.min(20, d3.max(ends, (v) => Math.max(v, 1 / v)) ?? 1.05) * 1.03);
  const domain = [Math.max(1 / reach, d3.min([...ends, 0.97]) * 0.97), Math.min(reach, d3.max([...ends, 1.03]) * 1.03)];
  const inside = (v) => Math.min(Math.max(v, domain[0]), domain[1]);
  const shift = (d) => (several ? (d.run - (others.length + 1) / 2) * Math.min(9, 18 / others.length) : 0);
  const marks = others.flatMap(({ i }) => {
    const own = rows.filter((d) => d.run === i && d.ratio != null);
    const dy = shift({ run: i });
    return [
      Plot.ruleY(own.filter((d) => d.ratio_low != null), { y: "label", x1: (d) => inside(d.ratio_low), x2: (d) => inside(d.ratio_high), stroke: HUES[i], strokeWidth: 2.5, dy }),
      Plot.dot(own, { y: "label", x: (d) => inside(d.ratio), symbol: SHAPES[i], r: 4.5, fill: HUES[i], stroke: "var(--paper)", dy, title: (d) => `${d.label}: ${number(d.b)} / ${number(d.a)} ${d.unit}` }),
    ];
  });
  const node = plot({
    width, height: 58 + names.length * (several ? 18 + 9 * others.length : 26), marginTop: 8, marginBottom: 40, marginRight: 18,
    marginLeft: 22 + 7.2 * (d3.max(names, (n) => Math.min(n.length, most)) ?? 4),
    ariaLabel: title,
    x: { type: "log", domain, label: t("less error ← ratio to the base → more error"), labelAnchor: "center", labelArrow: "none", ticks: d3.ticks(domain[0], domain[1], Math.max(3, width / 130)), tickFormat: (v) => String(+v.toPrecision(3)) },
    y: { type: "point", label: null, domain: names, tickFormat: (n) => squeeze(String(n), most), tickSize: 0, padding: 0.6 },
    marks: [
      Plot.rect([0], { x1: domain[0], x2: 1, fill: "var(--good)", fillOpacity: 0.07 }),
      Plot.rect([0], { x1: 1, x2: domain[1], fill: "var(--bad)", fillOpacity: 0.06 }),
      Plot.ruleY(names, { stroke: "var(--line)", strokeOpacity: 0.6 }),
      Plot.ruleX([1], { stroke: "var(--ink)" }),
      ...marks,
      ...(open ? [Plot.ruleY(rows, Plot.pointerY({ ariaHidden: "true", y: "label", stroke: "var(--soft)", strokeOpacity: 0.6, maxRadius: Infinity }))] : []),
    ],
  });
  return [runKey(), open ? leading(node, open) : node];
}

const charts = {
  scopes: (width) => forest(labelled(of("scope"), (d) => d.name), width, t("Error as a multiple of the base's")),
  dims(width) {
    const rows = labelled(of("dim"), (d) => d.label).sort((a, b) => d3.ascending(a.ratio ?? 1, b.ratio ?? 1));
    return forest(rows, width, t("By dim, over the chunk"), (d) => openWorst({ dim: data.names.indexOf(d.label) }, d.label));
  },
  tasks: (width) => forest(of("task"), width, t("By task"), (d) => openWorst(ofTask(d.label), d.label)),

  horizon(width) {
    const rows = of("horizon").map((d) => ({ ...d, step: Number(d.label) }));
    const ends = rows.flatMap((d) => [d.ratio_low ?? d.ratio, d.ratio_high ?? d.ratio]).filter((v) => v != null);
    return [runKey(), leading(plot({
      width, height: Math.min(380, Math.max(240, width * 0.42)), marginLeft: 48, marginRight: 14, marginBottom: 40,
      ariaLabel: t("By horizon step"),
      x: { label: t("horizon step"), labelAnchor: "center", labelArrow: "none", tickFormat: "d", ticks: Math.max(4, width / 80) },
      y: { label: t("ratio to the base"), domain: [Math.max(0, d3.min([...ends, 0.95]) * 0.97), Math.min(10, d3.max([...ends, 1.05]) * 1.03)], grid: true, labelArrow: "none", ticks: 5, clamp: true },
      marks: [
        Plot.ruleY([1], { stroke: "var(--ink)" }),
        ...others.flatMap(({ i }) => {
          const own = rows.filter((d) => d.run === i);
          return [
            Plot.areaY(own.filter((d) => d.ratio_low != null), { x: "step", y1: "ratio_low", y2: "ratio_high", fill: HUES[i], fillOpacity: 0.16, clip: true }),
            Plot.lineY(own, { x: "step", y: "ratio", stroke: HUES[i], strokeWidth: 2.4, clip: true }),
            Plot.dot(own, { x: "step", y: "ratio", fill: HUES[i], symbol: SHAPES[i], r: 3, clip: true }),
          ];
        }),
        Plot.ruleX(rows, Plot.pointerX({ ariaHidden: "true", x: "step", stroke: "var(--soft)" })),
      ],
    }), (d) => openWorst({ step: d.step }, t("step {n}", { n: d.step })))];
  },

  // A panel for each run: bars of its error less the base's, most gained first.
  episodes(width) {
    return others.flatMap(({ name, i }) => {
      const rows = of("episode").filter((d) => d.run === i).sort((a, b) => d3.ascending(a.difference, b.difference));
      if (!rows.length) return [];
      const many = rows.length > Math.max(12, width / 26);
      const node = plot({
        width, height: 190, marginLeft: 52, marginRight: 8, marginBottom: many ? 14 : 34, marginTop: 22,
        ariaLabel: `${name}: ${t("By episode, {metric}", { metric: data.metric })}`,
        x: { type: "band", domain: rows.map((d) => d.label), label: null, axis: many ? null : "bottom", tickSize: 0, padding: 0.12 },
        y: { label: `B − A (${rows[0].unit === "std" ? t("std") : rows[0].unit})`, grid: true, labelArrow: "none", ticks: 4, nice: true },
        marks: [
          Plot.barY(rows, { x: "label", y: "difference", fill: (d) => (d.difference < 0 ? "var(--good)" : "var(--bad)"), fillOpacity: 0.75 }),
          Plot.ruleY([0], { stroke: "var(--ink)" }),
        ],
      });
      const scale = node.scale("x");
      const layer = d3.select(node).append("g");
      for (const d of rows) {
        layer.append("rect").attr("x", scale.apply(d.label)).attr("width", scale.bandwidth).attr("y", 0).attr("height", 190)
          .attr("fill", "transparent").style("cursor", "pointer").attr("data-open", d.label)
          .on("click", () => openWorst({ episodes: new Set([Number(d.label)]) }, t("this episode")))
          .append("title").text(t("episode {episode}: {b} against {a} {unit}", { episode: d.label, a: number(d.a), b: number(d.b), unit: d.unit }));
      }
      return several ? [make("h4", {}, name), node] : [node];
    });
  },

  rates(width) {
    const rows = data.success.filter((d) => d?.rate != null).map((d) => ({ ...d, name: data.run_names[d.run] }));
    const most = width < 520 ? 16 : 40;
    return [plot({
      width, height: 58 + rows.length * 30, marginTop: 8, marginBottom: 40, marginRight: 22, marginLeft: 22 + 7.2 * d3.max(rows, (d) => Math.min(d.name.length, most)),
      ariaLabel: t("Success rates"),
      x: { domain: [0, 100], label: t("success, %"), labelAnchor: "center", labelArrow: "none", ticks: Math.max(3, width / 90), grid: true },
      y: { type: "point", label: null, domain: rows.map((d) => d.name), tickFormat: (n) => shorten(n, most), tickSize: 0, padding: 0.6 },
      marks: [
        Plot.ruleY(rows, { y: "name", x1: (d) => 100 * (d.low ?? d.rate), x2: (d) => 100 * (d.high ?? d.rate), stroke: (d) => HUES[d.run], strokeWidth: 2.5 }),
        Plot.dot(rows, { y: "name", x: (d) => 100 * d.rate, symbol: (d) => SHAPES[d.run], r: 5, fill: (d) => HUES[d.run], stroke: "var(--paper)" }),
      ],
    })];
  },

  gaps(width) {
    const rows = data.outcomes.map((d) => ({ ...d, name: data.run_names[d.run] }));
    const most = width < 520 ? 16 : 40;
    const reach = Math.min(100, 10 + 100 * d3.max(rows, (d) => Math.max(Math.abs(d.low), Math.abs(d.high))));
    return [plot({
      width, height: 58 + rows.length * 30, marginTop: 8, marginBottom: 40, marginRight: 22, marginLeft: 22 + 7.2 * d3.max(rows, (d) => Math.min(d.name.length, most)),
      ariaLabel: t("Difference from the base"),
      x: { domain: [-reach, reach], label: t("worse ← points of success → better"), labelAnchor: "center", labelArrow: "none", ticks: Math.max(3, width / 90), tickFormat: "+d" },
      y: { type: "point", label: null, domain: rows.map((d) => d.name), tickFormat: (n) => shorten(n, most), tickSize: 0, padding: 0.6 },
      marks: [
        Plot.rect([0], { x1: 0, x2: reach, fill: "var(--good)", fillOpacity: 0.07 }),
        Plot.rect([0], { x1: -reach, x2: 0, fill: "var(--bad)", fillOpacity: 0.06 }),
        Plot.ruleX([0], { stroke: "var(--ink)" }),
        Plot.ruleY(rows, { y: "name", x1: (d) => 100 * d.low, x2: (d) => 100 * d.high, stroke: (d) => HUES[d.run], strokeWidth: 2.5 }),
        Plot.dot(rows, { y: "name", x: (d) => 100 * d.difference, symbol: (d) => SHAPES[d.run], r: 5, fill: (d) => HUES[d.run], stroke: "var(--paper)" }),
      ],
    })];
  },

  // A line for each run, a square for each seed.
  seeds() {
    const shown = data.outcomes.filter((d) => d.pairs.length);
    const base = shown[0].pairs.map((p) => ({ i: p.i, seed: p.seed, won: p.a, apart: false }));
    const lines = [{ run: 0, pairs: base }, ...shown.map((d) => ({ run: d.run, pairs: d.pairs.map((p) => ({ i: p.i, seed: p.seed, won: p.b, apart: p.a !== p.b })) }))];
    return lines.map(({ run, pairs }) => make("div", { class: "seeds" },
      make("span", { class: "name", title: data.run_names[run] }, data.run_names[run]),
      make("div", { class: "squares", role: "group", "aria-label": data.run_names[run], style: `--hue: ${HUES[run]}` }, ...pairs.map((p) => {
        const label = `${t("seed {seed}", { seed: p.seed })}: ${p.won ? t("success") : t("no success")}`;
        return make("button", { type: "button", class: `${p.won ? "won" : "lost"}${p.apart ? " apart" : ""}`, title: label, "aria-label": label, onclick: () => page.player?.open(p.i, true) });
      }))));
  },
};

function setUpRows() {
  const go = {
    horizon: (key) => openWorst({ step: Number(key) }, t("step {n}", { n: key })),
    dim: (key) => openWorst({ dim: Number(key) }, data.names[key]),
    task: (key) => openWorst(ofTask(key), key),
    episode: (key) => openWorst({ episodes: new Set([Number(key)]) }, t("this episode")),
    seeds: (key) => page.player.open(Number(key), true),
  };
  setUpTables((kind, key) => go[kind](key));
}
