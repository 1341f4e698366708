// The overview: what moves, from the events.

import { chart } from "./charts.js";
import { byId, bytes, count, make, rate, say, seconds, share, table, word } from "./elements.js";

const tiles = new Map();

/** A figure with its name and what stands beside it. */
function tile(name, figure, beside) {
  let shown = tiles.get(name);
  if (!shown) {
    shown = [make("dd", { class: "figure" }), make("dd", { class: "beside" })];
    tiles.set(name, shown);
    byId("tiles").append(make("div", {}, make("dt", {}, name), ...shown));
  }
  say(shown[0], figure);
  say(shown[1], beside);
}

const words = (counts) => Object.entries(counts).filter(([, number]) => number > 0).sort((a, b) => b[1] - a[1])
  .map(([name, number]) => `${name} ${count(number)}`).join(", ") || "–";
const sum = (list, of) => list.reduce((total, one) => total + of(one), 0);

const requests = chart("chart-requests", { format: rate });
const latency = chart("chart-latency", { format: seconds, logarithmic: true });

const showRoutes = table(byId("routes"), "Requests by route", [
  { head: "Route", of: (row) => row.name },
  { head: "Requests", number: true, of: (row) => count(row.requests) },
  { head: "Hit share", number: true, of: (row) => share(row.spared - row.collapsed, row.requests) },
  { head: "Spared the source", number: true, of: (row) => count(row.spared) },
  { head: "Collapsed", number: true, of: (row) => count(row.collapsed) },
  { head: "How they were answered", of: (row) => words(row.by_status) },
], "No request has come yet.");

const showLatency = table(byId("latency"), "Time until the head of an answer, of the last five minutes", [
  { head: "Answered by", of: (row) => row.name },
  { head: "How many", number: true, of: (row) => count(row.count) },
  { head: "Half within", number: true, of: (row) => seconds(row.p50) },
  { head: "95 of 100", number: true, of: (row) => seconds(row.p95) },
  { head: "99 of 100", number: true, of: (row) => seconds(row.p99) },
], "");

const showSources = table(byId("sources"), "Sources", [
  { head: "Source", of: (row) => row.name },
  { head: "Breaker", of: (row) => row.breaker || "closed", draw: (row) => word(row.breaker || "closed") },
  { head: "Addresses left out", of: (row) => row.ejected.join(", ") || "none" },
  { head: "Under way / at most", number: true, of: (row) => `${count(row.in_flight)} / ${count(row.concurrency)}` },
  { head: "Waiting", number: true, of: (row) => count(row.waiting) },
  { head: "Requests", number: true, of: (row) => count(row.forwards) },
  { head: "Failed", number: true, of: (row) => count(row.failures) },
  { head: "Not sent", number: true, of: (row) => count(row.refused) },
  { head: "Accepted, waiting", number: true, of: (row) => (row.accepted_waiting ? `${count(row.accepted_waiting)}, ${seconds(row.accepted_lag_seconds)}` : "0") },
  { head: "Asked because of", of: (row) => words(row.by_reason) },
], "There are no sources.");

const showTiers = table(byId("tiers"), "Tiers of stored responses", [
  { head: "Tier", of: (row) => row.name },
  { head: "State", of: (row) => row.state, draw: (row) => word(row.state) },
  { head: "Holds", of: (row) => row.holds },
  { head: "Hit share", number: true, of: (row) => row.share },
  { head: "Lookups", of: (row) => words(row.lookups) },
], "");

const showQuotas = table(byId("quotas"), "What quotas have denied", [
  { head: "Route", of: (row) => row.route },
  { head: "Quota", of: (row) => row.limit },
  { head: "Allows", of: (row) => row.allows },
  { head: "Counts", of: (row) => row.whom },
  { head: "Mode", of: (row) => row.mode },
  { head: "Denied", number: true, of: (row) => count(row.denied) },
], "No route has a quota.");

function tiers(figures, readiness, limit) {
  const row = (name, state, holds) => {
    const lookups = figures.tiers.lookups[name] ?? {};
    const all = sum(Object.values(lookups), (number) => number);
    return { name, state, holds, lookups, share: share(lookups.hit ?? 0, all) };
  };
  const memory = figures.tiers;
  const holds = `${bytes(memory.memory_bytes)}${limit ? ` of ${limit}` : ""} in ${count(memory.memory_responses)} responses`;
  return [row("memory", "ready", holds), row("shared", readiness.parts.shared_tier, "in Redis")]
    .filter(({ state }) => state !== "not-configured");
}

/** What a quota of the configuration says, beside what it has denied. */
function quotas(figures, config) {
  return figures.quotas.map(({ route, limit, denied }) => {
    const table = (config?.route ?? []).find(({ name }) => name === route);
    const own = (table?.limit ?? []).find(({ name }) => name === limit);
    return {
      route,
      limit,
      denied,
      allows: own ? `${own.requests} per ${own.per}` : "",
      whom: own ? `by ${own.key ?? "client"}, ${own.stage ?? "edge"}, ${own.scope ?? "local"}` : "",
      mode: own?.mode ?? "enforce",
    };
  });
}

const named = (objects) => Object.entries(objects).map(([name, one]) => ({ name, ...one })).sort((a, b) => a.name.localeCompare(b.name));
const byName = ({ name }) => name;

export function showStatus({ figures, latency: times, readiness, destinations }, config) {
  const routes = named(figures.routes);
  const [all, spared, collapsed] = [sum(routes, (r) => r.requests), sum(routes, (r) => r.spared), sum(routes, (r) => r.collapsed)];
  const sources = named(figures.sources);
  tile("Requests", count(all), `connections of clients: ${count(figures.connections)}`);
  tile("Hit share", share(spared - collapsed, all), `from what is stored: ${count(spared - collapsed)}`);
  tile("Spared the sources", count(spared), `requests sent to them: ${count(sum(sources, (s) => s.forwards))}`);
  tile("Collapsed", count(collapsed), "got another request's answer");
  tile("A hit takes", seconds(times.hits.p50), `a forward ${seconds(times.forwards.p50)}`);
  const worst = destinations.reduce((most, one) => (one.lag_seconds > (most?.lag_seconds ?? 0) ? one : most), null);
  tile("Largest lag", destinations.length ? seconds(worst?.lag_seconds ?? 0) : "–", worst ? worst.name : "nothing waits");
  showRoutes(routes, byName);
  showLatency([{ name: "Hits", ...times.hits }, { name: "Forwards", ...times.forwards }], byName);
  showSources(sources, byName);
  showTiers(tiers(figures, readiness, config?.cache?.memory), byName);
  showQuotas(quotas(figures, config), ({ route, limit }) => `${route} ${limit}`);
}

export function showCurves(curves) {
  requests(curves.at, [["requests", curves.requests], ["spared", curves.spared], ["forwards", curves.forwards]]);
  latency(curves.at, [["hits", curves.hit_p95], ["forwards", curves.forward_p95]]);
}
