// A spectrogram with its axes, a box on it that can be moved and resized, and the place that plays.
"use strict";

const SIDES = ["n", "s", "w", "e", "nw", "ne", "sw", "se"];
// A box keeps this size; smaller ones would be slips of the hand.
const LEAST_S = 0.01, LEAST_HZ = 10;

// Text goes in as text, never as HTML: names come from files.
function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function ticks(from, to, most) {
  const rough = (to - from) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((s) => s >= rough);
  const made = [];
  for (let n = Math.ceil(from / step - 1e-9); n * step <= to + 1e-9; n += 1) { made.push(n * step); }
  return made.map((value) => ({ value, text: String(Number(value.toPrecision(10))) }));
}

// Seconds as 12.5 s, or from ten minutes on as 1:02:03.5.
function clock(seconds) {
  const tenths = Math.round(10 * Number(seconds));
  if (tenths < 6000) { return `${tenths / 10} s`; }
  const two = (n) => String(n).padStart(2, "0");
  const whole = Math.floor(tenths / 10), rest = tenths % 10 ? `.${tenths % 10}` : "";
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}${rest}`;
}

function boxOf(cells) {
  return Object.fromEntries(["t_min", "t_max", "f_min", "f_max"].map((n) => [n, Number(cells[n] || 0)]));
}

class Picture {
  // `changed(box)` is called when somebody has moved the box; null: the box is only to look at.
  constructor(figure, audio, changed) {
    this.audio = audio;
    this.changed = changed;
    this.image = element("img", { alt: "", draggable: false });
    this.box = element("div", { className: "box" });
    this.line = element("div", { className: "playhead", hidden: true });
    this.plane = element("div", { className: "plane" }, this.image, this.line, this.box);
    this.across = element("div", { className: "across", ariaHidden: "true" });
    this.up = element("div", { className: "up", ariaHidden: "true" });
    figure.append(this.up, this.plane, this.across);
    this.plane.addEventListener("click", (event) => this.#playFrom(event));
    if (changed) {
      Object.assign(this.box, { tabIndex: 0, role: "group" });
      this.box.append(...SIDES.map((sides) => element("span", { className: sides })));
      for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
        this.box.addEventListener(name, (event) => this.#drag(event));
      }
      this.box.addEventListener("keydown", (event) => this.#key(event));
      this.box.addEventListener("blur", () => this.#done());
    }
    for (const name of ["play", "pause", "seeked", "ended", "emptied"]) {
      audio.addEventListener(name, () => this.#follow());
    }
  }

  show(address, view, limits, box) {
    Object.assign(this, { view, limits, drag: null, edited: false });
    this.image.src = address;
    const seconds = ticks(view.begin_s, view.end_s, 5).map(({ value, text }) => (
      { value, text: view.end_s < 600 ? `${text} s` : clock(value) }));
    const khz = ticks(0, view.top_hz / 1000, 5).map(({ value, text }) => ({ value, text: `${text} kHz` }));
    this.#label(this.across, seconds, view.begin_s, view.end_s, "left");
    this.#label(this.up, khz, 0, view.top_hz / 1000, "bottom");
    this.place(box);
  }

  hide() { this.view = null; this.image.removeAttribute("src"); this.box.hidden = true; }

  place(box) {
    const { begin_s, end_s, top_hz } = this.view;
    this.values = { ...box };
    const percent = (value, from, to) => 100 * Math.min(1, Math.max(0, (value - from) / (to - from)));
    const left = percent(box.t_min, begin_s, end_s), right = percent(box.t_max, begin_s, end_s);
    const low = percent(box.f_min, 0, top_hz), high = percent(box.f_max, 0, top_hz);
    const style = { left: `${left}%`, width: `${right - left}%`, bottom: `${low}%`, height: `${high - low}%` };
    Object.assign(this.box.style, style);
    this.box.hidden = false;
    const khz = (hz) => (hz / 1000).toFixed(2);
    this.box.ariaLabel = `Box from ${box.t_min.toFixed(2)} to ${box.t_max.toFixed(2)} s, ` +
      `${khz(box.f_min)} to ${khz(box.f_max)} kHz`;
  }

  get busy() { return Boolean(this.drag || this.edited); }

  #label(axis, marks, from, to, side) {
    axis.replaceChildren(...marks.map(({ value, text }) => {
      const mark = element("span", {}, text);
      mark.style[side] = `${(100 * (value - from)) / (to - from)}%`;
      return mark;
    }));
  }

  #drag(event) {
    if (event.type === "pointerdown" && event.button === 0 && this.view) {
      const sides = event.target === this.box ? "nwse" : event.target.className;
      this.drag = { id: event.pointerId, sides, x: event.clientX, y: event.clientY, box: this.values };
      this.box.setPointerCapture(event.pointerId);
      this.box.focus({ preventScroll: true });
      event.preventDefault();
    }
    if (!this.drag || event.pointerId !== this.drag.id) { return; }
    const size = this.plane.getBoundingClientRect();
    const { begin_s, end_s, top_hz } = this.view;
    const seconds = ((event.clientX - this.drag.x) / size.width) * (end_s - begin_s);
    const hz = (-(event.clientY - this.drag.y) / size.height) * top_hz;
    if (event.type === "pointermove") { this.place(this.#moved(this.drag.box, this.drag.sides, seconds, hz)); }
    if (event.type === "pointercancel") { this.place(this.drag.box); this.drag = null; }
    if (event.type === "pointerup") {
      this.edited = seconds !== 0 || hz !== 0;
      this.drag = null;
      this.#done();
    }
  }

  // The box with some sides moved; all four together keep its size.
  #moved(box, sides, seconds, hz) {
    const { duration_s, highest_hz } = this.limits;
    const clamp = (value, least, most) => Math.min(Math.max(value, least), Math.max(least, most));
    let { t_min, t_max, f_min, f_max } = box;
    if (sides === "nwse") {
      seconds = clamp(seconds, -t_min, duration_s - t_max);
      hz = clamp(hz, -f_min, highest_hz - f_max);
      return { t_min: t_min + seconds, t_max: t_max + seconds, f_min: f_min + hz, f_max: f_max + hz };
    }
    if (sides.includes("w")) { t_min = clamp(t_min + seconds, 0, t_max - LEAST_S); }
    if (sides.includes("e")) { t_max = clamp(t_max + seconds, t_min + LEAST_S, duration_s); }
    if (sides.includes("s")) { f_min = clamp(f_min + hz, 0, f_max - LEAST_HZ); }
    if (sides.includes("n")) { f_max = clamp(f_max + hz, f_min + LEAST_HZ, highest_hz); }
    return { t_min, t_max, f_min, f_max };
  }

  #key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (event.key === "Enter" || event.key === "Escape") { this.box.blur(); }
    if (!steps[event.key] || event.ctrlKey || event.metaKey || event.altKey || !this.view) { return; }
    event.preventDefault();
    event.stopPropagation();
    const [right, up] = steps[event.key];
    const { begin_s, end_s, top_hz } = this.view;
    const moved = this.#moved(
      this.values, event.shiftKey ? "ne" : "nwse", (right * (end_s - begin_s)) / 100, (up * top_hz) / 100,
    );
    this.edited = true;
    this.place(moved);
    // A held key makes one change.
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.#done(), 600);
  }

  // Also before another event is shown.
  finish() { this.#done(); }

  #done() {
    clearTimeout(this.waiting);
    if (!this.edited) { return; }
    this.edited = false;
    this.changed(this.values);
  }

  #playFrom(event) {
    if (!this.view || this.box.contains(event.target)) { return; }
    const size = this.plane.getBoundingClientRect();
    const share = (event.clientX - size.left) / size.width;
    this.audio.currentTime = share * (this.audio.duration || 0);
    this.audio.play().catch(() => {});
  }

  #follow() {
    cancelAnimationFrame(this.frame);
    const share = this.audio.currentTime / this.audio.duration || 0;
    this.line.hidden = share === 0;
    this.line.style.left = `${100 * share}%`;
    if (!this.audio.paused) { this.frame = requestAnimationFrame(() => this.#follow()); }
  }
}
