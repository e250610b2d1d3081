// What pages by OpenSeadragon have in common.

// A tile source whose sizes are whole numbers on every level, as they were cut.
function tileSource(picture, tiles) {
  const [width, height] = picture.canvas;
  const { tileSize, overlap } = picture;
  const source = new OpenSeadragon.TileSource({
    width,
    height,
    tileSize,
    tileOverlap: overlap,
    minLevel: 0,
    maxLevel: tiles.count - 1,
    getTileUrl: (level, col, row) => tiles.url(level, col, row),
  });
  const ends = (level) => {
    const at = tiles.levels[level];
    return [at.firstCol + at.cols, at.firstRow + at.rows];
  };
  source.getNumTiles = (level) => new OpenSeadragon.Point(...ends(level));
  source.tileExists = (level, col, row) => tiles.has(level, col, row);
  source.getTileAtPoint = (level, point) => {
    const unit = tiles.levels[level].scale * tileSize;
    const index = (at, end) => Math.min(Math.max(0, Math.floor((at * width) / unit)), end - 1);
    const [cols, rows] = ends(level);
    return new OpenSeadragon.Point(index(point.x, cols), index(point.y, rows));
  };
  source.getTileBounds = (level, col, row, isSource) => {
    const [x, y, w, h] = tiles.region(level, col, row);
    if (isSource) return new OpenSeadragon.Rect(0, 0, w, h);
    const unit = tiles.levels[level].scale / width;
    return new OpenSeadragon.Rect(x * unit, y * unit, w * unit, h * unit);
  };
  source.downloadTileStart = (job) => {
    const { level, x, y } = job.tile;
    tiles.load(level, x, y).then(
      (image) => {
        if (image instanceof HTMLImageElement) job.finish(image, null, "image");
        else job.finish(image.getContext("2d"), null, "context2d");
      },
      (error) => job.fail(error.message, null),
    );
  };
  source.downloadTileAbort = () => {};
  return source;
}

// The library takes places for the same that are 1e-10 of the picture's width apart. In a huge one
// these are many pixels: all tiles up to a corner would be in view.
function intersectExactly() {
  const { prototype } = OpenSeadragon.Rect;
  const intersection = prototype.intersection;
  prototype.intersection = function (other) {
    if (this.degrees || other.degrees) return intersection.call(this, other);
    const x = Math.max(this.x, other.x);
    const y = Math.max(this.y, other.y);
    const width = Math.min(this.x + this.width, other.x + other.width) - x;
    const height = Math.min(this.y + this.height, other.y + other.height) - y;
    return width < 0 || height < 0 ? null : new OpenSeadragon.Rect(x, y, width, height);
  };
}

function openViewer(element, more = {}) {
  return OpenSeadragon({
    ...more,
    element,
    drawer: "canvas", // WebGL may not use the pictures of a page that is opened from the disk
    showNavigationControl: false,
    keyboardNavEnabled: false,
    tabIndex: "",
    animationTime: calm ? 0 : 0.6,
    springStiffness: 9,
    blendTime: calm ? 0 : 0.15,
    alwaysBlend: false,
    minPixelRatio: 0.5 / devicePixelRatio,
    visibilityRatio: 0.3,
    smoothTileEdgesMinZoom: Infinity, // on a canvas of its own, the window's last pixels are missing
    maxTilesPerFrame: 8,
    imageLoaderLimit: 8,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    gestureSettingsPen: { clickToZoom: false, dblClickToZoom: true },
  });
}
