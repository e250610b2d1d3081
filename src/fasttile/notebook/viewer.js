// The viewer in the output of a notebook's cell, for anywidget: a canvas, and tiles that the
// kernel sends when they are asked for. Levels are counted from 0, the smallest that is stored.
// `view` is in device pixels; the image in pixels of its largest level.

const MAX_REQUESTS = 6; // on their way at once
const KEPT_TILES = 256; // decoded tiles that a view keeps, if it does not need more at once
const PATIENCE = 10_000; // milliseconds without an answer until the view says so
const MAX_ZOOM = 16; // CSS pixels for one of the image

const HTML = `
  <canvas tabindex="0" role="application" data-lm-suppress-shortcuts="true"></canvas>
  <div class="fasttile-caption"><b dir="auto"></b> <span></span></div>
  <div class="fasttile-controls" role="group" aria-label="View">
    <button type="button" data-key="+" aria-label="Zoom in" title="Zoom in (+)">+</button>
    <button type="button" data-key="-" aria-label="Zoom out" title="Zoom out (−)">−</button>
    <button type="button" data-key="0" aria-label="Show all" title="Show all (0)">⤢</button>
    <button type="button" data-key="1" aria-label="Full size" title="Full size (1)">1:1</button>
  </div>
  <p class="fasttile-note" role="status" hidden></p>`;

const ENDED = "The kernel has ended; run the cell again.";
const SILENT = "No answer from the kernel: it is busy, or it has ended.";
const HELP =
  "Click to zoom by the wheel. Drag or arrow keys move, plus and minus zoom, 0 shows all, " +
  "1 is full size, F is full screen, Escape leaves the image.";

class Viewer {
  constructor(model, root) {
    this.model = model;
    this.image = model.get("geometry");
    this.first = model.get("first_level");
    const { levels } = this.image;
    this.levels = levels.map(([cols, rows, firstCol, firstRow, width, height], index) => ({
      ...{ cols, rows, firstCol, firstRow, width, height },
      scale: 2 ** (levels.length - 1 - index), // pixels of the image that one is wide
    }));
    this.tiles = new Map(); // decoded ones, the one that was drawn last at the end
    this.asked = new Map(); // the time of each request that has no answer
    this.failed = new Set();
    this.pointers = new Map();
    this.zoom = 0; // device pixels for one of the image; 0 before the first size is known
    this.root = root;
    root.classList.add("fasttile");
    root.innerHTML = HTML;
    this.canvas = root.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.note = root.querySelector(".fasttile-note");
    root.querySelector("b").textContent = model.get("title");
    root.querySelector("span").textContent = model.get("size");
    this.canvas.setAttribute("aria-label", `${model.get("title")}, ${model.get("size")}. ${HELP}`);
    this.say(model.get("problem"));
    this.still = new Image();
    this.still.onload = () => this.draw();
    if (model.get("still")) this.still.src = model.get("still");
  }

