// Elements and the words in them. Data becomes text, never markup: what destinations answer is hostile.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; a child that is no node is text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Sets a text where it differs, so that what is selected or read out is left alone. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Options of a select that stay chosen where they still exist; the first one is empty, and stands for any. */
export function offer(select, values, empty = "any") {
  const wanted = ["", ...values];
  const given = [...select.options].map((option) => option.value);
  if (wanted.join("\n") === given.join("\n") && given.length > 0) return;
  const chosen = select.value;
  select.replaceChildren(...wanted.map((value) => make("option", { value }, value || empty)));
  select.value = wanted.includes(chosen) ? chosen : "";
}

/** Chooses a value that may not be offered yet. */
export function choose(select, value) {
  if (![...select.options].some((option) => option.value === value)) select.append(make("option", { value }, value));
  select.value = value;
}

const TONES = {
  good: ["ready", "running", "closed", "delivered", "committed", "reconciled", "hit", "fresh", "valid", "absent", "superseded", "done", "finished"],
  warn: ["paused", "half-open", "recovering", "starting", "draining", "parked", "stale", "validate", "in-doubt", "waiting", "accepted", "held", "stopped"],
  bad: ["open", "unavailable", "full", "damaged", "detached", "dead-letter", "lost", "aborted", "own", "gone"],
};
export const tone = (word) => Object.keys(TONES).find((name) => TONES[name].includes(word)) ?? "";

/** A word for a state, with a colour beside the word. */
export const word = (text) => make("span", { class: `word ${tone(text)}` }, text);

const parts = new WeakMap();

/** Puts a text, or the nodes that `draw` makes of it, into an element where it changed. */
function put(cell, column, row) {
  const text = column.of(row);
  if (parts.get(cell) === text) return;
  parts.set(cell, text);
  cell.replaceChildren(column.draw ? column.draw(row) : text);
}

/**
 * A table whose rows are kept by their key, so that focus in them stays where it is.
 * A column has `head`, `of(row)` (a text that changes with what is shown), and may have `draw(row)` and `number`.
 */
export function table(place, caption, columns, empty) {
  const body = make("tbody");
  const heads = columns.map(({ head, number }) => make("th", { scope: "col", class: number ? "number" : null }, head));
  const whole = make("table", { hidden: true, role: "table" }, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...heads)), body);
  const none = make("p", { class: "empty" }, empty);
  place.append(none, whole);
  const kept = new Map();
  return (rows, keyOf) => {
    none.hidden = rows.length > 0;
    whole.hidden = rows.length === 0;
    const keys = new Set(rows.map(keyOf));
    for (const [key, line] of kept) {
      if (keys.has(key)) continue;
      line.remove();
      kept.delete(key);
    }
    rows.forEach((row, at) => {
      const key = keyOf(row);
      let line = kept.get(key);
      if (!line) {
        line = make("tr", { role: "row" }, ...columns.map(({ number }, column) =>
          make(column === 0 ? "th" : "td", {
            scope: column === 0 ? "row" : null,
            role: column === 0 ? "rowheader" : "cell",
            class: number ? "number" : null,
            "data-head": columns[column].head,
          })));
        kept.set(key, line);
      }
      columns.forEach((column, index) => put(line.cells[index], column, row));
      if (body.children[at] !== line) body.insertBefore(line, body.children[at] ?? null);
    });
  };
}

/** Names and values; a value that is null is left out. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value != null && value !== "");
  return make("dl", { class: "facts" }, ...shown.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const count = (number) => whole.format(Math.round(number ?? 0));
export const rate = (number) => short.format(number ?? 0);
export const share = (part, of) => (of > 0 ? `${short.format((100 * part) / of)} %` : "–");

export function seconds(value) {
  if (value == null) return "–";
  if (value === 0) return "0 s";
  if (value < 0.001) return `${short.format(value * 1e6)} µs`;
  if (value < 1) return `${short.format(value * 1e3)} ms`;
  if (value < 120) return `${short.format(value)} s`;
  if (value < 7200) return `${short.format(value / 60)} min`;
  return `${short.format(value / 3600)} h`;
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${short.format(value ?? 0)} ${units[at]}`;
}

/** A moment in the reader's time zone, in full as its title. */
export function moment(millis) {
  const date = new Date(millis);
  const today = date.toDateString() === new Date().toDateString();
  const text = today ? date.toLocaleTimeString() : date.toLocaleString();
  return make("time", { datetime: date.toISOString(), title: date.toISOString() }, text);
}
