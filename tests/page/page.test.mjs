// The admin page as a person meets it: in Chromium, by mouse and by keyboard.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ask, gateway, server } from "./gateway.mjs";

const folder = process.env.PAGE_TEST_FOLDER;
const { chromium } = createRequire(join(folder, "package.json"))("playwright-core");
const HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script> no such field';
const ROUTE = '[[route]]\nname = "items"\npath = "/{*rest}"\nsource = "inventory"\n';
const TOKEN = "the-right-token";
const WAIT = 15_000;

let browser;
let source;
let destination;
let refuses = true;

before(async () => {
  mkdirSync(folder, { recursive: true });
  // Chromium's own sandbox needs rights that a container often lacks; the page is this project's own.
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
  // Whether a POST was done nobody can tell from its source.
  source = await server(({ method }) => [method === "POST" ? 500 : 200, method === "GET" ? { "cache-control": "max-age=600" } : {}, "x"]);
  destination = await server(() => (refuses ? [400, {}, HOSTILE] : [200, {}, ""]));
});

after(async () => {
  await browser?.close();
  source?.stop();
  destination?.stop();
});

const tables = () =>
  `[[source]]\nname = "inventory"\nurls = ["${source.url}"]\n`
  + `[[destination]]\nname = "search"\nurl = "${destination.url}"\n`
  + `${ROUTE}[[route.limit]]\nname = "per-client"\nrequests = 1000\nper = "1s"\n[route.sync]\ndestinations = ["search"]\n`;

/** A page whose faults are kept: what the console says, what throws, what its policy forbids. */
async function opened(url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT);
  page.faults = [];
  page.foreign = [];
  page.on("console", (said) => { if (["error", "warning"].includes(said.type())) page.faults.push(said.text()); });
  page.on("pageerror", (fault) => page.faults.push(String(fault)));
  page.on("request", (sent) => { if (!sent.url().startsWith(url.split("#")[0].replace(/\/$/, ""))) page.foreign.push(sent.url()); });
  await page.goto(url);
  return page;
}

const live = (page) => page.locator("#connection[data-state=live]").waitFor();
const tile = (page, name) => page.locator(".tiles > div", { has: page.getByText(name, { exact: true }) }).locator(".figure");

/** Waits until a text of the page is as wanted. */
async function becomes(locator, wanted) {
  const until = Date.now() + WAIT;
  let text;
  do {
    text = await locator.textContent();
    if (wanted.test(text)) return text;
    await new Promise((resolve) => setTimeout(resolve, 100));
  } while (Date.now() < until);
  return assert.match(text, wanted);
}

async function withGateway(options, run) {
  const running = await gateway(tables(), options);
  try {
    await run(running);
  } catch (fault) {
    console.error(running.log.slice(-20).join("\n"));
    throw fault;
  } finally {
    await running.stop();
  }
}

/** A dead letter for each key. */
async function dead(running, keys) {
  refuses = true;
  for (const key of keys) await ask("PUT", `${running.public}${key}`, "x");
  for (;;) {
    const { dead_letters: letters } = JSON.parse((await ask("GET", `${running.admin}/v1/dead-letters`)).text);
    if (letters.length === keys.length) return;
  }
}

test("figures move under traffic, without an error and without a foreign host", async () => {
  await withGateway({}, async (running) => {
    const page = await opened(`${running.admin}/`);
    await live(page);
    assert.equal(await tile(page, "Requests").textContent(), "0");
    for (let number = 0; number < 10; number += 1) await ask("GET", `${running.public}/items/7`);
    await becomes(tile(page, "Requests"), /^10$/);
    await becomes(tile(page, "Hit share"), /^90 %$/);
    await becomes(tile(page, "A hit takes"), /s$/);
    await becomes(page.locator("#routes tbody tr"), /items109/);
    await becomes(page.locator("#quotas tbody tr"), /per-client1000 per 1s/);
    for (const view of ["Destinations", "Dead letters", "Changes", "Look up", "Configuration"]) {
      await page.getByRole("link", { name: view, exact: true }).click();
      await page.getByRole("heading", { level: 1 }).waitFor();
    }
    await becomes(page.locator("#configuration"), /"name": "inventory"/);
    assert.deepEqual(page.faults, []);
    assert.deepEqual(page.foreign, []);
  });
});

