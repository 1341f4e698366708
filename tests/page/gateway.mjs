// What the page's tests stand on: the real binary, a source and a destination that a test scripts.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** A server on a free port whose answers `answer(request)` gives: `[status, fields, body]`. */
export async function server(answer) {
  const listening = createServer((asked, reply) => {
    asked.resume().on("end", () => {
      const [status, fields, body] = answer(asked);
      reply.writeHead(status, fields).end(body);
    });
  });
  await new Promise((resolve) => listening.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${listening.address().port}`,
    stop() {
      listening.closeAllConnections();
      listening.close();
    },
  };
}

/** The binary with these tables, on free ports; `admin` are more lines of [admin]. */
export async function gateway(tables, { admin = "", port = 0 } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "tidegate-page-"));
  const file = join(folder, "tidegate.toml");
  writeFileSync(file, `[server]\nlisten = ["127.0.0.1:0"]\nthreads = 2\n[admin]\nlisten = "127.0.0.1:${port}"\n${admin}\n[sync]\ndata = "data"\n${tables}`);
  return start(file, folder);
}

async function start(file, folder) {
  const child = spawn(process.env.TIDEGATE, ["serve", "--log-format", "json", "--config", file], { stdio: ["ignore", "ignore", "pipe"] });
  const addresses = {};
  const log = [];
  const ended = new Promise((resolve) => child.once("exit", resolve));
  await new Promise((resolve, reject) => {
    createInterface(child.stderr).on("line", (line) => {
      log.push(line);
      let event = {};
      try { event = JSON.parse(line); } catch { /* a line for people */ }
      if (event.message === "listening") addresses[event.listener] = event.address;
      if (addresses.public && addresses.admin) resolve();
    });
    ended.then(() => reject(new Error(log.join("\n"))));
  });
  return {
    public: `http://${addresses.public}`,
    admin: `http://${addresses.admin}`,
    port: Number(addresses.admin.split(":")[1]),
    log,
    /** Changes its file. */
    rewrite(change) {
      writeFileSync(file, change(readFileSync(file, "utf8")));
    },
    async stop() {
      child.kill("SIGKILL");
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** One request; its status and body. */
export function ask(method, url, body) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, agent: false }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (part) => { text += part; }).on("end", () => resolve({ status: answer.statusCode, fields: answer.headers, text }));
    });
    sent.on("error", reject).end(body);
  });
}
