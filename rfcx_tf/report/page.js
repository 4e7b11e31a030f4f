// Tables that can be sorted and filtered, and one player at a time. The page can be read without.
"use strict";

function sortRows(table, column, descending) {
  const value = (row) => row.cells[column].dataset.sort;
  const rows = [...table.tBodies[0].rows];
  const numbers = rows.every((row) => value(row) === "" || !Number.isNaN(Number(value(row))));
  const sign = descending ? -1 : 1;
  rows.sort((one, other) => {
    const a = value(one), b = value(other);
    // What is missing stays at the end, whichever way the rest goes.
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (numbers ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true }));
  });
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      // Numbers begin with the highest, words with A.
      const descending = now === "none" ? head.classList.contains("number") : now === "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortRows(table, column, descending);
    });
  });
}

for (const field of document.querySelectorAll("input[data-filters]")) {
  const target = document.getElementById(field.dataset.filters);
  const count = field.parentElement.querySelector(".count");
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const items = [...target.children];
    for (const item of items) {
      item.hidden = !words.every((word) => item.dataset.text.includes(word));
    }
    const shown = items.filter((item) => !item.hidden).length;
    count.textContent = words.length ? `${shown} of ${items.length}` : "";
  });
}

const started = new Set();

function follow(audio) {
  const line = audio.closest("figure").querySelector(".playhead");
  const { left, width } = line.dataset;
  const move = () => {
    const share = audio.currentTime / audio.duration || 0;
    line.style.left = `${Number(left) + Number(width) * share}%`;
    line.classList.toggle("moving", audio.currentTime > 0);
    if (!audio.paused) requestAnimationFrame(move);
  };
  move();
}

for (const audio of document.querySelectorAll("audio")) {
  audio.addEventListener("play", () => {
    // Browsers allow a page a few dozen open players, so those that are done with are closed.
    for (const other of started) {
      if (other === audio) continue;
      other.load();
      other.closest("figure").querySelector(".playhead").classList.remove("moving");
      started.delete(other);
    }
    started.add(audio);
    follow(audio);
  });
  audio.addEventListener("seeked", () => follow(audio));
}
