// A served page of a run that goes on: scores and spend come as they are stored.
// Owns the stream of events. A file has none.

function listen() {
  if (!data.served) return;
  const stream = new EventSource(`${data.served.run}/events`);
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
  stream.addEventListener("end", () => stream.close());
}
