// The list of runs, live: numbers change where they stand; a run that is new makes the page anew.

const stream = new EventSource("/events");
const live = document.getElementById("live");
stream.addEventListener("open", () => { live.textContent = "Live from the store."; });
stream.addEventListener("error", () => { live.textContent = "The server does not answer; what stands here may be old."; });
stream.addEventListener("runs", (event) => {
  for (const run of JSON.parse(event.data)) {
    const row = document.getElementById(`run-${run.run}`);
    if (!row) { location.reload(); return; }
    const cell = (name) => row.querySelector(`[data-cell="${name}"]`);
    cell("state").textContent = run.state;
    const bar = cell("progress");
    bar.dataset.sort = String(run.done);
    bar.querySelector("progress").value = run.done;
    bar.querySelector("span").textContent = run.done.toLocaleString("en");
    cell("ungraded").textContent = run.ungraded.toLocaleString("en");
    cell("calls").textContent = run.calls.toLocaleString("en");
    cell("cost").textContent = run.cost_usd === null ? "–" : `$${run.cost_usd.toFixed(4)}`;
  }
});
