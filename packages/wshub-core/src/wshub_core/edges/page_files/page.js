// The live page: lists the hub's channels and follows the one that is chosen.

import { parse } from "./ansi.js";
import { ReconnectingClient, SubscriptionRefusedError } from "./wshub.js";

const MOST_LINES = 5_000;
const LIST_EVERY = 1_000;
// What is in no channel gets an entry of its own, under a name that no channel can have.
const BROADCASTS = "(broadcasts)";

const clock = new Intl.DateTimeFormat([], { timeStyle: "medium", hourCycle: "h23" });
const element = (id) => document.getElementById(id);
const log = element("log");
const lines = element("lines");

/** What this tab knows of a channel: its lines, and the style its output has reached. */
class View {
  lines = [];
  unshown = [];
  style = {};
  status = null;
  exitCode = null;
}

const views = new Map();
let current = null;
// The first channel opens by itself, but only until somebody has had a say.
let hasChosen = false;
let listed = [];

const connection = new ReconnectingClient("ws", {
  initialBackoff: 0.5, maxBackoff: 10, stableAfter: 5,
});

connection.addEventListener("state", ({ detail: state }) => {
  const pill = element("state");
  const isLost = state !== "connected" && pill.dataset.state === "connected";
  pill.dataset.state = state;
  pill.textContent = state === "disconnected" ? "connection lost, trying again" : state;
  if (isLost) for (const view of views.values()) addLine(view, note("connection lost"));
  if (state === "connected") {
    for (const view of views.values()) addLine(view, note("connected, following from here"));
    refreshList();
  }
});

connection.addEventListener("end", ({ detail: error }) => {
  element("state").textContent = error?.message ?? "closed";
});

connection.addEventListener("error", ({ detail: error }) => {
  const view = error instanceof SubscriptionRefusedError && views.get(error.channel);
  if (view) addLine(view, note(error.message, new Date(), "bad"));
});

connection.addEventListener("message", ({ detail: message }) => {
  const { channel } = message;
  const view = channel === undefined ? openView(BROADCASTS) : views.get(channel);
  if (view) addLine(view, describe(message, view));
});

function describe(message, view) {
  const time = message.timestamp ? new Date(message.timestamp) : new Date();
  if (message.type === "process_output") {
    return { time, spans: parse(String(message.data ?? ""), view.style) };
  }
  if (message.type === "process_status") {
    const { status, exitCode } = message.data;
    view.style = {};
    setStatus(view, status, exitCode);
    return note(statusText(status, exitCode), time, statusClass(status, exitCode));
  }
  const mood = message.type === "error" ? "bad" : "";
  return note(`${message.type} ${JSON.stringify(message.data ?? null)}`, time, mood);
}

function note(text, time = new Date(), mood = "") {
  return { time, spans: [{ text, classes: [] }], mood: `note ${mood}`.trim() };
}

function setStatus(view, status, exitCode) {
  view.status = status;
  view.exitCode = exitCode;
  if (view === views.get(current)) showStatus(view);
}

function statusText(status, exitCode) {
  return status === "exited" ? `exited with ${exitCode}` : status;
}

function statusClass(status, exitCode) {
  if (status !== "exited") return "";
  return exitCode === 0 ? "good" : "bad";
}

function openView(channel) {
  if (!views.has(channel)) {
    views.set(channel, new View());
    if (channel !== BROADCASTS) connection.subscribe(channel);
  }
  return views.get(channel);
}

// Lines are shown once per frame of the screen, however fast they come.

let isPaintPlanned = false;

function addLine(view, line) {
  view.lines.push(line);
  view.unshown.push(line);
  if (view.lines.length > 2 * MOST_LINES) view.lines = view.lines.slice(-MOST_LINES);
  if (view.unshown.length > MOST_LINES) view.unshown = view.unshown.slice(-MOST_LINES);
  if (isPaintPlanned) return;
  isPaintPlanned = true;
  // A hidden tab gets no animation frames; a timer keeps its memory bounded all the same.
  (document.hidden ? setTimeout : requestAnimationFrame)(paint);
}

function paint() {
  isPaintPlanned = false;
  const view = views.get(current);
  if (!view) return;
  const fresh = view.unshown;
  view.unshown = [];
  lines.append(...fresh.map(render));
  while (lines.childElementCount > MOST_LINES) lines.firstElementChild.remove();
  const count = lines.childElementCount;
  element("count").textContent = count === 1 ? "1 line" : `${count} lines`;
}

