// The live page: connects the parts of the page with the hub, and with each other.

import { ChannelList, durationOf, isChannel } from "./channels.js";
import { copyText, downloadText } from "./export.js";
import {
  formatCount, formatDuration, formatNumber, readStatus, readTime, statusClass, statusText,
} from "./format.js";
import { readFragment, writeFragment } from "./fragment.js";
import { Log } from "./log.js";
import { Search } from "./search.js";
import { Viewer } from "./viewer.js";
import { ReconnectingClient, SubscriptionRefusedError } from "./wshub.js";

// Limits of this tab: logs, and the memory of all logs together in characters.
const MAX_LOGS = 100;
const MAX_COST = 60_000_000;
const MESSAGES_PER_CHECK = 1_000;

// The server announces changes of the list on this channel. Without it, the page polls the list.
const PAGE_CHANNEL = "wshub:page";
const POLL_INTERVAL = 1_000;
const NOTICE_TIME = 4_000;
// Lines in one frame, and milliseconds between frames while there are more.
const FLOOD_LINES = 20;
const FLOOD_INTERVAL = 100;

// Broadcasts belong to no channel. They have a log under a name that no channel can have.
const BROADCASTS = "(broadcasts)";

const element = (id) => document.getElementById(id);

// Logs of the channels that this tab follows.
const logs = new Map();
// Channels that the user has stopped following. Their messages may still arrive and are ignored.
const unfollowed = new Set();
let current = null;
// The first channel opens by itself until the user has chosen a channel.
let hasChosen = false;
let uses = 0;
let messages = 0;
// The line that a link has asked for, until the log has it: `{channel, line, epoch}`.
let target = null;

const list = new ChannelList(document.querySelector("nav"), (name) => logs.has(name), () => {
  for (const name of list.running()) {
    if (!unfollowed.has(name) && logs.size < MAX_LOGS) openLog(name);
  }
  if (current === null && !hasChosen && list.size) show(list.first());
  planListPaint();
});
const viewer = new Viewer(element("log"), (line) => linkTo(line), planPaint);
const search = new Search();
// The id of the line from which the search goes on to the next found line; null if it has.
let searchFrom = null;

function openLog(channel) {
  let log = logs.get(channel);
  if (!log) {
    log = new Log();
    logs.set(channel, log);
    // From the first message that the hub keeps. Without a history, the log begins here.
    if (channel !== BROADCASTS) connection.subscribe(channel, { since: 0 });
    planListPaint();
  }
  log.usedAt = ++uses;
  boundLogs();
  return log;
}

function boundLogs() {
  const cost = () => [...logs.values()].reduce((sum, log) => sum + log.cost, 0);
  while (logs.size > MAX_LOGS || (logs.size > 1 && cost() > MAX_COST)) {
    const others = [...logs].filter(([channel]) => channel !== current);
    const [channel] = others.reduce((one, other) => (other[1].usedAt < one[1].usedAt ? other : one));
    closeLog(channel);
  }
}

function closeLog(channel) {
  logs.delete(channel);
  if (channel !== BROADCASTS) connection.unsubscribe(channel);
  planListPaint();
}

// The connection to the hub.

const connection = new ReconnectingClient("ws", {
  initialBackoff: 0.5, maxBackoff: 10, stableAfter: 5,
});

connection.addEventListener("state", ({ detail: state }) => {
  const pill = element("state");
  const isLost = state !== "connected" && pill.dataset.state === "connected";
  pill.dataset.state = state;
  pill.textContent = state === "disconnected" ? "connection lost, trying again" : state;
  if (isLost) noteInLogs("connection lost");
  if (state === "connected") list.load();
});

connection.addEventListener("reconnect", () => noteInLogs("connected, following from here"));

/** Adds a note to the logs of channels without a history, where messages may be missing. */
function noteInLogs(text) {
  for (const [channel, log] of logs) {
    if (!log.epoch && !list.entry(channel).hasHistory) log.note(text);
  }
  planPaint();
}

connection.addEventListener("end", ({ detail: error }) => {
  element("state").textContent = error?.message ?? "closed";
});

connection.addEventListener("error", ({ detail: error }) => {
  const log = error instanceof SubscriptionRefusedError && logs.get(error.channel);
  if (log) log.note(error.message, "bad");
  planPaint();
});

connection.addEventListener("gap", ({ detail: { channel, reason, missing } }) => {
  logs.get(channel)?.addGap(reason, missing);
  if (target?.channel === channel && reason === "no_history") missTarget();
  planPaint();
});

