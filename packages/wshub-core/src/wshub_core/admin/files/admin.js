// The admin view: asks for the key, shows a snapshot of the hub every second, and runs commands.

import { showChannels, showConnections, showNumbers } from "./tables.js";
import { Tracer } from "./tracer.js";

const PERIOD_MS = 1000;
const $ = (id) => document.getElementById(id);

// The key may come in the fragment, which browsers do not send. It is removed from the address, so
// that it does not stay in the history of the browser.
const fragment = new URLSearchParams(location.hash.slice(1));
if (fragment.has("key")) {
  sessionStorage.setItem("key", fragment.get("key"));
  history.replaceState(null, "", location.pathname);
}

function showState(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
}

async function ask(path, options = {}) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem("key") ?? ""}` };
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) {
    sessionStorage.removeItem("key");
    showLogin("This key is wrong.");
  }
  if (!response.ok) throw new Error((await response.text()).trim());
  return response;
}

const post = (path, body) => ask(path, { method: "POST", body: JSON.stringify(body) });

function showLogin(why = "") {
  $("refusal").textContent = why;
  $("login").hidden = false;
  $("view").hidden = true;
  showState("waiting", "waiting for the key");
  $("key").focus();
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value);
  $("key").value = "";
  refresh();
});

// The snapshots.

let before = null;
let timer = null;

async function refresh() {
  clearTimeout(timer);
  try {
    const search = new URLSearchParams({ search: $("search").value });
    const snapshot = await (await ask(`state?${search}`)).json();
    $("login").hidden = true;
    $("view").hidden = false;
    showNumbers($("tiles"), $("numbers"), snapshot, before);
    showConnections($("connections"), snapshot.connections, actions);
    showChannels($("channels"), snapshot.channels, actions);
    before = snapshot;
    showState("live", "live");
  } catch (error) {
    if (!$("login").hidden) return;
    before = null;
    showState("lost", `no answer: ${error.message}`);
  }
  // A hidden page asks for nothing.
  if (!document.hidden) timer = setTimeout(refresh, PERIOD_MS);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && $("login").hidden) refresh();
});
$("search").addEventListener("input", refresh);

// The commands.

const tracer = new Tracer($("frames"), $("tracing"), $("stop"), ask);

function trace(kind, name) {
  $("kind").value = kind;
  $("traced").value = name;
  tracer.start(kind, name);
  $("trace").scrollIntoView({ block: "center" });
}

const actions = {
  trace,
  disconnect: (id) => post("disconnect", { connection: id }).then(refresh, (error) => {
    showState("live", error.message);
  }),
  publish(channel) {
    $("channel").value = channel;
    $("data").focus();
  },
};

$("trace").addEventListener("submit", (event) => {
  event.preventDefault();
  tracer.start($("kind").value, $("traced").value);
});
$("stop").addEventListener("click", () => tracer.stop());
$("clear").addEventListener("click", () => tracer.clear());

$("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  const published = $("published");
  published.className = "";
  try {
    const data = JSON.parse($("data").value);
    await post("publish", { channel: $("channel").value, data });
    published.textContent = "Published.";
  } catch (error) {
    published.className = "bad";
    published.textContent = error.message;
  }
});

if (sessionStorage.getItem("key")) refresh();
else showLogin();
