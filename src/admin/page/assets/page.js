// The page: which view is shown, and who is told what the events say.

import { follow, get } from "./calls.js";
import * as changes from "./changes.js";
import * as configuration from "./configuration.js";
import * as deadLetters from "./dead-letters.js";
import * as destinations from "./destinations.js";
import { byId, make, say, word } from "./elements.js";
import * as figures from "./figures.js";
import * as lookUp from "./look-up.js";

const VIEWS = ["overview", "destinations", "dead-letters", "changes", "look-up", "configuration"];
const PARTS = { gateway: "gateway", journal: "journal", shared_tier: "Redis" };
let shown = "";
let config = null;

/** The view that the address names, and what else it says. */
function asked() {
  const [name, parameters] = location.hash.slice(1).split("?");
  return [VIEWS.includes(name) ? name : VIEWS[0], new URLSearchParams(parameters)];
}

function go() {
  const [view, parameters] = asked();
  const moved = shown !== "" && shown !== view;
  shown = view;
  for (const name of VIEWS) byId(`view-${name}`).hidden = name !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  const head = byId(`head-${view}`);
  document.title = `${head.textContent} – Tidegate`;
  if (moved) head.focus();
  if (view === "dead-letters") deadLetters.open(parameters);
  if (view === "changes") changes.open(parameters);
  if (view === "look-up") lookUp.open(parameters);
  if (view === "configuration") readConfiguration();
}

function state(name, why = "") {
  const place = byId("connection");
  place.dataset.state = name;
  say(place, name === "live" ? "Live" : `Connection lost: ${why}`);
}

let readiness = "";
let digest = null;

function showReadiness({ readiness: now }) {
  if (JSON.stringify(now) === readiness) return;
  readiness = JSON.stringify(now);
  const parts = Object.entries(now.parts).filter(([, part]) => part !== "not-configured");
  // Another configuration may be in force.
  if (now.config && now.config.digest !== digest) readConfiguration();
  digest = now.config?.digest ?? null;
  byId("readiness").replaceChildren(...parts.map(([name, part]) => make("li", {}, `${PARTS[name] ?? name} `, word(part))));
}

const on = {
  status(told) {
    say(byId("version"), told.version);
    showReadiness(told);
    figures.showStatus(told, config);
    destinations.showStatus(told);
    changes.showStatus(told);
    const late = told.destinations.filter(({ state: own }) => own !== "running").length;
    byId("lagging").hidden = late === 0;
    say(byId("lagging"), `${late} not running`);
    if (deadLetters.showStatus(told) && shown === "dead-letters") deadLetters.show();
    if (shown === "destinations") destinations.whileShown().catch(() => {});
  },
  curves(curves) {
    figures.showCurves(curves);
    destinations.showCurves(curves);
  },
};

function readConfiguration() {
  get("/v1/config").then((told) => {
    config = told;
    if (shown === "configuration") configuration.show(told);
  }, () => {});
}

addEventListener("hashchange", go);
go();
follow((name, data) => on[name]?.(data), state);
readConfiguration();