connection.addEventListener("message", ({ detail: message }) => {
  if (message.channel === PAGE_CHANNEL) return list.apply(message.data);
  const channel = isChannel(message.channel ?? "") ? message.channel : BROADCASTS;
  if (unfollowed.has(channel)) return;
  // The server has subscribed this page to a process that begins. If there is a history, the
  // subscription by the page brings this message again.
  const isEarly = !logs.has(channel) && message.offset > 0;
  const log = openLog(channel);
  if (isEarly) return;
  try {
    addMessage(channel, log, message);
  } catch {
    log.note("a message that this page cannot show", "bad");
  }
  if (++messages % MESSAGES_PER_CHECK === 0) boundLogs();
  planPaint();
});

connection.subscribe(PAGE_CHANNEL).catch((error) => {
  if (error instanceof SubscriptionRefusedError) setInterval(() => list.load(), POLL_INTERVAL);
});

function addMessage(channel, log, message) {
  log.add(message, channel !== BROADCASTS);
  const status = message.type === "process_status" ? readStatus(message.data) : null;
  if (status && channel !== BROADCASTS) {
    list.update(channel, status, readTime(message.timestamp) / 1_000);
  }
  if (target?.channel === channel) seekTarget(log);
}

// Painting: at most once for each frame of the screen, for any rate of messages.

let isPaintPlanned = false;
let hasListChanged = true;
let paintedAt = 0;
let paintedEnd = 0;

function planPaint() {
  if (isPaintPlanned) return;
  isPaintPlanned = true;
  requestAnimationFrame(paintUnlessFlooded);
}

/** Paints more rarely while so many lines arrive that nobody can read them. */
function paintUnlessFlooded() {
  const end = logs.get(current)?.endID ?? 0;
  const isFlooded = viewer.isFollowing && end - paintedEnd > FLOOD_LINES;
  if (isFlooded && performance.now() - paintedAt < FLOOD_INTERVAL) {
    requestAnimationFrame(paintUnlessFlooded);
  } else paint();
}

function planListPaint() {
  hasListChanged = true;
  planPaint();
}

function paint() {
  isPaintPlanned = false;
  paintedAt = performance.now();
  paintedEnd = logs.get(current)?.endID ?? 0;
  if (hasListChanged) list.paint(new Set(logs.keys()), current);
  hasListChanged = false;
  const log = logs.get(current);
  element("tools").hidden = !log;
  paintTitle(log);
  if (!log) return;
  const { missing } = log;
  viewer.beginning = missing
    ? `The first ${missing === 1 ? "line is" : `${formatNumber(missing)} lines are`} no longer kept.`
    : "";
  element("waiting").hidden = log.lines.length > 0;
  for (const line of log.changed) search.update(line);
  paintSearch();
  viewer.paint();
  element("newest").hidden = viewer.isFollowing;
}

function paintTitle(log) {
  const entry = list.entry(current);
  const badge = element("status");
  badge.hidden = !log || entry.status === null;
  badge.textContent = badge.hidden ? "" : statusText(entry);
  badge.className = statusClass(entry);
  const seconds = log ? durationOf(entry, list.now) : null;
  const isExact = entry.status === "exited";
  element("duration").textContent = seconds === null ? "" : formatDuration(seconds, isExact);
  element("count").textContent = log ? countText(log) : "";
  if (!log) element("name").textContent = list.size ? "Choose a channel" : "No channels yet";
  document.title = log ? `${badge.textContent} ${current} · wshub`.trim() : "wshub";
}

function countText({ count, kept }) {
  if (kept < count) return `last ${formatNumber(kept)} of ${formatCount(count, "line")}`;
  return formatCount(count, "line");
}

// The shown log.

function show(channel, isAtEnd = true) {
  hasChosen = true;
  unfollowed.delete(channel);
  const log = openLog(channel);
  if (current !== channel) {
    current = channel;
    viewer.show(log);
    // The log stays at its end.
    startSearch(false);
  }
  // If the subscription was refused before, the client asks again.
  if (channel !== BROADCASTS) connection.subscribe(channel, { since: 0 });
  if (isAtEnd) viewer.follow();
  element("name").textContent = channel;
  hasListChanged = true;
  paint();
  list.reveal(channel);
}

function stop(channel) {
  unfollowed.add(channel);
  current = null;
  viewer.show(null);
  closeLog(channel);
  history.replaceState(null, "", location.pathname);
  paint();
}

// Links to lines.

function linkTo(line) {
  return writeFragment({ channel: current, line: line.offset, epoch: logs.get(current).epoch });
}

function showFragment() {
  const wanted = readFragment(location.hash);
  if (wanted?.channel !== BROADCASTS && !isChannel(wanted?.channel ?? "")) return;
  target = wanted.line ? wanted : null;
  show(wanted.channel, !target);
  if (target) seekTarget(logs.get(target.channel));
}

