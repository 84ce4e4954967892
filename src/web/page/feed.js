// Keeps the page fed. EventSource hides the heartbeats of a quiet mesh, does not tell 401 from a broken wire, and cannot
// send a token: so the stream is read by fetch.

import {remember, remembered} from "./dom.js";
import {STALLED_AFTER_MS} from "./store.js";

const FIRST_BYTE_MS = 5_000;
const POLL_MS = 5_000;
const STREAM_AGAIN_MS = 60_000;
const HIDDEN_FOR_MS = 5_000;
const TOKEN = "probe-token";

export class Unauthorised extends Error {}

function headers(more) {
  const token = remembered("sessionStorage", TOKEN);
  return {...more, ...(token && {Authorization: `Bearer ${token}`})};
}

export async function getJson(path, milliseconds = 10_000) {
  const answer = await fetch(path, {
    headers: headers({Accept: "application/json"}), cache: "no-store", signal: AbortSignal.timeout(milliseconds),
  });
  if (answer.status === 401) throw new Unauthorised("the agent asks for a token");
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error ?? `the agent answers ${answer.status}`);
  return body;
}

// Server-sent events out of a stream of text.
export class EventReader {
  constructor(take) {
    this.take = take;
    this.rest = "";
    this.event = {type: "message", data: [], id: null};
  }

  push(text) {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line === "") {
      const {type, data, id} = this.event;
      this.event = {type: "message", data: [], id};
      if (data.length > 0) this.take(type, data.join("\n"), id);
      return;
    }
    const colon = line.indexOf(":");
    const [field, raw] = colon < 0 ? [line, ""] : [line.slice(0, colon), line.slice(colon + 1)];
    const value = raw.startsWith(" ") ? raw.slice(1) : raw;
    if (field === "event") this.event.type = value;
    else if (field === "data") this.event.data.push(value);
    else if (field === "id") this.event.id = value;
  }
}

export class Feed {
  // on: snapshot(document), delta(document), link(word), locked(wasWrong) → promise of a token.
  constructor(on) {
    this.on = on;
    this.heardAt = Date.now();
    this.lastId = null;
    this.streamNotBefore = 0;
    this.failures = 0;
  }

  start() {
    setInterval(() => this.#watch(), 1000);
    document.addEventListener("visibilitychange", () => this.#visibility());
    this.#run();
  }

  #say(link) {
    if (this.link !== link) this.on.link(this.link = link);
  }

  #heard(link) {
    this.heardAt = Date.now();
    this.failures = 0;
    if (!this.paused) this.#say(link);
  }

  #watch() {
    const silent = Date.now() - this.heardAt;
    if (this.link === "paused" || this.link === "locked") return;
    if (silent >= STALLED_AFTER_MS) {
      this.#say("stalled");
      this.stream?.abort();
    } else if (this.stream && !this.answered && Date.now() - this.askedAt >= FIRST_BYTE_MS) {
      // Something on the way keeps the stream to itself: polling does.
      this.streamNotBefore = Date.now() + STREAM_AGAIN_MS;
      this.stream.abort();
    }
  }

  #visibility() {
    clearTimeout(this.hiding);
    if (document.visibilityState === "hidden") {
      this.hiding = setTimeout(() => {
        this.paused = true;
        this.#say("paused");
        this.stream?.abort();
      }, HIDDEN_FOR_MS);
    } else if (this.paused) {
      this.paused = false;
      this.heardAt = Date.now();
      this.#say("connecting");
      this.wake?.();
    }
  }

  async #run() {
    for (;;) {
      if (this.paused) await new Promise((resolve) => { this.wake = resolve; });
      try {
        if (Date.now() >= this.streamNotBefore) await this.#readStream();
      } catch (error) {
        if (error instanceof Unauthorised) await this.#unlock();
      }
      if (this.paused) continue;
      let wait = POLL_MS;
      try {
        await this.#poll();
      } catch (error) {
        if (error instanceof Unauthorised) {
          await this.#unlock();
          continue;
        }
        this.failures += 1;
        wait = Math.min(15_000, 500 * 2 ** this.failures);
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  async #unlock() {
    this.#say("locked");
    const wrong = remembered("sessionStorage", TOKEN) !== null;
    remember("sessionStorage", TOKEN, await this.on.locked(wrong));
    this.heardAt = Date.now();
    this.streamNotBefore = 0;
    this.#say("connecting");
  }

  async #readStream() {
    this.stream = new AbortController();
    this.answered = false;
    this.askedAt = Date.now();
    try {
      const answer = await fetch("api/v1/stream", {
        headers: headers({Accept: "text/event-stream", ...(this.lastId && {"Last-Event-ID": this.lastId})}),
        cache: "no-store", signal: this.stream.signal,
      });
      if (answer.status === 401) throw new Unauthorised("the agent asks for a token");
      if (!answer.ok || !answer.body) throw new Error(`the stream answers ${answer.status}`);
      const decoder = new TextDecoder();
      const events = new EventReader((type, data, id) => {
        if (id) this.lastId = id;
        if (type === "snapshot") this.on.snapshot(JSON.parse(data));
        else if (type === "delta") this.on.delta(JSON.parse(data));
      });
      for (const reader = answer.body.getReader();;) {
        const {done, value} = await reader.read();
        if (done) return;
        this.answered = true;
        events.push(decoder.decode(value, {stream: true}));
        this.#heard("live");
      }
    } finally {
      this.stream = null;
    }
  }

  async #poll() {
    const matrix = await getJson("api/v1/matrix");
    const [found, told] = await Promise.all([
      getJson("api/v1/findings").catch(() => ({})), getJson("api/v1/events?limit=50").catch(() => ({})),
    ]);
    // Deltas build upon a snapshot of the stream, so the next stream begins anew.
    this.lastId = null;
    this.on.snapshot({...matrix, findings: found.findings, events: told.events});
    this.#heard("polling");
  }
}
