// What lies on the view of one picture: the zoom, a scale bar, a line that measures, and a small map
// of all of the picture. `picture.pixelSize` has the width and height of a pixel in micrometres,
// where they are known.

const UNITS = [["µm", 1], ["mm", 1e3], ["m", 1e6], ["km", 1e9]];

// A length in micrometres for people.
function lengthText(micrometres) {
  const [name, unit] = UNITS.findLast(([, size]) => micrometres >= size * 0.9999) ?? UNITS[0];
  const options = { maximumSignificantDigits: 4 };
  return `${(micrometres / unit).toLocaleString("en", options)} ${name}`;
}

// The length of a vector of the picture in micrometres, or null.
function lengthOf({ pixelSize }, [x, y]) {
  return pixelSize ? Math.hypot(x * pixelSize[0], y * pixelSize[1]) : null;
}

function percentText(zoom) {
  return `${(zoom * 100).toLocaleString("en", { maximumSignificantDigits: zoom < 1 ? 2 : 3 })} %`;
}

// The zoom as a button, which shows the picture's own pixels, and the scale bar.
function showScale(view) {
  const button = document.getElementById("zoom");
  const bar = document.getElementById("scale");
  const { zoom, rotation } = view.place;
  button.textContent = percentText(zoom);
  button.setAttribute("aria-label", `${percentText(zoom)}, show at 100 %`);
  const [x, y] = turn([1 / zoom, 0], rotation);
  const pixel = lengthOf(view.picture, [x, y]); // one of CSS, to the right
  bar.hidden = pixel === null;
  if (bar.hidden) return;
  const largest = 120 * pixel;
  const power = 10 ** Math.floor(Math.log10(largest));
  const length = power * [5, 2, 1].find((digit) => digit * power <= largest);
  bar.textContent = lengthText(length);
  bar.style.width = `${length / pixel}px`;
}

// The small image of the page is where the picture is, until the tiles in view have come.
function movePreview(view) {
  const preview = document.getElementById("preview");
  if (!preview) return;
  const [, , width, height] = view.picture.place;
  const { zoom, rotation } = view.place;
  const [left, top] = view.windowPoint([0, 0]);
  preview.hidden = Math.max(width, height) * zoom > 1e5; // it would be one colour
  Object.assign(preview.style, {
    inset: "auto",
    left: `${left}px`,
    top: `${top}px`,
    margin: 0,
    width: `${width * zoom}px`,
    height: `${height * zoom}px`,
    transformOrigin: "0 0",
    transform: `rotate(${rotation}deg)`,
  });
}

// A line between two points of the picture. Pointers set its ends, by two clicks or in one move;
// Enter sets them in the middle of the window.
class Ruler {
  constructor(view) {
    this.view = view;
    this.line = document.getElementById("ruler");
    this.isOn = this.isOpen = this.byKeys = false; // open while its second end follows
    this.ends = [];
    watchers.push(() => this.draw());
    const types = ["pointerdown", "pointermove", "pointerup", "mousedown", "touchstart", "dblclick"];
    for (const type of types) {
      document.addEventListener(type, (event) => this.hear(event), { capture: true });
    }
  }

  toggle(isOn = !this.isOn) {
    Object.assign(this, { isOn, isOpen: false, byKeys: false, ends: [] });
    stage.style.cursor = isOn ? "crosshair" : "";
    document.querySelector("[data-action=measure]").setAttribute("aria-pressed", String(isOn));
    if (isOn) say("Click two points, or press Enter at two places of the view. Escape ends.");
    this.draw();
  }

  hear(event) {
    if (!this.isOn || !stage.contains(event.target)) return;
    event.stopPropagation(); // the viewer would move the picture
    const { left, top } = stage.getBoundingClientRect();
    const point = [event.clientX - left, event.clientY - top];
    const place = this.view.pointAt(point);
    if (event.type === "pointerdown") {
      this.start = point;
      this.set(place);
    } else if (event.type === "pointermove" && this.isOpen && !this.byKeys) {
      this.ends[1] = place;
    } else if (event.type === "pointerup" && this.isOpen && this.start) {
      if (Math.hypot(point[0] - this.start[0], point[1] - this.start[1]) > 5) this.set(place);
    }
    this.draw();
  }

  // Set an end by the keyboard.
  mark() {
    if (!this.isOn) return;
    const { x, y } = this.view.place;
    this.set([x, y], true);
    this.draw();
  }

