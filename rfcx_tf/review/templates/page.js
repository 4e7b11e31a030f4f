// The page: a queue of events, one of them to hear and see, a verdict by key or button.
"use strict";

const byId = (id) => document.getElementById(id);
// Seconds of sound on either side of an event.
const CONTEXTS_S = [1, 5, 20, 50], LONGEST_VIEW_S = 120;
// As `PickRules` counts what judging takes: the sound, a second on either side, and to decide.
const LONGEST_S = 10, BESIDE_S = 2 + 5;
const SHOWN = 200;
const MARKS = { "": "", TP: "✓", FP: "✗", unsure: "?" };

const given = JSON.parse(byId("given").textContent);
const store = given ? new GivenStore(given) : new ServedStore();
const items = new Map();
let species = [], references = [], session = "", revision = 0;
let list = [], current = null, opening = 0;
let context = 0, full = false, referenceTurn = 0, referenceNow = null;
let mine = [];

const sound = byId("sound"), referenceSound = byId("reference-sound");
const filter = document.querySelector("#filter form").elements;
const numbers = document.querySelector("#numbers form").elements;
const picture = new Picture(byId("picture"), sound, (box) => edit({ ...box }));
const referencePicture = new Picture(byId("reference-picture"), referenceSound, null);
const question = new SpeciesQuestion();

// --- changes ---------------------------------------------------------------------------------

// One after the other, in the order of the keys. What is shown is not waited for.
let work = Promise.resolve();
function enqueue(job) {
  work = work.then(job).catch(tell);
  return work;
}

async function tell(error) {
  byId("message").textContent = error.message;
  byId("message").hidden = false;
  if (error.status === 409) { await hear().catch(() => {}); }
}

function merge(answer) {
  for (const item of answer.items) {
    if (item.place === "removed") {
      items.delete(item.id);
      list = list.filter((id) => id !== item.id);
      continue;
    }
    if (!items.has(item.id)) {
      const beside = list.indexOf(item.origin);
      if (beside >= 0) { list.splice(beside + 1, 0, item.id); } else if (matches(item)) { list.push(item.id); }
    }
    items.set(item.id, item);
  }
  species = answer.species;
}

async function change(edits) {
  const answer = await store.change(edits);
  byId("message").hidden = true;
  remember([...mine, answer.revision]);
  merge(answer);
  draw();
  return answer.items;
}

function remember(changes) {
  mine = changes.slice(-1000);
  try { sessionStorage.setItem(session, JSON.stringify(mine)); } catch { /* undo ends with the visit */ }
}

function edit(cells) {
  const id = current;
  enqueue(() => change([{ item: id, version: items.get(id).version, cells }]));
}

function judge(verdict) {
  picture.finish();
  enqueue(async () => {
    const item = items.get(current);
    if (!item) { return; }
    await change([{ item: item.id, version: item.version, cells: { verdict } }]);
    if (verdict) { step(1); }
  });
}

function undo() {
  picture.finish();
  enqueue(async () => {
    if (!mine.length) { return; }
    const last = mine[mine.length - 1];
    remember(mine.slice(0, -1));
    const answer = await store.undo(last);
    byId("message").hidden = true;
    merge(answer);
    const [first] = answer.items;
    open(items.has(first.id) ? first.id : first.origin, false);
  });
}

async function another() {
  picture.finish();
  const name = await question.ask("Which species is it?", species);
  if (!name) { return; }
  enqueue(async () => {
    const item = items.get(current);
    const seen = { item: item.id, version: item.version };
    if (item.place === "review" && item.cells.reason === BY_HAND) {
      await change([{ ...seen, cells: { species: name, verdict: "TP" } }]);
      open(item.id, false);
      return;
    }
    // That it is not what was found is worth a row as well.
    const made = await change([
      { ...seen, cells: { verdict: "FP" } }, { copy: item.id, cells: { species: name, verdict: "TP" } },
    ]);
    open(made.at(-1).id, false);
  });
}

async function addSpecies() {
  picture.finish();
  const name = await question.ask("Which species is here too?", species);
  if (!name) { return; }
  enqueue(async () => {
    const made = await change([{ copy: current, cells: { species: name, verdict: "TP" } }]);
    open(made.at(-1).id, false);
  });
}

// What others have judged.
async function hear() {
  const answer = await store.news(revision);
  if (!answer) { return; }
  if (answer.session !== session) { location.reload(); return; }
  revision = answer.revision;
  if (!answer.items.length) { return; }
  const before = items.get(current)?.version;
  merge(answer);
  draw();
  if (items.get(current)?.version !== before && picture.view && !picture.busy) { picture.place(boxNow(picture.limits)); }
}

// --- queue -----------------------------------------------------------------------------------

