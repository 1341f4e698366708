// The configuration in force, as the gateway read it.

import { byId, make } from "./elements.js";

const place = byId("configuration");
const named = (table) => (table && typeof table === "object" && table.name ? ` ${table.name}` : "");

function section(head, content) {
  return make("details", { open: true }, make("summary", {}, head), make("pre", {}, JSON.stringify(content, null, 2)));
}

export function show(config) {
  const sections = Object.entries(config).flatMap(([name, content]) =>
    Array.isArray(content) ? content.map((table) => section(`[[${name}]]${named(table)}`, table)) : [section(`[${name}]`, content)]);
  place.replaceChildren(...sections);
}
