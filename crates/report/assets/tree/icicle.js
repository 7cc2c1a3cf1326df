// The icicle: a row a level, a rectangle a node as wide as its share, coloured by its score.
// Owns the drawing and its keys. What is narrower than a pixel is left to its parent; a double click or
// Enter goes closer.

const icicleElement = document.getElementById("icicle");
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 1000;
let icicleRoot = 0;

// From bad to good through grey; missing weight is left pale. Told in words by title and panel.
function colour(i) {
  if (now.missing[i] === now.leaves[i]) return "hsl(45 30% 75%)";
  const score = now.lower[i];
  return `hsl(${score < 0.5 ? 5 : 205} ${Math.round(20 + 90 * Math.abs(score - 0.5))}% ${Math.round(62 - 12 * Math.abs(score - 0.5) * 2)}%)`;
}

function drawIcicle() {
  icicleElement.hidden = !view.icicle;
  if (!view.icicle) return;
  const rectangles = [];
  let deepest = 0;
  const visit = (i, x, width, level) => {
    rectangles.push({ i, x, width, level });
    deepest = Math.max(deepest, level);
    let left = x;
    for (const child of children[i]) {
      const wide = now.share[i] > 0 ? (width * now.share[child]) / now.share[i] : 0;
      if (wide >= 1) visit(child, left, wide, level + 1);
      left += wide;
    }
  };
  visit(icicleRoot, 0, WIDTH, 0);
  const svg = document.createElementNS(SVG, "svg");
  const height = 26;
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${(deepest + 1) * height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "tree");
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("aria-label", "Icicle of the rubric: a row a level, width by share of the root, colour by score. The tree below says the same in words.");
  for (const { i, x, width, level } of rectangles) {
    const rect = document.createElementNS(SVG, "rect");
    for (const [name, value] of Object.entries({ x, y: level * height, width, height })) rect.setAttribute(name, String(value));
    rect.setAttribute("fill", colour(i));
    rect.dataset.node = String(i);
    rect.id = `icicle-${i}`;
    const title = document.createElementNS(SVG, "title");
    title.textContent = `${nodes.text[i]}\n${asSpan(i)}, ${asShare(now.share[i])} of the root, lacks ${lost(i).toFixed(4)}`;
    rect.setAttribute("role", "treeitem");
    rect.setAttribute("aria-level", String(level + 1));
    rect.setAttribute("aria-label", title.textContent);
    rect.append(title);
    svg.append(rect);
  }
  const legend = element("p", "legend");
  legend.append("red: lost · blue: earned · pale: not graded · a click or the arrow keys select, a double click or Enter goes closer");
  if (icicleRoot > 0) {
    const out = element("button", "", "Whole tree");
    out.type = "button";
    out.addEventListener("click", () => goCloser(0));
    legend.append(" ", out);
  }
  icicleElement.replaceChildren(svg, legend);
  markIcicle();
}

function markIcicle() {
  for (const rect of icicleElement.querySelectorAll("rect.selected")) rect.classList.remove("selected");
  for (const rect of icicleElement.querySelectorAll("rect[aria-selected]")) rect.removeAttribute("aria-selected");
  const own = drawnAt(view.selected);
  if (!own) return;
  own.classList.add("selected");
  own.setAttribute("aria-selected", "true");
  own.parentNode.setAttribute("aria-activedescendant", own.id);
}

const drawnAt = (i) => icicleElement.querySelector(`rect[data-node="${i}"]`);

// Draws the part of the tree below a node, and keeps the keys in it.
function goCloser(i) {
  icicleRoot = i;
  drawIcicle();
  icicleElement.querySelector("svg").focus();
}

// The rectangle that a key leads to from the selected one, as a node's index; -1 where there is none.
function keyed(key) {
  const i = view.selected;
  if (!drawnAt(i)) return icicleRoot;
  if (key === "ArrowUp") return i === icicleRoot ? -1 : nodes.parent[i];
  const beside = key === "ArrowDown" ? children[i] : i === icicleRoot ? [] : children[nodes.parent[i]];
  const shown = beside.filter(drawnAt);
  if (key === "ArrowDown") return shown[0] ?? -1;
  return shown[shown.indexOf(i) + (key === "ArrowRight" ? 1 : -1)] ?? -1;
}

icicleElement.addEventListener("keydown", (event) => {
  if (event.target.closest("button")) return;
  if (event.key.startsWith("Arrow")) {
    const i = keyed(event.key);
    if (i >= 0) select(i);
  } else if (event.key === "Enter" && drawnAt(view.selected) && !isLeaf(view.selected)) {
    goCloser(view.selected);
  } else if (event.key === "Escape" && icicleRoot > 0) {
    goCloser(0);
  } else {
    return;
  }
  event.preventDefault();
});

const pointed = (event) => {
  const rect = event.target.closest("rect");
  return rect ? Number(rect.dataset.node) : -1;
};

icicleElement.addEventListener("click", (event) => { if (pointed(event) >= 0) select(pointed(event)); });
icicleElement.addEventListener("dblclick", (event) => {
  const i = pointed(event);
  if (i >= 0 && !isLeaf(i)) goCloser(i);
});
