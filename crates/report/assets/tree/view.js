// What is looked at: selection, filters, what is open; kept in the address, so that it can be sent.
// Owns the address and which nodes are listed. Draws nothing.

const view = { selected: -1, query: "", outcome: "", category: "", flag: "", order: "", icicle: false, open: new Set() };
const FILTERS = { query: "q", outcome: "outcome", category: "category", flag: "badge", order: "order" };

const filtering = () => view.query !== "" || view.outcome !== "" || view.category !== "" || view.flag !== "";

// A leaf by its #N, any node by @position. Without either, the way to the largest loss is open.
function readAddress() {
  const address = new URLSearchParams(location.hash.slice(1));
  for (const [name, key] of Object.entries(FILTERS)) view[name] = address.get(key) ?? "";
  view.icicle = address.get("icicle") === "1";
  if (!(view.outcome in OUTCOMES)) view.outcome = "";
  if (!data.vocabulary.categories.includes(view.category)) view.category = "";
  if (!data.vocabulary.flags.includes(view.flag)) view.flag = "";
  if (view.order !== "lost") view.order = "";
  const named = address.get("leaf") ?? "";
  const number = Number(named.replace("@", ""));
  const column = named.startsWith("@") ? nodes.position : nodes.leaf;
  view.selected = named === "" || !Number.isInteger(number) ? -1 : column.indexOf(number);
  for (const node of view.selected >= 0 ? ancestors(view.selected) : worstPath()) view.open.add(node);
}

function writeAddress() {
  const address = new URLSearchParams();
  if (view.selected >= 0) {
    const leaf = nodes.leaf[view.selected];
    address.set("leaf", leaf >= 0 ? String(leaf) : `@${nodes.position[view.selected]}`);
  }
  for (const [name, key] of Object.entries(FILTERS)) if (view[name] !== "") address.set(key, view[name]);
  if (view.icicle) address.set("icicle", "1");
  const hash = address.toString();
  if (hash !== location.hash.slice(1)) history.replaceState(null, "", hash === "" ? location.pathname + location.search : `#${hash}`);
}

// The words of a leaf, from the outline that readers without scripts see; a served page asks.
const outline = document.getElementById("outline").textContent;

function outlined(kind, key) {
  const open = `<!--${kind}:${key}-->`;
  const start = outline.indexOf(open);
  if (start < 0) return "";
  return outline.slice(start + open.length, outline.indexOf("<!--end-->", start));
}

// What the search looks through: id and criterion, and in a file the judge's words too. Made piece
// by piece while nothing else is to be done.
const haystack = new Array(count);
const plain = (html) => {
  const text = html.replace(/<[^>]*>/g, " ");
  return text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"').replaceAll("&#39;", "'").replaceAll("&amp;", "&");
};
const bodies = outline.matchAll(/<!--leaf:(\d+)-->([^]*?)<!--end-->/g);

function fillHaystack(until) {
  for (let i = 0; i < count; i += 1) haystack[i] ??= `${nodes.id[i]} ${nodes.text[i]}`.toLowerCase();
  for (let next = bodies.next(); !next.done; next = bodies.next()) {
    const [, index, body] = next.value;
    haystack[index] += ` ${plain(body).toLowerCase()}`;
    if (until()) return false;
  }
  return true;
}

function fillIdly() {
  const later = window.requestIdleCallback ?? ((run) => setTimeout(() => run({ timeRemaining: () => 8 }), 50));
  later((deadline) => { if (!fillHaystack(() => deadline.timeRemaining() < 2)) fillIdly(); else haystackFilled(); });
}

function matches(i) {
  if (view.query !== "" && !haystack[i].includes(view.query.toLowerCase())) return false;
  const restricted = view.outcome !== "" || view.category !== "" || view.flag !== "";
  if (!isLeaf(i)) return !restricted && view.query !== "";
  if (view.outcome !== "" && !OUTCOMES[view.outcome](i)) return false;
  if (view.category !== "" && data.vocabulary.categories[nodes.category[i]] !== view.category) return false;
  return view.flag === "" || ((nodes.flags[i] >> data.vocabulary.flags.indexOf(view.flag)) & 1) === 1;
}

// The listed nodes in order, and how many of them the filters name; the others lead to them.
function listed() {
  let keep = null;
  let found = 0;
  if (filtering()) {
    keep = new Uint8Array(count);
    for (let i = 0; i < count; i += 1) {
      if (!matches(i)) continue;
      found += 1;
      for (let at = i; at >= 0 && keep[at] === 0; at = nodes.parent[at]) keep[at] = 1;
    }
  }
  const list = [];
  const stack = [0];
  while (stack.length > 0) {
    const at = stack.pop();
    if (keep !== null && keep[at] === 0) continue;
    list.push(at);
    if (keep === null && !view.open.has(at)) continue;
    if (keep !== null && closed.has(at)) continue;
    const below = view.order === "lost" ? [...children[at]].sort((a, b) => lost(b) - lost(a)) : children[at];
    for (let k = below.length - 1; k >= 0; k -= 1) stack.push(below[k]);
  }
  return { list, found };
}

// What a reader closed while filters hold everything open.
const closed = new Set();
const isOpen = (i) => (filtering() ? !closed.has(i) : view.open.has(i));

function setOpen(i, open) {
  const [set, add] = filtering() ? [closed, !open] : [view.open, open];
  if (add) set.add(i); else set.delete(i);
}
