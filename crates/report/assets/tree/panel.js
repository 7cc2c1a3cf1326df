// The panel of the selected node: where it stands, what was said of it, and what could be tried.
// Owns the panel and what-if. The words come as HTML in which every text of others is escaped; they
// are parsed in a document without scripts, and the page's policy lets none of them run.

const panel = document.getElementById("panel");
let asked = 0;

function parsed(html) {
  const made = new DOMParser().parseFromString(html, "text/html");
  return [...made.body.childNodes].map((node) => document.importNode(node, true));
}

function showPanel(i) {
  asked += 1;
  panel.replaceChildren(crumbs(i), heading(i), verdict(i));
  const body = element("div", "body");
  panel.append(body);
  if (isLeaf(i)) showBody(i, body, asked);
  else body.append(largestLosses(i));
  panel.append(tryOut(i));
  panel.scrollTop = 0;
}

function crumbs(i) {
  const nav = element("nav");
  nav.setAttribute("aria-label", "Groups above");
  const path = element("ol", "crumbs");
  for (const above of ancestors(i)) {
    const step = element("li");
    const button = element("button", "", nodes.text[above]);
    button.type = "button";
    button.addEventListener("click", () => select(above));
    step.append(button, ` ${asShare(now.share[above])}`);
    path.append(step);
  }
  nav.append(path);
  return nav;
}

function heading(i) {
  const made = element("div");
  const leaf = nodes.leaf[i];
  const category = data.vocabulary.categories[nodes.category[i]] ?? "Group";
  const head = element("h2", "", leaf >= 0 ? `Leaf #${leaf}` : category === "Subtree" ? "Subtree" : "Group");
  const facts = element("p", "muted");
  facts.append(`${category} · weight ${weightOf(i)} · ${asShare(now.share[i])} of the root · id `, element("span", "mono", nodes.id[i]));
  made.append(head, element("p", "criterion", nodes.text[i]), facts);
  return made;
}

function verdict(i) {
  const made = element("div", "verdict");
  if (isLeaf(i)) {
    const { kind, icon, words } = outcome(i);
    made.append(element("span", `icon ${kind}`, icon), element("span", "value", words));
    if (tried.scores.has(i)) made.append(element("span", "badge warn", "tried out, not the judge's"));
    for (const flag of flagsOf(i)) made.append(badge(flag));
  } else {
    made.append(element("span", "value", asSpan(i)));
    made.append(element("span", "muted", `${now.leaves[i].toLocaleString("en")} leaves, ${asShare(now.coverage[i])} of the weight graded`));
  }
  made.append(element("span", "muted", `adds ${(now.share[i] * now.lower[i]).toFixed(4)} to the root, lacks ${lost(i).toFixed(4)}`));
  return made;
}

async function showBody(i, body, turn) {
  if (!data.served) {
    body.append(...parsed(outlined("leaf", i)));
    connectExhibits(body);
    return;
  }
  body.append(element("p", "muted", "…"));
  let html = "";
  try {
    const answer = await fetch(`${data.served.run}/leaves/${nodes.position[i]}`, { headers: { accept: "text/html" } });
    html = await answer.text();
    if (!answer.ok) throw new Error(html);
  } catch (error) {
    if (turn === asked) body.replaceChildren(element("p", "banner bad", `The leaf cannot be read: ${error.message}`));
    return;
  }
  if (turn !== asked) return;
  body.replaceChildren(...parsed(html));
}

// What the judge was shown stands once on the page; it is put where it is asked for.
function connectExhibits(body) {
  for (const link of body.querySelectorAll("a[data-exhibit]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      link.parentElement.replaceWith(...parsed(outlined("exhibit", link.dataset.exhibit)));
    });
  }
}

function largestLosses(i) {
  const leaves = [];
  for (let at = i + 1; at < count && nodes.parent[at] >= i; at += 1) if (isLeaf(at) && lost(at) > 0) leaves.push(at);
  leaves.sort((a, b) => lost(b) - lost(a));
  const made = element("div");
  if (leaves.length === 0) return made;
  made.append(element("h3", "", "Where it is lost"));
  const table = element("table");
  for (const leaf of leaves.slice(0, 10)) {
    const row = table.insertRow();
    row.insertCell().append(element("span", `icon ${outcome(leaf).kind}`, outcome(leaf).icon));
    const cell = row.insertCell();
    const link = element("a", "", nodes.text[leaf]);
    link.href = `#leaf=${nodes.leaf[leaf]}`;
    link.addEventListener("click", (event) => { event.preventDefault(); select(leaf); });
    cell.append(link);
    const points = row.insertCell();
    points.className = "number";
    points.textContent = `−${lost(leaf).toFixed(4)}`;
  }
  made.append(table);
  if (leaves.length > 10) made.append(element("p", "muted", `and ${(leaves.length - 10).toLocaleString("en")} more`));
  return made;
}

// What if: a verdict turned round or a weight changed; nothing is saved.
function tryOut(i) {
  const made = element("div", "try");
  made.append(element("b", "", "What if"));
  if (isLeaf(i)) {
    const score = scoreOf(i);
    const flip = element("button", "", score !== null && score >= 1 ? "it failed" : "it passed");
    flip.type = "button";
    flip.id = "flip";
    flip.addEventListener("click", () => attempt(tried.scores, i, score !== null && score >= 1 ? 0 : 1, nodes.score[i]));
    made.append(flip);
  }
  if (i > 0) {
    const label = element("label", "", "its weight were ");
    const weight = element("input");
    weight.type = "number";
    weight.min = "0";
    weight.step = "any";
    weight.value = String(weightOf(i));
    weight.addEventListener("change", () => {
      const value = Number(weight.value);
      if (weight.value !== "" && Number.isFinite(value) && value >= 0) attempt(tried.weights, i, value, nodes.weight[i]);
    });
    label.append(weight);
    made.append(label);
  }
  return made;
}

function attempt(map, i, value, original) {
  if (value === original) map.delete(i); else map.set(i, value);
  retried();
}

function retried() {
  recompute();
  const changes = tried.scores.size + tried.weights.size;
  const banner = document.getElementById("whatif");
  banner.hidden = changes === 0;
  const span = (made) => (made.missing[0] > 0 ? `${asScore(made.lower[0])}–${asScore(made.upper[0])}` : asScore(made.lower[0]));
  const step = now.lower[0] - graded.lower[0];
  document.getElementById("whatif-text").textContent =
    `What if: the root would be ${span(now)} instead of ${span(graded)} (${step >= 0 ? "+" : "−"}${Math.abs(step).toFixed(4)}), ` +
    `${changes} ${changes === 1 ? "change" : "changes"}. Nothing is saved.`;
  relist();
  drawIcicle();
  if (view.selected >= 0) showPanel(view.selected);
}
