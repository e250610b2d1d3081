// Tiles out of one file, PMTiles version 3, of which pieces are read as they are needed.
// Source: Protomaps' PMTiles specification 3.

const HEADER = 127; // bytes
const GZIP = 2;

class Archive {
  // `read` gives a promise of so many bytes from a place on, as an ArrayBuffer.
  constructor(read) {
    this.read = read;
    this.directories = new Map();
  }

  async open() {
    const view = new DataView(await this.read(0, HEADER));
    const magic = String.fromCharCode(...new Uint8Array(view.buffer, 0, 7));
    if (magic !== "PMTiles" || view.getUint8(7) !== 3) throw new Error("this is no PMTiles 3");
    const number = (at) => Number(view.getBigUint64(at, true));
    this.root = [number(8), number(16)];
    this.leaves = number(40);
    this.data = number(56);
    this.packed = view.getUint8(97) === GZIP;
    return this;
  }

  // A tile's bytes, or null where there is none.
  async tile(zoom, col, row) {
    const id = tileId(zoom, col, row);
    let [offset, length] = this.root;
    for (let depth = 0; depth < 4; depth += 1) {
      const entry = find(await this.directory(offset, length), id);
      if (!entry) return null;
      if (entry.run > 0) {
        return id < entry.id + entry.run ? this.read(this.data + entry.offset, entry.length) : null;
      }
      [offset, length] = [this.leaves + entry.offset, entry.length];
    }
    throw new Error("the directories of this PMTiles lead nowhere");
  }

  directory(offset, length) {
    if (!this.directories.has(offset)) {
      const found = this.read(offset, length)
        .then((data) => (this.packed ? unpacked(data) : data))
        .then(entries);
      found.catch(() => this.directories.delete(offset));
      this.directories.set(offset, found);
    }
    return this.directories.get(offset);
  }
}

function unpacked(data) {
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

// The entries of a directory: its four columns, each a row of numbers of seven bits a byte.
function entries(data) {
  const bytes = new Uint8Array(data);
  let at = 0;
  const next = () => {
    let [value, unit] = [0, 1];
    for (;;) {
      if (at >= bytes.length) throw new Error("a directory of this PMTiles ends too early");
      const byte = bytes[at];
      at += 1;
      value += (byte % 128) * unit;
      if (byte < 128) return value;
      unit *= 128;
    }
  };
  const found = Array.from({ length: next() }, () => ({}));
  let id = 0;
  for (const entry of found) entry.id = id += next();
  for (const entry of found) entry.run = next();
  for (const entry of found) entry.length = next();
  found.forEach((entry, index) => {
    const said = next();
    const before = found[index - 1];
    entry.offset = said === 0 && before ? before.offset + before.length : said - 1;
  });
  return found;
}

// The last entry that does not begin behind a tile.
function find(directory, id) {
  let [low, high] = [0, directory.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (directory[middle].id <= id) low = middle + 1;
    else high = middle;
  }
  return directory[low - 1];
}

// A tile's number along the Hilbert curves of all zooms, one after the other.
function tileId(zoom, col, row) {
  let [x, y] = [col, row];
  let id = (4 ** zoom - 1) / 3;
  for (let side = 2 ** (zoom - 1); side >= 1; side /= 2) {
    const [right, below] = [x >= side, y >= side];
    const quarter = right ? (below ? 2 : 3) : below ? 1 : 0;
    id += side * side * quarter;
    if (right) x -= side;
    if (below) y -= side;
    if (!below) {
      if (right) [x, y] = [side - 1 - x, side - 1 - y];
      [x, y] = [y, x];
    }
  }
  return id;
}

class PmtilesTiles extends Tiles {
  constructor(picture, archive) {
    super(picture);
    this.archive = archive;
  }

  // What tells a tile from all others; nothing is to be had there.
  url(index, col, row) {
    return `${this.its.root}#${index}/${col}/${row}`;
  }

  async fetch(index, col, row) {
    const data = await this.archive.tile(index + this.its.first, col, row);
    if (!data) throw new Error(`no tile ${col}, ${row} on level ${index}`);
    const url = URL.createObjectURL(new Blob([data]));
    try {
      return await imageAt(url);
    } finally {
      URL.revokeObjectURL(url);
    }
  }
}

// Pieces of a file on a server. They are not read from the browser's cache: for some ranges that
// were read before, Chromium's cache answers 206 with the right headers and no byte.
function rangesOf(url) {
  return async (offset, length) => {
    const range = `bytes=${offset}-${offset + length - 1}`;
    const answer = await fetch(url, { headers: { Range: range }, cache: "no-store" });
    if (answer.status !== 206) throw new Error(`${answer.status} instead of a piece`);
    const piece = await answer.arrayBuffer();
    if (piece.byteLength !== length) {
      throw new Error(`${piece.byteLength} bytes instead of ${length}`);
    }
    return piece;
  };
}

// Pieces of a file that the user has chosen.
const slicesOf = (file) => (offset, length) => file.slice(offset, offset + length).arrayBuffer();

async function openPmtiles(picture) {
  const { root, beside } = picture.tiles;
  const from = (read) => new Archive(read).open().then((it) => new PmtilesTiles(picture, it));
  if (window.location.protocol === "file:") {
    const why = `Opened from the disk, this page may not read ${beside} by itself.`;
    return chosen(why, beside, from);
  }
  try {
    return await from(rangesOf(root));
  } catch {
    const why = `${beside} cannot be read from this server: it has to answer range requests.`;
    return chosen(why, beside, from);
  }
}

// What `from` makes of the file that the user chooses.
function chosen(why, name, from) {
  return new Promise((resolve) => {
    const ask = (text) => {
      const input = Object.assign(document.createElement("input"), { type: "file" });
      const label = document.createElement("label");
      label.append(`Choose ${name} here: `, input);
      trouble(text).append(label);
      input.addEventListener("change", () => {
        from(slicesOf(input.files[0])).then(
          (tiles) => {
            trouble("");
            resolve(tiles);
          },
          (error) => ask(`That file cannot be shown: ${error.message}.`),
        );
      });
    };
    ask(why);
  });
}
