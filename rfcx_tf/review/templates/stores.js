// Where items come from and changes go to: the server, or this browser where the page was given away.
//
// An item is { id, version, place, origin, cells }, see `Judging` of the server. Both stores have
//   load()          -> { session, revision, species, items, references }
//   change(edits)   -> { revision, items }, one change that `undo(revision)` takes back
//   news(revision)  -> what others have changed since, or null
//   extent(media)   -> { duration_s, highest_hz }
//   sound(media, view), picture(media, view) -> address; a view is { begin_s, end_s, top_hz }
"use strict";

const BY_HAND = "by hand";

async function answerOf(response) {
  const answer = await response.json();
  if (!response.ok) { throw Object.assign(new Error(answer.error), { status: response.status }); }
  return answer;
}

async function ask(address, options) {
  try {
    return await fetch(address, options);
  } catch {
    throw new Error("The server does not answer. What was judged is saved; start it again.");
  }
}

class ServedStore {
  served = true;
  extents = new Map();

  async load() { return answerOf(await ask("review")); }

  async news(revision) { return answerOf(await ask(`changes?since=${revision}`)); }

  change(edits) { return this.#post("changes", { edits }); }

  undo(revision) { return this.#post("undo", { revision }); }

  async extent(media) {
    const name = media.cells.recording_id + (media.kind === "references" ? "\nreference" : "");
    if (!this.extents.has(name)) {
      const found = await answerOf(await ask(`${media.kind}/${media.id}/recording`));
      this.extents.set(name, found);
    }
    return this.extents.get(name);
  }

  // As an address of the page's own: a player can then move within it, and errors have words.
  async sound(media, view) { return this.#made(media, "sound", view); }

  async picture(media, view) { return this.#made(media, "picture", view); }

  made = new Map();

  #made(media, what, view) {
    const query = new URLSearchParams({ begin_s: view.begin_s, end_s: view.end_s });
    if (what === "picture") { query.set("top_hz", view.top_hz); }
    const address = `${media.kind}/${media.id}/${what}?${query}`;
    if (!this.made.has(address)) {
      const made = ask(address).then(async (response) => {
        if (!response.ok) { await answerOf(response); }
        return URL.createObjectURL(await response.blob());
      });
      this.made.set(address, made);
      made.catch(() => this.made.delete(address));
      // What was shown long ago goes.
      while (this.made.size > 40) {
        const [oldest, old] = this.made.entries().next().value;
        this.made.delete(oldest);
        old.then(URL.revokeObjectURL, () => {});
      }
    }
    return this.made.get(address);
  }

  async #post(address, body) {
    const headers = { "Content-Type": "application/json" };
    // Kept alive: the last change arrives although the tab is being closed.
    const options = { method: "POST", headers, body: JSON.stringify(body), keepalive: true };
    return answerOf(await ask(address, options));
  }
}

class GivenStore {
  served = false;

  constructor(given) {
    this.given = given;
    this.key = `rfcx-tf-review-${given.id}`;
    this.revision = 0;
    this.before = new Map();
    this.items = given.rows.map((cells, id) => ({ id, version: 0, place: "review", origin: null, cells }));
    // Without storage verdicts stay while the page is open.
    try {
      for (const item of JSON.parse(localStorage.getItem(this.key)) || []) { this.items[item.id] = item; }
    } catch { /* there was nothing that can be read */ }
  }

  get species() { return [...new Set(this.items.map((item) => item.cells.species))]; }

  load() { return { ...this.#answer(this.items.filter((i) => i.place !== "removed")), references: [] }; }

  news() { return null; }

  change(edits) {
    const made = new Map();
    for (const edit of edits) {
      const cells = { ...edit.cells };
      for (const [name, digits] of [["t_min", 3], ["t_max", 3], ["f_min", 1], ["f_max", 1]]) {
        if (name in cells) { cells[name] = cells[name].toFixed(digits); }
      }
      if ("species" in cells) { cells.species_id = this.#speciesId(cells.species); }
      const source = this.items[edit.copy ?? edit.item];
      if ("copy" in edit) {
        const id = this.items.length + made.size;
        const found = { score: "", probability: "", comment: "", reason: BY_HAND };
        if ("inclusion" in source.cells) { found.inclusion = ""; }
        made.set(id, { ...source, id, origin: source.id, cells: { ...source.cells, ...found, ...cells } });
      } else {
        made.set(source.id, { ...source, cells: { ...source.cells, ...cells } });
      }
    }
    return this.#commit([...made.values()]);
  }

  undo(revision) {
    const items = [];
    for (const [id, item] of this.before.get(revision)) {
      if (this.items[id].version !== revision) { throw new Error("This was changed again since."); }
      items.push(item ?? { ...this.items[id], place: "removed" });
    }
    return this.#commit(items);
  }

  extent(media) {
    const [, end_s, top_hz] = this.given.views[this.#row(media)];
    return { duration_s: end_s, highest_hz: top_hz };
  }

  view(media) {
    const [begin_s, end_s, top_hz] = this.given.views[this.#row(media)];
    return { begin_s, end_s, top_hz };
  }

  sound(media) { return media.cells.clip; }

  picture(media) { return media.cells.picture; }

  csv() { return csvText(this.given.columns, this.items); }

  #row(media) {
    let item = this.items[media.id];
    while (item.origin !== null) { item = this.items[item.origin]; }
    return item.id;
  }

  #speciesId(name) {
    const same = this.items.find((i) => i.cells.species.toLowerCase() === name.toLowerCase());
    if (same) { return same.cells.species_id; }
    return String(1 + Math.max(...this.items.map((i) => Number(i.cells.species_id))));
  }

  #commit(items) {
    this.revision += 1;
    this.before.set(this.revision, items.map((item) => [item.id, this.items[item.id]]));
    const made = items.map((item) => ({ ...item, version: this.revision }));
    for (const item of made) { this.items[item.id] = item; }
    const changed = this.items.filter((item) => item.version || item.origin !== null);
    // Versions are of this visit.
    try { localStorage.setItem(this.key, JSON.stringify(changed)); } catch { /* the download works */ }
    return this.#answer(made);
  }

  #answer(items) {
    return { session: this.key, revision: this.revision, species: this.species, items };
  }
}

function csvText(columns, items) {
  // A spreadsheet program must not run what begins like a formula.
  const safe = (text) => (/^'*[=+\-@\t\r]/.test(text) ? "'" + text : text);
  const cell = (text) => (/[",;\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = items.filter((item) => item.place === "review");
  const lines = [columns, ...rows.map(({ cells }) => columns.map((name) => cells[name] ?? ""))];
  return "\ufeff" + lines.map((line) => line.map(safe).map(cell).join(",") + "\n").join("");
}
