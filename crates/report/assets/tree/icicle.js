// The icicle: a row a level, a rectangle a node as wide as its share, coloured by its score.
// Owns the drawing. What is narrower than a pixel is left to its parent; a click goes closer.

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
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "Icicle of the rubric: a row a level, width by share of the root, colour by score. The tree below says the same in words.");
  for (const { i, x, width, level } of rectangles) {
    const rect = document.createElementNS(SVG, "rect");
    for (const [name, value] of Object.entries({ x, y: level * height, width, height })) rect.setAttribute(name, String(value));
    rect.setAttribute("fill", colour(i));
    rect.dataset.node = String(i);
    const title = document.createElementNS(SVG, "title");
    title.textContent = `${nodes.text[i]}\n${asSpan(i)}, ${asShare(now.share[i])} of the root, lacks ${lost(i).toFixed(4)}`;
    rect.append(title);
    svg.append(rect);
  }
  const legend = element("p", "legend");
  legend.append("red: lost · blue: earned · pale: not graded · a click selects, a double click goes closer");
  if (icicleRoot > 0) {
    const out = element("button", "", "Whole tree");
    out.type = "button";
    out.addEventListener("click", () => { icicleRoot = 0; drawIcicle(); });
    legend.append(" ", out);
  }
  icicleElement.replaceChildren(svg, legend);
  markIcicle();
}

function markIcicle() {
  for (const rect of icicleElement.querySelectorAll("rect.selected")) rect.classList.remove("selected");
  const own = icicleElement.querySelector(`rect[data-node="${view.selected}"]`);
  if (own) own.classList.add("selected");
}

const pointed = (event) => {
  const rect = event.target.closest("rect");
  return rect ? Number(rect.dataset.node) : -1;
};

icicleElement.addEventListener("click", (event) => { if (pointed(event) >= 0) select(pointed(event)); });
icicleElement.addEventListener("dblclick", (event) => {
  const i = pointed(event);
  if (i < 0 || isLeaf(i)) return;
  icicleRoot = i;
  drawIcicle();
});