const valueOf = ({ cells }) => Number(cells.probability || cells.score || NaN);
const siteOf = ({ cells }) => cells.recording_id.split("/").slice(0, -1).join("/");

function matches(item) {
  const { cells } = item, value = valueOf(item);
  const verdict = cells.verdict || "open";
  return (filter.what.value === "all" || item.place === "review")
    && (!filter.verdict.value || filter.verdict.value === verdict)
    && (!filter.species.value || filter.species.value === cells.species)
    && (!filter.site.value || filter.site.value === siteOf(item))
    && (filter.least.value === "" || value >= Number(filter.least.value))
    && (filter.most.value === "" || value <= Number(filter.most.value));
}

// Anew, by the filter; until then what has been judged stays where it was.
function choose() {
  const place = (item) => [item.origin ?? item.id, item.id];
  const orders = {
    "": (a, b) => place(a)[0] - place(b)[0] || a.id - b.id,
    sure: (a, b) => (valueOf(b) || 0) - (valueOf(a) || 0) || a.id - b.id,
    unsure: (a, b) => (valueOf(a) || 0) - (valueOf(b) || 0) || a.id - b.id,
    time: (a, b) => a.cells.recording_id.localeCompare(b.cells.recording_id)
      || Number(a.cells.t_min) - Number(b.cells.t_min) || a.id - b.id,
  };
  list = [...items.values()].filter(matches).sort(orders[filter.order.value]).map((item) => item.id);
}

function fillFilter() {
  const all = [...items.values()];
  const fill = (select, texts, any) => select.replaceChildren(
    element("option", { value: "" }, any),
    ...[...new Set(texts)].sort().map((text) => element("option", { value: text }, text)),
  );
  fill(filter.species, all.map(({ cells }) => cells.species), "all");
  fill(filter.site, all.map(siteOf).filter(Boolean), "all");
  filter.site.closest("label").hidden = filter.site.options.length < 3;
  const picked = all.some((item) => item.place === "review");
  filter.what.closest("label").hidden = !all.some((item) => item.place === "events");
  filter.what.options[0].disabled = !picked;
  filter.what.value = picked ? "picked" : "all";
}

function drawList() {
  const at = Math.max(0, list.indexOf(current));
  const from = Math.max(0, Math.min(at - SHOWN / 2, list.length - SHOWN));
  const rows = list.slice(from, from + SHOWN).map((id) => {
    const item = items.get(id), { verdict = "", species: name, recording_id, t_min } = item.cells;
    const button = element("button", { className: verdict },
      element("span", { className: "mark" }, MARKS[verdict]),
      element("strong", {}, name), element("small", {}, `${recording_id}, ${clock(t_min)}`));
    if (verdict) { button.setAttribute("aria-label", `${verdict}: ${name} in ${recording_id}`); }
    if (id === current) { button.setAttribute("aria-current", "true"); }
    button.addEventListener("click", () => enqueue(() => { open(id, true); }));
    return element("li", {}, button);
  });
  const more = (count, words) => (count > 0 ? [element("li", { className: "more" }, `${count} ${words}`)] : []);
  const place = byId("list");
  place.replaceChildren(...more(from, "before"), ...rows, ...more(list.length - from - SHOWN, "behind"));
  const now = place.querySelector("[aria-current]");
  if (now) { place.scrollTop = now.offsetTop - place.offsetTop - place.clientHeight / 2; }
  byId("count").textContent = `${list.length} of ${items.size} events`;
}

// --- one event -------------------------------------------------------------------------------

const mediaOf = (item) => ({ kind: "items", id: item.id, cells: item.cells });

function boxNow({ highest_hz }) {
  const { cells } = items.get(current);
  // An event without a band is of all frequencies.
  return cells.f_max ? boxOf(cells) : { ...boxOf(cells), f_max: highest_hz };
}

// What is seen and heard of an event: it lies in the middle.
async function viewOf(media, beside_s, whole) {
  if (!store.served) { return store.view(media); }
  const { duration_s, highest_hz } = await store.extent(media);
  const { t_min, t_max, f_max } = boxOf(media.cells);
  let begin_s = Math.max(0, t_min - beside_s), end_s = Math.min(duration_s, t_max + beside_s);
  if (end_s - begin_s > LONGEST_VIEW_S) {
    begin_s = Math.max(0, (t_min + t_max - LONGEST_VIEW_S) / 2);
    end_s = begin_s + LONGEST_VIEW_S;
  }
  const top_hz = whole || !f_max ? highest_hz : Math.min(highest_hz, Math.max(2 * f_max, 2000));
  const thousandths = (value) => Math.round(1000 * value) / 1000;
  return { begin_s: thousandths(begin_s), end_s: thousandths(end_s), top_hz: thousandths(top_hz) };
}

