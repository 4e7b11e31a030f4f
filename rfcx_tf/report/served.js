// Of a page that `report --serve` serves: every row of the table of events has a button that asks the
// server for its picture and sound.

const player = document.createElement("aside");
player.className = "player";
player.hidden = true;
player.setAttribute("aria-label", "Picture and sound of an event");
player.setAttribute("aria-live", "polite");
document.querySelector("main").append(player);

async function showEvent(row) {
  let card;
  try {
    const answer = await fetch(`events/${row.dataset.row}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    card = document.importNode(page.body.firstElementChild, true);
  } catch {
    card = document.createElement("p");
    card.textContent = "The server does not answer. Start it again: report --serve.";
  }
  const close = document.createElement("button");
  close.type = "button";
  close.className = "close";
  close.textContent = "Close";
  close.addEventListener("click", () => {
    player.hidden = true;
    player.replaceChildren();
    row.querySelector("button").focus();
  });
  const name = document.createElement("h3");
  name.textContent = row.cells[0].dataset.sort;
  player.replaceChildren(close, name, card);
  player.hidden = false;
  card.querySelectorAll("svg.chart").forEach(addChartButtons);
  for (const audio of card.querySelectorAll("audio")) {
    listen(audio);
    audio.play();
  }
}

for (const row of document.querySelectorAll("#events tbody tr")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "play";
  button.textContent = "\u25b6";
  button.setAttribute("aria-label", `Show and play ${[...row.cells].map((c) => c.textContent.trim()).join(", ")}`);
  button.addEventListener("click", () => showEvent(row));
  row.cells[0].prepend(button);
}
