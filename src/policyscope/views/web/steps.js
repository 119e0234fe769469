"use strict";
// Curves over the number of steps that are run of each chunk.

function overSteps(width, label, rows, y) {
  const known = rows.filter((d) => d.value != null);
  const sure = known.filter((d) => d.low != null);
  return plot({
    width, height: Math.min(380, Math.max(260, width * 0.5)), marginLeft: 56, marginRight: 22, marginBottom: 42, marginTop: 28,
    ariaLabel: label,
    ariaDescription: known.map((d) => `${d.steps}: ${number(d.value)}`).join("; "),
    x: { type: "log", base: 2, domain: [d3.min(rows, (d) => d.steps) / 1.2, d3.max(rows, (d) => d.steps) * 1.2], label: t("steps before the policy is asked again"), labelAnchor: "center", labelArrow: "none", ticks: rows.map((d) => d.steps), tickFormat: "d" },
    y: { grid: true, labelArrow: "none", ...y },
    marks: [
      Plot.ruleX([data.base], { stroke: "var(--soft)", strokeDasharray: "3 4" }),
      Plot.ruleX(sure, { x: "steps", y1: "low", y2: "high", stroke: "var(--policy)", strokeWidth: 2 }),
      Plot.lineY(known, { x: "steps", y: "value", stroke: "var(--policy)", strokeWidth: 2.4 }),
      Plot.dot(known, { x: "steps", y: "value", r: 4.5, fill: "var(--policy)", title: (d) => `${t("{n} steps", { n: d.steps })}: ${d.text}`, tip: true }),
    ],
  });
}

const charts = {
  success: (width) => overSteps(width, t("Success in simulation"), data.rows.map(({ steps, success: s }) => ({ steps, value: s.rate, low: s.ci_low, high: s.ci_high, text: `${s.k}/${s.n}` })), { label: t("success rate"), domain: [0, 1], tickFormat: "%" }),
  reward: (width) => overSteps(width, t("Max reward"), data.rows.map(({ steps, reward: r }) => ({ steps, value: r.value, low: r.ci_low, high: r.ci_high, text: number(r.value) })), { label: t("max reward"), zero: true, nice: true }),
};
