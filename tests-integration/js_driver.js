// The driver of the client under test, in a page and in Node: it runs calls and records events.

const FIELDS = ["status", "reason", "channel", "code", "count"];

class FaultyListener extends Error {}

// Values that a listener or a token function may throw.
const FAULTS = [new FaultyListener(), undefined, null, "a text", 5, {}, new RangeError("faulty")];
let faults = 0;

export class Driver {
  #ReconnectingClient;
  #client = null;
  #events = [];

  constructor({ ReconnectingClient }) {
    this.#ReconnectingClient = ReconnectingClient;
  }

  /** Calls one of the methods below; returns its value, or a description of its error. */
  async call(method, args) {
    try {
      return { value: (await this[method](...args)) ?? null };
    } catch (error) {
      return { failure: describe(error) };
    }
  }

  start(url, options, tokens, isFaulty) {
    this.#client?.close();
    if (tokens) {
      options.token = async () => {
        const token = tokens.length > 1 ? tokens.shift() : tokens[0];
        if (token === null) throw new Error("no token");
        if (token === "(throws)") throw FAULTS[faults++ % FAULTS.length];
        if (token === "(hangs)") await new Promise(() => {});
        if (token === "(closes)") this.#client.close();
        return token;
      };
    }
    const events = (this.#events = []);
    const client = (this.#client = new this.#ReconnectingClient(url, options));
    const listen = (name, read) => client.addEventListener(name, ({ detail }) => {
      events.push({ event: name, ...read(detail) });
      if (isFaulty) throw FAULTS[faults++ % FAULTS.length];
    });
    listen("connect", () => ({}));
    listen("reconnect", ({ attempts }) => ({ attempts }));
    listen("disconnect", () => ({}));
    listen("error", describe);
    listen("message", ({ type, channel = "", data = null }) => ({ type, channel, data }));
    listen("gap", (gap) => gap);
    listen("end", describe);
  }

  subscribe(channel, history) {
    this.#client.subscribe(channel, history);
  }

  async subscribe_confirmed(channel, history) {
    await this.#client.subscribe(channel, history);
  }

  position(channel) {
    return this.#client.position(channel);
  }

  async presence(channel, options) {
    return await this.#client.presence(channel, options);
  }

  duplicate_messages() {
    return this.#client.duplicateMessages;
  }

  unsubscribe(channel) {
    this.#client.unsubscribe(channel);
  }

  async publish(channel, data) {
    await this.#client.publish(channel, data);
  }

  send(message) {
    this.#client.send(message);
  }

  unreadable_messages() {
    return this.#client.unreadableMessages;
  }

  /** Blocks the event loop for some seconds. */
  block(seconds) {
    const end = performance.now() + seconds * 1_000;
    while (performance.now() < end);
  }

  /** Removes the global WebSocket and starts a client, with the class as an option if isGiven. */
  start_without_websocket(url, isGiven) {
    const { WebSocket } = globalThis;
    delete globalThis.WebSocket;
    try {
      this.start(url, isGiven ? { WebSocket } : {}, null, false);
    } finally {
      this.restore = () => (globalThis.WebSocket = WebSocket);
    }
  }

  restore_websocket() {
    this.restore();
  }

  async close() {
    await this.#client?.close();
  }

  async ended() {
    await this.#client.ended;
  }

  transport() {
    return this.#client.transport;
  }

  state() {
    return this.#client.state;
  }

  events() {
    return this.#events;
  }

  /** Returns the number of events with a name. */
  count(name) {
    return this.#events.filter(({ event }) => event === name).length;
  }
}

function describe(error) {
  if (error === null) return { name: null };
  const fields = FIELDS.filter((name) => error[name] !== undefined);
  const values = Object.fromEntries(fields.map((name) => [name, error[name]]));
  return { name: error.name, text: error.message, ...values };
}

// In Node: one call per line comes in, one answer per line goes out.
if (globalThis.process?.argv[2]) {
  const { createInterface } = await import("node:readline");
  const driver = new Driver(await import(process.argv[2]));
  process.on("uncaughtException", (error) => {
    if (FAULTS.includes(error)) return;
    console.error(error);
    process.exit(1);
  });
  createInterface({ input: process.stdin }).on("line", async (line) => {
    const { id, method, args } = JSON.parse(line);
    const answer = await driver.call(method, args);
    process.stdout.write(`${JSON.stringify({ id, ...answer })}\n`);
  }).on("close", () => process.exit(0));
}
