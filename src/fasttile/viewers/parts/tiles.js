// Where the tiles of a picture lie, and how to get one. Levels are counted from 0, the smallest
// that is there; columns and rows from the top left corner of the whole canvas; pixels in a level.

"use strict";

// How each layout names a tile, below its folder. `number` is the layout's own of the level.
const NAMES = {
  dzi: (its, number, col, row) => `${number}/${col}_${row}.${its.extension}`,
  gsiv: (its, number, col, row) => `tile-${number}-${col}-${row}.${its.extension}`,
  iiif2: (its, number, col, row, at) => iiifName(its, at, `${at.width},`),
  iiif3: (its, number, col, row, at) => iiifName(its, at, `${at.width},${at.height}`),
  tilecache: (its, number, col, row) => {
    const inThrees = (n) => String(n).padStart(9, "0").replace(/...(?!$)/g, "$&/");
    const zoom = String(number).padStart(2, "0");
    return `${zoom}/${inThrees(col)}/${inThrees(2 ** number - 1 - row)}.${its.extension}`;
  },
  tms: (its, number, col, row) => `${number}/${col}/${2 ** number - 1 - row}.${its.extension}`,
  xyz: (its, number, col, row) => {
    const said = { z: number, x: col, y: row, quadkey: quadkey(number, col, row) };
    const name = its.template.replace(/\{(z|x|y|quadkey)\}/g, (_, word) => said[word]);
    return `${name}.${its.extension}`;
  },
  zoomify: (its, number, col, row, at) => {
    const group = Math.floor((at.before + row * at.cols + col) / its.tilesPerGroup);
    return `TileGroup${group}/${number}-${col}-${row}.${its.extension}`;
  },
  // What `fasttile view` answers to.
  served: (its, number, col, row, at) => `${number}/${col - at.firstCol}/${row - at.firstRow}`,
};

function iiifName(its, at, size) {
  const region = at.only ? "full" : at.fullSize.join(",");
  return `${region}/${size}/0/default.${its.extension}`;
}

function quadkey(zoom, col, row) {
  let key = "";
  for (let bit = zoom - 1; bit >= 0; bit -= 1) {
    key += (Math.floor(col / 2 ** bit) % 2) + 2 * (Math.floor(row / 2 ** bit) % 2);
  }
  return key;
}

// The tiles of a picture, as the page describes it.
class Tiles {
  constructor(picture) {
    this.picture = picture;
    this.its = picture.tiles;
    this.count = picture.levels.length;
    let before = 0;
    this.levels = picture.levels.map(([cols, rows, firstCol, firstRow, width, height], index) => {
      const level = { cols, rows, firstCol, firstRow, width, height, before };
      level.scale = 2 ** (this.count - 1 - index); // pixels of the full size that one is wide
      before += cols * rows;
      return level;
    });
    this.above = new Map(); // the last tiles that missing ones were made of
    this.loaded = 0;
    this.failed = 0;
    this.onload = () => {}; // called when either has changed
  }

  // Whether there is such a tile.
  has(index, col, row) {
    const level = this.levels[index];
    if (!level) return false;
    const [x, y] = [col - level.firstCol, row - level.firstRow];
    return x >= 0 && y >= 0 && x < level.cols && y < level.rows;
  }

  // The tile's pixels in its level, overlap included: left, top, width and height.
  region(index, col, row) {
    const { tileSize: size, overlap } = this.picture;
    const level = this.levels[index];
    const span = (n, end) => {
      const start = Math.max(0, n * size - overlap);
      return [start, Math.min(end, (n + 1) * size + overlap) - start];
    };
    const [x, width] = span(col, level.firstCol * size + level.width);
    const [y, height] = span(row, level.firstRow * size + level.height);
    return [x, y, width, height];
  }

  url(index, col, row) {
    const level = this.levels[index];
    const [x, y, width, height] = this.region(index, col, row);
    const { scale } = level;
    const { width: fullWidth, height: fullHeight } = this.picture;
    const fullSize = [
      x * scale,
      y * scale,
      Math.min(width * scale, fullWidth - x * scale),
      Math.min(height * scale, fullHeight - y * scale),
    ];
    const at = { ...level, width, height, fullSize, only: level.cols * level.rows === 1 };
    const name = NAMES[this.its.kind](this.its, index + this.its.first, col, row, at);
    return `${this.its.root}/${name}`;
  }

  // The tile as an image; a promise. A tile that is missing is a part of a smaller level, enlarged,
  // or of the colour of tiles that were left out, for there is nothing on them.
  async load(index, col, row) {
    try {
      const image = await this.fetch(index, col, row).catch((error) => {
        if (this.its.blank) return null;
        return this.enlarged(error, index, col, row);
      });
      this[image ? "loaded" : "failed"] += 1;
      return image ?? this.blank(index, col, row);
    } catch (error) {
      this.failed += 1;
      throw error;
    } finally {
      this.onload();
    }
  }