test("a dead letter is shown as text, and sent again by mouse", async () => {
  await withGateway({}, async (running) => {
    await dead(running, ["/items/1", "/items/2"]);
    const page = await opened(`${running.admin}/#dead-letters`);
    await live(page);
    const answer = page.locator("#letters tbody tr pre").first();
    assert.match(await answer.textContent(), /<img src=x onerror=/);
    assert.equal(await page.locator("#letters img, #letters script").count(), 0);
    await page.getByRole("button", { name: "Send these again" }).click();
    await becomes(page.locator("#sure-text"), /^2 dead letters/);
    await page.getByRole("button", { name: "Cancel" }).click();
    assert.equal(await page.locator("#letters tbody tr").count(), 2, "nothing was done");
    refuses = false;
    await page.getByRole("button", { name: "Send these again" }).click();
    await page.locator("#sure-yes").click();
    await becomes(page.locator("#letters-told"), /^2 are sent again/);
    await page.getByText("There are none.").waitFor();
    await page.goto(`${running.admin}/#changes?key=/items/1`);
    await becomes(page.locator("#changes-list .time-line"), /recorded.*search: delivered after \d attempts?/);
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.deepEqual(page.faults, []);
  });
});

test("one dead letter is sent again by keyboard alone", async () => {
  await withGateway({}, async (running) => {
    await dead(running, ["/items/1", "/items/2"]);
    const page = await opened(`${running.admin}/#dead-letters`);
    await live(page);
    const button = page.getByRole("button", { name: "Send again /items/2" });
    await button.waitFor();
    refuses = false;
    for (let steps = 0; steps < 40; steps += 1) {
      await page.keyboard.press("Tab");
      if (await button.evaluate((element) => element === document.activeElement)) break;
    }
    await page.keyboard.press("Enter");
    await becomes(page.locator("#sure-text"), /^1 dead letter /);
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Cancel", "the safe answer has the focus");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await becomes(page.locator("#letters-told"), /^1 are sent again/);
    await becomes(page.locator("#letters tbody"), /^\/items\/1(?!.*\/items\/2)/);
    assert.deepEqual(page.faults, []);
  });
});

test("those that a filter names are discarded", async () => {
  await withGateway({}, async (running) => {
    await dead(running, ["/items/1", "/other/2"]);
    const page = await opened(`${running.admin}/#dead-letters?destination=search`);
    await live(page);
    await page.getByLabel("Key begins with").fill("/other");
    await page.getByLabel("Key begins with").press("Enter");
    await becomes(page.locator("#letters tbody"), /^\/other\/2/);
    await page.getByRole("button", { name: "Discard these" }).click();
    await becomes(page.locator("#sure-text"), /^1 dead letter \(destination search, key_prefix \/other\) will be given up/);
    await page.locator("#sure-yes").click();
    await becomes(page.locator("#letters-told"), /^1 are discarded/);
    const left = JSON.parse((await ask("GET", `${running.admin}/v1/dead-letters`)).text).dead_letters;
    assert.deepEqual(left.map(({ key }) => key), ["/items/1"]);
    assert.deepEqual(page.faults, []);
  });
});

