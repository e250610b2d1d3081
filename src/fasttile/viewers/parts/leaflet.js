// The picture in Leaflet. Its coordinates are [y, x] in pixels of the full size, y downwards; its
// zooms are numbered as the levels are. `last` is the zoom of the full size.

function pixels(last) {
  return L.extend({}, L.CRS.Simple, {
    transformation: new L.Transformation(1, 0, 1, 0),
    scale: (zoom) => 2 ** (zoom - last),
    zoom: (scale) => Math.log2(scale) + last,
  });
}

function tileLayer(picture, tiles, bounds) {
  const Layer = L.GridLayer.extend({
    createTile({ x, y, z }, done) {
      // Tiles that touch are drawn lighter together, so that no seams show between zooms. That
      // takes an element without anything in it.
      const pane = document.createElement("canvas");
      pane.width = picture.tileSize;
      pane.height = picture.tileSize;
      tiles.square(z, x, y).then(
        (square) => {
          pane.getContext("2d").drawImage(square, 0, 0);
          done(null, pane);
        },
        (error) => done(error, pane),
      );
      return pane;
    },
    // The level that is shown: the smallest one of which the screen enlarges no pixel. The library
    // has no option for it, and shows the nearest one.
    _clampZoom() {
      const sharp = Math.ceil(this._map.getZoom() + Math.log2(devicePixelRatio) - 0.01);
      return Math.max(0, Math.min(tiles.count - 1, sharp));
    },
  });
  return new Layer({
    bounds,
    tileSize: picture.tileSize,
    minZoom: -Infinity,
    maxZoom: Infinity,
    noWrap: true,
    keepBuffer: 4,
    className: "tiles",
  });
}

async function showPicture(element, picture) {
  const tiles = watch(await tilesOf(picture));
  const [left, top, width, height] = picture.place;
  const bounds = L.latLngBounds([top, left], [top + height, left + width]);
  const crs = pixels(tiles.count - 1);
  const [smallest, largest] = limitsOf(picture);
  const map = L.map(element, {
    crs,
    zoomControl: false,
    attributionControl: false,
    keyboard: false,
    zoomSnap: 0,
    zoomDelta: 1,
    wheelPxPerZoomLevel: 100,
    minZoom: crs.zoom(smallest),
    maxZoom: crs.zoom(largest),
    inertia: !calm,
    fadeAnimation: !calm,
    zoomAnimation: !calm,
  });
  map.fitBounds(bounds, { animate: false });
  const layer = tileLayer(picture, tiles, bounds);
  layer.on("loading", () => busy(true));
  layer.on("load", () => busy(false));
  layer.addTo(map);
  map.on("move", moved);
  map.on("resize", resized);
  map.on("moveend", () => {
    const { lat, lng } = map.getCenter();
    const inside = [
      Math.max(top, Math.min(top + height, lat)),
      Math.max(left, Math.min(left + width, lng)),
    ];
    const off = Math.max(Math.abs(inside[0] - lat), Math.abs(inside[1] - lng));
    if (off * crs.scale(map.getZoom()) > 1) map.panTo(inside, { animate: !calm }); // in pixels
  });
  return {
    tiles,
    place() {
      const { lat, lng } = map.getCenter();
      return { zoom: crs.scale(map.getZoom()), x: lng - left, y: lat - top, rotation: 0 };
    },
    show({ zoom, x, y }, now) {
      map.setView([top + y, left + x], crs.zoom(zoom), { animate: !now });
    },
  };
}

run("L", showPicture);
