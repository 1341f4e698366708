// What could not be delivered: why, and what is to become of it.

import { get, post } from "./calls.js";
import { isSure } from "./dialogs.js";
import { byId, choose, count, make, moment, offer, say, table, word } from "./elements.js";

const form = byId("letters-filter");
const told = byId("letters-told");
const next = byId("letters-next");
/** As many as are read at once by a person. */
const SHOWN = "200";
/** As the calls name them. */
const CODES = ["http_status", "timeout", "connect", "tls", "dns", "too_large", "given_up", "address_denied", "garbage", "damaged", "unsendable"];

const showLetters = table(byId("letters"), "Dead letters", [
  { head: "Key", of: ({ key }) => key, draw: ({ key }) => make("a", { href: `#changes?key=${encodeURIComponent(key)}`, class: "code" }, key) },
  { head: "Of", of: ({ destination, source }) => destination ?? `source ${source}` },
  { head: "Why", of: ({ code, status }) => `${code}${status ? ` ${status}` : ""}`, draw: ({ code, status }) => word(`${code}${status ? ` ${status}` : ""}`) },
  { head: "Attempts", number: true, of: ({ attempts }) => count(attempts) },
  { head: "Last", of: ({ last_at }) => String(last_at), draw: ({ last_at }) => moment(last_at) },
  { head: "What it answered", of: ({ answer }) => answer, draw: ({ answer }) => (answer ? make("pre", {}, answer) : "nothing") },
  { head: "Act", of: ({ change }) => change, draw: acts },
], "There are none.");

function filter() {
  const given = [...new FormData(form)].filter(([, value]) => value !== "");
  return Object.fromEntries(given);
}

/** Behind which the page that is shown begins. */
let after = "";

export async function show() {
  try {
    const parameters = [...Object.entries(filter()), ["limit", SHOWN], ["after", after]];
    const { dead_letters: letters, next: following } = await get("/v1/dead-letters", parameters);
    if (letters.length === 0 && after !== "") {
      after = "";
      return await show();
    }
    showLetters(letters, ({ change, destination, source }) => `${change} ${destination} ${source}`);
    for (const id of ["redrive", "discard"]) byId(id).disabled = letters.length === 0;
    next.hidden = !following;
    next.value = following ?? "";
  } catch (fault) {
    say(told, fault.message);
  }
}

const QUESTIONS = {
  redrive: ["Send again?", "again, with the same ids and what was parked behind them, in order of each key.", "Send again"],
  discard: ["Discard?", "given up for good: the destination then lacks these changes. What was parked behind them goes on.", "Discard"],
};

/** Counts first, by a dry run; does it once the operator is sure. */
async function order(call, chosen) {
  try {
    const { count: many, left_out: out } = await post(`/v1/dead-letters/${call}`, { ...chosen, dry_run: true });
    const without = out ? ` ${count(out)} are left out, because their key has got a newer change since.` : "";
    if (many === 0) {
      say(told, `There is nothing to ${call === "redrive" ? "send again" : "discard"}.${without}`);
      return;
    }
    const [head, what, yes] = QUESTIONS[call];
    const whose = chosen.change ? "of this change" : Object.entries(chosen).map(([name, value]) => `${name} ${value}`).join(", ") || "of every destination";
    const text = `${count(many)} ${many === 1 ? "dead letter" : "dead letters"} (${whose}) will be ${call === "redrive" ? "sent " : ""}${what}${without}`;
    if (!(await isSure(head, text, yes))) return;
    const done = await post(`/v1/dead-letters/${call}`, { ...chosen, background: many > 1000 });
    say(told, `${count(done.count)} ${call === "redrive" ? "are sent again" : "are discarded"}${done.operation ? `: work ${done.operation} of Destinations` : ""}.`);
    await show();
  } catch (fault) {
    say(told, fault.message);
  }
}

function acts(letter) {
  const { change, destination, source, key } = letter;
  const chosen = { change, ...(destination ? { destination } : {}), ...(source ? { source } : {}) };
  const button = (call, label) => make("button", { type: "button", "aria-label": `${label} ${key}`, click: () => order(call, chosen) }, label);
  return make("span", { class: "actions" }, button("redrive", "Send again"), button("discard", "Discard"));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  say(told, "");
  after = "";
  show();
});
next.addEventListener("click", () => {
  after = next.value;
  byId("letters").scrollIntoView();
  show();
});
for (const call of ["redrive", "discard"]) byId(call).addEventListener("click", () => order(call, filter()));

/** Fills the form with what a link asks for. */
export function open(parameters) {
  for (const name of ["destination", "source", "code", "key_prefix"]) {
    const value = parameters.get(name);
    if (value == null) continue;
    if (name === "key_prefix") form.elements[name].value = value;
    else choose(form.elements[name], value);
  }
  after = "";
  show();
}

let seen = "";

export function showStatus({ destinations, figures }) {
  offer(form.elements.destination, destinations.map(({ name }) => name));
  offer(form.elements.source, Object.keys(figures.sources));
  offer(form.elements.code, CODES);
  const dead = destinations.reduce((sum, one) => sum + one.dead_letters, 0)
    + Object.values(figures.sources).reduce((sum, one) => sum + one.dead_letters, 0);
  byId("dead").hidden = dead === 0;
  say(byId("dead"), count(dead));
  const now = destinations.map((one) => one.dead_letters).join() + dead;
  const moved = now !== seen;
  seen = now;
  return moved;
}
