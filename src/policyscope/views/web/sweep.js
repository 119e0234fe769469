"use strict";
// Charts of a sweep: a number of every checkpoint over the steps of its training.

const LOOKS = { executed: ["policy", ""], chunk: ["repeat", "7,3"], step1: ["hold", "2,3"] };
const scopes = Object.keys(LOOKS);
const known = data.checkpoints;

function over(width, { label, lines, y, zero = false }) {
  const narrow = width < 520;
  const n = known.length;
  const short = d3.format("~s");
  const ticks = data.by_step ? {} : { ticks: known.map((d) => d.x), tickFormat: (x) => known.find((d) => d.x === x)?.label ?? "", tickRotate: n > 6 ? -35 : 0 };
  return [
    lines.length > 1 ? key(lines.map(({ name, look: [hue, dash] }) => ({ name, stroke: `var(--${hue})`, dash }))) : null,
    plot({
      width, height: Math.min(380, Math.max(260, width * 0.5)), marginLeft: 56, marginRight: 22, marginBottom: data.by_step || n <= 6 ? 40 : 64, marginTop: 28,
      ariaLabel: label,
      ariaDescription: lines.flatMap(({ name, rows }) => rows.map((d) => `${name}, ${d.label}: ${number(d.value)}`)).join("; "),
      x: { label: data.by_step ? t("training step") : t("checkpoint"), labelAnchor: "center", labelArrow: "none", nice: false, tickFormat: short, ticks: narrow ? 4 : 7, ...ticks },
      y: { grid: true, nice: true, labelArrow: "none", zero, ...y },
      marks: [
        ...(zero ? [] : [Plot.ruleY([0], { stroke: "var(--ink)" })]),
        ...lines.flatMap(({ rows, look: [hue, dash], band }) => {
          const stroke = `var(--${hue})`;
          const sure = rows.filter((d) => d.low != null);
          return [
            band && sure.length > 1
              ? Plot.areaY(sure, { x: "x", y1: "low", y2: "high", fill: stroke, fillOpacity: 0.13 })
              : Plot.ruleX(sure, { x: "x", y1: "low", y2: "high", stroke, strokeWidth: 2 }),
            Plot.lineY(rows, { x: "x", y: "value", stroke, strokeWidth: 2.2, strokeDasharray: dash }),
            Plot.dot(rows, { x: "x", y: "value", r: 4.5, stroke, strokeWidth: 2, fill: (d) => (d.alike ? stroke : "var(--paper)") }),
          ];
        }),
      ],
    }),
  ];
}

function rows(of, measure) {
  return known.map((d) => {
    const value = of(d);
    return value && { x: d.x, label: d.label, value: value.value ?? value.rate, low: value.ci_low, high: value.ci_high, alike: d.alike.includes(measure) };
  }).filter((d) => d && d.value != null);
}

const byScope = (what) => scopes.map((scope) => ({ name: data.scopes[scope], look: LOOKS[scope], band: true, rows: rows((d) => d[what][scope], `${scope}.${what}`) }));

const charts = {
  error: (width) => over(width, { label: t("Error"), lines: byScope("error"), zero: true, y: { label: `MAE (${data.unit})` } }),
  skill(width) {
    const low = -1; // a baseline that hardly errs makes it large and negative
    const lines = byScope("skill").map((line) => ({ ...line, rows: line.rows.map((d) => ({ ...d, value: Math.max(d.value, low), low: d.low == null ? null : Math.max(d.low, low), high: d.high == null ? null : Math.max(d.high, low) })) }));
    const least = d3.min(lines.flatMap((line) => line.rows), (d) => d.low ?? d.value) ?? 0;
    return over(width, { label: t("Skill against {baseline}", { baseline: data.against }), lines, y: { label: t("skill"), domain: [Math.min(0, least), 1], tickFormat: (v) => (v === low ? "≤ −1" : `${v}`.replace("-", "−")) } });
  },
  success: (width) => over(width, { label: t("Success in simulation"), lines: [{ name: t("Success"), look: ["policy", ""], band: false, rows: rows((d) => d.success, "success") }], zero: true, y: { label: t("success rate"), domain: [0, 1], tickFormat: "%" } }),
};