test("dead letters are read a page at a time, by keyboard too", async () => {
  await withGateway({}, async (running) => {
    await dead(running, Array.from({ length: 203 }, (_, number) => `/items/${number}`));
    const page = await opened(`${running.admin}/#dead-letters`);
    await live(page);
    const rows = page.locator("#letters tbody tr");
    await becomes(rows.nth(199), /^\/items\/199/);
    assert.equal(await rows.count(), 200);
    await page.getByRole("button", { name: "Next ones" }).press("Enter");
    await becomes(rows.first(), /^\/items\/200/);
    assert.equal(await rows.count(), 3);
    assert.equal(await page.locator("#letters-next").isVisible(), false, "these are the last ones");
    await page.getByRole("button", { name: "Show" }).click();
    await becomes(rows.first(), /^\/items\/0/);
    assert.deepEqual(page.faults, []);
  });
});

test("a URL is explained and purged by keyboard", async () => {
  await withGateway({}, async (running) => {
    const url = `${running.public}/items/7`;
    await ask("GET", url);
    assert.match((await ask("GET", url)).fields["cache-status"], /hit/);
    const page = await opened(`${running.admin}/#look-up`);
    await live(page);
    await page.locator("#look-up-form [name=url]").focus();
    await page.keyboard.type(url);
    await page.keyboard.press("Enter");
    await becomes(page.locator("#explanation .verdict"), /^fresh hit/);
    await page.locator("#purge-form [name=mode]").selectOption("hard");
    assert.equal(await page.locator("#purge-form [name=value]").inputValue(), url);
    await page.locator("#purge-form [name=value]").press("Enter");
    await page.locator("#ask-sure[open]").waitFor();
    await page.keyboard.press("Escape");
    assert.match((await ask("GET", url)).fields["cache-status"], /hit/, "Escape is no");
    await page.locator("#purge-form [name=value]").press("Enter");
    await page.locator("#ask-sure[open]").waitFor();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await becomes(page.locator("#purge-told"), /^Purge \d+ is applied/);
    assert.doesNotMatch((await ask("GET", url)).fields["cache-status"], /hit/);
    assert.deepEqual(page.faults, []);
  });
});

test("a destination is paused and resumed", async () => {
  await withGateway({}, async (running) => {
    const page = await opened(`${running.admin}/#destinations`);
    await live(page);
    await page.getByRole("button", { name: "Pause search" }).click();
    await page.locator("#sure-yes").click();
    await becomes(page.locator("#destinations tbody tr"), /^searchpaused/);
    await page.getByRole("button", { name: "Resume search" }).click();
    await becomes(page.locator("#destinations tbody tr"), /^searchrunning/);
    assert.deepEqual(page.faults, []);
  });
});

test("what a destination has had is replayed", async () => {
  await withGateway({}, async (running) => {
    refuses = false;
    await ask("PUT", `${running.public}/items/1`, "x");
    await ask("PUT", `${running.public}/items/2`, "x");
    const page = await opened(`${running.admin}/#destinations`);
    await live(page);
    await page.locator("#replay-form [name=destination]").selectOption("search");
    await becomes(page.locator("#destinations tbody tr"), /^searchrunningclosed0 s0/);
    await page.getByRole("button", { name: "Replay" }).click();
    await becomes(page.locator("#sure-text"), /^2 changes that search has had/);
    await page.locator("#sure-yes").click();
    await becomes(page.locator("#replay-told"), /^2 are sent again: work \d+/);
    await becomes(page.locator("#operations tbody tr"), /^replay \d+search.*2 of 2/);
    assert.deepEqual(page.faults, []);
  });
});

test("a doubt is decided", async () => {
  await withGateway({}, async (running) => {
    refuses = false;
    assert.equal((await ask("POST", `${running.public}/orders`, "x")).status, 500);
    const page = await opened(`${running.admin}/#changes?state=in-doubt`);
    await live(page);
    await page.getByRole("button", { name: "It was done: /orders" }).click();
    await becomes(page.locator("#sure-text"), /^POST \/orders\. The source has done it/);
    await page.locator("#sure-yes").click();
    await becomes(page.locator("#changes-told"), /^No change matches/);
    await page.goto(`${running.admin}/#changes?key=/orders&state=`);
    await becomes(page.locator("#changes-list .time-line"), /recorded, now committed.*search: delivered/);
    assert.deepEqual(page.faults, []);
  });
});

