// What stands around every viewer: buttons, keys, and what is said when something is missing.

const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
const stage = document.getElementById("stage");
const described = JSON.parse(document.getElementById("picture").textContent);

// Say what is wrong, or that nothing is any more. Gives the place where it stands.
function trouble(text) {
  const place = document.getElementById("trouble");
  place.textContent = text;
  place.hidden = !text;
  if (text) busy(false);
  return place;
}

// Whether all that is in view has come, for those who do not see it.
function busy(now) {
  stage.setAttribute("aria-busy", String(now));
  if (!now && document.getElementById("trouble").hidden) document.getElementById("preview")?.remove();
}

// Say something to all, for two seconds.
function say(text) {
  const place = document.getElementById("said");
  place.textContent = text;
  place.hidden = false;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (place.hidden = true), 2000);
}

// Buttons and keys to a view, which has zoomBy(factor), panBy(x, y) in parts of what is seen,
// and home(); of one picture it is a Steering. Where it was one of many, back() or the link "back"
// leads to all.
function connect(view) {
  const isPicture = view instanceof Steering;
  const address = isPicture ? new Address(view) : null;
  const ruler = isPicture ? new Ruler(view) : null;
  if (isPicture) {
    new Navigator(view, address);
    watchers.push(
      () => showScale(view),
      () => movePreview(view),
    );
    document.getElementById("tools").hidden = false;
    moved();
  }
  const link = document.getElementById("back");
  const back = view.back ? () => view.back() : link && (() => link.click());
  if (back) document.getElementById("keys").textContent += " Escape goes back.";
  const actions = {
    closer: () => view.zoomBy(2),
    farther: () => view.zoomBy(1 / 2),
    home() {
      address?.keep();
      view.home();
    },
    actual: () => view.show({ ...view.place, zoom: 1 }),
    measure: () => ruler.toggle(),
    turn: () => view.turnBy(90),
    turnback: () => view.turnBy(-90),
    link() {
      address.keep();
      copy(window.location.href);
    },
    fullscreen: () => toggleFullscreen(),
  };
  const keys = {
    "+": actions.closer,
    "=": actions.closer,
    "-": actions.farther,
    "_": actions.farther,
    0: actions.home,
    Home: actions.home,
    f: actions.fullscreen,
    ...(view.turns && { r: actions.turn, R: actions.turnback }),
    ...(isPicture && { 1: actions.actual, l: actions.link, m: actions.measure }),
    ...((isPicture || back) && { Escape: () => (ruler?.isOn ? ruler.toggle() : back?.()) }),
    ArrowLeft: () => view.panBy(-0.2, 0),
    ArrowRight: () => view.panBy(0.2, 0),
    ArrowUp: () => view.panBy(0, -0.2),
    ArrowDown: () => view.panBy(0, 0.2),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  });
  stage.addEventListener("keydown", (event) => event.key === "Enter" && ruler?.mark());
  document.addEventListener("click", (event) => {
    const action = actions[event.target.closest("button")?.dataset.action];
    if (action) action();
  });
  const controls = document.getElementById("controls");
  controls.querySelector("[data-action=turn]").hidden = !view.turns;
  for (const name of ["measure", "link"]) {
    controls.querySelector(`[data-action=${name}]`).hidden = !isPicture;
  }
  const full = controls.querySelector("[data-action=fullscreen]");
  full.hidden = !document.fullscreenEnabled;
  document.addEventListener("fullscreenchange", () => {
    full.setAttribute("aria-pressed", String(Boolean(document.fullscreenElement)));
  });
  controls.hidden = false;
}

// Copy a text. Pages of a server without TLS may not write to the clipboard by themselves.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(field);
    field.select();
    const isCopied = document.execCommand("copy");
    field.remove();
    stage.focus();
    if (!isCopied) return say("The link is in the address of this page.");
  }
  return say("The link to this view is copied.");
}

// On paper the view has the shape that it has on the screen, in at most 700 × 900 pixels: the size
// of A4 and of Letter at 96 dots per inch, without margins and the caption.
window.addEventListener("beforeprint", () => {
  const { clientWidth, clientHeight } = stage;
  const { style } = document.documentElement;
  style.setProperty("--print-width", `${clientWidth}px`);
  style.setProperty("--print-height", `${clientHeight}px`);
  style.setProperty("--print-zoom", Math.min(700 / clientWidth, 900 / clientHeight));
});

function toggleFullscreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (document.fullscreenEnabled) document.documentElement.requestFullscreen();
}

// Say so where no tile is found at all.
function watch(tiles) {
  const { beside, blank } = tiles.its;
  const [, , firstCol, firstRow] = tiles.picture.levels[0];
  let asked = false;
  const where = beside ? `: this page has to lie beside ${beside}` : "";
  const lost = () => trouble(`No tiles are found${where}.`);
  tiles.onload = () => {
    if (tiles.loaded > 0) {
      if (asked) trouble("");
      asked = false;
    } else if (tiles.failed >= Math.min(3, tiles.count) && !asked) {
      asked = true;
      // Tiles may be left out, but hardly the one that shows most of the picture.
      if (blank) tiles.fetch(0, firstCol, firstRow).catch(lost);
      else lost();
    }
  };
  return tiles;
}

// Begin, if the viewer's own script is there; null is no library. `show` gives the view or a
// promise of it; of one picture it gives a viewer for Steering.
async function run(library, show) {
  if (library && !window[library]) {
    trouble(
      `The viewer's script did not come. This page takes it from ${described.from}, for which it ` +
        "needs the network.",
    );
    return;
  }
  const picture = forScreen(described);
  const view = await show(stage, picture);
  connect(view.place ? new Steering(view, picture, stage) : view);
}
