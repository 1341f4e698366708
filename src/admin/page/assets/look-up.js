// A URL: how the next request for it would be answered, and why; and purging.

import { get, post } from "./calls.js";
import { isSure } from "./dialogs.js";
import { byId, count, facts, make, say, seconds, table, word } from "./elements.js";

const form = byId("look-up-form");
const told = byId("look-up-told");
const place = byId("explanation");
const purgeForm = byId("purge-form");
const purgeTold = byId("purge-told");

const FIGURES = [
  ["lifetime", "Fresh for"], ["initial_age", "Age when it came"], ["resident_time", "Here for"], ["current_age", "Age now"],
  ["ttl", "Fresh for another"], ["stale_while_revalidate", "Then, while validated"], ["stale_if_error", "Then, if the source fails"],
  ["stale_on_disconnect", "Then, if it cannot be reached"],
];

const fields = (variant) => Object.entries(variant ?? {}).map(([name, value]) => `${name}: ${value ?? "absent"}`).join("; ") || "any";
/** Below zero it is over. */
const left = (value) => (value < 0 ? `over since ${seconds(-value)}` : seconds(value));

function card(head, ...content) {
  return make("div", { class: "card" }, make("h2", {}, head), ...content);
}

function rows(head, caption, columns, list) {
  if (list.length === 0) return null;
  const wide = make("div", { class: "wide" });
  table(wide, caption, columns, "")(list, (row) => list.indexOf(row));
  return card(head, wide);
}

function draw(explanation) {
  const { decision, reason, rule, answer, route, freshness, source, marker } = explanation;
  const verdict = make("p", { class: "verdict" }, word(decision), " ", reason ? word(reason) : "", ` ${rule.says} `, make("span", { class: "note" }, `(${rule.section})`));
  const names = route && Object.entries(route.names).map(([name, value]) => `${name} = ${value}`).join(", ");
  const over = explanation.passed_over.map(({ name, because }) => `${name} (${because})`).join(", ");
  return [
    card("The next such request", verdict, facts([
      ["Answer of Tidegate's own", answer && `${answer.status}: ${answer.detail}`],
      ["Target", explanation.target], ["Key", explanation.key], ["Tier", explanation.tier], ["Variant", explanation.variant && fields(explanation.variant)],
      ["Last purge applied", String(explanation.fence)],
      ["Marked", marker && `the last answer (${marker.status}) could not be stored: ${marker.reason}; counts for ${seconds(marker.left)} more`],
    ])),
    route && card(`Route ${route.name}`, facts([
      ["Place", String(route.place)], ["Host", route.host ?? "any"], ["Path", route.path], ["Methods", route.methods?.join(", ") ?? "all"],
      ["Names", names], ["Source", route.source], ["It is asked for", route.forwarded], ["Passed over", over],
    ])),
    freshness && rows("Freshness", "The arithmetic of freshness", [
      { head: "What", of: (row) => row.name }, { head: "Time", number: true, of: (row) => left(row.seconds) }, { head: "From", of: (row) => row.from },
    ], FIGURES.map(([key, name]) => ({ name, ...freshness[key] }))),
    rows("Held for this key", "Stored responses of the key", [
      { head: "Tier", of: (row) => row.tier }, { head: "For", of: (row) => fields(row.variant) },
      { head: "Selected", of: (row) => (row.selected ? "yes" : "no") }, { head: "Status", number: true, of: (row) => String(row.status) },
      { head: "Bytes", number: true, of: (row) => count(row.bytes) }, { head: "Age", number: true, of: (row) => seconds(row.age) },
      { head: "Fresh for", number: true, of: (row) => left(row.ttl) },
      { head: "Standing", of: (row) => [row.standing, ...row.purged_by].join(", ") }, { head: "Tags", of: (row) => row.tags.join(", ") || "none" },
    ], explanation.variants),
    rows("Quotas", "Quotas that count the request", [
      { head: "Quota", of: (row) => row.name }, { head: "Counts", of: (row) => row.stage }, { head: "Mode", of: (row) => row.mode },
      { head: "Fit now", number: true, of: (row) => count(row.remaining) }, { head: "One more in", number: true, of: (row) => seconds(row.until_more) },
    ], explanation.quotas),
    source && card(`Source ${source.name}`, facts([
      ["Breaker", word(source.breaker)], ["Under way", `${count(source.active)} of ${count(source.concurrency)}, ${count(source.waiting)} wait`],
      ["Addresses", source.addresses.map(({ address, ejected }) => `${address}${ejected ? " (left out)" : ""}`).join(", ")],
    ])),
  ].filter(Boolean);
}

async function explain() {
  const given = new FormData(form);
  const lines = given.get("header").split("\n").map((line) => line.trim()).filter(Boolean);
  try {
    say(told, "");
    const explanation = await get("/v1/explain", [["url", given.get("url").trim()], ["method", given.get("method").trim()], ...lines.map((line) => ["header", line])]);
    place.replaceChildren(...draw(explanation));
    if (purgeForm.elements.kind.value === "url") purgeForm.elements.value.value = explanation.target ?? given.get("url");
  } catch (fault) {
    place.replaceChildren();
    say(told, fault.message);
  }
}

const ORDERS = { url: (value) => ({ urls: [value] }), tag: (value) => ({ tags: [value] }), prefix: (prefix) => ({ prefix }), all: () => ({ all: true }) };

async function purge() {
  const { kind, value, mode } = Object.fromEntries(new FormData(purgeForm));
  if (kind !== "all" && value.trim() === "") {
    say(purgeTold, "What is to be purged? Give a value.");
    purgeForm.elements.value.focus();
    return;
  }
  const what = kind === "all" ? "Everything that is stored" : `${purgeForm.elements.kind.selectedOptions[0].text}: ${value.trim()}`;
  const becomes = mode === "hard" ? "is not used again: sources are asked anew." : "is validated with its source before it is used.";
  if (!(await isSure("Purge?", `${what} ${becomes}`, "Purge"))) return;
  try {
    const { seq, scope } = await post("/v1/purge", { ...ORDERS[kind](value.trim()), mode });
    say(purgeTold, `Purge ${seq} is applied here; ${scope === "shared" ? "the other gateways hear of it through Redis" : "it is this gateway's own for now"}.`);
  } catch (fault) {
    say(purgeTold, fault.message);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  explain();
});
purgeForm.addEventListener("submit", (event) => {
  event.preventDefault();
  purge();
});
purgeForm.elements.kind.addEventListener("change", ({ target }) => {
  purgeForm.elements.value.disabled = target.value === "all";
});

/** Looks up what a link asks for. */
export function open(parameters) {
  if (!parameters.get("url")) return;
  form.elements.url.value = parameters.get("url");
  explain();
}
