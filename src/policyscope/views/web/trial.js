"use strict";
// Charts of a dataset on trial.

const NONE = () => make("p", { class: "soft" }, t("Nothing to draw here."));

const charts = {
  spread(width) {
    const rows = data.spread ?? [];
    const bins = rows.flatMap((d) => d.share.map((share, i) => ({ name: d.name, i, share, top: d3.max(d.share) })));
    const most = width < 520 ? 14 : 24;
    return plot({
      width, height: 46 + rows.length * (rows.length > 10 ? 19 : 34), marginLeft: 16 + 7 * Math.min(most, d3.max(rows, (d) => d.name.length)), marginRight: 34, marginBottom: 34,
      ariaLabel: t("Where the actions are"),
      ariaDescription: rows.map((d) => `${d.name}: ${number(d.low)} – ${number(d.high)}`).join("; "),
      x: { domain: [0, 48], ticks: [0, 24, 48], tickFormat: (v) => ({ 0: t("least"), 24: "", 48: t("largest") })[v], label: null },
      y: { label: null, domain: rows.map((d) => d.name), tickFormat: (name) => shorten(name, most), tickSize: 0, padding: 0.2 },
      marks: [
        Plot.barX(bins.filter((d) => d.share), { y: "name", x1: "i", x2: (d) => d.i + 1, fill: "var(--policy)", fillOpacity: (d) => 0.08 + 0.92 * Math.sqrt(d.share / d.top) , title: (d) => `${d.name}: ${number(100 * d.share, 2)} %`, tip: true }),
        Plot.frame({ stroke: "var(--line)" }),
      ],
    });
  },

  lag(width) {
    if (!data.lag) return NONE();
    const points = data.lag.dims.flatMap((d) => d.values.map((value, i) => ({ name: d.name, s: data.lag.s[i], value }))).filter((d) => d.value != null);
    const best = data.lag.dims.filter((d) => d.values.some((v) => v != null)).map((d) => {
      const i = d3.maxIndex(d.values, (v) => v ?? -2);
      return { name: d.name, s: data.lag.s[i], value: d.values[i] };
    });
    return plot({
      width, height: Math.min(380, Math.max(260, width * 0.5)), marginLeft: 46, marginRight: 18, marginBottom: 40,
      ariaLabel: t("How far the state is behind"),
      ariaDescription: best.map((d) => `${d.name}: ${number(d.s)} s`).join("; "),
      x: { label: t("seconds by which the state is behind"), labelAnchor: "center", labelArrow: "none", ticks: Math.max(3, width / 90) },
      y: { label: t("correlation"), grid: true, labelArrow: "none" },
      marks: [
        Plot.ruleX([0], { stroke: "var(--ink)" }),
        Plot.lineY(points, { x: "s", y: "value", z: "name", stroke: "var(--policy)", strokeOpacity: data.lag.dims.length > 6 ? 0.45 : 0.9, strokeWidth: 1.6 }),
        Plot.dot(best, { x: "s", y: "value", r: 4, fill: "var(--hold)", title: (d) => `${d.name}: ${number(d.s)} s`, tip: true }),
      ],
    });
  },

  collection(width) {
    const rows = data.by_episode.map((d) => ({ ...d, y: d.apart ?? 0 }));
    const title = (d) => [t("episode {episode}", { episode: d.episode }), t("{n} frames", { n: d.frames }), d.why].filter(Boolean).join("\n");
    return plot({
      width, height: Math.min(380, Math.max(260, width * 0.4)), marginLeft: 46, marginRight: 18, marginBottom: 40,
      ariaLabel: t("Episodes"),
      ariaDescription: rows.filter((d) => d.why).map(title).join("; "),
      x: { label: t("frames"), labelAnchor: "center", labelArrow: "none", nice: true, ticks: Math.max(3, width / 110) },
      y: { label: t("std from the nearest other"), grid: true, zero: true, nice: true, labelArrow: "none" },
      marks: [
        Plot.dot(rows, { x: "frames", y: "y", r: (d) => (d.why ? 6 : 4), stroke: (d) => (d.why ? "var(--hold)" : "var(--policy)"), fill: (d) => (d.why ? "var(--hold)" : "var(--paper)"), strokeWidth: 1.6, title, tip: true }),
        Plot.text(rows.filter((d) => d.why), { x: "frames", y: "y", text: (d) => `${d.episode}`, dy: -11, fill: "var(--ink)" }),
      ],
    });
  },
};
