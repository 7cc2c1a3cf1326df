// A served page of a run that goes on: scores and spend come as they are stored.
// Owns the stream of events. A file has none.

function listen() {
  if (!data.served) return;
  const stream = new EventSource(`${data.served.run}/events`);
  let looks = 0;
  stream.addEventListener("leaves", (event) => {
    const { position, score, reason } = JSON.parse(event.data);
    const index = new Map(nodes.position.map((at, i) => [at, i]));
    let panelIsOld = false;
    position.forEach((at, k) => {
      const i = index.get(at);
      if (i === undefined) return;
      panelIsOld ||= i === view.selected && nodes.score[i] !== score[k];
      nodes.score[i] = score[k];
      nodes.reason[i] = reason[k] === null ? -1 : data.vocabulary.reasons.indexOf(reason[k]);
    });
    regrade();
    relist();
    drawIcicle();
    if (panelIsOld) showPanel(view.selected);
  });
  stream.addEventListener("header", (event) => {
    const said = JSON.parse(event.data);
    looks += 1;
    document.getElementById("root-score").textContent = said.root;
    document.getElementById("root-interval").textContent = said.interval;
    document.getElementById("root-coverage").textContent = said.coverage;
    const cost = document.getElementById("cost");
    if (cost) cost.textContent = said.cost;
    const rows = said.outcomes.map(([name, number]) => {
      const row = element("tr");
      const head = element("th", "", name);
      head.scope = "row";
      row.append(head, element("td", "number", number.toLocaleString("en")));
      return row;
    });
    document.getElementById("outcomes").replaceChildren(...rows);
  });
  stream.addEventListener("end", () => {
    stream.close();
    // Who has seen the run go on has what stood above the tree when it did: banners, what humans would
    // score, the bill.
    if (looks > 1) renewHeader();
  });
}

// What stands above the tree, as the server writes it now; the tree and what is tried in it stay.
async function renewHeader() {
  const answer = await fetch(location.pathname);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const header = page.querySelector("header.page-header");
  if (header) document.querySelector("header.page-header").replaceChildren(...header.childNodes);
}
