// The desk: one leaf at a time, keys for grades, every step written at once.
// Owns what is seen before a grade: the evidence, never the verdict, unless it is asked for; a label
// given after that is not blind, and says so.

const desk = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const base = `/runs/${desk.run}`;
const mine = new Map(); // The standing label of each position.
const history = []; // Positions in the order of labelling, for undo.
const seen = new Set(); // Positions whose verdict was shown.
const kind = desk.task === "adjudicate" ? "adjudication" : "label";
let here = 0;
let turn = 0;
let busy = false;

for (const label of desk.labels) apply(label);
const firstOpen = desk.queue.findIndex((leaf) => !mine.has(leaf.position));
here = firstOpen < 0 ? 0 : firstOpen;

function apply(label) {
  const stack = mine.get(label.position) ?? [];
  if (label.kind === "withdrawal") {
    stack.pop();
    if (stack.length === 0) mine.delete(label.position);
    const last = history.lastIndexOf(label.position);
    if (last >= 0) history.splice(last, 1);
  } else {
    mine.set(label.position, [...stack, label]);
    history.push(label.position);
  }
}

const own = (position) => mine.get(position)?.findLast((label) => label.kind === kind);
const words = (score) => (score === null ? "abstained" : score >= 1 ? "fulfilled" : score <= 0 ? "not fulfilled" : `${score}`);

function part(tag, text, className) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function inert(html) {
  return [...new DOMParser().parseFromString(html, "text/html").body.childNodes].map((node) => document.importNode(node, true));
}

async function show() {
  turn += 1;
  const leaf = desk.queue[here];
  const done = desk.queue.filter((one) => own(one.position)).length;
  at("count").textContent = `Leaf ${here + 1} of ${desk.queue.length}; ${done} done`;
  at("groups").replaceChildren(...leaf.groups.map((group) => part("li", group)));
  at("criterion").textContent = leaf.text;
  const number = leaf.leaf === null ? "group" : `#${leaf.leaf}`;
  at("facts").textContent = `${number} · ${leaf.category} · ${(100 * leaf.share).toFixed(2)}% of the root`;
  at("given").replaceChildren(...leaf.given.map((label) => part("p", `${label.author}: ${words(label.score)}${label.note ? `. ${label.note}` : ""}`)));
  const label = own(leaf.position);
  at("note").value = label?.note ?? "";
  at("said").textContent = label ? `Yours: ${words(label.score)}${label.blind ? "" : ", in sight of the judge"}` : "Not labelled by you yet";
  for (const [id, score] of [["yes", 1], ["no", 0], ["abstain", null]]) at(id).setAttribute("aria-pressed", String(label !== undefined && label.score === score));
  at("undo").disabled = history.length === 0;
  at("judge").replaceChildren();
  await fill("evidence", `${base}/leaves/${leaf.position}/evidence`);
  at("evidence").querySelector("details")?.setAttribute("open", "");
}

async function fill(id, address) {
  const asked = turn;
  at(id).replaceChildren(part("p", "…", "muted"));
  try {
    const answer = await fetch(address);
    const text = await answer.text();
    if (asked !== turn) return;
    at(id).replaceChildren(...(answer.ok ? inert(text) : [part("p", text, "banner bad")]));
  } catch (error) {
    if (asked === turn) at(id).replaceChildren(part("p", `The server does not answer: ${error.message}`, "banner bad"));
  }
}

async function write(label) {
  if (busy) return false;
  busy = true;
  try {
    const answer = await fetch(`${base}/labels`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ author: desk.author, note: "", score: null, blind: !seen.has(label.position), ...label }),
    });
    if (!answer.ok) throw new Error(await answer.text());
    apply(await answer.json());
    return true;
  } catch (error) {
    at("said").textContent = `Not recorded: ${error.message}`;
    return false;
  } finally {
    busy = false;
  }
}

async function grade(score) {
  const { position } = desk.queue[here];
  if (!(await write({ position, kind, score, note: at("note").value }))) return;
  const next = desk.queue.findIndex((leaf, i) => i > here && !own(leaf.position));
  if (next >= 0) here = next;
  show();
}

async function undo() {
  const position = history.at(-1);
  if (position === undefined || !(await write({ position, kind: "withdrawal" }))) return;
  const index = desk.queue.findIndex((leaf) => leaf.position === position);
  if (index >= 0) here = index;
  show();
}

function move(step) {
  here = Math.max(0, Math.min(desk.queue.length - 1, here + step));
  show();
}

function reveal() {
  const { position } = desk.queue[here];
  seen.add(position);
  at("said").textContent = "The judge is shown: a label given now is not blind";
  fill("judge", `${base}/leaves/${position}`);
}

const ACTS = {
  y: ["yes", () => grade(1)], n: ["no", () => grade(0)], a: ["abstain", () => grade(null)], u: ["undo", undo],
  j: ["next", () => move(1)], k: ["previous", () => move(-1)], v: ["reveal", reveal],
};
if (desk.author !== "" && desk.queue.length > 0) {
  at("desk").hidden = false;
  for (const [id, act] of Object.values(ACTS)) at(id).addEventListener("click", act);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target.closest("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const act = ACTS[event.key];
    if (!act) return;
    event.preventDefault();
    act[1]();
  });
  show();
}
