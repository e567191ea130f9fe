// The live page: lists the hub's channels and follows the one that is chosen.

import { parse } from "./ansi.js";
import { HubConnection } from "./connection.js";

const MOST_LINES = 5_000;
const LIST_EVERY = 1_000;
const BROADCASTS = "";

const clock = new Intl.DateTimeFormat([], { timeStyle: "medium", hourCycle: "h23" });
const element = (id) => document.getElementById(id);
const log = element("log");

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
let listed = [];
let shownList = "";

const connection = new HubConnection(Object.assign(new URL("ws", location.href), {
  protocol: location.protocol === "https:" ? "wss:" : "ws:", hash: "",
}));

connection.addEventListener("state", ({ detail: state }) => {
  const pill = element("state");
  const lost = state !== "connected" && pill.dataset.state === "connected";
  pill.dataset.state = state;
  pill.textContent = state === "waiting" ? "connection lost, trying again" : state;
  if (lost) for (const view of views.values()) addLine(view, note("connection lost"));
  if (state === "connected") {
    for (const view of views.values()) addLine(view, note("connected, following from here"));
    refreshList();
  }
});

connection.addEventListener("message", ({ detail: message }) => {
  const channel = message.channel ?? BROADCASTS;
  const view = views.get(channel) ?? (channel === BROADCASTS ? openView(BROADCASTS) : null);
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
  return note(`${message.type} ${JSON.stringify(message.data ?? null)}`, time);
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
  planPaint();
}

function planPaint() {
  if (isPaintPlanned) return;
  isPaintPlanned = true;
  // A hidden tab gets no animation frames; a timer keeps its memory bounded all the same.
  (document.hidden ? setTimeout : requestAnimationFrame)(paint);
}

function paint() {
  isPaintPlanned = false;
  const view = views.get(current);
  if (!view) return;
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const fresh = view.unshown;
  view.unshown = [];
  log.append(...fresh.map(render));
  while (log.childElementCount > MOST_LINES) log.firstElementChild.remove();
  element("count").textContent = `${log.childElementCount} lines`;
  if (isAtEnd) log.scrollTop = log.scrollHeight;
  showNewest();
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
  current = channel;
  const view = openView(channel);
  element("name").textContent = channel || "Broadcasts";
  const entry = listed.find((each) => each.channel === channel);
  if (entry?.status && view.status === null) setStatus(view, entry.status, entry.exitCode);
  showStatus(view);
  log.replaceChildren();
  view.unshown = view.lines.slice(-MOST_LINES);
  paint();
  log.scrollTop = log.scrollHeight;
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
  if (current === null) {
    const first = listed.find((each) => each.status === "running") ?? listed[0];
    if (first) show(first.channel);
  }
  showList();
}

function showList() {
  const names = new Map(listed.map((each) => [each.channel, each]));
  for (const channel of views.keys()) if (!names.has(channel)) names.set(channel, { channel });
  // A list that has not changed keeps its elements, and with them the keyboard's focus.
  const signature = JSON.stringify([current, [...names.values()].map((each) => [each.channel, each.status, each.exitCode])]);
  if (signature === shownList) return;
  shownList = signature;
  element("channels").replaceChildren(...[...names.values()].map((entry) => {
    const link = document.createElement("a");
    link.href = `#${encodeURIComponent(entry.channel)}`;
    link.textContent = entry.channel || "Broadcasts";
    if (entry.channel === current) link.setAttribute("aria-current", "true");
    if (entry.status) {
      const badge = document.createElement("span");
      badge.className = `badge ${statusClass(entry.status, entry.exitCode)}`;
      badge.textContent = entry.status === "exited" ? `exit ${entry.exitCode}` : entry.status;
      link.append(badge);
    }
    const item = document.createElement("li");
    item.append(link);
    return item;
  }));
}

function showNewest() {
  element("newest").hidden = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
}

function showHash() {
  const channel = decodeURIComponent(location.hash.slice(1));
  if (channel || views.has(BROADCASTS)) show(channel);
}

element("follow").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = encodeURIComponent(element("channel").value);
  element("channel").value = "";
});
element("clear").addEventListener("click", () => {
  const view = views.get(current);
  if (!view) return;
  view.lines = [];
  view.unshown = [];
  log.replaceChildren();
  paint();
});
element("newest").addEventListener("click", () => {
  log.scrollTop = log.scrollHeight;
});
log.addEventListener("scroll", showNewest);
addEventListener("hashchange", showHash);
if (location.hash) showHash();
refreshList();
setInterval(() => {
  if (!document.hidden) refreshList();
}, LIST_EVERY);
