"use strict";
// Parts that pages of evaluations and of rollouts have in common.

// A chart whose pointed datum leads somewhere when it is pressed, and may be told beside the curve.
function leading(node, open, tell = () => {}) {
  node.style.cursor = "pointer";
  node.addEventListener("input", () => tell(node.value));
  node.addEventListener("click", () => node.value && open(node.value));
  return node;
}

// Single control steps beside the time that the robot leaves.
function latencyChart(width) {
  const kinds = [["model_call", t("model call")], ["end_to_end", t("end to end")], ["queue_pop", t("queue pop")], ["network", t("transfer")]]
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
      Plot.text(kinds, { y: ([, title]) => title, text: ([name, title]) => marks.filter((d) => d.title === title).map((d) => `${d.q} ${number(d.ms)}`).join(", "), frameAnchor: "left", dy: 31, dx: 4, textAnchor: "start", fill: "var(--ink)", stroke: "var(--paper)", strokeWidth: 3 }),
    ],
  });
}