async function open(id, play) {
  picture.finish();
  sound.pause();
  referenceSound.pause();
  current = id ?? null;
  draw();
  const turn = ++opening, item = items.get(current);
  if (!item) { picture.hide(); sound.removeAttribute("src"); return; }
  try {
    const media = mediaOf(item), limits = await store.extent(media);
    const view = await viewOf(media, CONTEXTS_S[context], full);
    const [seen, heard] = [store.picture(media, view), store.sound(media, view)];
    const address = await seen;
    if (turn !== opening) { return; }
    picture.show(address, view, limits, boxNow(limits));
    sound.src = await heard;
    if (turn === opening && play) { replay(sound); }
  } catch (error) {
    if (turn !== opening) { return; }
    picture.hide();
    sound.removeAttribute("src");
    tell(error);
  }
  prepare(list[list.indexOf(current) + 1]);
}

// The next event is ready when it is wanted.
async function prepare(id) {
  const item = items.get(id);
  if (!item || !store.served) { return; }
  try {
    const media = mediaOf(item), view = await viewOf(media, CONTEXTS_S[context], full);
    store.picture(media, view);
    store.sound(media, view);
  } catch { /* it is told when its turn comes */ }
}

function step(by) {
  const at = list.indexOf(current) + by;
  const inside = at >= 0 && at < list.length;
  open(inside ? list[at] : current, inside);
}

function replay(audio) {
  for (const other of [sound, referenceSound]) { if (other !== audio) { other.pause(); } }
  if (!audio.getAttribute("src")) { return; }
  audio.currentTime = 0;
  audio.play().catch(() => {});
}

// --- reference -------------------------------------------------------------------------------

function referencesOf(item) {
  const id = item.cells.species_id, origin = item.origin ?? item.id;
  const marked = references.filter(({ cells }) => cells.species_id === id)
    .map((call) => ({ kind: "references", id: call.id, cells: call.cells, from: "in the data folder" }));
  const judged = [...items.values()]
    .filter((i) => i.cells.verdict === "TP" && i.cells.species_id === id && (i.origin ?? i.id) !== origin)
    .sort((a, b) => (valueOf(b) || 0) - (valueOf(a) || 0)).slice(0, 5)
    .map((i) => ({ ...mediaOf(i), from: "judged TP" }));
  return [...marked, ...judged];
}

async function drawReference() {
  const item = items.get(current);
  if (!item) { return; }
  const calls = referencesOf(item);
  byId("reference").classList.toggle("none", !calls.length);
  byId("reference-next").disabled = calls.length < 2;
  byId("reference-play").disabled = !calls.length;
  const call = calls[referenceTurn % Math.max(1, calls.length)];
  const name = call ? `${call.kind} ${call.id}` : `none of ${item.cells.species}`;
  if (name === referenceNow) { return; }
  referenceNow = name;
  referenceSound.removeAttribute("src");
  referencePicture.hide();
  if (!call) {
    byId("reference-text").textContent = `No sure call of ${item.cells.species} is known yet.`;
    return;
  }
  byId("reference-text").textContent =
    `${item.cells.species}, ${call.from}: ${call.cells.recording_id}, ${clock(call.cells.t_min)}`;
  try {
    const view = await viewOf(call, 0.5, false);
    const [address, heard] = await Promise.all([store.picture(call, view), store.sound(call, view)]);
    if (referenceNow !== name) { return; }
    referencePicture.show(address, view, null, boxOf(call.cells));
    referenceSound.src = heard;
  } catch (error) {
    if (referenceNow === name) { byId("reference-text").textContent = error.message; }
  }
}

// --- all of it -------------------------------------------------------------------------------

function drawProgress() {
  const all = [...items.values()].filter((item) => item.place === "review");
  const picked = all.filter((item) => item.cells.reason !== BY_HAND);
  const minutes = (some) => some.reduce(
    (sum, { cells }) => sum + Math.min(LONGEST_S, cells.t_max - cells.t_min) + BESIDE_S, 0) / 60;
  const judged = (picked.length ? picked : all).filter(({ cells }) => cells.verdict);
  const share = picked.length ? judged.length / picked.length : 0;
  byId("bar").hidden = !picked.length;
  byId("bar").value = share;
  byId("progress").textContent = picked.length
    ? `${judged.length} of ${picked.length} judged, ${Math.round(minutes(judged))} of ${Math.round(minutes(picked))} min`
    : `${judged.length} judged, ${Math.round(minutes(judged))} min`;
}