function render({ time, spans, mood }) {
  const line = document.createElement("div");
  line.className = `line ${mood ?? ""}`;
  const stamp = document.createElement("time");
  stamp.textContent = clock.format(time);
  const text = document.createElement("span");
  text.append(...spans.map(({ text: piece, classes, color, background }) => {
    const span = document.createElement("span");
    span.textContent = piece;
    span.className = classes.join(" ");
    if (color) span.style.color = color;
    if (background) span.style.background = background;
    return span;
  }));
  line.append(stamp, text);
  return line;
}

function show(channel) {
  hasChosen = true;
  current = channel;
  const view = openView(channel);
  element("name").textContent = channel;
  for (const button of [element("clear"), element("stop")]) button.hidden = false;
  adoptStatus();
  showStatus(view);
  lines.replaceChildren();
  view.unshown = view.lines.slice(-MOST_LINES);
  paint();
  log.scrollTop = 0;
  showList();
  items.get(channel)?.scrollIntoView({ block: "nearest" });
}

function stop(channel) {
  views.delete(channel);
  connection.unsubscribe(channel);
  history.replaceState(null, "", location.pathname);
  current = null;
  lines.replaceChildren();
  element("status").hidden = true;
  element("count").textContent = "";
  for (const button of [element("clear"), element("stop")]) button.hidden = true;
  showList();
}

function showStatus(view) {
  const badge = element("status");
  badge.hidden = view.status === null;
  badge.textContent = view.status === null ? "" : statusText(view.status, view.exitCode);
  badge.className = statusClass(view.status, view.exitCode);
}

// The list of channels.

async function refreshList() {
  try {
    const answer = await fetch("channels");
    if (!answer.ok) return;
    listed = (await answer.json()).channels;
  } catch {
    return; // The server is away; the state above says so.
  }
  adoptStatus();
  const first = listed.find((each) => each.status === "running") ?? listed[0];
  if (first && current === null && !hasChosen) show(first.channel);
  showList();
}

/** The list knows what has become of a process while this tab was not there. */
function adoptStatus() {
  for (const { channel, status, exitCode } of listed) {
    const view = views.get(channel);
    if (view && status !== null && (view.status !== status || view.exitCode !== exitCode)) {
      setStatus(view, status, exitCode);
    }
  }
}

// Elements are kept and updated, so that the keyboard's focus stays where it is.
const items = new Map();

function showList() {
  const entries = new Map(listed.map((each) => [each.channel, each]));
  for (const channel of views.keys()) if (!entries.has(channel)) entries.set(channel, { channel });
  for (const [channel, item] of items) {
    if (!entries.has(channel)) {
      item.remove();
      items.delete(channel);
    }
  }
  const list = element("channels");
  let index = 0;
  for (const [channel, entry] of entries) {
    if (!items.has(channel)) items.set(channel, makeItem(channel));
    const item = items.get(channel);
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    index += 1;
    const link = item.firstElementChild;
    if (channel === current) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
    const badge = link.lastElementChild;
    badge.hidden = !entry.status;
    badge.className = `badge ${statusClass(entry.status, entry.exitCode)}`;
    badge.textContent = entry.status === "exited" ? `exit ${entry.exitCode}` : entry.status ?? "";
  }
  if (current === null) {
    element("name").textContent = entries.size ? "Choose a channel" : "No channels yet";
  }
}

function makeItem(channel) {
  const link = document.createElement("a");
  link.href = `#${encodeURIComponent(channel)}`;
  const name = document.createElement("span");
  name.textContent = channel;
  link.append(name, document.createElement("span"));
  const item = document.createElement("li");
  item.append(link);
  return item;
}

function showHash() {
  let channel = "";
  try {
    channel = decodeURIComponent(location.hash.slice(1));
  } catch {
    return; // A fragment that is no text is no channel.
  }
  if (channel) show(channel);
}

element("follow").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = encodeURIComponent(element("channel").value);
  element("channel").value = "";
});
element("clear").addEventListener("click", () => {
  const view = views.get(current);
  view.lines = [];
  view.unshown = [];
  lines.replaceChildren();
  paint();
});
element("stop").addEventListener("click", () => stop(current));
element("newest").addEventListener("click", () => {
  log.scrollTop = 0;
});
// The log is laid out from its end: it stays there by itself, and counts upwards below zero.
log.addEventListener("scroll", () => {
  element("newest").hidden = log.scrollTop > -40;
});
addEventListener("hashchange", showHash);
showHash();
refreshList();
setInterval(() => {
  if (!document.hidden) refreshList();
}, LIST_EVERY);
