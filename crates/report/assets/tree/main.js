// The page's parts put together: controls, events, the first drawing.

function control(id, name, options) {
  const made = document.getElementById(id);
  if (options) made.replaceChildren(...options.map(([value, text]) => { const o = element("option", "", text); o.value = value; return o; }));
  made.value = view[name];
  made.addEventListener(made.type === "search" ? "input" : "change", () => {
    view[name] = made.value;
    closed.clear();
    if (view.query !== "") fillHaystack(() => false);
    treeElement.scrollTop = 0;
    relist();
    writeAddress();
  });
  return made;
}

function haystackFilled() { if (view.query !== "") relist(); }

function pressed(id, on) { document.getElementById(id).setAttribute("aria-pressed", String(on)); }

readAddress();
document.getElementById("app").hidden = false;
if (view.query !== "") fillHaystack(() => false);
const search = control("search", "query");
control("filter-outcome", "outcome", [["", "Every outcome"], ["lost", "lost something"], ["failed", "failed"], ["part", "in part"], ["missing", "not graded"], ["passed", "passed"]]);
control("filter-category", "category", [["", "Every category"], ...data.vocabulary.categories.filter((_, c) => nodes.category.includes(c)).map((name) => [name, name])]);
control("filter-flag", "flag", [["", "Every badge"], ...data.vocabulary.flags.map((name) => [name, name])]);
control("order", "order");

document.getElementById("collapse").addEventListener("click", () => {
  view.open = new Set([0]);
  for (let i = 0; i < count; i += 1) if (!isLeaf(i) && i > 0) closed.add(i);
  treeElement.scrollTop = 0;
  relist();
});
document.getElementById("expand").addEventListener("click", () => {
  for (let i = 0; i < count; i += 1) if (!isLeaf(i)) view.open.add(i);
  closed.clear();
  relist();
});
document.getElementById("icicle-toggle").addEventListener("click", () => {
  view.icicle = !view.icicle;
  pressed("icicle-toggle", view.icicle);
  drawIcicle();
  writeAddress();
});
document.getElementById("keys-toggle").addEventListener("click", () => {
  const keys = document.getElementById("keys");
  keys.hidden = !keys.hidden;
  pressed("keys-toggle", !keys.hidden);
});
document.getElementById("whatif-undo").addEventListener("click", () => {
  tried.scores.clear();
  tried.weights.clear();
  retried();
});

treeElement.addEventListener("scroll", draw, { passive: true });
treeElement.addEventListener("keydown", onTreeKey);
treeElement.addEventListener("click", (event) => {
  const row = event.target.closest(".row");
  if (!row) return;
  const node = Number(row.dataset.node);
  if (!isLeaf(node) && (event.target.closest(".twisty") || view.selected === node)) toggle(node);
  select(node, { scroll: false });
  if (window.matchMedia("(max-width: 60rem)").matches && isLeaf(node)) panel.scrollIntoView({ block: "nearest" });
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    search.focus();
  } else if (event.key === "Escape" && event.target === search) {
    search.value = "";
    search.dispatchEvent(new Event("input"));
    treeElement.focus();
  } else if ((event.key === "n" || event.key === "p") && !typing && event.target !== treeElement) {
    onTreeKey(event);
  }
});
window.addEventListener("hashchange", () => {
  readAddress();
  search.value = view.query;
  for (const [id, name] of [["filter-outcome", "outcome"], ["filter-category", "category"], ["filter-flag", "flag"], ["order", "order"]]) document.getElementById(id).value = view[name];
  start();
});
new ResizeObserver(() => draw()).observe(treeElement);

function start() {
  pressed("icicle-toggle", view.icicle);
  relist();
  drawIcicle();
  if (view.selected >= 0) select(view.selected);
  else panel.replaceChildren(element("p", "muted", "Nothing is selected. The way to the largest loss is open."), largestLosses(0));
}

start();
fillIdly();
listen();
