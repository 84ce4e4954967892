// A stand-in for an agent: the page's files under the agent's own policy, and an API that tells what the test wants.

import http from "node:http";
import {readFile} from "node:fs/promises";
import {fileURLToPath} from "node:url";
import {pathDocument, placement} from "./fixture.mjs";

export const PAGE = fileURLToPath(new URL("../../src/web/page/", import.meta.url));
export const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
  + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TYPES = {html: "text/html; charset=utf-8", css: "text/css; charset=utf-8", js: "text/javascript; charset=utf-8"};

export class Agent {
  // options: token, prefix, streams (false: the stream answers 404), hours of history
  constructor(document, {token = null, prefix = "/", streams = true, hours} = {}) {
    Object.assign(this, {document, token, prefix, streams, hours});
    this.asked = [];
    this.open = new Set();
    this.count = 0;
    this.isDown = false;
    this.server = http.createServer((request, response) => {
      this.#answer(request, response).catch((error) => { response.writeHead(500).end(String(error)); });
    });
  }

  async start() {
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    this.address = `http://127.0.0.1:${this.server.address().port}${this.prefix}`;
    return this;
  }

  async stop() {
    for (const response of this.open) response.destroy();
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  // A delta to everybody who listens.
  tell(delta) {
    this.count += 1;
    for (const response of this.open) response.write(`id: life-${this.count}\nevent: delta\ndata: ${JSON.stringify(delta)}\n\n`);
  }

  heartbeat() {
    for (const response of this.open) response.write(": \n\n");
  }

  // Whoever listens hears no more, and nobody else is answered.
  fallSilent() {
    this.isDown = true;
  }

  async #answer(request, response) {
    const url = new URL(request.url, "http://agent");
    this.asked.push({path: url.pathname, headers: request.headers});
    if (!url.pathname.startsWith(this.prefix)) return response.writeHead(404).end();
    const path = url.pathname.slice(this.prefix.length);
    if (!path.startsWith("api/")) return this.#file(path || "index.html", response);
    if (this.isDown) return undefined;
    const json = (status, body) => response.writeHead(status, {"Content-Type": "application/json", "Cache-Control": "no-store"}).end(JSON.stringify(body));
    if (this.token && request.headers.authorization !== `Bearer ${this.token}`) return json(401, {error: "a token is wanted"});
    const {document} = this;
    switch (path) {
      case "api/v1/stream": {
        if (!this.streams) return json(404, {error: "no stream here"});
        response.writeHead(200, {"Content-Type": "text/event-stream", "Cache-Control": "no-store"});
        response.write(`id: life-${this.count}\nevent: snapshot\ndata: ${JSON.stringify(document)}\n\n`);
        this.open.add(response);
        response.on("close", () => this.open.delete(response));
        return undefined;
      }
      case "api/v1/matrix": {
        const {findings, events, ...matrix} = document;
        return json(200, matrix);
      }
      case "api/v1/findings": return json(200, {findings: document.findings});
      case "api/v1/events": return json(200, {events: document.events});
      case "api/v1/placement": return json(200, placement(document));
      case "api/v1/path": {
        const found = pathDocument(document, Object.fromEntries(url.searchParams), this.hours);
        return found ? json(200, found) : json(404, {error: "nobody measures that path"});
      }
      default: return json(404, {error: `no ${path}`});
    }
  }

  async #file(name, response) {
    const body = /^[a-z]+\.[a-z]+$/.test(name) ? await readFile(PAGE + name).catch(() => null) : null;
    if (!body) return response.writeHead(404).end();
    return response.writeHead(200, {"Content-Type": TYPES[name.split(".").at(-1)] ?? "text/plain", "Content-Security-Policy": CSP,
      "X-Content-Type-Options": "nosniff"}).end(body);
  }
}