  set(place, byKeys = false) {
    this.ends = this.isOpen ? [this.ends[0], place] : [place, place];
    Object.assign(this, { isOpen: !this.isOpen, byKeys });
    if (!this.isOpen) say(this.text);
  }

  get text() {
    const [from, to] = this.ends;
    const vector = [to[0] - from[0], to[1] - from[1]];
    const pixels = Math.hypot(...vector);
    const digits = { maximumFractionDigits: pixels < 100 ? 1 : 0 };
    const length = lengthOf(this.view.picture, vector);
    const text = `${pixels.toLocaleString("en", digits)} px`;
    return length === null ? text : `${text} · ${lengthText(length)}`;
  }

  draw() {
    const { place } = this.view;
    if (this.isOpen && this.byKeys) this.ends[1] = [place.x, place.y];
    this.line.toggleAttribute("hidden", this.ends.length === 0);
    if (this.ends.length === 0) return;
    const [from, to] = this.ends.map((end) => this.view.windowPoint(end));
    const path = `M${from.join()}L${to.join()}`;
    for (const element of this.line.querySelectorAll("path")) element.setAttribute("d", path);
    const text = this.line.querySelector("text");
    text.textContent = this.text;
    text.setAttribute("x", to[0]);
    text.setAttribute("y", to[1] + (to[1] < from[1] ? -12 : 24)); // beyond the end
  }
}

// All of the picture, small, with the part that is seen: shown where that is not all.
class Navigator {
  constructor(view, address) {
    this.view = view;
    this.canvas = document.getElementById("navigator");
    const [, , width, height] = view.picture.place;
    this.scale = Math.min(160 / width, 120 / height);
    this.size = [width, height].map((side) => Math.max(8, Math.round(side * this.scale)));
    [this.canvas.width, this.canvas.height] = this.size.map((side) => side * devicePixelRatio);
    Object.assign(this.canvas.style, { width: `${this.size[0]}px`, height: `${this.size[1]}px` });
    watchers.push(() => this.draw());
    const go = ({ offsetX, offsetY }) => {
      const place = { ...view.place, x: offsetX / this.scale, y: offsetY / this.scale };
      view.show(place, true);
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      address.keep();
      go(event);
    });
    this.canvas.addEventListener("pointermove", (event) => event.buttons && go(event));
  }

  draw() {
    const { view, canvas, scale } = this;
    const { clientWidth: right, clientHeight: down } = view.element;
    const corners = [[0, 0], [right, 0], [right, down], [0, down]].map((at) => view.pointAt(at));
    const [, , width, height] = view.picture.place;
    const covers = (axis, side) => {
      const along = corners.map((corner) => corner[axis] * view.place.zoom);
      return Math.min(...along) < 1 && Math.max(...along) > side * view.place.zoom - 1;
    };
    canvas.hidden = covers(0, width) && covers(1, height);
    if (canvas.hidden) return;
    if (canvas.getClientRects().length > 0) this.image ??= this.overview(); // not on phones
    const context = canvas.getContext("2d");
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, ...this.size);
    if (this.drawn) context.drawImage(this.drawn, 0, 0, ...this.size);
    const within = (at, side) => Math.max(1, Math.min(side - 1, at * scale));
    context.beginPath();
    for (const [x, y] of corners) {
      context.lineTo(within(x, this.size[0]), within(y, this.size[1]));
    }
    context.closePath();
    for (const [lineWidth, strokeStyle] of [[4, "#fff"], [2, "#0b62d6"]]) {
      Object.assign(context, { lineWidth, strokeStyle });
      context.stroke();
    }
  }

  // Draw the largest level of at most four tiles, once.
  async overview() {
    const { tiles } = this.view.viewer;
    const index = tiles.levels.findLastIndex(({ cols, rows }) => cols * rows <= 4);
    if (index < 0) return;
    const { cols, rows, firstCol, firstRow, scale } = tiles.levels[index];
    const [x, y, width, height] = this.view.picture.place.map((pixels) => pixels / scale);
    const drawn = document.createElement("canvas");
    Object.assign(drawn, { width: Math.max(1, width), height: Math.max(1, height) });
    const size = tiles.picture.tileSize;
    for (let n = 0; n < cols * rows; n += 1) {
      const [col, row] = [firstCol + (n % cols), firstRow + Math.floor(n / cols)];
      const square = await tiles.square(index, col, row).catch(() => null);
      if (square) drawn.getContext("2d").drawImage(square, col * size - x, row * size - y);
    }
    this.drawn = drawn;
    this.draw();
  }
}
