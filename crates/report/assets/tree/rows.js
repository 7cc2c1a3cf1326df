// The tree's rows: only those in sight are elements of the page.
// Owns drawing, selection and keys of the tree.

const treeElement = document.getElementById("tree");
const spacer = document.getElementById("spacer");
const BEYOND = 8; // Rows drawn above and below what is in sight.

let list = [];
let place = new Map();
const drawn = new Map();

const rowHeight = () => (window.matchMedia("(max-width: 40rem)").matches ? 40 : 32);

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Lists anew what is open and fits the filters, and draws it.
function relist() {
  const made = listed();
  list = made.list;
  place = new Map(list.map((node, at) => [node, at]));
  const words = document.getElementById("matches");
  words.textContent = filtering() ? `${made.found.toLocaleString("en")} of ${count.toLocaleString("en")} nodes` : "";
  for (const row of drawn.values()) row.remove();
  drawn.clear();
  draw();
}

function draw() {
  const height = rowHeight();
  spacer.style.height = `${list.length * height}px`;
  const first = Math.max(0, Math.floor(treeElement.scrollTop / height) - BEYOND);
  const last = Math.min(list.length, Math.ceil((treeElement.scrollTop + treeElement.clientHeight) / height) + BEYOND);
  for (const [node, row] of drawn) {
    const at = place.get(node);
    if (at === undefined || at < first || at >= last) {
      row.remove();
      drawn.delete(node);
    }
  }
  for (let at = first; at < last; at += 1) {
    if (drawn.has(list[at])) continue;
    const row = makeRow(list[at]);
    row.style.transform = `translateY(${at * height}px)`;
    drawn.set(list[at], row);
    spacer.append(row);
  }
  const active = drawn.get(view.selected);
  if (active) treeElement.setAttribute("aria-activedescendant", active.id);
  else treeElement.removeAttribute("aria-activedescendant");
}

function makeRow(i) {
  const leaf = isLeaf(i);
  const row = element("div", leaf ? "row leaf" : "row inner");
  const depth = ancestors(i).length;
  const siblings = i === 0 ? [0] : children[nodes.parent[i]];
  row.id = `row-${i}`;
  row.dataset.node = String(i);
  row.setAttribute("role", "treeitem");
  row.setAttribute("aria-level", String(depth + 1));
  row.setAttribute("aria-setsize", String(siblings.length));
  row.setAttribute("aria-posinset", String(siblings.indexOf(i) + 1));
  row.setAttribute("aria-selected", String(i === view.selected));
  if (!leaf) row.setAttribute("aria-expanded", String(isOpen(i)));
  row.style.paddingLeft = `${Math.min(depth, 12) * 14}px`;
  if (tried.scores.has(i) || tried.weights.has(i)) row.classList.add("changed");
  row.append(element("span", "twisty", leaf ? "" : isOpen(i) ? "▾" : "▸"));
  if (leaf) {
    const { kind, icon, words } = outcome(i);
    const mark = element("span", `icon ${kind}`, icon);
    mark.title = words;
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", words);
    row.append(mark);
  }
  const what = element("span", "what", nodes.text[i]);
  what.title = nodes.text[i];
  row.append(what);
  for (const flag of leaf ? flagsOf(i) : []) row.append(badge(flag));
  row.append(bar(i));
  row.append(element("span", "number share", asShare(now.share[i])));
  row.append(element("span", "number score", leaf && scoreOf(i) === null ? "–" : asShort(i)));
  const points = element("span", "number points", (now.share[i] * now.lower[i]).toFixed(4));
  points.title = `adds ${(now.share[i] * now.lower[i]).toFixed(6)} to the root, lacks ${lost(i).toFixed(6)}`;
  row.append(points);
  return row;
}

function badge(flag) {
  const grave = flag === "suspected injection" || flag === "unverified quote";
  return element("span", `badge ${grave ? "bad" : flag.includes("agreement") ? "warn" : ""}`, flag);
}

// The share of the root against its siblings' largest, filled as far as it is earned.
function bar(i) {
  const cell = element("span", "bar-cell");
  const siblings = i === 0 ? [0] : children[nodes.parent[i]];
  const largest = Math.max(...siblings.map((s) => now.share[s]));
  const outer = element("div", "bar");
  const inner = element("i");
  outer.style.width = `${largest > 0 ? (100 * now.share[i]) / largest : 0}%`;
  inner.style.width = `${100 * now.lower[i]}%`;
  outer.append(inner);
  cell.append(outer);
  return cell;
}

function select(i, { scroll = true } = {}) {
  if (i < 0 || i >= count) return;
  const before = drawn.get(view.selected);
  if (before) before.setAttribute("aria-selected", "false");
  view.selected = i;
  if (!place.has(i)) {
    for (const above of ancestors(i)) setOpen(above, true);
    relist();
  }
  if (scroll) scrollTo(i);
  draw();
  const row = drawn.get(i);
  if (row) row.setAttribute("aria-selected", "true");
  showPanel(i);
  markIcicle();
  writeAddress();
}

function scrollTo(i) {
  const at = place.get(i);
  if (at === undefined) return;
  const height = rowHeight();
  const [top, bottom] = [at * height, (at + 1) * height];
  if (top < treeElement.scrollTop) treeElement.scrollTop = top;
  if (bottom > treeElement.scrollTop + treeElement.clientHeight) treeElement.scrollTop = bottom - treeElement.clientHeight;
}

function toggle(i) {
  if (isLeaf(i)) return;
  setOpen(i, !isOpen(i));
  relist();
}

// The next leaf in the rubric's order that lost something and fits the filters.
function nextLost(step) {
  for (let i = view.selected + step; i >= 0 && i < count; i += step) {
    if (isLeaf(i) && OUTCOMES.lost(i) && (!filtering() || matches(i))) return i;
  }
  return view.selected;
}

function onTreeKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const at = place.get(view.selected) ?? -1;
  const i = view.selected;
  const page = Math.max(1, Math.floor(treeElement.clientHeight / rowHeight()) - 1);
  const go = (to) => select(list[Math.max(0, Math.min(list.length - 1, to))] ?? -1);
  const keys = {
    ArrowDown: () => go(at + 1),
    ArrowUp: () => go(at < 0 ? 0 : at - 1),
    PageDown: () => go(at + page),
    PageUp: () => go(at - page),
    Home: () => go(0),
    End: () => go(list.length - 1),
    ArrowRight: () => {
      if (i < 0 || isLeaf(i)) return;
      if (isOpen(i)) go(at + 1); else { toggle(i); select(i); }
    },
    ArrowLeft: () => {
      if (i < 0) return;
      if (!isLeaf(i) && isOpen(i)) { toggle(i); select(i); } else if (nodes.parent[i] >= 0) select(nodes.parent[i]);
    },
    Enter: () => { if (i >= 0) document.getElementById("panel").focus(); },
    " ": () => { if (i >= 0) { toggle(i); select(i); } },
    n: () => select(nextLost(1)),
    p: () => select(nextLost(-1)),
  };
  const act = keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}