/** Scrolls to the line of the link, as soon as the log has it. */
function seekTarget(log) {
  const first = log.lines.find((line) => line.offset > 0);
  if (!first) return;
  if ((target.epoch && target.epoch !== log.epoch) || target.line < first.offset) missTarget();
  else if (target.line <= log.offset) {
    jumpTo(log.find(target.line));
    target = null;
  }
}

function missTarget() {
  notify(`Line ${formatNumber(target.line)} is no longer kept.`);
  target = null;
}

function jumpTo(line) {
  viewer.marked = line.id;
  viewer.scrollTo(line.id);
  planPaint();
}

async function copyLink(line) {
  const url = new URL(line?.offset ? linkTo(line) : writeFragment({ channel: current }), location);
  const isCopied = await copyText(url.href);
  notify(isCopied ? "The link is copied." : "Copy the link from the address bar.");
}

let noticeTimer;

function notify(text) {
  element("notice").textContent = text;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { element("notice").textContent = ""; }, NOTICE_TIME);
}

// The search.

/** Searches the shown log, and shows the first found line from the visible ones on. */
function startSearch(isShown = true) {
  search.start(logs.get(current), element("search").value);
  searchFrom = search.pattern && isShown ? viewer.found ?? viewer.topID : null;
  viewer.pattern = search.pattern;
  viewer.found = null;
  planPaint();
}

function paintSearch() {
  search.advance();
  if (searchFrom !== null) {
    const id = search.from(searchFrom);
    // The first found line of all counts only when no line below is left.
    if (id >= searchFrom || (search.isDone && id !== undefined)) showFound(id);
    if (search.isDone) searchFrom = null;
  }
  const total = search.ids.length;
  const place = search.placeOf(viewer.found);
  const count = total ? formatCount(total, "line") : "no lines";
  const text = place ? `${formatNumber(place)} of ${count}` : count;
  element("matches").textContent = search.pattern ? `${text}${search.isDone ? "" : " …"}` : "";
  for (const id of ["previous", "next"]) element(id).disabled = total === 0;
  if (!search.isDone) planPaint();
}

function showFound(id) {
  searchFrom = null;
  viewer.found = id;
  viewer.scrollTo(id);
}

function stepSearch(isForward) {
  const id = viewer.found ?? viewer.topID;
  const next = isForward ? search.from(id + (viewer.found === null ? 0 : 1)) : search.before(id);
  if (next !== undefined) showFound(next);
  planPaint();
}

// Controls.

const actions = {
  previous: () => stepSearch(false),
  next: () => stepSearch(true),
  error: () => {
    const line = logs.get(current).firstError();
    if (line) jumpTo(line);
    else notify("No line reports an error.");
  },
  wrap: () => setWrapping(!viewer.wraps),
  link: () => copyLink(logs.get(current).line(viewer.marked)),
  download: () => downloadText(`${current.replace(/[^\w.-]+/g, "-")}.txt`, logs.get(current).text()),
  clear: () => {
    logs.get(current).clear();
    startSearch(false);
  },
  stop: () => stop(current),
  newest: () => {
    viewer.follow();
    element("log").focus({ preventScroll: true });
    planPaint();
  },
};
for (const [id, act] of Object.entries(actions)) element(id).addEventListener("click", act);

function setWrapping(wraps) {
  viewer.wraps = wraps;
  element("wrap").setAttribute("aria-pressed", String(wraps));
  planPaint();
}

element("follow").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = writeFragment({ channel: element("channel").value });
  element("channel").value = "";
});
element("search").addEventListener("input", () => startSearch());
element("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") stepSearch(!event.shiftKey);
  else if (event.key === "Escape") {
    element("search").value = "";
    startSearch();
    element("log").focus({ preventScroll: true });
  } else return;
  event.preventDefault();
});
element("lines").addEventListener("click", (event) => {
  if (!event.target.closest("a.number") || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const wanted = readFragment(event.target.hash);
  copyLink(logs.get(current).find(wanted.line));
});
element("log").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const act = {
    "/": () => element("search").select(), n: actions.next, N: actions.previous, e: actions.error,
    l: actions.link,
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
addEventListener("keydown", (event) => {
  // The browser finds only the lines in sight. In the search field, this key is the browser's own.
  const isFind = event.key.toLowerCase() === "f" && (event.ctrlKey || event.metaKey) && !event.altKey;
  if (!isFind || event.shiftKey || current === null) return;
  if (document.activeElement === element("search")) return;
  event.preventDefault();
  element("search").select();
});
addEventListener("hashchange", showFragment);
setInterval(() => list.entry(current).status === "running" && planPaint(), 1_000);
showFragment();
list.load();
