// The calls below /v1 and the stream of events. The token stays in this tab.

import { askToken } from "./dialogs.js";

const KEPT_AS = "tidegate.token";
/** Between two attempts to connect again, in milliseconds. */
const PAUSE_MIN = 500;
const PAUSE_MAX = 15_000;
/** A stream that says nothing for so long is lost: there is an event every second. */
const SILENCE_MAX = 12_000;
/** The longest event that is read, in characters. */
const EVENT_MAX = 8 << 20;

let asking = null;

function authorized() {
  const token = sessionStorage.getItem(KEPT_AS);
  return token ? { authorization: `Bearer ${token}` } : {};
}

/** Asks for the token once, however many calls need it; `used` is what the refused call had. */
async function renewToken(used) {
  if ((sessionStorage.getItem(KEPT_AS) ?? "") !== used) return;
  asking ??= askToken(used !== "").then((token) => {
    sessionStorage.setItem(KEPT_AS, token);
    asking = null;
  });
  await asking;
}

/** A fetch that asks for the token where one is needed. */
async function authorizedFetch(path, options = {}) {
  for (;;) {
    const used = sessionStorage.getItem(KEPT_AS) ?? "";
    const response = await fetch(path, { ...options, headers: { ...options.headers, ...authorized() }, cache: "no-store" });
    if (response.status !== 401) return response;
    await response.body?.cancel();
    await renewToken(used);
  }
}

/** The JSON of an answer; what a problem says becomes the error, with the faults that it lists. */
async function json(response) {
  const content = await response.json().catch(() => null);
  if (!response.ok) throw Object.assign(new Error(content?.detail ?? `the answer is ${response.status}`), { faults: content?.faults ?? [] });
  return content;
}

const query = (parameters) => {
  const given = new URLSearchParams();
  for (const [name, value] of parameters) if (value !== "") given.append(name, value);
  const text = given.toString();
  return text ? `?${text}` : "";
};

export const get = async (path, parameters = []) => json(await authorizedFetch(path + query(parameters)));

export const post = async (path, body) =>
  json(await authorizedFetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }));

const pause = (millis) => new Promise((resolve) => setTimeout(resolve, millis));

/** Reads events until the stream ends. */
async function read(stream, onEvent, onSound) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onSound();
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    if (text.length > EVENT_MAX) throw new Error("an event without end");
    for (const event of events) {
      const lines = event.split("\n");
      const field = (name) => lines.filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2)).join("\n");
      if (field("data")) onEvent(field("event"), JSON.parse(field("data")));
    }
  }
}

/** Follows the events for as long as the page lives: `on(name, data)`, and `state(word, why)` of the connection. */
export async function follow(on, state) {
  let wait = PAUSE_MIN;
  for (;;) {
    const given = new AbortController();
    let silence = null;
    const listen = () => {
      clearTimeout(silence);
      silence = setTimeout(() => given.abort(new Error("nothing was heard for a while")), SILENCE_MAX);
    };
    let why;
    try {
      const response = await authorizedFetch("/v1/events", { signal: given.signal });
      if (!response.ok) await json(response);
      listen();
      await read(response.body, (name, data) => {
        wait = PAUSE_MIN;
        state("live");
        on(name, data);
      }, listen);
      // It ends by itself now and then: that is no loss.
      why = null;
    } catch (fault) {
      why = fault instanceof TypeError ? "the gateway cannot be reached" : fault.message;
    }
    clearTimeout(silence);
    if (why) {
      state("lost", `${why}; trying again`);
      await pause(wait + Math.random() * wait * 0.3);
      wait = Math.min(wait * 2, PAUSE_MAX);
    } else {
      await pause(PAUSE_MIN);
    }
  }
}
