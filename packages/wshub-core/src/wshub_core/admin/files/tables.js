// The tables and numbers of the admin view. Rows are kept while their key stays, so that the focus
// and a button that waits for a confirmation survive the next snapshot.

const SURE_MS = 3000;

const TILES = [
  ["clients", "Connections"],
  ["channels", "Channels"],
  ["subscribers", "Subscriptions"],
  ["messages", "Messages / s"],
  ["deliveries", "Deliveries / s"],
  ["delivered_bytes", "Bytes / s"],
  ["dropped_messages", "Dropped"],
  ["evictions", "Evicted"],
  ["refused_handshakes", "Refused"],
  ["callback_errors", "Errors in callbacks"],
];
const RATES = new Set(["messages", "deliveries", "delivered_bytes"]);

const format = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  if (count < 1048576) return `${format.format(count / 1024)} KiB`;
  return `${format.format(count / 1048576)} MiB`;
}

function rate(name, now, before) {
  if (before === null) return "…";
  const seconds = now.at - before.at;
  const value = (now.stats[name] - before.stats[name]) / seconds;
  return name.endsWith("bytes") ? bytes(value) : format.format(value);
}

function showList(list, items) {
  items.forEach(([label, value], index) => {
    let [dt, dd] = list.querySelectorAll(`[data-index="${index}"]`);
    if (!dt) {
      dt = document.createElement("dt");
      dd = document.createElement("dd");
      dt.dataset.index = dd.dataset.index = index;
      if (list.id === "tiles") {
        const tile = document.createElement("div");
        tile.append(dt, dd);
        list.append(tile);
      } else list.append(dt, dd);
    }
    dt.textContent = label;
    if (dd.textContent !== value) dd.textContent = value;
  });
}

export function showNumbers(tiles, numbers, snapshot, before) {
  const tileItems = TILES.map(([name, label]) => [
    label,
    RATES.has(name) ? rate(name, snapshot, before) : format.format(snapshot.stats[name]),
  ]);
  showList(tiles, [...tileItems, ["Bridge", snapshot.bridge ?? "none"]]);
  showList(numbers, Object.entries(snapshot.stats).map(([name, value]) => [
    name.replaceAll("_", " "),
    typeof value === "number" ? format.format(value) : JSON.stringify(value),
  ]));
}

function cell(text, className = "") {
  const td = document.createElement("td");
  td.textContent = text;
  td.className = className;
  return td;
}

function button(label, name, act) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = label;
  element.setAttribute("aria-label", `${label} ${name}`);
  element.addEventListener("click", () => act(element));
  return element;
}

// The first click asks, and the second one within three seconds acts.
function sureButton(label, name, act) {
  return button(label, name, (element) => {
    if (element.classList.contains("sure")) {
      act();
      return;
    }
    element.classList.add("sure");
    element.textContent = "Sure?";
    setTimeout(() => {
      element.classList.remove("sure");
      element.textContent = label;
    }, SURE_MS);
  });
}

function showRows(table, rows) {
  const body = table.tBodies[0];
  const old = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  rows.forEach(({ key, cells, buttons }, index) => {
    let row = old.get(key);
    old.delete(key);
    if (!row) {
      row = document.createElement("tr");
      row.dataset.key = key;
      const last = document.createElement("td");
      buttons().forEach((each) => last.append(each, " "));
      row.append(last);
    }
    [...row.cells].slice(0, -1).forEach((each) => each.remove());
    row.prepend(...cells);
    if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] ?? null);
  });
  old.forEach((row) => row.remove());
}

export function showConnections(table, connections, actions) {
  showRows(table, connections.map((each) => ({
    key: String(each.id),
    cells: [
      cell(each.id),
      cell(each.userId || "–"),
      cell(each.address || "local"),
      cell(each.channels, "number"),
      cell(bytes(each.waitingBytes), each.waitingBytes ? "number slow" : "number"),
      cell(each.droppedMessages, each.droppedMessages ? "number slow" : "number"),
    ],
    buttons: () => [
      button("Trace", `connection ${each.id}`, () => actions.trace("connection", String(each.id))),
      sureButton("Disconnect", `connection ${each.id}`, () => actions.disconnect(each.id)),
    ],
  })));
}

export function showChannels(table, channels, actions) {
  showRows(table, channels.map((each) => ({
    key: each.name,
    cells: [cell(each.name), cell(each.subscribers, "number")],
    buttons: () => [
      button("Trace", each.name, () => actions.trace("channel", each.name)),
      button("Publish", each.name, () => actions.publish(each.name)),
    ],
  })));
}
