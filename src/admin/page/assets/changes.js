// Changes by key, each with what was tried with it as a time line.

import { get, post } from "./calls.js";
import { isSure } from "./dialogs.js";
import { byId, choose, count, make, moment, offer, say, tone, word } from "./elements.js";

const form = byId("changes-filter");
const told = byId("changes-told");
const list = byId("changes-list");
const next = byId("changes-next");
const STATES = ["intent", "in-doubt", "committed", "reconciled", "aborted", "accepted", "dead-letter", "damaged"];
const SHOWN = "50";

const step = (at, state, ...what) => ({ at, state, what });
const attempts = (number) => `${count(number)} ${number === 1 ? "attempt" : "attempts"}`;

/** What is known of a delivery, in the order of time. */
function ofDelivery(delivery, letters) {
  const { destination, state } = delivery;
  const letter = letters.find((one) => one.destination === destination);
  const steps = [];
  if (letter) {
    if (letter.attempts > 1) steps.push(step(letter.first_at, "warn", `${destination}: first attempt`));
    const answer = letter.answer ? make("pre", {}, letter.answer) : null;
    steps.push(step(letter.last_at, "dead-letter", `${destination}: `, word("dead-letter"), ` after ${attempts(letter.attempts)}, ${letter.code} ${letter.status ?? ""}`, answer));
  } else if (delivery.settled_at != null) {
    steps.push(step(delivery.settled_at, state, `${destination}: `, word(state), ` after ${attempts(delivery.attempts)}`));
  } else {
    const why = delivery.last_error ? `, the last one met: ${delivery.last_error}` : "";
    steps.push(step(null, state, `${destination}: `, word(state), ` after ${attempts(delivery.attempts)}${why}`));
  }
  if (delivery.next_attempt_at != null) steps.push(step(delivery.next_attempt_at, "", `${destination}: next attempt is due`));
  return steps;
}

function ofSource(change) {
  const at = change.at_source;
  if (!at) return [];
  const why = at.last_error ? `, the last one met: ${at.last_error}` : "";
  const steps = [step(null, at.state, `source ${change.source}: `, word(at.state), ` after ${attempts(at.attempts)}${why}`)];
  if (at.next_attempt_at != null) steps.push(step(at.next_attempt_at, "", `source ${change.source}: next attempt is due`));
  return steps;
}

function timeLine(change, letters) {
  const steps = [
    step(change.recorded_at, change.state, `recorded, now `, word(change.state)),
    ...ofSource(change),
    ...change.deliveries.flatMap((delivery) => ofDelivery(delivery, letters)),
  ];
  // What has no time of its own is as things stand now.
  const order = ({ at }) => at ?? Date.now();
  steps.sort((a, b) => order(a) - order(b));
  return make("ol", { class: "time-line" }, ...steps.map(({ at, state, what }) =>
    make("li", { class: tone(state) || state }, at == null ? make("time", {}, "now") : moment(at), ...what)));
}

/** What is asked, before a doubt is decided. */
const TRUTHS = {
  committed: ["It was done", "The source has done it: it is delivered as it was written."],
  aborted: ["It was not done", "The source has not done it: nothing is delivered."],
};

async function resolve(change, as) {
  const [label, what] = TRUTHS[as];
  if (!(await isSure(`${label}?`, `${change.method} ${change.target}. ${what} Look at the source first.`, label))) return;
  try {
    await post(`/v1/changes/${encodeURIComponent(change.id)}/resolve`, { as });
    await show();
  } catch (fault) {
    say(told, fault.message);
  }
}

function decisions(change) {
  if (change.state !== "in-doubt") return null;
  const buttons = Object.entries(TRUTHS).map(([as, [label]]) =>
    make("button", { type: "button", "aria-label": `${label}: ${change.target}`, click: () => resolve(change, as) }, label));
  return make("p", { class: "actions" }, ...buttons);
}

async function drawn(change) {
  const isDead = change.deliveries.some(({ state }) => state === "dead-letter");
  const letters = isDead ? (await get("/v1/dead-letters", [["change", change.id]])).dead_letters : [];
  return make("li", {},
    make("h2", {}, make("span", { class: "code" }, `${change.method} ${change.target}`)),
    make("p", { class: "note" }, `key ${change.key}, sequence ${change.sequence ?? "none yet"}, route ${change.route}, source ${change.source}, `, make("code", {}, change.id)),
    timeLine(change, letters),
    decisions(change));
}

let after = "";

export async function show() {
  try {
    const { changes, next: following } = await get("/v1/changes", [...new FormData(form), ["limit", SHOWN], ["after", after]]);
    list.replaceChildren(...await Promise.all(changes.map(drawn)));
    next.hidden = !following;
    next.value = following ?? "";
    say(told, changes.length === 0 ? "No change matches." : `${count(changes.length)} shown, the oldest first.`);
  } catch (fault) {
    list.replaceChildren();
    say(told, fault.message);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  after = "";
  show();
});
next.addEventListener("click", () => {
  after = next.value;
  show();
});

/** Fills the form with what a link asks for. */
export function open(parameters) {
  if (parameters.has("key")) form.elements.key.value = parameters.get("key");
  for (const name of ["state", "destination"]) {
    if (parameters.has(name)) choose(form.elements[name], parameters.get(name));
  }
  after = "";
  show();
}

export function showStatus({ destinations }) {
  offer(form.elements.destination, destinations.map(({ name }) => name));
  offer(form.elements.state, STATES);
}
