// Shared by all pages of a collection: its thumbnails, and the places of its pictures' tiles.

// The collection's shared tiles: squares of thumbnails, along a Morton curve.
class Thumbnails {
  constructor(wall) {
    this.wall = wall;
    this.images = new Map();
  }

  // A picture's thumbnail that is at least so many pixels long, or the longest:
  // the tile it lies on, a promise, and its rectangle there.
  of(item, pixels) {
    const { maxLevel, tileSize } = this.wall;
    const own = levelsOf(item) - 1;
    const wanted = Math.ceil(Math.log2(Math.max(1, pixels)));
    const level = Math.min(maxLevel, own, wanted);
    const cell = 2 ** level;
    const [col, row] = morton(item.n);
    const [x, y] = [col * cell, row * cell];
    const shrunk = (side) => side / 2 ** (own - level); // a last pixel may be half background
    const tile = this.image(level, Math.floor(x / tileSize), Math.floor(y / tileSize));
    return { tile, from: [x % tileSize, y % tileSize, shrunk(item.width), shrunk(item.height)] };
  }

  image(level, col, row) {
    const { root, extension } = this.wall;
    const key = `${root}/${level}/${col}_${row}.${extension}`;
    let image = this.images.get(key);
    if (image) this.images.delete(key); // and back, as the latest
    else image = imageAt(key).catch(() => null);
    this.images.set(key, image);
    if (this.images.size > 256) this.images.delete(this.images.keys().next().value);
    return image;
  }
}

// A column and a row from the even and the odd bits of a number.
function morton(number) {
  let [col, row] = [0, 0];
  for (let [rest, bit] = [number, 1]; rest >= 1; rest = Math.floor(rest / 4), bit *= 2) {
    col += (rest % 2) * bit;
    row += (Math.floor(rest / 2) % 2) * bit;
  }
  return [col, row];
}

const levelsOf = ({ width, height }) => Math.ceil(Math.log2(Math.max(width, height))) + 1;

// A rectangle without half a pixel at each side: there, what lies beside it would shine through
// where it is shown larger.
function inner([x, y, width, height]) {
  const half = Math.min(0.5, width / 8, height / 8);
  return [x + half, y + half, width - 2 * half, height - 2 * half];
}

const sizeOf = ({ width, height }) =>
  `${[width, height].map((side) => side.toLocaleString("en")).join(" × ")} pixels`;

// The caption names the picture that is seen alone; without one it is that of the wall.
function nameIt(item) {
  const elements = [...document.querySelectorAll("#caption h1, #caption p")];
  nameIt.ofWall ??= elements.map((element) => element.textContent);
  const texts = item ? [item.title, sizeOf(item)] : nameIt.ofWall;
  elements.forEach((element, index) => (element.textContent = texts[index]));
}

// A button that is to show a picture.
function buttonOf(item) {
  const button = document.createElement("button");
  button.type = "button";
  button.title = `${item.title}, ${sizeOf(item)}`;
  return button;
}

// What a Deep Zoom descriptor says, as the page of a single picture has it.
function pictureOf(item, wall) {
  const { width, height, tileSize, overlap } = item;
  const count = levelsOf(item);
  const levels = Array.from({ length: count }, (_, index) => {
    const scale = 2 ** (count - 1 - index);
    const [w, h] = [Math.ceil(width / scale), Math.ceil(height / scale)];
    return [Math.ceil(w / tileSize), Math.ceil(h / tileSize), 0, 0, w, h];
  });
  const tiles = { kind: wall.kind, root: item.root, extension: item.extension, first: 0 };
  const whole = { width, height, canvas: [width, height], place: [0, 0, width, height] };
  return { ...whole, tileSize, overlap, levels, tiles };
}