  // The part of a smaller level that a tile covers, in the tile's size. `error` is thrown where all
  // smaller levels lack it too.
  async enlarged(error, index, col, row) {
    if (index === 0) throw error;
    const above = [index - 1, Math.floor(col / 2), Math.floor(row / 2)];
    const key = above.join();
    if (!this.above.has(key)) {
      const found = this.fetch(...above).catch(() => this.enlarged(error, ...above));
      found.catch(() => this.above.delete(key));
      this.above.set(key, found);
      if (this.above.size > 64) this.above.delete(this.above.keys().next().value);
    }
    const image = await this.above.get(key);
    const [x, y, width, height] = this.region(index, col, row);
    const [left, top] = this.region(...above);
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    context.drawImage(image, 2 * left - x, 2 * top - y, 2 * image.width, 2 * image.height);
    return canvas;
  }

  fetch(index, col, row) {
    return imageAt(this.url(index, col, row));
  }

  // The tile as a canvas, for viewers whose tiles are all of one size and do not overlap: one that
  // is smaller lies on a square, of one that overlaps its neighbours only its own part is there,
  // and what lies beside the picture is clear.
  async square(index, col, row) {
    const { tileSize: size, place } = this.picture;
    const square = document.createElement("canvas");
    square.width = size;
    square.height = size;
    if (!this.has(index, col, row)) return square;
    const image = await this.load(index, col, row);
    const [left, top] = this.region(index, col, row);
    const [x, y, width, height] = place.map((pixels) => pixels / this.levels[index].scale);
    const context = square.getContext("2d");
    // A canvas has floats of 32 bits, in which far tiles of a huge picture would lie elsewhere.
    const within = (at, origin) => Math.max(0, Math.min(size, at - origin));
    const [startX, startY] = [within(x, col * size), within(y, row * size)];
    const [endX, endY] = [within(x + width, col * size), within(y + height, row * size)];
    context.beginPath();
    context.rect(startX, startY, endX - startX, endY - startY);
    context.clip();
    context.drawImage(image, left - col * size, top - row * size);
    return square;
  }

  blank(index, col, row) {
    const [, , width, height] = this.region(index, col, row);
    const size = `width="${width}" height="${height}"`;
    const field = `<rect ${size} fill="${this.its.blank}"/>`;
    const text = `<svg xmlns="http://www.w3.org/2000/svg" ${size}>${field}</svg>`;
    return imageAt(`data:image/svg+xml,${encodeURIComponent(text)}`);
  }
}

// The picture as this screen shows it. Of tiles of two sizes, dense screens show those of twice the
// size, others their halves, and quarters of the largest ones.
function forScreen(picture) {
  const { tiles, levels, tileSize } = picture;
  if (tiles?.scale !== 2) return picture; // a wall has no tiles of its own
  if (window.devicePixelRatio > 1) return picture;
  if (!tiles.half) return picture; // only the larger ones are served
  const halved = levels.map(([cols, rows, firstCol, firstRow, width, height]) => {
    return [cols, rows, firstCol, firstRow, width / 2, height / 2];
  });
  const [cols, rows, firstCol, firstRow, width, height] = levels[levels.length - 1];
  const quarters = [2 * cols, 2 * rows, 2 * firstCol, 2 * firstRow, width, height];
  return { ...picture, tileSize: tileSize / 2, levels: [...halved, quarters], dense: picture };
}

class HalvedTiles extends Tiles {
  constructor(picture) {
    super(picture);
    this.its = { ...this.its, template: this.its.half };
    this.dense = new Tiles(picture.dense);
  }

  // The address of the file that a tile is a quarter of.
  denseUrl(index, col, row) {
    return this.dense.url(index - 1, Math.floor(col / 2), Math.floor(row / 2));
  }

  url(index, col, row) {
    if (index < this.count - 1) return super.url(index, col, row);
    return `${this.denseUrl(index, col, row)}#${col},${row}`;
  }

  async fetch(index, col, row) {
    if (index < this.count - 1) return super.fetch(index, col, row);
    const image = await imageAt(this.denseUrl(index, col, row));
    const { tileSize: size } = this.picture;
    const quarter = document.createElement("canvas");
    quarter.width = size;
    quarter.height = size;
    quarter.getContext("2d").drawImage(image, -(col % 2) * size, -(row % 2) * size);
    return quarter;
  }
}

function imageAt(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error(`no picture at ${url}`));
    image.src = url;
  });
}

// The tiles that the page tells of. Where they lie in one file, parts/pmtiles.js knows better.
async function tilesOf(picture) {
  if (picture.tiles.kind === "pmtiles") return openPmtiles(picture);
  return picture.dense ? new HalvedTiles(picture) : new Tiles(picture);
}
