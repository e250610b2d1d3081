// Many pictures on one wall, in OpenSeadragon: what all have in common is drawn from the
// collection's shared tiles of thumbnails; the pictures' own tiles come where one is seen larger.

const AT_ONCE = 48; // pictures whose own tiles are in use
const LABEL = 96; // how wide a picture has to be on the screen to bear its name, in pixels

// Where the pictures hang. All lengths in pixels of the largest thumbnails.
class Hanging {
  constructor(wall, shape) {
    this.side = 2 ** wall.maxLevel;
    this.pitch = [this.side * 1.125, this.side * 1.25];
    this.margin = this.side / 4;
    this.items = wall.items;
    const wanted = Math.sqrt((this.items.length * shape * this.pitch[1]) / this.pitch[0]);
    this.cols = Math.min(this.items.length, Math.max(1, Math.round(wanted)));
    this.rows = Math.ceil(this.items.length / this.cols);
    this.width = this.cols * this.pitch[0] + 2 * this.margin;
    this.height = this.rows * this.pitch[1] + 2 * this.margin;
  }

  // The middle of the line that a picture stands on.
  foot(index) {
    const [col, row] = [index % this.cols, Math.floor(index / this.cols)];
    const { margin, pitch, side } = this;
    return [margin + (col + 0.5) * pitch[0], margin + (row + 1) * pitch[1] - 0.2 * side];
  }

  // The rectangle of a picture: left, top, width and height.
  place(index) {
    const { width, height } = this.items[index];
    const scale = this.side / Math.max(width, height);
    const [w, h] = [width * scale, height * scale];
    const [middle, bottom] = this.foot(index);
    return [middle - w / 2, bottom - h, w, h];
  }

  // The picture in whose cell a point is, or null.
  at(x, y) {
    const { margin, pitch } = this;
    const [col, row] = [Math.floor((x - margin) / pitch[0]), Math.floor((y - margin) / pitch[1])];
    const index = row * this.cols + col;
    const isCell = col >= 0 && col < this.cols && row >= 0;
    return isCell && index < this.items.length ? index : null;
  }

  // The pictures that touch a rectangle.
  within(left, top, right, bottom) {
    const clamp = (n, end) => Math.max(0, Math.min(end - 1, Math.floor(n)));
    const found = [];
    if (right < 0 || bottom < 0) return found;
    const { margin, pitch } = this;
    const [x0, x1] = [left, right].map((x) => clamp((x - margin) / pitch[0], this.cols));
    const [y0, y1] = [top, bottom].map((y) => clamp((y - margin) / pitch[1], this.rows));
    for (let row = y0; row <= y1; row += 1) {
      for (let col = x0; col <= x1; col += 1) {
        const index = row * this.cols + col;
        if (index < this.items.length) found.push(index);
      }
    }
    return found;
  }

  // The same, of an OpenSeadragon.Rect.
  seen({ x, y, width, height }) {
    return this.within(x, y, x + width, y + height);
  }
}

// All thumbnails as one picture: each of its tiles is drawn when it is asked for.
function thumbnailSource(hanging, thumbnails) {
  const size = 256;
  const { width, height, side } = hanging;
  const last = Math.ceil(Math.log2(Math.max(width, height)));
  const source = new OpenSeadragon.TileSource({
    ...{ width, height, tileSize: size, tileOverlap: 0 },
    minLevel: Math.min(last, Math.max(0, last - Math.log2(side) + 1)), // where they are two pixels large
    maxLevel: last,
    getTileUrl: (level, col, row) => `thumbnails/${level}/${col}_${row}`,
  });
  source.downloadTileStart = (job) => {
    const { level, x, y } = job.tile;
    const scale = source.getLevelScale(level);
    const [left, top] = [(x * size) / scale, (y * size) / scale];
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.ceil(Math.min(size, width * scale - x * size)));
    canvas.height = Math.max(1, Math.ceil(Math.min(size, height * scale - y * size)));
    const context = canvas.getContext("2d");
    const [right, bottom] = [left + size / scale, top + size / scale];
    const drawn = hanging.within(left, top, right, bottom).map((index) => {
      const [px, py, w, h] = hanging.place(index);
      const thumbnail = thumbnails.of(hanging.items[index], hanging.side * scale);
      const to = [(px - left) * scale, (py - top) * scale, w * scale, h * scale];
      return thumbnail.tile.then((image) => {
        if (image) context.drawImage(image, ...inner(thumbnail.from), ...inner(to));
      });
    });
    Promise.all(drawn).then(() => job.finish(context, null, "context2d"));
  };
  source.downloadTileAbort = () => {};
  return source;
}

// Which pictures' own tiles are in use: those in view, once their thumbnails are too small.
class OwnTiles {
  constructor(viewer, hanging, wall) {
    Object.assign(this, { viewer, hanging, wall });
    this.hung = new Map();
  }

  update(seen, onePixel) {
    const { hanging, hung } = this;
    const wanted = new Set();
    if (onePixel > 1) {
      const center = seen.getCenter();
      const far = (index) => {
        const [x, y] = hanging.foot(index);
        return Math.hypot(x - center.x, y - hanging.side / 2 - center.y);
      };
      const nearest = hanging.seen(seen).sort((a, b) => far(a) - far(b)).slice(0, AT_ONCE);
      for (const index of nearest) if (hanging.items[index].tileSize) wanted.add(index);
    }
    const gone = [...hung].filter(([index]) => !wanted.has(index));
    const come = [...wanted].filter((index) => !hung.has(index));
    gone.forEach(([index, entry]) => this.takeDown(index, entry));
    come.forEach((index) => this.hang(index));
    this.tell();
  }

