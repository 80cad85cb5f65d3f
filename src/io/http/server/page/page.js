// The tracker's status page: asks its own server every two seconds and draws what it says.
// Every text that comes from the network goes into the page as text, never as markup.
"use strict";

const PERIOD_MS = 2000;
const PATIENCE_MS = 5000;
const ROWS_MAX = 500;

const byId = (id) => document.getElementById(id);

// --- small builders ------------------------------------------------------------------------------------------------

const fill = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  for (const child of children) node.append(child);
  return node;
};
const element = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
const drawn = (name, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

const number = (value) =>
  typeof value === "number" ? String(Math.round(value * 1e4) / 1e4) : "";
const text = (value) => (value === undefined || value === null ? "" : String(value));
const count = (value, one, many) => `${value} ${value === 1 ? one : many}`;
const clock = (date) => date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });

// What each part of the page was last made from: it is made again only when that changes, so that a selection or the
// place in a scrolled table stays.
const shown = new Map();
const show = (id, data, make) => {
  const key = JSON.stringify(data);
  if (shown.get(id) === key) return;
  shown.set(id, key);
  byId(id).replaceChildren(...make(data));
};

// columns: [heading, cell of a row, is a number]; the first is the row's heading.
const table = (title, note, columns, rows) => {
  const head = columns.map(([heading, , right]) =>
    element("th", right ? { scope: "col", class: "number" } : { scope: "col" }, heading));
  const body = rows.slice(0, ROWS_MAX).map((row) =>
    element("tr", {}, ...columns.map(([, cell, right], index) =>
      element(index ? "td" : "th", { ...(index ? {} : { scope: "row" }), ...(right ? { class: "number" } : {}) }, cell(row)))));
  if (!rows.length) body.push(element("tr", {}, element("td", { class: "none", colspan: columns.length }, "nobody")));
  const more = rows.length > ROWS_MAX ? ` · the first ${ROWS_MAX} of ${rows.length}` : "";
  return element("table", {}, element("caption", {}, title, " ", element("small", {}, note + more)),
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
};

// A table whose columns are lists: headings with a line below each, then what stands in each column.
const lists = (title, note, columns, rows) => {
  const head = columns.map(({ heading }) => element("th", { scope: "col" }, element("b", {}, heading)));
  const body = rows.map(([, cell]) => element("tr", {}, ...columns.map((column) => {
    const value = cell(column);
    if (!Array.isArray(value)) return element("td", {}, value);
    if (!value.length) return element("td", { class: "none" }, "nobody");
    const more = value.length > ROWS_MAX ? [element("li", { class: "none" }, `and ${value.length - ROWS_MAX} more`)] : [];
    return element("td", {}, element("ul", {},
      ...value.slice(0, ROWS_MAX).map((entry) => element("li", {}, entry)), ...more));
  })));
  return element("table", {}, element("caption", {}, title, " ", element("small", {}, note)),
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
};

// --- the tree ------------------------------------------------------------------------------------------------------

const label = (node) => node.name || node.id.slice(0, 8);
const rate = (kbps) => (kbps >= 1000 ? `${number(Math.round(kbps / 100) / 10)} Mbit/s` : `${kbps} kbit/s`);
const byLabel = (a, b) => label(a).localeCompare(label(b), "en", { numeric: true });

const subline = (node, compact) => {
  const parts = [node.role];
  if (node.kbps !== undefined && !compact) parts.push(rate(node.kbps));
  // Whoever has no bound of its own has room for thousands.
  if (node.slots_free !== undefined) parts.push(node.slots_free < 1000 ? `${node.slots_free} free` : "room");
  return parts.join(" · ");
};

const isNarrow = () => document.documentElement.clientWidth < 520;

// Levels from left to right, every leaf on a line of its own, every parent in the middle of its children.
const tree = (nodes) => {
  const rooted = nodes.filter((node) => node.depth !== undefined);
  const known = new Map(rooted.map((node) => [node.id, node]));
  const children = new Map();
  const roots = [];
  for (const node of rooted) {
    const parent = known.get(node.parent);
    // A parent stands nearer to the source: reports that crossed must not make a ring.
    if (parent && parent.depth < node.depth) {
      if (!children.has(parent.id)) children.set(parent.id, []);
      children.get(parent.id).push(node);
    } else roots.push(node);
  }
  const box = { width: 184, height: 40, across: 226, down: rooted.length > 60 ? 46 : 52 };
  const narrow = isNarrow();
  if (narrow) Object.assign(box, { width: 98, across: 116 });
  let line = 0;
  const places = new Map();
  const place = (node, column) => {
    const below = (children.get(node.id) || []).sort(byLabel).map((child) => place(child, column + 1));
    const row = below.length ? (below[0].row + below[below.length - 1].row) / 2 : line++;
    const spot = { node, column, row, below };
    places.set(node.id, spot);
    return spot;
  };
  roots.sort((a, b) => a.depth - b.depth || byLabel(a, b)).forEach((root) => place(root, Math.max(0, root.depth - 1)));
  const spots = [...places.values()];
  const columns = spots.reduce((most, spot) => Math.max(most, spot.column + 1), 1);
  const top = 22;
  // Few levels spread out; many are scrolled.
  const space = (byId("tree").clientWidth - box.width - 2) / Math.max(1, columns - 1);
  box.across = Math.floor(Math.min(Math.max(space, box.across), 320));
  const width = (columns - 1) * box.across + box.width + 2;
  const height = top + Math.max(1, line) * box.down - (box.down - box.height) + 2;
  const x = (spot) => 1 + spot.column * box.across;
  const y = (spot) => top + spot.row * box.down;
  const title = `${count(rooted.length, "node", "nodes")} on ${count(columns, "level", "levels")}; the table below says the same in words`;
  const svg = drawn("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  for (let column = 0; column < columns; column += 1) {
    svg.append(drawn("text", { class: "level", x: 1 + column * box.across, y: 12 }, `level ${column + 1}`));
  }
  for (const spot of spots) {
    for (const child of spot.below) {
      const [x1, y1] = [x(spot) + box.width, y(spot) + box.height / 2];
      const [x2, y2] = [x(child), y(child) + box.height / 2];
      const bend = (x2 - x1) / 2;
      svg.append(drawn("path", { class: "edge", d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` }));
    }
  }
  for (const spot of spots) {
    const { node } = spot;
    const radius = node.role === "source" ? 8 : node.role === "relay" ? 3 : 20;
    svg.append(drawn("g", { class: node.role, transform: `translate(${x(spot)} ${y(spot)})` },
      drawn("title", {}, `${label(node)} (${node.id})`),
      drawn("rect", { width: box.width, height: box.height, rx: radius }),
      drawn("text", { x: 13, y: 17 }, label(node)),
      drawn("text", { x: 13, y: 32, class: "sub" }, subline(node, narrow))));
  }
  return [svg];
};

const nodeTable = (nodes) => [table("Members", "as they report themselves", [
  ["Name", label], ["Id", (node) => node.id], ["Role", (node) => node.role],
  ["Level", (node) => text(node.depth), true], ["Parent", (node) => text(node.parent)],
  ["kbit/s", (node) => text(node.kbps), true], ["Free slots", (node) => text(node.slots_free), true],
], nodes)];

// --- the provider's tables -----------------------------------------------------------------------------------------

const quality = (row) => [row.bw_mbps, row.lat_ms, row.jit_ms].map((value) => number(value) || "–").join(", ");
const price = (row, currency) => `${text(row.price)} ${text(currency)}/${text(row.unit)}`;
const heads = [
  ["Bandwidth Mbit/s", (row) => number(row.bw_mbps), true],
  ["Latency ms", (row) => number(row.lat_ms), true],
  ["Jitter ms", (row) => number(row.jit_ms), true],
];

const userTable = ({ users }) => [table("Table 1 · Users", count(users.length, "user", "users"), [
  ["ID", (row) => row.id], ...heads, ["Status", (row) => text(row.status)], ["Packet", (row) => text(row.packet)],
  ["Interval", (row) => text(row.interval)], ["Level", (row) => text(row.level), true],
  ["Parent", (row) => text(row.parent)],
], users)];

const bound = (sign, value, unit) => (value === undefined ? "" : `${sign} ${number(value)} ${unit}`);
const packetTable = ({ packets, currency }) => [lists("Table 2 · Price packets", "ID: bandwidth, latency, jitter",
  packets.map((packet) => ({ ...packet, heading: packet.name })), [
    ["price", (packet) => price(packet, currency)],
    ["bounds", (packet) => [bound("≥", packet.bounds?.bw_mbps, "Mbit/s"), bound("≤", packet.bounds?.lat_ms, "ms"),
      bound("≤", packet.bounds?.jit_ms, "ms jitter")].filter(Boolean)],
    ["users", (packet) => packet.users],
  ])];

const statusTable = ({ columns, rows }) => [lists("Status", "what each is – whom it serves; ID: bandwidth, latency, jitter",
  columns.map((heading) => ({ heading })), [
    ["users", ({ heading }) => (rows[heading] || []).map((row) => `${row.id}: ${quality(row)}`)],
  ])];

const range = ({ over_mbps: over, to_mbps: to }) =>
  (to === undefined ? `over ${number(over)} Mbit/s` : `${number(over)}–${number(to)} Mbit/s`);
const intervalTable = ({ intervals, currency }) => [lists("Price by bandwidth", "ID: bandwidth, latency, jitter (status)",
  intervals.map((interval) => ({ ...interval, heading: range(interval) })), [
    ["price", (interval) => price(interval, currency)],
    ["users", (interval) => interval.users.map((row) => `${row.id}: ${quality(row)} (${text(row.status)})`)],
  ])];

const TABLES = [
  ["users", "get_user_table", userTable],
  ["packets", "get_price_packets", packetTable],
  ["status", "get_clients_status", statusTable],
  ["intervals", "get_price_intervals", intervalTable],
];

// --- asking --------------------------------------------------------------------------------------------------------

let token = "";

const ask = async (path) => {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers, cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(PATIENCE_MS) });
  const body = await answer.json().catch(() => ({}));
  return { status: answer.status, body };
};

const chosen = () => {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
};

const drawOverview = ({ channels, stats }) => {
  const tiles = [["channels", stats.channels], ["members", stats.peers], ["joins", stats.joins_total],
    ["refused", stats.rejects_total]];
  show("tiles", tiles, () => tiles.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value.toLocaleString("en")))));
  byId("no-channel").hidden = channels.length > 0;
  const current = channels.find(({ name }) => name === chosen()) || channels[0];
  const names = channels.map(({ name, title, peers }) => [name, title, peers, name === current.name]);
  show("channels", names, () => names.map(([name, title, peers, isCurrent]) =>
    element("a", { href: `#${encodeURIComponent(name)}`, ...(isCurrent ? { "aria-current": "true" } : {}) },
      name, element("small", {}, `${title ? `${title} · ` : ""}${count(peers, "member", "members")}`))));
  byId("channel").hidden = !current;
  if (!current) return undefined;
  const { name, title, peers, sources, relays, tree: nodes } = current;
  byId("channel-title").textContent = title ? `${name} – ${title}` : name;
  const viewers = peers - sources - relays;
  byId("channel-line").textContent = [count(sources, "source", "sources"), count(relays, "relay", "relays"),
    count(viewers, "peer", "peers")].join(" · ");
  show("tree", [nodes, document.documentElement.clientWidth], () => tree(nodes));
  show("nodes", nodes, nodeTable);
  const waiting = nodes.filter((node) => node.depth === undefined);
  const left = peers - nodes.length;
  byId("waiting").hidden = !waiting.length && left <= 0;
  byId("waiting").textContent = [
    waiting.length ? `Looking for a parent: ${waiting.map(label).join(", ")}` : "",
    left > 0 ? `${left} more, farther from the source, are not drawn` : ""].filter(Boolean).join(". ");
  return name;
};

const drawProvider = async (name) => {
  const answers = await Promise.all(TABLES.map(([, call]) => ask(`v1/${call}?content=${encodeURIComponent(name)}`)));
  const refused = answers.some(({ status }) => status === 401 || status === 403);
  const good = answers.every(({ status }) => status === 200);
  byId("token").hidden = !refused;
  byId("token-note").textContent = refused && token ? "The tracker does not know this token." : "";
  byId("provider").hidden = !good;
  byId("no-provider").hidden = good || refused;
  byId("no-provider").textContent = "This tracker keeps no users and prices of this channel.";
  if (good) TABLES.forEach(([id, , make], index) => show(id, answers[index].body, make));
};

let since;
let latest;
let timer;
let round = 0;

// Said only when it changes: it is read aloud.
const say = (state, words) => {
  const node = byId("state");
  document.body.classList.toggle("gone", state === "gone");
  if (node.textContent === words) return;
  node.dataset.state = state;
  node.textContent = words;
};

const refresh = async () => {
  clearTimeout(timer);
  const own = (round += 1);
  try {
    const { status, body } = await ask("v1/overview");
    if (status !== 200) throw new Error(`HTTP status ${status}`);
    if (own !== round) return;
    latest = body;
    const name = drawOverview(body);
    if (name !== undefined) await drawProvider(name);
    if (own !== round) return;
    since = new Date();
    say("live", "live");
    byId("state").title = `updated ${clock(since)}`;
  } catch {
    if (own !== round) return;
    say("gone", since ? `no answer from the tracker; this is from ${clock(since)}` : "no answer from the tracker");
  }
  if (!document.hidden) timer = setTimeout(refresh, PERIOD_MS);
};

byId("host").textContent = location.host;
byId("hint").textContent = location.host;
byId("token").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("secret").value.trim();
  refresh();
});
addEventListener("hashchange", refresh);
addEventListener("resize", () => { if (latest) drawOverview(latest); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
refresh();