test("the file is read again, and its faults are shown", async () => {
  await withGateway({}, async (running) => {
    const page = await opened(`${running.admin}/#configuration`);
    await live(page);
    const reload = async () => {
      await page.getByRole("button", { name: "Reload" }).click();
      await page.locator("#ask-sure[open]").waitFor();
      await page.locator("#sure-yes").click();
    };
    await reload();
    await becomes(page.locator("#reload-told"), /^The file says what is in force already/);
    running.rewrite((text) => text.replace('path = "/{*rest}"', 'path = "/{*rest}"\nbody = "7MiB"'));
    await becomes(page.locator("#configuration"), /"7MiB"/);
    running.rewrite((text) => text.replace('body = "7MiB"', 'body = "much"'));
    await reload();
    await becomes(page.locator("#reload-told"), /^the file is refused/);
    await becomes(page.locator("#reload-details"), /^\d+:\d+: route\[0\]\.body: .*; write/);
    assert.deepEqual(page.faults.filter((fault) => !fault.includes("422")), []);
  });
});

test("the token is asked for once and kept for the tab", async () => {
  await withGateway({ admin: `token = "${TOKEN}"` }, async (running) => {
    const page = await opened(`${running.admin}/`);
    const field = page.locator("#ask-token input");
    await field.waitFor();
    await page.keyboard.press("Escape");
    assert.ok(await field.isVisible(), "without a token there is nothing to show");
    await field.fill("wrong");
    await page.keyboard.press("Enter");
    await becomes(page.locator("#token-fault"), /not the one/);
    await field.fill(TOKEN);
    await page.keyboard.press("Enter");
    await live(page);
    await page.reload();
    await live(page);
    assert.ok(!(await field.isVisible()), "it is kept");
    assert.deepEqual(await page.evaluate(() => [localStorage.length, document.cookie]), [0, ""]);
    assert.deepEqual(page.faults.filter((fault) => !fault.includes("401")), []);
  });
});

test("a lost connection is said, and comes back by itself", async () => {
  let port;
  let page;
  await withGateway({}, async (running) => {
    port = running.port;
    page = await opened(`${running.admin}/`);
    await live(page);
  });
  await becomes(page.locator("#connection"), /^Connection lost: .* trying again$/);
  await withGateway({ port }, async () => live(page));
});

test("both themes at two widths", async () => {
  await withGateway({}, async (running) => {
    await dead(running, ["/items/1", `/items/${"long".repeat(100)}`]);
    for (let number = 0; number < 40; number += 1) await ask("GET", `${running.public}/items/${number % 7}`);
    for (const colorScheme of ["light", "dark"]) {
      for (const width of [1280, 390]) {
        const page = await opened(`${running.admin}/`, { colorScheme, reducedMotion: "reduce", viewport: { width, height: 900 } });
        await live(page);
        for (const view of ["overview", "destinations", "dead-letters", "changes", "look-up", "configuration"]) {
          await page.goto(`${running.admin}/#${view}${view === "look-up" ? `?url=${encodeURIComponent(`${running.public}/items/3`)}` : ""}`);
          await page.locator(`#view-${view}`).waitFor();
          if (view === "overview") await becomes(tile(page, "Requests"), /^4/);
          if (view === "look-up") await page.locator("#explanation .verdict").waitFor();
          if (view === "dead-letters") await page.locator("#letters tbody tr").first().waitFor();
          if (view === "changes") await page.locator("#changes-list li").first().waitFor();
          const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
          assert.ok(over <= 0, `${view} at ${width} is ${over} pixels too wide`);
          await page.screenshot({ path: join(folder, `${view}-${colorScheme}-${width}.png`) });
        }
        assert.deepEqual(page.faults, []);
        await page.context().close();
      }
    }
  });
});
