// The live page: lists the hub's channels, follows its processes, and shows the chosen channel.

import { parse } from "./ansi.js";
import { ReconnectingClient, SubscriptionRefusedError } from "./wshub.js";

// Limits of this tab: channels with their output, lines and characters of one channel, and entries
// of the channel list.
const MAX_VIEWS = 100;
const MAX_LINES = 5_000;
const MAX_CHARACTERS = 2_000_000;
const MAX_LISTED = 4_000;

// The server announces changes of the list on this channel. The page loads the whole list when it
// connects, and at this interval, because an announcement may be lost. Times are in milliseconds.
const PAGE_CHANNEL = "wshub:page";
const LIST_INTERVAL = 30_000;
// Without that channel, the page polls the list.
const POLL_INTERVAL = 1_000;
// With several server processes, the list of one may be older than an announcement of another. An
// entry that is younger than this is not overwritten by the list.
const LIST_LAG = 2_000;

// Broadcasts belong to no channel. They have a view under a name that no channel can have.
const BROADCASTS = "(broadcasts)";
const isChannel = (name) => /^[A-Za-z0-9_.:-]{1,256}$/.test(name);

const clock = new Intl.DateTimeFormat([], { timeStyle: "medium", hourCycle: "h23" });
const element = (id) => document.getElementById(id);
const log = element("log");
const lines = element("lines");

// Entries: the channels of the list and their process statuses, for the list and for the title.

const entries = new Map();

/** Updates the entry of a channel, after a message or an announcement. */
function updateEntry(channel, status) {
  const updatedAt = performance.now();
  entries.set(channel, { status: null, exitCode: null, ...entries.get(channel), ...status, updatedAt });
  if (entries.size > MAX_LISTED) {
    entries.delete([...entries.keys()].find((name) => !views.has(name)));
  }
  planListPaint();
}

/** Returns the process status in the data of a message; null for data of another shape. */
function readStatus(data) {
  if (typeof data?.status !== "string") return null;
  const exitCode = Number.isSafeInteger(data.exitCode) ? data.exitCode : null;
  return { status: data.status.slice(0, 64), exitCode };
}

function statusText({ status, exitCode }) {
  return status === "exited" && exitCode !== null ? `exited with ${exitCode}` : status;
}

function statusClass({ status, exitCode }) {
  if (status !== "exited" || exitCode === null) return "";
  return exitCode === 0 ? "good" : "bad";
}

// Views: the output of each channel that this tab has received.

class View {
  lines = [];
  characters = 0;
  // Number of lines received, and number of those that are still in `lines`. Notes do not count.
  count = 0;
  kept = 0;
  // Number of last lines that are not painted yet, and painted lines that have changed since.
  fresh = 0;
  changed = new Set();
  // The style at the end of the output, and the line that the next one may overwrite.
  style = {};
  output = null;
  // Order of last use: the view with the lowest number is closed first.
  usedAt = 0;
}

const views = new Map();
// Channels that the user has stopped following. Their messages may still arrive and are ignored.
const unfollowed = new Set();
let current = null;
// The first channel opens by itself until the user has chosen a channel.
let hasChosen = false;
let uses = 0;

function openView(channel) {
  let view = views.get(channel);
  if (!view) {
    view = new View();
    views.set(channel, view);
    // The server may have subscribed this connection already. The client must know the subscription
    // to restore it after a reconnect.
    if (channel !== BROADCASTS) connection.subscribe(channel);
    planListPaint();
  }
  view.usedAt = ++uses;
  if (views.size > MAX_VIEWS) closeOldestView();
  return view;
}

function closeOldestView() {
  const others = [...views].filter(([channel]) => channel !== current);
  const [channel] = others.reduce((one, other) => (other[1].usedAt < one[1].usedAt ? other : one));
  views.delete(channel);
  connection.unsubscribe(channel);
  planListPaint();
}

const connection = new ReconnectingClient("ws", {
  initialBackoff: 0.5, maxBackoff: 10, stableAfter: 5,
});

connection.addEventListener("state", ({ detail: state }) => {
  const pill = element("state");
  const isLost = state !== "connected" && pill.dataset.state === "connected";
  pill.dataset.state = state;
  pill.textContent = state === "disconnected" ? "connection lost, trying again" : state;
  if (isLost) for (const view of views.values()) addLine(view, makeNote("connection lost"));
  if (state === "connected") {
    for (const view of views.values()) addLine(view, makeNote("connected, following from here"));
    refreshList();
  }
});

connection.addEventListener("end", ({ detail: error }) => {
  element("state").textContent = error?.message ?? "closed";
});

connection.addEventListener("error", ({ detail: error }) => {
  const view = error instanceof SubscriptionRefusedError && views.get(error.channel);
  if (view) addLine(view, makeNote(error.message, "bad"));
});

