// ws on Node.js: a loop over `send` with one buffer. See control.py for the commands.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket, WebSocketServer } from "ws";

const server = createServer();
const websockets = new WebSocketServer({
  server,
  perMessageDeflate: process.argv.includes("--compression"),
});
const channels = new Map();
let subscribed = 0;

websockets.on("connection", (socket) => {
  const names = [];
  socket.on("error", () => socket.terminate());
  socket.on("close", () => names.forEach((name) => channels.get(name).delete(socket)));
  socket.on("message", (payload) => {
    const message = JSON.parse(payload);
    if (message.type !== "subscribe") return publish(message.channel, message.data);
    if (!channels.has(message.channel)) channels.set(message.channel, new Set());
    channels.get(message.channel).add(socket);
    names.push(message.channel);
    subscribed += 1;
  });
});

function publish(channel, data) {
  const message = { type: "event", channel, data, timestamp: new Date() };
  const payload = Buffer.from(JSON.stringify(message));
  for (const socket of channels.get(channel) ?? []) {
    if (socket.readyState === WebSocket.OPEN) socket.send(payload, { binary: false });
  }
}

// The wall clock in nanoseconds: more digits than a double holds. The start is exact to a microsecond.
const microseconds = Math.round((performance.timeOrigin + performance.now()) * 1000);
const start = BigInt(microseconds) * 1000n - process.hrtime.bigint();

async function send(rest) {
  const words = rest.split(" ");
  const [count, burst, pause, limit, number] = words.slice(0, 5).map(Number);
  const text = words.slice(5).join(" ");
  const names = number ? Array.from({ length: number }, (_, index) => `c${index}`) : ["news"];
  const end = performance.now() + limit * 1000;
  let done = 0;
  for (; done < count && performance.now() < end; done++) {
    for (let each = 0; each < burst; each++) {
      for (const name of names) publish(name, `$${start + process.hrtime.bigint()}${text}`);
    }
    await sleep(pause * 1000);
  }
  return done;
}

function answer(value) {
  console.log(JSON.stringify(value));
}

const require = createRequire(import.meta.url);
const commands = {
  connected: () => websockets.clients.size,
  subscribed: () => subscribed,
  collect: () => global.gc(),
  watch: () => null,
  held: () => null,
  send,
};

server.listen(0, "127.0.0.1", 1024, async () => {
  const versions = { "Node.js": process.versions.node, ws: require("ws/package.json").version };
  answer({ port: server.address().port, versions });
  for await (const line of createInterface({ input: process.stdin })) {
    const [command] = line.split(" ", 1);
    answer((await commands[command](line.slice(command.length + 1))) ?? null);
  }
  process.exit();
});