function draw() {
  drawProgress();
  drawList();
  byId("undo").disabled = !mine.length;
  const item = items.get(current);
  byId("event").classList.toggle("none", !item);
  byId("title").textContent = item ? "" : "No event is left by this filter.";
  byId("asked").textContent = item?.cells.species ?? "the species";
  if (!item) { return; }
  const { cells } = item;
  const at = `${list.indexOf(current) + 1} of ${list.length}`;
  byId("title").append(
    element("span", {}, `${at}: ${cells.recording_id}, ${clock(cells.t_min)} to ${clock(cells.t_max)}`),
    element("b", { className: cells.verdict ?? "" }, cells.verdict || "not judged"),
  );
  for (const button of document.querySelectorAll("[data-verdict]")) {
    button.setAttribute("aria-pressed", String(Boolean(cells.verdict) && button.dataset.verdict === cells.verdict));
  }
  byId("context").querySelector("span").textContent =
    `${context < CONTEXTS_S.length - 1 ? "more" : "less"} sound (±${CONTEXTS_S[context]} s)`;
  byId("full").setAttribute("aria-pressed", String(full));
  for (const name of ["t_min", "t_max", "f_min", "f_max", "comment"]) {
    if (document.activeElement !== numbers[name]) { numbers[name].value = cells[name] ?? ""; }
  }
  drawReference();
}

function again() { enqueue(() => { open(current, false); }); }

const actions = {
  1: () => judge("TP"), 2: () => judge("FP"), 3: () => judge("unsure"), 0: () => judge(""),
  " ": () => replay(sound),
  ArrowDown: () => enqueue(() => step(1)), ArrowUp: () => enqueue(() => step(-1)),
  u: undo, s: another, a: addSpecies,
  b: () => picture.box.focus(),
  c: () => { if (store.served) { context = (context + 1) % CONTEXTS_S.length; again(); } },
  f: () => { if (store.served) { full = !full; again(); } },
  r: () => replay(referenceSound),
  n: () => { referenceTurn += 1; drawReference(); },
  "?": () => byId("keys-dialog").showModal(),
};

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.altKey || document.querySelector("dialog[open]")) { return; }
  if (event.ctrlKey || event.metaKey) {
    if (key === "z" && !target.matches("input")) { event.preventDefault(); undo(); }
    return;
  }
  if (target.matches("input, select, textarea")) { return; }
  if (key === " " && target.matches("button, summary, audio")) { return; }
  const action = actions[key.length === 1 ? key.toLowerCase() : key];
  if (action) {
    event.preventDefault();
    action();
  }
});

const onClick = {
  undo, play: actions[" "], other: another, add: addSpecies, context: actions.c, full: actions.f,
  previous: actions.ArrowUp, next: actions.ArrowDown, keys: actions["?"],
  "reference-play": actions.r, "reference-next": actions.n,
};
for (const [id, action] of Object.entries(onClick)) { byId(id).addEventListener("click", action); }
for (const button of document.querySelectorAll("[data-verdict]")) {
  button.addEventListener("click", (event) => {
    judge(button.dataset.verdict);
    // After a click with a mouse the space bar plays again.
    if (event.detail) { button.blur(); }
  });
}
document.querySelector("#filter form").addEventListener("input", ({ target }) => enqueue(() => {
  choose();
  if (target !== filter.order && list.includes(current)) { draw(); } else { open(list[0], false); }
}));
document.querySelector("#filter form").addEventListener("reset", () => {
  setTimeout(() => enqueue(() => { fillFilter(); choose(); return draw(); }));
});
for (const form of document.querySelectorAll("#filter form, #numbers form")) {
  form.addEventListener("submit", (event) => event.preventDefault());
}
document.querySelector("#numbers form").addEventListener("change", ({ target }) => {
  if (target.name === "comment") { edit({ comment: target.value }); return; }
  // Nothing, or no number: what was there comes back.
  if (target.value !== "") { edit({ [target.name]: Number(target.value) }); }
  again();
});
byId("download").addEventListener("click", () => {
  const url = URL.createObjectURL(new Blob([store.csv()], { type: "text/csv" }));
  element("a", { href: url, download: "review.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
});

addEventListener("pagehide", () => picture.finish());

enqueue(async () => {
  for (const part of document.querySelectorAll("[data-served]")) { part.hidden = !store.served; }
  byId("download").hidden = store.served;
  const answer = await store.load();
  ({ session, revision, references, species } = answer);
  for (const item of answer.items) { items.set(item.id, item); }
  try { mine = store.served ? JSON.parse(sessionStorage.getItem(session)) || [] : []; } catch { mine = []; }
  fillFilter();
  choose();
  // Where the last visit ended.
  const open_ = list.find((id) => !items.get(id).cells.verdict);
  await open(open_ ?? list[0], false);
  if (store.served) {
    setInterval(() => { if (!document.hidden) { hear().catch(tell); } }, 2000);
  }
});
