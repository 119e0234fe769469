"use strict";
// Tables that sort, filter and follow the unit, and whose rows lead to their frames.

const MOST_UNFILTERED = 12;

// What a cell counts as when rows are sorted: its leading number, else its text; dashes come last.
function cellValue(cell) {
  const text = cell.textContent.trim().replace("−", "-");
  const value = parseFloat(text.replace(/^[≤≥<>]\s*/, ""));
  return Number.isNaN(value) ? (text === "–" ? null : text) : value;
}

function sortRows(table, column, down) {
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [cellValue(row.cells[column]), row]);
  keyed.sort(([a], [b]) => {
    if (a == null || b == null) return (a == null) - (b == null);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return (typeof a === "number" ? a - b : a.localeCompare(b)) * (down ? -1 : 1);
  });
  body.append(...keyed.map(([, row]) => row));
}

function setUpSorting(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = make("button", { type: "button", class: "sort", title: t("sort by this column") }, ...head.childNodes);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sortRows(table, column, down);
    });
    head.append(button);
  });
}

function setUpFilter(table) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length <= MOST_UNFILTERED) return;
  const input = make("input", { type: "search", placeholder: t("filter rows") , "aria-label": t("filter rows") });
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
  table.closest(".scroll").before(input);
}

// `open` is asked with the kind of the table and the key of the row.
function setUpTables(open) {
  for (const table of document.querySelectorAll("table[data-rows]")) {
    setUpSorting(table);
    setUpFilter(table);
    if (!page.player) continue;
    for (const row of table.tBodies[0].rows) {
      if (row.dataset.key == null) continue;
      row.classList.add("leads");
      row.addEventListener("click", () => open(table.dataset.rows, row.dataset.key));
      const head = row.cells[0];
      head.append(make("button", { type: "button", class: "lead", title: t("show in the player") }, ...head.childNodes));
    }
  }
}

// Cells of errors in the unit that is chosen; `of` gives the row behind a row of the page.
function showUnits(of) {
  const unit = viewUnit(pooledView());
  for (const head of document.querySelectorAll("[data-error-head]")) {
    (head.querySelector(".sort") ?? head).textContent = t("MAE in {unit}", { unit }) + head.dataset.errorHead;
  }
  for (const cell of document.querySelectorAll("td[data-error]")) {
    const row = of(cell);
    const name = cell.dataset.error || null;
    const [low, high] = ["_ci_low", "_ci_high"].map((suffix) => pooled(row, name, suffix));
    const value = number(pooled(row, name));
    cell.textContent = low == null || low === high || cell.dataset.bare != null ? value : `${value} [${number(low)}, ${number(high)}]`;
  }
}
