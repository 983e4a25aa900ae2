// Tables sort by the column whose heading is pressed: numbers the largest first, names from A on; then the other way
// round; then as they were. What has no number stays at the end.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], given = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    const key = row => row.cells[column].dataset.key ?? row.cells[column].textContent.trim();
    const numbers = given.some(row => key(row) !== "" && !isNaN(key(row)));
    const orders = numbers ? ["descending", "ascending"] : ["ascending", "descending"];
    const order = orders[orders.indexOf(heading.getAttribute("aria-sort")) + 1];
    headings.forEach(h => h.removeAttribute("aria-sort"));
    let rows = given;
    if (order) {
      heading.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1, empty = row => numbers && (key(row) === "" || isNaN(key(row)));
      const compare = (a, b) => numbers ? key(a) - key(b) : key(a).localeCompare(key(b), "en", {numeric: true});
      rows = [...given].sort((a, b) => empty(a) - empty(b) || (empty(a) ? 0 : sign * compare(a, b)));
    }
    body.append(...rows);
  }));
}
// What is wider than the page can be scrolled by keyboard, too.
for (const card of document.querySelectorAll("section.card")) if (card.scrollWidth > card.clientWidth) card.tabIndex = 0;