connection.addEventListener("message", ({ detail: message }) => {
  if (message.channel === PAGE_CHANNEL) return applyAnnouncement(message.data);
  const channel = isChannel(message.channel ?? "") ? message.channel : BROADCASTS;
  if (unfollowed.has(channel)) return;
  const view = openView(channel);
  try {
    addMessage(channel, view, message);
  } catch {
    addLine(view, makeNote("a message that this page cannot show", "bad"));
  }
});

connection.subscribe(PAGE_CHANNEL).catch((error) => {
  if (error instanceof SubscriptionRefusedError) setInterval(refreshList, POLL_INTERVAL);
});

function addMessage(channel, view, message) {
  const { type, data } = message;
  const time = readTime(message.timestamp);
  const status = type === "process_status" ? readStatus(data) : null;
  if (type === "process_output") {
    const text = typeof data === "string" ? data : JSON.stringify(data) ?? "";
    const spans = parse(text, view.style);
    if (message.overwrites === true && view.output) changeLine(view, view.output, { time, spans });
    else view.output = addLine(view, { time, spans, counts: true });
  } else if (status && channel !== BROADCASTS) {
    // The next run begins on a new line, without colors.
    view.style = {};
    view.output = null;
    updateEntry(channel, status);
    addLine(view, { ...makeNote(statusText(status), statusClass(status)), time });
  } else {
    const text = `${type} ${JSON.stringify(data ?? null)}`;
    const kind = type === "error" ? "bad" : "";
    addLine(view, { ...makeNote(text, kind), time, counts: true });
  }
}

function readTime(timestamp) {
  const time = new Date(typeof timestamp === "string" ? timestamp : NaN);
  return Number.isNaN(time.getTime()) ? new Date() : time;
}

/** Returns a line of the page itself, such as a change of the connection. */
function makeNote(text, kind = "") {
  return { time: new Date(), spans: [{ text, classes: [] }], kind: `note ${kind}`, counts: false };
}

function addLine(view, line) {
  line.element = null;
  view.lines.push(line);
  view.fresh += 1;
  view.characters += lengthOf(line);
  view.count += line.counts;
  view.kept += line.counts;
  trim(view);
  planPaint();
  return line;
}

function changeLine(view, line, changes) {
  view.characters -= lengthOf(line);
  Object.assign(line, changes);
  view.characters += lengthOf(line);
  view.changed.add(line);
  trim(view);
  planPaint();
}

function trim(view) {
  while (view.lines.length > MAX_LINES || (view.characters > MAX_CHARACTERS && view.lines[1])) {
    const line = view.lines.shift();
    view.characters -= lengthOf(line);
    view.kept -= line.counts;
    view.changed.delete(line);
    if (view.output === line) view.output = null;
  }
  view.fresh = Math.min(view.fresh, view.lines.length);
}

function lengthOf({ spans }) {
  return spans.reduce((length, { text }) => length + text.length, 0);
}

// Painting: at most once for each frame of the screen, for any rate of messages.

let isPaintPlanned = false;
let hasListChanged = true;

function planPaint() {
  if (isPaintPlanned) return;
  isPaintPlanned = true;
  requestAnimationFrame(paint);
}

function planListPaint() {
  hasListChanged = true;
  planPaint();
}

function paint() {
  isPaintPlanned = false;
  if (hasListChanged) paintList();
  hasListChanged = false;
  const view = views.get(current);
  const { status = null, exitCode = null } = entries.get(current) ?? {};
  const badge = element("status");
  badge.hidden = !view || status === null;
  badge.textContent = badge.hidden ? "" : statusText({ status, exitCode });
  badge.className = statusClass({ status, exitCode });
  element("count").textContent = view ? countText(view) : "";
  for (const button of [element("clear"), element("stop")]) button.hidden = !view;
  if (view) paintLines(view);
}

function countText({ count, kept }) {
  if (kept < count) return `last ${kept} of ${count} lines`;
  return count === 1 ? "1 line" : `${count} lines`;
}

function paintLines(view) {
  const fresh = view.fresh ? view.lines.slice(-view.fresh) : [];
  view.fresh = 0;
  for (const line of view.changed) {
    const before = line.element;
    if (before) before.replaceWith(render(line));
  }
  view.changed.clear();
  lines.append(...fresh.map(render));
  while (lines.firstChild && lines.firstChild !== view.lines[0]?.element) lines.firstChild.remove();
}

function render(line) {
  const row = document.createElement("div");
  row.className = `line ${line.kind ?? ""}`.trim();
  const stamp = document.createElement("time");
  stamp.textContent = clock.format(line.time);
  const text = document.createElement("span");
  text.append(...line.spans.map(({ text: piece, classes, color, background }) => {
    const span = document.createElement("span");
    span.textContent = piece;
    span.className = classes.join(" ");
    if (color) span.style.color = color;
    if (background) span.style.background = background;
    return span;
  }));
  row.append(stamp, text);
  line.element = row;
  return row;
}

