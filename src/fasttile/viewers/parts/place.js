// Where the view of one picture is, the same by all viewers. A place has `zoom`, the width of a pixel
// of the picture in pixels of CSS; `x` and `y`, the point in the middle of the window, in pixels from
// the picture's top left corner; and `rotation`, in degrees clockwise. The picture is its largest
// level that is there. The address has it as #zoom/x/y, or #zoom/x/y/rotation; without it, all of
// the picture is shown.

const watchers = []; // called when the view has moved, or with true when its window has another size

function moved() {
  for (const watcher of watchers) watcher(false);
}

// Some viewers move the view after they say that its size has changed.
function resized() {
  setTimeout(() => watchers.forEach((watcher) => watcher(true)));
}

// A rotation in whole degrees, 0 to 359.
const turned = (rotation) => ((Math.round(rotation) % 360) + 360) % 360;

function addressOf({ zoom, x, y, rotation }) {
  const decimals = zoom > 1 ? 2 : 1;
  const numbers = [zoom.toPrecision(4), x.toFixed(decimals), y.toFixed(decimals)];
  if (turned(rotation)) numbers.push(turned(rotation));
  return `#${numbers.map(Number).join("/")}`;
}

function placeIn(address) {
  if (!/^#[\d.e+-]+(\/[\d.e+-]+){2,3}$/.test(address)) return null;
  const [zoom, x, y, rotation = 0] = address.slice(1).split("/").map(Number);
  return zoom > 0 && [zoom, x, y, rotation].every(Number.isFinite) ? { zoom, x, y, rotation } : null;
}

// A vector of the screen in the picture's directions, or with `back` the other way.
function turn([x, y], rotation, back = false) {
  const angle = ((back ? 1 : -1) * rotation * Math.PI) / 180;
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  return [x * cos - y * sin, x * sin + y * cos];
}

// Whether two places are the same, but for less than a pixel of CSS.
function isNear(one, other) {
  const off = Math.max(Math.abs(one.x - other.x), Math.abs(one.y - other.y)) * one.zoom;
  const isTurned = turned(one.rotation) !== turned(other.rotation);
  return Math.abs(one.zoom / other.zoom - 1) < 1e-3 && off < 1 && !isTurned;
}

// How a picture is seen as a whole.
function homeOf(picture, element, rotation = 0) {
  const [, , width, height] = picture.place;
  const [wide, high] = [turn([width, height], rotation), turn([width, -height], rotation)];
  const span = (axis) => Math.max(Math.abs(wide[axis]), Math.abs(high[axis]));
  const { clientWidth, clientHeight } = element;
  const zoom = Math.min(Math.max(1, clientWidth) / span(0), Math.max(1, clientHeight) / span(1));
  return { zoom, x: width / 2, y: height / 2, rotation };
}

// The smallest and the largest zoom, for windows of any size: the longer side has at least 160
// pixels of CSS; a pixel of the picture has at most 8, or more where the picture itself is tiny.
function limitsOf({ place: [, , width, height] }) {
  const side = Math.max(width, height);
  return [Math.min(160 / side, 1), Math.max(8192 / side, 8)];
}

// What buttons, keys and the address do with a viewer, which has `place()` and `show(place, now)`,
// `now` without animation, calls `moved()` and `resized()`, and `turns` if it can rotate the picture.
class Steering {
  constructor(viewer, picture, element) {
    Object.assign(this, { viewer, picture, element, turns: viewer.turns });
    let size = [element.clientWidth, element.clientHeight].join();
    let isFitted = false;
    watchers.push((isResized) => {
      const now = [element.clientWidth, element.clientHeight].join();
      if (isResized && isFitted) this.home(true);
      if (isResized) size = now;
      else if (size === now) isFitted = this.isFitted;
    });
  }

  get place() {
    return this.viewer.place();
  }

  // Whether all of the picture is seen, as large as it can be.
  get isFitted() {
    const { place } = this;
    return isNear(place, homeOf(this.picture, this.element, place.rotation));
  }

  // Show a place, or the nearest one that may be shown, which is returned.
  show({ zoom, x, y, rotation = 0 }, now = calm) {
    const [, , width, height] = this.picture.place;
    const [smallest, largest] = limitsOf(this.picture);
    const place = {
      zoom: Math.max(smallest, Math.min(largest, zoom)),
      x: Math.max(0, Math.min(width, x)),
      y: Math.max(0, Math.min(height, y)),
      rotation: this.turns ? rotation : 0,
    };
    this.viewer.show(place, now);
    moved(); // Leaflet does not say so where it is there already
    return place;
  }

  // The point of the picture at a point of the window, and the other way.
  pointAt([right, down]) {
    const { zoom, x, y, rotation } = this.place;
    const { clientWidth, clientHeight } = this.element;
    const vector = turn([right - clientWidth / 2, down - clientHeight / 2], rotation);
    return [x + vector[0] / zoom, y + vector[1] / zoom];
  }

  windowPoint([x, y]) {
    const { place } = this;
    const { clientWidth, clientHeight } = this.element;
    const vector = [(x - place.x) * place.zoom, (y - place.y) * place.zoom];
    const [right, down] = turn(vector, place.rotation, true);
    return [clientWidth / 2 + right, clientHeight / 2 + down];
  }

  zoomBy(factor) {
    this.show({ ...this.place, zoom: this.place.zoom * factor });
  }

  panBy(right, down) {
    const { place } = this;
    const { clientWidth, clientHeight } = this.element;
    const [x, y] = turn([right * clientWidth, down * clientHeight], place.rotation);
    this.show({ ...place, x: place.x + x / place.zoom, y: place.y + y / place.zoom });
  }

  turnBy(degrees) {
    const { place, isFitted } = this;
    const rotation = place.rotation + degrees;
    this.show(isFitted ? homeOf(this.picture, this.element, rotation) : { ...place, rotation });
  }

  home(now = calm) {
    this.show(homeOf(this.picture, this.element, this.place.rotation), now);
  }
}

// The address says what is seen, and what it says is shown. While the view moves, it is replaced. A
// view that was opened by its address, was copied as a link, or was left for all of the picture, stays
// in the history: the next one is an entry of its own.
class Address {
  constructor(view) {
    this.view = view;
    this.isKept = this.read(true);
    watchers.push(() => this.settle());
    for (const name of ["popstate", "hashchange"]) {
      window.addEventListener(name, () => {
        this.isKept = true;
        this.read();
      });
    }
  }

  // Show what the address says; true if it says a place.
  read(now = calm) {
    const place = placeIn(window.location.hash);
    this.led = this.view.show(place ?? homeOf(this.view.picture, this.view.element), now);
    this.settle();
    return Boolean(place);
  }

  settle() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.write(), 250);
  }

  write() {
    clearTimeout(this.timer);
    const { place, isFitted } = this.view;
    const address = isFitted && !turned(place.rotation) ? "" : addressOf(place);
    if (address === window.location.hash) return;
    const [page] = window.location.href.split("#");
    const isNew = this.isKept && !isNear(place, this.led);
    window.history[isNew ? "pushState" : "replaceState"](null, "", page + address);
    if (isNew) this.isKept = false;
  }

  // A next view is to be an entry of its own.
  keep() {
    this.write();
    Object.assign(this, { isKept: true, led: this.view.place });
  }
}
