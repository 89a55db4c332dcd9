"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const body = document.querySelector("#scans tbody");
  const rows = [...body.rows];
  document.documentElement.classList.add("js");

  function filter() {
    const words = $("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [status, light, strange] = [$("status").value, $("light").value, $("strange").checked];
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(
        words.every((word) => text.includes(word)) && (!status || row.dataset.status === status) &&
        (!light || row.dataset.light === light) && (!strange || "outlier" in row.dataset)
      );
      count += !row.hidden;
    }
    $("shown").textContent = `${count} of ${rows.length} scans`;
  }
  for (const id of ["words", "status", "light", "strange"]) $(id).addEventListener("input", filter);

  const collator = new Intl.Collator("en", { numeric: true });
  const lights = { green: 0, amber: 1, red: 2 };
  const keys = {
    name: (row) => row.dataset.name, status: (row) => row.dataset.status, light: (row) => lights[row.dataset.light] ?? 3,
    findings: (row) => Number(row.dataset.findings || -1), volume: (row) => Number(row.dataset.volume || -1),
  };
  for (const button of document.querySelectorAll("button[data-sort]"))
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const first = ["name", "status"].includes(button.dataset.sort) ? "ascending" : "descending"; // the worst on top
      const was = head.getAttribute("aria-sort");
      const order = !was ? first : was === "ascending" ? "descending" : "ascending";
      for (const other of document.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const key = keys[button.dataset.sort];
      const sign = order === "ascending" ? 1 : -1;
      const compare = (a, b) => (typeof a === "number" ? a - b : collator.compare(a, b));
      body.append(...rows.sort((a, b) => sign * compare(key(a), key(b)) || collator.compare(a.dataset.name, b.dataset.name)));
    });
  filter();
})();
