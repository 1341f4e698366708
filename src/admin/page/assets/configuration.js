// The configuration in force, as the gateway read it, and reading its file again.

import { post } from "./calls.js";
import { isSure } from "./dialogs.js";
import { byId, count, make, say } from "./elements.js";

const place = byId("configuration");
const told = byId("reload-told");
const details = byId("reload-details");
const named = (table) => (table && typeof table === "object" && table.name ? ` ${table.name}` : "");

function section(head, content) {
  return make("details", { open: true }, make("summary", {}, head), make("pre", {}, JSON.stringify(content, null, 2)));
}

export function show(config) {
  const sections = Object.entries(config).flatMap(([name, content]) =>
    Array.isArray(content) ? content.map((table) => section(`[[${name}]]${named(table)}`, table)) : [section(`[${name}]`, content)]);
  place.replaceChildren(...sections);
}

const ofChange = ({ what, route, name, change, keys = [] }) =>
  `${what} ${route ? `${route} ` : ""}${name} ${change}${keys.length ? `: ${keys.join(", ")}` : ""}`;
const ofFault = ({ line, column, key, message, remedy }) => `${line}:${column}: ${key}: ${message}; ${remedy}`;

function list(lines) {
  details.replaceChildren(...lines.map((line) => make("li", {}, line)));
}

byId("reload").addEventListener("click", async () => {
  const what = "All of it is put in force, or nothing: a file with a fault is refused, and no request is disturbed.";
  if (!(await isSure("Read the file again?", what, "Reload"))) return;
  try {
    const { result, changes } = await post("/v1/reload", {});
    say(told, result === "applied" ? `In force: ${count(changes.length)} changed.` : "The file says what is in force already.");
    list(changes.map(ofChange));
  } catch (fault) {
    say(told, fault.message);
    list((fault.faults ?? []).map(ofFault));
  }
});
