"use strict";
// State that charts and player share: the data, the view (native, normalized, relative), the theme.

const data = JSON.parse(document.getElementById("data").textContent);
const t = (text, values = {}) =>
  (data.text[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
const root = document.documentElement;
const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

const COLOURS = {
  policy: "var(--policy)", demo: "var(--demo)", hold_state: "var(--hold)", zero: "var(--hold)",
  repeat_last: "var(--repeat)", dataset_mean: "var(--mean)",
};
const DASHES = { hold_state: "7,3", zero: "7,3", repeat_last: "2,3", dataset_mean: "10,3,2,3" };
const SYMBOLS = { hold_state: "circle", zero: "circle", repeat_last: "square", dataset_mean: "triangle" };

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

// As the tables beside the charts: three significant digits, a dash where there is no number.
function number(value, digits = 3) {
  if (value == null || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e5) return value.toExponential(digits - 1);
  return value.toFixed(Math.max(0, digits - 1 - Number(value.toExponential(digits - 1).split("e")[1])));
}

// As `ratio` of the tables: no finer than a hundredth, and never −0.00.
function ratio(value) {
  if (value == null || Math.abs(value) >= 1) return number(value).replace("-", "−");
  return (Math.round(value * 100) / 100 || 0).toFixed(2).replace("-", "−");
}

const page = {
  view: data.views?.[0] ?? "native",
  listeners: [],
  changed() {
    for (const listen of this.listeners) listen();
  },
};

// Where dims have different units there is no native mean over dims: pooled charts show std then.
const pooledView = () => (page.view === "native" && !data.one_unit ? "normalized" : page.view);
const still = () => (data.baseline_names?.hold_state ? "hold_state" : "zero");

function viewUnit(view) {
  if (view === "native") return data.one_unit;
  if (view === "normalized") return t("std");
  return t("× {baseline}", { baseline: data.baseline_names[still()] });
}

// Error of the policy, or of a baseline, in one row of a pooled table.
function pooled(row, name = null, suffix = "") {
  const view = pooledView();
  const prefix = name ? `${name}_` : "";
  if (view === "native") return row[`${prefix}mae${suffix}`];
  if (view === "normalized") return row[`${prefix}nmae${suffix}`];
  if (suffix && !name) return row[`relative${suffix}`];
  if (suffix) return null;
  const metric = data.one_unit ? "mae" : "nmae";
  return row[`${prefix}${metric}`] / row[`${still()}_${metric}`];
}

function setUpViews() {
  const box = document.querySelector("[data-views]");
  if (!box || !data.views || data.views.length < 2) return;
  const titles = { native: data.one_unit ?? t("native"), normalized: t("std"), relative: t("relative") };
  for (const view of data.views) {
    const input = make("input", { type: "radio", name: "view", value: view, checked: view === page.view });
    input.addEventListener("change", () => {
      page.view = view;
      page.changed();
    });
    box.append(make("label", { title: viewTitle(view) }, input, titles[view]));
  }
  box.hidden = false;
}

function viewTitle(view) {
  return {
    native: t("Native units of the actions"),
    normalized: t("Units of the dataset's standard deviation"),
    relative: t("Relative to the error of doing nothing"),
  }[view];
}

function setUpTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = document.querySelector("[data-theme-button]");
  let chosen = null;
  const apply = (theme) => {
    root.dataset.theme = theme;
    button.textContent = theme === "dark" ? t("Light") : t("Dark");
    page.changed();
  };
  const wanted = () => chosen ?? (dark.matches ? "dark" : "light");
  button.addEventListener("click", () => {
    chosen = wanted() === "dark" ? "light" : "dark";
    apply(chosen);
  });
  dark.addEventListener("change", () => apply(wanted()));
  addEventListener("beforeprint", () => apply("light"));
  addEventListener("afterprint", () => apply(wanted()));
  root.dataset.theme = wanted();
  button.textContent = wanted() === "dark" ? t("Light") : t("Dark");
}

const PAPER = 700; // CSS pixels between the margins of a printed page

// Charts are drawn when they come near the window, and again when their width, view or theme changes.
function setUpCharts(charts) {
  const boxes = [...document.querySelectorAll("[data-chart]")];
  const state = new Map(boxes.map((box) => [box, { near: false, stale: true, width: 0 }]));
  const draw = (box, width = null) => {
    const plot = box.querySelector("[data-plot]");
    const known = state.get(box);
    known.width = width ?? plot.clientWidth;
    known.stale = false;
    plot.replaceChildren(...[charts[box.dataset.chart](known.width)].flat().filter(Boolean));
    plot.style.minHeight = "0";
  };
  const refresh = () => {
    for (const [box, known] of state) if (known.stale && known.near) draw(box);
  };
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) state.get(entry.target).near = entry.isIntersecting;
    refresh();
  }, { rootMargin: "500px" });
  const resized = new ResizeObserver(() => {
    for (const [box, known] of state) {
      if (Math.abs(box.querySelector("[data-plot]").clientWidth - known.width) > 1) known.stale = true;
    }
    refresh();
  });
  for (const box of boxes) {
    near.observe(box);
    resized.observe(box);
  }
  page.listeners.push(() => {
    for (const known of state.values()) known.stale = true;
    refresh();
  });
  addEventListener("beforeprint", () => boxes.forEach((box) => draw(box, PAPER)));
}

function noteOnUnits() {
  const note = document.querySelector("[data-note]");
  if (!note) return;
  const mixed = page.view === "native" && !data.one_unit;
  note.hidden = !mixed;
  note.textContent = mixed
    ? t("The dims have different or undeclared units, which must not be averaged: charts over all dims show units of the standard deviation; charts of single dims show native units.")
    : "";
}

const FONT = { fontSize: "12px", background: "transparent", color: "currentColor" };
const shorten = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);

// Of names that differ at their ends, such as those of joints.
const squeeze = (text, most) => (text.length <= most ? text : `${text.slice(0, Math.ceil(most / 2) - 1)}…${text.slice(-Math.floor(most / 2))}`);

// A chart is one picture with one label: readers find its numbers in the table beside it.
function plot(options) {
  const node = Plot.plot({ style: FONT, ...options });
  for (const part of node.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label");
  node.setAttribute("role", "img");
  return node;
}

// A key above a chart: the mark as it is drawn, then its name.
function key(entries) {
  return make("p", { class: "key" }, ...keySpans(entries));
}

function keySpans(entries) {
  return entries.map(({ name, stroke, dash, symbol, width = 2.5 }) => {
    const mark = symbol
      ? `<path d="${d3.symbol(d3[`symbol${symbol[0].toUpperCase()}${symbol.slice(1)}`], 55)()}" transform="translate(13,6)" fill="${stroke}"/>`
      : `<line x1="0" x2="26" y1="6" y2="6" stroke="${stroke}" stroke-width="${width}" stroke-dasharray="${dash ?? ""}"/>`;
    const span = make("span");
    span.innerHTML = `<svg width="26" height="12" aria-hidden="true">${mark}</svg>`;
    span.append(name);
    return span;
  });
}

document.addEventListener("DOMContentLoaded", () => {
  setUpTheme();
  setUpViews();
  if (typeof charts === "object") setUpCharts(charts);
  const stage = document.querySelector("[data-player]");
  if (stage && data.episodes.length) page.player = new Player(stage, data);
  if (typeof setUpRows === "function") setUpRows();
  noteOnUnits();
  page.listeners.push(noteOnUnits);
});