function show(channel) {
  hasChosen = true;
  unfollowed.delete(channel);
  clearScreen();
  current = channel;
  const view = openView(channel);
  // If the subscription was refused before, the client asks again.
  if (channel !== BROADCASTS) connection.subscribe(channel);
  view.fresh = view.lines.length;
  element("name").textContent = channel;
  hasListChanged = true;
  paint();
  log.scrollTop = 0;
  items.get(channel)?.scrollIntoView({ block: "nearest" });
}

function stop(channel) {
  unfollowed.add(channel);
  clearScreen();
  views.delete(channel);
  if (channel !== BROADCASTS) connection.unsubscribe(channel);
  history.replaceState(null, "", location.pathname);
  current = null;
  hasListChanged = true;
  paint();
}

/** Removes the lines from the screen; they stay in their view. */
function clearScreen() {
  for (const line of views.get(current)?.lines ?? []) line.element = null;
  lines.replaceChildren();
}

// The list of channels.

/** Applies an announcement of the server. Any publisher may send data of another shape here. */
function applyAnnouncement(data) {
  for (const each of Array.isArray(data?.channels) ? data.channels : []) {
    if (typeof each?.channel === "string" && isChannel(each.channel)) {
      updateEntry(each.channel, readStatus(each));
    }
  }
  openFirst();
}

async function refreshList() {
  const since = performance.now() - LIST_LAG;
  const isRecent = (name) => entries.get(name)?.updatedAt > since;
  let listed;
  try {
    const answer = await fetch("channels");
    if (!answer.ok) return;
    listed = new Map((await answer.json()).channels.map((each) => [each.channel, each]));
  } catch {
    return; // The server cannot be reached; the header shows the state of the connection.
  }
  for (const name of entries.keys()) {
    if (!listed.has(name) && !views.has(name) && !isRecent(name)) entries.delete(name);
  }
  for (const [name, { status, exitCode }] of listed) {
    if (!isRecent(name)) entries.set(name, { status, exitCode, updatedAt: 0 });
    // The server subscribes open pages to processes that start from now on, not to earlier ones.
    const runs = name.startsWith("process:") && entries.get(name).status !== "exited";
    if (runs && !views.has(name) && !unfollowed.has(name) && views.size < MAX_VIEWS) openView(name);
  }
  openFirst();
  planListPaint();
}

function openFirst() {
  if (current !== null || hasChosen || !entries.size) return;
  const names = [...entries.keys()].sort();
  show(names.find((name) => entries.get(name).status === "running") ?? names[0]);
}

// Elements are kept and updated, so that the keyboard focus stays on its element.
const items = new Map();

function paintList() {
  const names = new Set([...entries.keys(), ...views.keys()]);
  for (const [channel, item] of items) {
    if (!names.has(channel)) {
      item.remove();
      items.delete(channel);
    }
  }
  const list = element("channels");
  [...names].sort().forEach((channel, index) => {
    if (!items.has(channel)) items.set(channel, makeItem(channel));
    const item = items.get(channel);
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    const { status = null, exitCode = null } = entries.get(channel) ?? {};
    const link = item.firstElementChild;
    if (channel === current) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
    const badge = link.lastElementChild;
    badge.hidden = status === null;
    badge.className = `badge ${statusClass({ status, exitCode })}`;
    badge.textContent = status === "exited" && exitCode !== null ? `exit ${exitCode}` : status ?? "";
  });
  if (current === null) {
    element("name").textContent = names.size ? "Choose a channel" : "No channels yet";
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
    return; // An invalid percent-encoding names no channel.
  }
  if (channel === BROADCASTS || isChannel(channel)) show(channel);
}

element("follow").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = encodeURIComponent(element("channel").value);
  element("channel").value = "";
});
element("clear").addEventListener("click", () => {
  const { style } = views.get(current);
  clearScreen();
  views.set(current, Object.assign(new View(), { style, usedAt: ++uses }));
  paint();
});
element("stop").addEventListener("click", () => stop(current));
element("newest").addEventListener("click", () => {
  log.scrollTop = 0;
});
// The log is laid out from its end (column-reverse). It keeps its scroll position at the end by
// itself, and its scrollTop is negative when the user scrolls up.
log.addEventListener("scroll", () => {
  element("newest").hidden = log.scrollTop > -40;
});
addEventListener("hashchange", showHash);
document.addEventListener("visibilitychange", () => document.hidden || refreshList());
showHash();
refreshList();
setInterval(refreshList, LIST_INTERVAL);
