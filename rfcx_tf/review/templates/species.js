// The question which species it is: type some letters, arrows choose, Enter takes.
"use strict";

class SpeciesQuestion {
  constructor() {
    const [dialog, title, input, list, cancel] = ["dialog", "question", "name", "list", "cancel"]
      .map((name) => document.getElementById(`species-${name}`));
    Object.assign(this, { dialog, title, input, list });
    input.addEventListener("input", () => this.#fill());
    input.addEventListener("keydown", (event) => this.#key(event));
    cancel.addEventListener("click", () => this.#end(null));
    dialog.addEventListener("cancel", () => this.#end(null));
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.names[this.chosen]) { this.#end(this.names[this.chosen]); }
    });
  }

  // The name that somebody chooses or types; null where she does not.
  ask(question, known) {
    this.known = known;
    this.title.textContent = question;
    this.input.value = "";
    this.dialog.showModal();
    this.#fill();
    this.input.focus();
    return new Promise((resolve) => { this.resolve = resolve; });
  }

  #end(name) {
    if (this.dialog.open) { this.dialog.close(); }
    this.resolve?.(name);
    this.resolve = null;
  }

  #fill() {
    const typed = this.input.value.trim().replace(/\s+/g, " "), key = typed.toLowerCase();
    const found = this.known.filter((name) => name.toLowerCase().includes(key));
    found.sort((a, b) => b.toLowerCase().startsWith(key) - a.toLowerCase().startsWith(key));
    this.names = found.slice(0, 30);
    this.isNew = typed !== "" && !found.some((name) => name.toLowerCase() === key);
    if (this.isNew) { this.names.push(typed); }
    this.chosen = 0;
    this.#draw();
  }

  #draw() {
    this.list.replaceChildren(...this.names.map((name, n) => {
      const isNew = this.isNew && n === this.names.length - 1;
      const option = element("li", { role: "option", ariaSelected: String(n === this.chosen), id: `species-${n}` },
        isNew ? `New species: ${name}` : name);
      option.addEventListener("click", () => this.#end(name));
      return option;
    }));
    this.input.setAttribute("aria-activedescendant", `species-${this.chosen}`);
    this.list.children[this.chosen]?.scrollIntoView({ block: "nearest" });
  }

  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) { return; }
    event.preventDefault();
    this.chosen = Math.max(0, Math.min(this.names.length - 1, this.chosen + step));
    this.#draw();
  }
}