  // Listen to the kernel and the user; returns the function that ends it.
  connect() {
    const receive = (message, buffers) => this.receive(message, buffers);
    const lost = () => {
      this.asked.clear(); // one that is asked again shows whether there is a kernel
      this.isLost = true;
      this.say(ENDED);
    };
    this.model.on("msg:custom", receive);
    this.model.on("comm_live_update", lost);
    const sizes = new ResizeObserver(() => this.resize());
    sizes.observe(this.canvas);
    const { canvas } = this;
    canvas.addEventListener("keydown", (event) => this.press(event));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    for (const type of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
      canvas.addEventListener(type, (event) => this.point(event));
    }
    canvas.addEventListener("dblclick", (event) => this.zoomBy(2, ...this.placeOf(event)));
    this.root.querySelector(".fasttile-controls").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.act(button.dataset.key);
    });
    return () => {
      this.model.off("msg:custom", receive);
      this.model.off("comm_live_update", lost);
      sizes.disconnect();
      clearTimeout(this.timer);
      for (const tile of this.tiles.values()) tile?.close();
      this.tiles.clear();
    };
  }

  say(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
  }

  // Tiles: which are in view, how to ask for them, and what comes.

  // The largest level that is not magnified, or the largest of all.
  level() {
    const found = this.levels.findIndex(({ scale }) => scale * this.zoom <= 1.0001);
    return found < 0 ? this.levels.length - 1 : found;
  }

  // Columns and rows of a level's tiles in view, those nearest to the middle first.
  inView(index) {
    const { cols, rows, firstCol, firstRow, scale } = this.levels[index];
    const unit = scale * this.image.tileSize * this.zoom;
    const span = (start, length, first, count) => {
      const from = Math.max(first, Math.floor(-start / unit));
      const to = Math.min(first + count - 1, Math.floor((length - start - 1) / unit));
      return Array.from({ length: Math.max(0, to - from + 1) }, (_, at) => from + at);
    };
    const [x, y] = this.origin();
    const across = span(x, this.canvas.width, firstCol, cols);
    const down = span(y, this.canvas.height, firstRow, rows);
    const far = ([col, row]) =>
      Math.hypot(
        x + (col + 0.5) * unit - this.canvas.width / 2,
        y + (row + 0.5) * unit - this.canvas.height / 2,
      );
    const found = down.flatMap((row) => across.map((col) => [col, row]));
    return found.sort((one, other) => far(one) - far(other));
  }

  ask(index, wanted) {
    const now = performance.now();
    const isNew = (time) => time !== undefined && now - time < PATIENCE;
    let count = [...this.asked.values()].filter(isNew).length;
    const { firstCol, firstRow } = this.levels[index];
    for (const [col, row] of wanted) {
      if (count >= MAX_REQUESTS) break;
      const tile = [index + this.first, col - firstCol, row - firstRow];
      const key = String(tile);
      if (this.tiles.has(key) || this.failed.has(key) || isNew(this.asked.get(key))) continue;
      this.asked.set(key, now);
      this.model.send({ tile });
      count += 1;
    }
    clearTimeout(this.timer);
    if (count) {
      this.timer = setTimeout(() => this.say(this.isLost ? ENDED : SILENT), PATIENCE);
    }
    this.canvas.setAttribute("aria-busy", String(count > 0));
  }

  async receive(message, buffers) {
    const key = String(message.tile);
    if (!this.asked.delete(key)) return; // another view's
    this.isLost = false;
    if (message.error) {
      this.failed.add(key);
      this.say(message.error);
    } else {
      this.say(this.failed.size ? this.note.textContent : this.model.get("problem"));
      try {
        const data = message.blank ? null : new Blob(buffers, { type: message.type });
        this.tiles.set(key, data && (await createImageBitmap(data)));
      } catch {
        this.failed.add(key);
        this.say(`This browser does not show tiles of type ${message.type}.`);
      }
    }
    this.draw();
  }

  // Drawing.

  // The place of the canvas' top left corner in the view: whole device pixels.
  origin() {
    const { width, height } = this.canvas;
    return [
      Math.round(width / 2 - this.centre[0] * this.zoom),
      Math.round(height / 2 - this.centre[1] * this.zoom),
    ];
  }

  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      if (this.zoom && this.canvas.width) this.drawNow();
    });
  }

  drawNow() {
    const { context, canvas, zoom } = this;
    const [left, top] = this.origin();
    const rect = (x, y, width, height) => {
      const [x0, y0] = [Math.round(left + x * zoom), Math.round(top + y * zoom)];
      return [
        ...[x0, y0, Math.round(left + (x + width) * zoom) - x0],
        Math.round(top + (y + height) * zoom) - y0,
      ];
    };
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.save();
    context.beginPath();
    context.rect(...rect(...this.image.place));
    context.clip();
    context.imageSmoothingEnabled = zoom < 2;
    context.imageSmoothingQuality = "high";
    if (this.still.naturalWidth) context.drawImage(this.still, ...rect(...this.image.place));
    const chosen = this.level();
    const wanted = this.inView(chosen);
    for (let index = 0; index <= chosen; index += 1) {
      for (const [col, row] of index === chosen ? wanted : this.inView(index)) {
        this.drawTile(index, col, row, rect);
      }
    }
    context.restore();
    for (const [key, tile] of this.tiles) {
      if (this.tiles.size <= Math.max(KEPT_TILES, 2 * wanted.length)) break;
      tile?.close();
      this.tiles.delete(key);
    }
    this.ask(chosen, wanted);
  }

  drawTile(index, col, row, rect) {
    const { firstCol, firstRow, width, height, scale } = this.levels[index];
    const key = String([index + this.first, col - firstCol, row - firstRow]);
    const tile = this.tiles.get(key);
    if (tile === undefined) return;
    this.tiles.delete(key);
    this.tiles.set(key, tile); // the last one now
    if (!tile) return;
    const { tileSize: size, overlap } = this.image;
    const span = (at, first, length) => {
      const start = Math.max(0, at * size - overlap);
      return [start, Math.min(first * size + length, (at + 1) * size + overlap) - start];
    };
    const [x, wide] = span(col, firstCol, width);
    const [y, high] = span(row, firstRow, height);
    const place = rect(x * scale, y * scale, wide * scale, high * scale);
    this.context.clearRect(...place); // else alpha shows the smaller levels too
    this.context.drawImage(tile, ...place);
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !clientHeight) return;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    if (!this.zoom) this.act("0");
    this.draw();
  }

  // The user's actions.

  act(key) {
    const { width, height } = this.canvas;
    const [x, y, wide, high] = this.image.place;
    const ratio = window.devicePixelRatio || 1;
    const step = (across, down) => this.moveBy((across * width) / 5, (down * height) / 5);
    const actions = {
      "+": () => this.zoomBy(2),
      "=": () => this.zoomBy(2),
      "-": () => this.zoomBy(1 / 2),
      "0": () => {
        this.failed.clear(); // they are asked for again
        this.centre = [x + wide / 2, y + high / 2];
        this.fit = Math.min(width / wide, height / high, ratio);
        this.zoom = this.fit;
      },
      "1": () => this.zoomBy(1 / this.zoom),
      f: () => (document.fullscreenElement ? document.exitFullscreen() : this.fill()),
      ArrowLeft: () => step(1, 0),
      ArrowRight: () => step(-1, 0),
      ArrowUp: () => step(0, 1),
      ArrowDown: () => step(0, -1),
      Escape: () => this.canvas.blur(),
    };
    actions[key]?.();
    this.draw();
    return key in actions;
  }

  fill() {
    this.root.requestFullscreen?.().catch(() => {}); // where the page allows it
  }

  moveBy(x, y) {
    const [left, top, wide, high] = this.image.place;
    const within = (at, start, length) => Math.min(Math.max(at, start), start + length);
    this.centre = [
      within(this.centre[0] - x / this.zoom, left, wide),
      within(this.centre[1] - y / this.zoom, top, high),
    ];
    this.draw();
  }

  // Zoom around a place in the view, which stays where it is.
  zoomBy(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const [dx, dy] = [x - this.canvas.width / 2, y - this.canvas.height / 2];
    const most = Math.max(this.fit, MAX_ZOOM * (window.devicePixelRatio || 1));
    const zoom = Math.min(Math.max(this.zoom * factor, this.fit / 2), most);
    this.centre[0] += dx / this.zoom - dx / zoom;
    this.centre[1] += dy / this.zoom - dy / zoom;
    this.zoom = zoom;
    this.moveBy(0, 0);
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!this.act(event.key === "F" ? "f" : event.key)) return;
    event.preventDefault();
    event.stopPropagation(); // the notebook has its own use for such keys
  }

  // Without the focus, the wheel scrolls the notebook.
  wheel(event) {
    if (!event.ctrlKey && this.root.ownerDocument.activeElement !== this.canvas) return;
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 24 : 1);
    this.zoomBy(2 ** (-pixels / (event.ctrlKey ? 100 : 240)), ...this.placeOf(event));
  }

  // Drag with one pointer; move and zoom with two fingers.
  point(event) {
    const { pointers, canvas } = this;
    const measure = () => {
      const places = [...pointers.values()];
      const mean = (axis) => places.reduce((sum, at) => sum + at[axis], 0) / places.length;
      const [x, y] = [mean(0), mean(1)];
      return [x, y, places.length > 1 ? Math.hypot(places[0][0] - x, places[0][1] - y) : 0];
    };
    if (event.type === "pointerdown" && event.button === 0) {
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, this.placeOf(event));
    } else if (event.type === "pointermove" && pointers.has(event.pointerId)) {
      const [x, y, apart] = measure();
      pointers.set(event.pointerId, this.placeOf(event));
      const [newX, newY, newApart] = measure();
      this.moveBy(newX - x, newY - y);
      if (apart && newApart) this.zoomBy(newApart / apart, newX, newY);
    } else if (event.type !== "pointermove") pointers.delete(event.pointerId);
  }

  placeOf(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [
      ((event.clientX - left) * this.canvas.width) / width,
      ((event.clientY - top) * this.canvas.height) / height,
    ];
  }
}

export default {
  render({ model, el }) {
    const viewer = new Viewer(model, el);
    return viewer.connect();
  },
};
