// Who must follow: how far they are, and holding them.

import { get, post } from "./calls.js";
import { chart } from "./charts.js";
import { isSure } from "./dialogs.js";
import { byId, count, make, moment, offer, say, seconds, table, word } from "./elements.js";

const lag = chart("chart-lag", { format: seconds });
const OPERATIONS_EVERY = 2000;

const HOLDING = "Nothing is sent to it until it is resumed. What waits is kept.";

async function act(name, call, button) {
  if (call === "pause" && !(await isSure(`Pause ${name}?`, HOLDING, "Pause"))) return;
  button.disabled = true;
  try {
    await post(`/v1/destinations/${encodeURIComponent(name)}/${call}`, {});
  } catch (fault) {
    say(button, fault.message);
  }
}

function acts({ name, state }) {
  const call = state === "paused" || state === "detached" ? "resume" : "pause";
  const label = call === "pause" ? "Pause" : "Resume";
  return make("button", { type: "button", "aria-label": `${label} ${name}`, click: (event) => act(name, call, event.currentTarget) }, label);
}

const showDestinations = table(byId("destinations"), "Destinations", [
  { head: "Destination", of: ({ name }) => name },
  { head: "State", of: ({ state }) => state, draw: ({ state }) => word(state) },
  { head: "Breaker", of: ({ breaker }) => breaker, draw: ({ breaker }) => word(breaker) },
  { head: "Lag", number: true, of: (one) => seconds(one.lag_seconds) },
  { head: "Waiting", number: true, of: (one) => count(one.pending) },
  { head: "Under way / at most", number: true, of: (one) => `${count(one.in_flight)} / ${count(one.concurrency)}` },
  { head: "Parked keys", number: true, of: (one) => count(one.parked_keys) },
  {
    head: "Dead letters",
    number: true,
    of: (one) => count(one.dead_letters),
    draw: (one) => (one.dead_letters ? make("a", { href: `#dead-letters?destination=${encodeURIComponent(one.name)}` }, count(one.dead_letters)) : "0"),
  },
  {
    head: "What went wrong last",
    of: (one) => `${one.last_error ?? "–"} ${one.next_attempt_at ?? ""}`,
    draw: (one) => make("span", {}, one.last_error ?? "–", ...(one.next_attempt_at ? ["; next attempt ", moment(one.next_attempt_at)] : [])),
  },
  { head: "Act", of: ({ state }) => state, draw: acts },
], "No route delivers anywhere.");

const showOperations = table(byId("operations"), "Redrives, discards and replays", [
  { head: "Work", of: ({ id, kind }) => `${kind} ${id}` },
  { head: "Of", of: ({ destination }) => destination ?? "all" },
  { head: "State", of: ({ state }) => state, draw: ({ state }) => word(state) },
  { head: "Done", number: true, of: ({ done, count: all }) => `${count(done)} of ${count(all)}` },
  {
    head: "Act",
    of: ({ state }) => state,
    draw: ({ id, state }) => (state === "running"
      ? make("button", { type: "button", "aria-label": `Stop work ${id}`, click: () => post(`/v1/operations/${id}/stop`, {}) }, "Stop")
      : "–"),
  },
], "None.");

const replaying = byId("replay-form");
const told = byId("replay-told");

/** Counts first, by a dry run; does it once the operator is sure. */
replaying.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { destination, since, rate } = Object.fromEntries(new FormData(replaying));
  const order = {
    destination,
    ...(since ? { since: new Date(Date.now() - Number(since) * 1000).toISOString() } : {}),
    ...(rate ? { rate: Number(rate) } : {}),
  };
  try {
    const { count: many } = await post("/v1/replay", { ...order, dry_run: true });
    if (many === 0) {
      say(told, "There is nothing to replay.");
      return;
    }
    const what = `${count(many)} ${many === 1 ? "change" : "changes"} that ${destination} has had will be sent again, each key up to its newest. They carry Tidegate-Replay.`;
    if (!(await isSure(`Replay to ${destination}?`, what, "Replay"))) return;
    const done = await post("/v1/replay", order);
    say(told, `${count(done.count)} are sent again${done.operation ? `: work ${done.operation}` : ""}.`);
  } catch (fault) {
    say(told, fault.message);
  }
});

export function showStatus({ destinations }) {
  offer(replaying.elements.destination, destinations.map(({ name }) => name), "choose one");
  showDestinations(destinations, ({ name }) => name);
}

export function showCurves(curves) {
  lag(curves.at, Object.entries(curves.lag_seconds));
}

let asked = 0;

/** Asked for only while it is looked at. */
export async function whileShown() {
  if (Date.now() - asked < OPERATIONS_EVERY) return;
  asked = Date.now();
  const { operations } = await get("/v1/operations");
  showOperations(operations, ({ id }) => id);
}
