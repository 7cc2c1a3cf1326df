// Tables with class "sortable": a click on a column's head sorts by it, another one turns it round.
// A cell's data-sort stands for its text; numbers sort as numbers, what is no number comes last.

for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);

function makeSortable(table) {
  const body = table.tBodies[0];
  if (!table.tHead || !body) return;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (head.textContent.trim() === "") return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const key = (row) => {
        const cell = row.cells[column];
        return cell ? cell.dataset.sort ?? cell.textContent.trim() : "";
      };
      const rows = [...body.rows].map((row) => ({ row, key: key(row) }));
      rows.sort((a, b) => compareCells(a.key, b.key, descending));
      body.append(...rows.map(({ row }) => row));
    });
  });
}

function compareCells(a, b, descending) {
  const [x, y] = [a, b].map((text) => (text === "" ? NaN : Number(text.replace(/[,$%]/g, ""))));
  if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
  const order = Number.isNaN(x) ? a.localeCompare(b) : x - y;
  return descending ? -order : order;
}