  hang(index) {
    const { hanging, hung, viewer } = this;
    const picture = pictureOf(hanging.items[index], this.wall);
    const [x, y, width] = hanging.place(index).map((pixels) => pixels / hanging.width);
    const entry = { item: null, gone: false };
    hung.set(index, entry);
    viewer.addTiledImage({
      tileSource: tileSource(picture, new Tiles(picture)),
      ...{ x, y, width },
      success: ({ item }) => {
        entry.item = item;
        if (entry.gone) viewer.world.removeItem(item);
        else item.addHandler("fully-loaded-change", () => this.tell());
      },
    });
  }

  takeDown(index, entry) {
    this.hung.delete(index);
    entry.gone = true;
    if (entry.item) this.viewer.world.removeItem(entry.item);
  }

  tell() {
    const { viewport, world } = this.viewer;
    const seen = viewport.getBounds(true);
    const items = Array.from({ length: world.getItemCount() }, (_, n) => world.getItemAt(n));
    // The library loads nothing of a picture that is not in view.
    const isThere = (item) => item.getFullyLoaded() || !seen.intersection(item.getBounds(true));
    busy(!items.every(isThere));
  }
}

// The names below the pictures, as buttons that show one.
class Labels {
  constructor(viewer, hanging, go) {
    Object.assign(this, { viewer, hanging, go });
    this.place = document.getElementById("labels");
    this.shown = new Map();
  }

  update(seen, onePixel) {
    const { hanging, shown } = this;
    const wide = hanging.side * onePixel >= LABEL;
    const visible = new Set(wide ? hanging.seen(seen) : []);
    for (const [index, label] of shown) {
      if (!visible.has(index)) {
        label.remove();
        shown.delete(index);
      }
    }
    for (const index of visible) {
      const label = shown.get(index) ?? this.add(index);
      const [middle, top] = hanging.foot(index);
      const left = middle - hanging.side / 2;
      const [x, y] = [(left - seen.x) * onePixel, (top - seen.y) * onePixel];
      label.style.transform = `translate(${x}px, ${y}px)`;
      label.style.width = `${hanging.side * onePixel}px`;
    }
  }

  add(index) {
    const item = this.hanging.items[index];
    const label = buttonOf(item);
    label.textContent = item.title;
    label.addEventListener("click", () => this.go(index));
    label.dataset.index = index;
    const later = [...this.place.children].find((other) => other.dataset.index > index);
    this.place.insertBefore(label, later ?? null); // the order of the keyboard
    this.shown.set(index, label);
    return label;
  }
}

// The viewer, as the shell's buttons and keys want it.
function steered(viewer) {
  const { viewport } = viewer;
  return {
    zoomBy(factor) {
      viewport.zoomBy(factor);
      viewport.applyConstraints();
    },
    panBy(x, y) {
      const seen = viewport.getBounds();
      viewport.panBy(new OpenSeadragon.Point(x * seen.width, y * seen.height));
      viewport.applyConstraints();
    },
    home: () => viewport.goHome(calm),
  };
}

// A picture that fills more of the window than this share, each way or one, is the one that is seen.
const SEEN = 0.6;

// Which picture is seen alone: it is in the middle, and large; null if none is.
function seenAlone(hanging, seen) {
  const { x, y } = seen.getCenter();
  const index = hanging.at(x, y);
  if (index === null) return null;
  const [, , width, height] = hanging.place(index);
  return Math.max(width / seen.width, height / seen.height) > SEEN ? index : null;
}

// A click or a tap on a picture shows it alone; the second one of a double click does nothing more.
function zoomByClicks(viewer, hanging, alone, go) {
  let last = -Infinity;
  viewer.addHandler("canvas-click", ({ quick, position, originalEvent }) => {
    if (!quick) return;
    const { x, y } = viewer.viewport.pointFromPixel(position).times(hanging.width);
    const index = hanging.at(x, y);
    if (index === null || index === alone()) return;
    last = originalEvent.timeStamp;
    go(index);
  });
  viewer.addHandler("canvas-double-click", (event) => {
    event.preventDefaultAction = event.originalEvent.timeStamp - last < 1000;
  });
}

async function showWall(element, wall) {
  const viewer = openViewer(element, { minZoomImageRatio: 0.7, maxZoomPixelRatio: 8 });
  const hanging = new Hanging(wall, element.clientWidth / element.clientHeight);
  const own = new OwnTiles(viewer, hanging, wall);
  const go = (index) => {
    const [x, y, w, h] = hanging.place(index).map((pixels) => pixels / hanging.width);
    const [right, below] = [w * 0.06, h * 0.06];
    const bounds = new OpenSeadragon.Rect(x - right, y - below, w + 2 * right, h + 2 * below);
    viewer.viewport.fitBounds(bounds, calm);
  };
  const labels = new Labels(viewer, hanging, go);
  let alone = null;
  const update = () => {
    const seen = viewer.viewport.getBounds(true).times(hanging.width);
    const onePixel = element.clientWidth / seen.width;
    const now = hanging.items.length > 1 ? seenAlone(hanging, seen) : null;
    if (now !== alone) nameIt(hanging.items[now]);
    alone = now;
    labels.update(seen, onePixel);
    own.update(seen, onePixel);
  };
  viewer.addTiledImage({
    tileSource: thumbnailSource(hanging, new Thumbnails(wall)),
    width: 1,
    success: ({ item }) => {
      item.addHandler("fully-loaded-change", () => own.tell());
      viewer.viewport.goHome(true);
      viewer.addHandler("update-viewport", update);
      update();
    },
  });
  zoomByClicks(viewer, hanging, () => alone, go);
  const back = () => {
    const label = labels.shown.get(alone);
    viewer.viewport.goHome(calm);
    (label ?? element).focus();
  };
  return { ...steered(viewer), back };
}

run("OpenSeadragon", showWall);
