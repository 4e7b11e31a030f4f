// Tables that can be sorted, filtered and saved, charts that can be saved, and one player at a time.
// The page can be read without.
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

function listen(audio) {
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

document.querySelectorAll("audio").forEach(listen);

// Tables as CSV, charts as SVG and PNG: files that the browser makes of what is in the page.

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function fileName(text, ending) {
  const page = document.title.replace(/\.[a-z]+$/, "");
  const plain = `${page} ${text}`.normalize("NFC").replace(/[^\p{L}\p{N}.]+/gu, "_");
  return `${plain.replace(/^[_.]+|_+$/g, "").slice(0, 100)}.${ending}`;
}

function csvCell(text) {
  // A spreadsheet program would run what begins like a formula.
  const safe = /^'*[=+@\t\r-]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function tableCsv(table) {
  const heads = [...table.tHead.rows[0].cells];
  const isNumber = heads.map((head) => head.classList.contains("number"));
  const value = (cell, column) => {
    const text = cell.dataset.sort;
    if (!isNumber[column]) return csvCell(text);
    return text.includes(".") ? String(Number(Number(text).toPrecision(9))) : text;
  };
  const lines = [heads.map((head) => csvCell(head.textContent.trim()))];
  for (const row of table.tBodies[0].rows) lines.push([...row.cells].map(value));
  return lines.map((cells) => `${cells.join(",")}\n`).join("");
}

function svgFile(chart) {
  const copy = chart.cloneNode(true);
  // Its colours are those of the page on a bright screen, which the style's first rule has.
  const style = document.styleSheets[0].cssRules[0].style;
  const [, , width, height] = chart.getAttribute("viewBox").split(/\s+/).map(Number);
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.setAttribute("font-family", "Helvetica, Arial, sans-serif");
  copy.setAttribute("font-size", "11");
  const ground = document.createElementNS(chart.namespaceURI, "rect");
  ground.setAttribute("width", width);
  ground.setAttribute("height", height);
  ground.setAttribute("fill", "var(--page)");
  copy.prepend(ground);
  const text = new XMLSerializer().serializeToString(copy);
  return text.replace(/var\((--\w+)\)/g, (_, name) => style.getPropertyValue(name).trim());
}

function savePng(text, name) {
  const picture = new Image();
  picture.addEventListener("load", () => {
    const canvas = document.createElement("canvas");
    canvas.width = picture.width * 3;
    canvas.height = picture.height * 3;
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => save(blob, name), "image/png");
  });
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
}

function addButtons(place, what, kinds) {
  const line = document.createElement("div");
  line.className = "save";
  for (const [kind, action] of kinds) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = kind;
    button.setAttribute("aria-label", `Save ${what} as ${kind}`);
    button.addEventListener("click", action);
    line.append(button);
  }
  place.after(line);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const csv = () => save(new Blob([tableCsv(table)], { type: "text/csv" }), fileName(table.id, "csv"));
  addButtons(table.parentElement, table.caption.textContent, [["CSV", csv]]);
}

function addChartButtons(chart) {
  const name = chart.querySelector("title").textContent;
  const text = () => svgFile(chart);
  const svg = () => save(new Blob([text()], { type: "image/svg+xml" }), fileName(name, "svg"));
  const png = () => savePng(text(), fileName(name, "png"));
  addButtons(chart.closest(".picture") || chart, name, [["SVG", svg], ["PNG", png]]);
}

document.querySelectorAll("svg.chart").forEach(addChartButtons);
