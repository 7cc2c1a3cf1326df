// The disagreements of an audit: sorted by a click on a head, filtered, a page at a time. Sort and
// filters stand in the address, so that a view can be sent to somebody else.

const all = JSON.parse(document.getElementById("data").textContent);
const PAGE = 100;
const host = document.getElementById("disagreements");
const filters = document.getElementById("filters");
const KEYS = ["paper", "category", "direction", "doubt", "q", "sort", "page"];
const moved = (one) => one.weight * Math.abs(one.judge - one.human);
const columns = [
  ["moves", "moves", moved],
  ["submission", "submission", (one) => one.submission],
  ["leaf", "leaf", (one) => one.index],
  ["category", "category", (one) => one.category],
  ["human", "human", (one) => one.human],
  ["judge", "judge", (one) => one.judge],
  ["confidence", "confidence", (one) => one.confidence ?? -1],
];

const element = (name, text, attributes = {}) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};
const grade = (score) => (score === 1 ? "pass" : score === 0 ? "fail" : String(score));

function state() {
  const given = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(KEYS.map((key) => [key, given.get(key) ?? ""]));
}

function go(changes) {
  const next = { ...state(), page: "", ...changes };
  const kept = Object.entries(next).filter(([, value]) => value !== "");
  location.hash = new URLSearchParams(kept).toString();
  if (kept.length === 0) show();
}

function select(key, label, values) {
  const box = element("select", undefined, { name: key });
  box.append(new Option("all", ""), ...values.map((value) => new Option(value, value)));
  box.addEventListener("change", () => go({ [key]: box.value }));
  const wrap = element("label", label);
  wrap.append(box);
  filters.append(wrap);
}

const distinct = (of) => [...new Set(all.map(of))].sort();
select("paper", "paper", distinct((one) => one.paper));
select("category", "category", distinct((one) => one.category));
select("direction", "direction", ["judge too kind", "judge too strict"]);
select("doubt", "label", ["may be wrong"]);
const search = element("input", undefined, { type: "search", name: "q" });
search.addEventListener("change", () => go({ q: search.value }));
const searchLabel = element("label", "text");
searchLabel.append(search);
filters.append(searchLabel);
filters.hidden = false;

function matching({ paper, category, direction, doubt, q }) {
  const wanted = q.toLowerCase();
  const texts = (one) =>
    [one.id, one.submission, one.requirements, one.human_explanation, one.judge_explanation].join("\n");
  return all.filter(
    (one) =>
      (!paper || one.paper === paper) &&
      (!category || one.category === category) &&
      (!direction || one.judge > one.human === (direction === "judge too kind")) &&
      (!doubt || one.label_may_be_wrong.length > 0) &&
      (!wanted || texts(one).toLowerCase().includes(wanted)),
  );
}

function sorted(list, sort) {
  const [name, turned] = [sort.replace(/^-/, ""), sort.startsWith("-")];
  const column = columns.find(([key]) => key === name);
  if (!column) return list;
  const key = column[2];
  const order = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
  return [...list].sort((a, b) => (turned ? -1 : 1) * order(key(a), key(b)));
}

function row(one) {
  const made = element("tr");
  const cells = [
    [moved(one).toFixed(4), "number"],
    [one.submission],
    [`#${one.index} ${one.id}`],
    [one.category],
    [grade(one.human)],
    [grade(one.judge)],
    [one.confidence === null ? "–" : one.confidence.toFixed(2), "number"],
  ];
  made.append(...cells.map(([text, kind]) => element("td", text, kind ? { class: kind } : {})));
  const why = element("td");
  const details = element("details");
  details.append(element("summary", one.label_may_be_wrong.length ? "label may be wrong" : "why"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    if (one.requirements) details.append(element("p", one.requirements));
    for (const doubt of one.label_may_be_wrong) details.append(element("span", doubt, { class: "badge warn" }));
    const both = element("div", undefined, { class: "audit-both" });
    for (const [who, said] of [["human", one.human_explanation], ["judge", one.judge_explanation]]) {
      const side = element("div");
      side.append(element("h3", `${who}: ${grade(one[who])}`), element("pre", said || "nothing said"));
      both.append(side);
    }
    details.append(both);
  });
  why.append(details);
  made.append(why);
  return made;
}

function head(sort) {
  const line = element("tr");
  for (const [key, label] of columns) {
    const cell = element("th", undefined, { scope: "col" });
    const button = element("button", label, { type: "button" });
    const first = key === "moves" || key === "confidence" ? `-${key}` : key;
    const other = first.startsWith("-") ? key : `-${key}`;
    button.addEventListener("click", () => go({ sort: sort === first ? other : first }));
    if (sort === key) cell.setAttribute("aria-sort", "ascending");
    if (sort === `-${key}`) cell.setAttribute("aria-sort", "descending");
    cell.append(button);
    line.append(cell);
  }
  line.append(element("th", "both explanations", { scope: "col" }));
  const made = element("thead");
  made.append(line);
  return made;
}

function show() {
  const now = state();
  for (const box of filters.querySelectorAll("select, input")) box.value = now[box.name];
  const sort = now.sort || "-moves";
  const found = sorted(matching(now), sort);
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const page = Math.min(Math.max(1, Number.parseInt(now.page, 10) || 1), pages);
  const table = element("table", undefined, { class: "audit-table" });
  const body = element("tbody");
  body.append(...found.slice((page - 1) * PAGE, page * PAGE).map(row));
  table.append(head(sort), body);
  const scroll = element("div", undefined, { class: "table" });
  scroll.append(table);
  const steps = element("div", undefined, { class: "audit-pages" });
  const step = (label, to) => {
    const button = element("button", label, { type: "button" });
    button.disabled = to < 1 || to > pages;
    button.addEventListener("click", () => go({ page: String(to) }));
    return button;
  };
  steps.append(step("previous", page - 1), element("span", `page ${page} of ${pages}`), step("next", page + 1));
  const count = element("p", `${found.length} of ${all.length} disagreements`, { class: "muted", role: "status" });
  host.replaceChildren(count, scroll, steps);
}

addEventListener("hashchange", show);
show();
