// The tree: children, shares of the root, scores with bounds; and what a reader tries out on it.
// Owns the numbers. Knows no element of the page but the one that holds the data.

const data = JSON.parse(document.getElementById("data").textContent);
const nodes = data.nodes;
const count = nodes.parent.length;
const children = Array.from({ length: count }, () => []);
for (let i = 1; i < count; i += 1) children[nodes.parent[i]].push(i);

const isLeaf = (i) => nodes.category[i] >= 0;

// What is tried out and never saved: scores of leaves and weights of nodes, by index.
const tried = { scores: new Map(), weights: new Map() };

const scoreOf = (i) => (tried.scores.has(i) ? tried.scores.get(i) : nodes.score[i]);
const weightOf = (i) => (tried.weights.has(i) ? tried.weights.get(i) : nodes.weight[i]);

// Scores as the core computes them (weighted mean bottom up, missing leaves between 0 and 1; a
// group whose weights sum to 0 counts 0), and each node's share of the root.
function compute(score, weight) {
  const made = {
    lower: new Float64Array(count), upper: new Float64Array(count), coverage: new Float64Array(count),
    share: new Float64Array(count), missing: new Int32Array(count), leaves: new Int32Array(count),
  };
  const total = new Float64Array(count);
  for (let i = count - 1; i >= 0; i -= 1) {
    if (isLeaf(i)) {
      const own = score(i);
      made.lower[i] = own ?? 0;
      made.upper[i] = own ?? 1;
      made.coverage[i] = own === null ? 0 : 1;
      made.missing[i] = own === null ? 1 : 0;
      made.leaves[i] = 1;
    } else if (total[i] > 0) {
      made.lower[i] /= total[i];
      made.upper[i] /= total[i];
      made.coverage[i] = made.missing[i] === 0 ? 1 : made.coverage[i] / total[i];
    } else {
      made.lower[i] = made.upper[i] = 0;
      made.coverage[i] = 1;
    }
    const parent = nodes.parent[i];
    if (parent < 0) continue;
    const w = weight(i);
    total[parent] += w;
    made.lower[parent] += w * made.lower[i];
    made.upper[parent] += w * made.upper[i];
    made.coverage[parent] += w * made.coverage[i];
    made.missing[parent] += made.missing[i];
    made.leaves[parent] += made.leaves[i];
  }
  made.share[0] = 1;
  for (let i = 1; i < count; i += 1) {
    const parent = nodes.parent[i];
    made.share[i] = total[parent] > 0 ? (made.share[parent] * weight(i)) / total[parent] : 0;
  }
  return made;
}

let graded = compute((i) => nodes.score[i], (i) => nodes.weight[i]);
let now = graded;

// What the root lacks because of this node.
const lost = (i) => now.share[i] * (1 - now.lower[i]);

function recompute() {
  const trying = tried.scores.size + tried.weights.size > 0;
  now = trying ? compute(scoreOf, weightOf) : graded;
}

// New scores of leaves, as a run goes on.
function regrade() {
  graded = compute((i) => nodes.score[i], (i) => nodes.weight[i]);
  recompute();
}

function ancestors(i) {
  const path = [];
  for (let p = nodes.parent[i]; p >= 0; p = nodes.parent[p]) path.unshift(p);
  return path;
}

// From the root down, always into the child that lost most.
function worstPath() {
  const path = [0];
  for (let at = 0; children[at].length > 0; ) {
    at = children[at].reduce((worst, child) => (lost(child) > lost(worst) ? child : worst));
    if (lost(at) <= 0) break;
    path.push(at);
  }
  return path;
}

const OUTCOMES = {
  passed: (i) => scoreOf(i) >= 1,
  failed: (i) => scoreOf(i) !== null && scoreOf(i) <= 0,
  part: (i) => scoreOf(i) > 0 && scoreOf(i) < 1,
  lost: (i) => scoreOf(i) === null || scoreOf(i) < 1,
  missing: (i) => scoreOf(i) === null,
};

function outcome(i) {
  const score = scoreOf(i);
  if (score === null) {
    const reason = data.vocabulary.reasons[nodes.reason[i]] ?? "no score";
    return { kind: "none", icon: "○", words: `not graded: ${reason.replaceAll("_", " ")}` };
  }
  if (score >= 1) return { kind: "pass", icon: "✓", words: "passed" };
  if (score <= 0) return { kind: "fail", icon: "✗", words: "failed" };
  return { kind: "part", icon: "◐", words: `in part, ${score.toFixed(4)}` };
}

const flagsOf = (i) => data.vocabulary.flags.filter((_, bit) => (nodes.flags[i] >> bit) & 1);

// Numbers as the rest of the page has them: only all of it is 100.0%.
const asScore = (value) => value.toFixed(4);
const asShare = (value) => `${Math.min(value * 100, value < 1 ? 99.9 : 100).toFixed(1)}%`;
// As wide as a column: bounds have two places.
const asShort = (i) => (now.missing[i] > 0 ? `${now.lower[i].toFixed(2)}–${now.upper[i].toFixed(2)}` : asScore(now.lower[i]));
const asSpan = (i) => (now.missing[i] > 0 ? `${asScore(now.lower[i])}–${asScore(now.upper[i])}` : asScore(now.lower[i]));
