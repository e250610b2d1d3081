// The picture without a library: its tiles beside each other. The view is the point of the canvas
// in the middle of the window, x and y, and the zoom: the width of a pixel of the canvas, in pixels
// of CSS.

const REQUESTS = 8; // at once
const MOST = 400; // tiles that are shown, where a result has no small levels

class PlainView {
  constructor(element, picture, tiles) {
    Object.assign(this, { element, picture, tiles, size: picture.tileSize });
    this.panes = new Map(); // the tiles that are wanted or shown, by their names
    this.running = 0;
    this.frame = 0;
    this.layer = document.createElement("div");
    this.layer.setAttribute("aria-hidden", "true"); // the element around it has the name
    Object.assign(element.style, { overflow: "hidden", cursor: "grab" });
    element.replaceChildren(this.layer);
    this.show(homeOf(picture, element));
    new ResizeObserver(() => {
      this.update();
      resized();
    }).observe(element);
    this.listen(element);
  }

  place() {
    const [left, top] = this.picture.place;
    return { zoom: this.zoom, x: this.x - left, y: this.y - top, rotation: 0 };
  }

  show({ zoom, x, y }) {
    const [left, top] = this.picture.place;
    Object.assign(this, { zoom, x: left + x, y: top + y });
    this.update();
  }

  move(right, down) {
    this.x += right / this.zoom;
    this.y += down / this.zoom;
    this.update();
  }

  // Zoom about a point, in pixels right of and below the middle: it stays where it is.
  zoomBy(factor, right = 0, down = 0) {
    const [smallest, largest] = limitsOf(this.picture);
    const zoom = Math.max(smallest, Math.min(largest, this.zoom * factor));
    this.x += right / this.zoom - right / zoom;
    this.y += down / this.zoom - down / zoom;
    this.zoom = zoom;
    this.update();
  }

  update() {
    const [x, y, width, height] = this.picture.place;
    this.x = Math.max(x, Math.min(x + width, this.x));
    this.y = Math.max(y, Math.min(y + height, this.y));
    moved();
    busy(true);
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  // The place of a tile in the window: left, top, right, bottom, in whole pixels of the screen,
  // which the layer's scale makes pixels of CSS; these have only a few decimals.
  bounds(index, col, row) {
    const { clientWidth, clientHeight } = this.element;
    const unit = this.size * this.tiles.levels[index].scale * this.zoom;
    const whole = (at) => Math.round(at * devicePixelRatio);
    const left = whole(this.x * this.zoom - clientWidth / 2);
    const top = whole(this.y * this.zoom - clientHeight / 2);
    const edges = [col * unit, row * unit, (col + 1) * unit, (row + 1) * unit].map(whole);
    return [edges[0] - left, edges[1] - top, edges[2] - left, edges[3] - top];
  }

  isSeen([left, top, right, bottom]) {
    const [width, height] = [this.element.clientWidth, this.element.clientHeight];
    const inside = left < width * devicePixelRatio && top < height * devicePixelRatio;
    return right > 0 && bottom > 0 && inside;
  }

  // The names of the tiles in view, of the smallest level that is sharp; the middle ones first.
  wanted() {
    const last = this.tiles.count - 1;
    const sharp = last + Math.ceil(Math.log2(this.zoom * devicePixelRatio) - 0.01);
    const index = Math.max(0, Math.min(last, sharp));
    const level = this.tiles.levels[index];
    const side = this.size * level.scale;
    const span = (middle, half, first, count) => {
      const from = Math.max(first, Math.floor((middle - half) / side));
      const to = Math.min(first + count - 1, Math.floor((middle + half) / side));
      return Array.from({ length: Math.max(0, to - from + 1) }, (_, n) => from + n);
    };
    const { clientWidth, clientHeight } = this.element;
    const cols = span(this.x, clientWidth / 2 / this.zoom, level.firstCol, level.cols);
    const rows = span(this.y, clientHeight / 2 / this.zoom, level.firstRow, level.rows);
    const far = ([, col, row]) =>
      Math.hypot((col + 0.5) * side - this.x, (row + 0.5) * side - this.y);
    const found = rows.flatMap((row) => cols.map((col) => [index, col, row]));
    return found.sort((a, b) => far(a) - far(b)).slice(0, MOST);
  }

  draw() {
    this.frame = 0;
    this.layer.style.cssText = `transform: scale(${1 / devicePixelRatio}); transform-origin: 0 0`;
    const wanted = this.wanted();
    for (const tile of wanted) {
      const name = tile.join();
      const pane = this.panes.get(name) ?? { tile, state: "wanted" };
      this.panes.set(name, pane);
      if (pane.state === "wanted" && this.running < REQUESTS) this.ask(pane);
    }
    const names = new Set(wanted.map((tile) => tile.join()));
    const complete = wanted.every((tile) => this.panes.get(tile.join()).state === "there");
    for (const [name, { tile, canvas }] of this.panes) {
      const bounds = this.bounds(...tile);
      // Tiles of other levels stay until all have come, and no longer: they would shine through.
      if (!names.has(name) && (complete || !canvas || !this.isSeen(bounds))) {
        canvas?.remove();
        this.panes.delete(name);
      } else if (canvas) {
        const [left, top, right, bottom] = bounds;
        // Enlarged pixels are squares: blended, those at the edges would fade away.
        const larger = this.tiles.levels[tile[0]].scale * this.zoom * devicePixelRatio > 1;
        canvas.style.cssText =
          `position: absolute; z-index: ${tile[0]}; left: ${left}px; top: ${top}px; ` +
          `width: ${right - left}px; height: ${bottom - top}px; ` +
          `image-rendering: ${larger ? "pixelated" : "auto"}`;
      }
    }
    busy(!complete);
  }

  async ask(pane) {
    pane.state = "asked";
    this.running += 1;
    const canvas = await this.tiles.square(...pane.tile).catch(() => null);
    this.running -= 1;
    pane.state = "there"; // or it never will be
    if (canvas && this.panes.get(pane.tile.join()) === pane) {
      pane.canvas = canvas;
      this.layer.append(canvas);
    }
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  // The mouse, fingers and pens: one moves the picture, two zoom it as well.
  listen(element) {
    const held = new Map();
    const fromMiddle = ({ clientX, clientY }) => {
      const { left, top, width, height } = element.getBoundingClientRect();
      return [clientX - left - width / 2, clientY - top - height / 2];
    };
    const grip = () => {
      const points = [...held.values()];
      const [x, y] = [0, 1].map((axis) => {
        return points.reduce((sum, point) => sum + point[axis], 0) / points.length;
      });
      return { x, y, wide: Math.hypot(points[0][0] - x, points[0][1] - y) };
    };
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      element.setPointerCapture(event.pointerId);
      held.set(event.pointerId, fromMiddle(event));
    });
    element.addEventListener("pointermove", (event) => {
      if (!held.has(event.pointerId)) return;
      const before = grip();
      held.set(event.pointerId, fromMiddle(event));
      const now = grip();
      this.move(before.x - now.x, before.y - now.y);
      if (before.wide > 0 && now.wide > 0) this.zoomBy(now.wide / before.wide, now.x, now.y);
    });
    for (const name of ["pointerup", "pointercancel"]) {
      element.addEventListener(name, (event) => held.delete(event.pointerId));
    }
    element.addEventListener("dblclick", (event) => this.zoomBy(2, ...fromMiddle(event)));
    const turned = (event) => {
      event.preventDefault(); // the page itself neither scrolls nor zooms
      const lines = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : 33);
      this.zoomBy(2 ** (-lines / (event.ctrlKey ? 50 : 200)), ...fromMiddle(event));
    };
    element.addEventListener("wheel", turned, { passive: false });
  }
}

async function showPlainly(element, picture) {
  return new PlainView(element, picture, watch(await tilesOf(picture)));
}
