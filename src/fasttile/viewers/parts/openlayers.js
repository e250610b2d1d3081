// The picture in OpenLayers, without a projection: x to the right, y upwards, 0 at the top left.

function tileLayer(picture, tiles) {
  const [width, height] = picture.canvas;
  const { tileSize } = picture;
  const extent = [0, -height, width, 0];
  const projection = new ol.proj.Projection({ code: "picture", units: "pixels", extent });
  const source = new ol.source.ImageTile({
    projection,
    tileGrid: new ol.tilegrid.TileGrid({
      extent,
      origin: [0, 0],
      resolutions: tiles.levels.map((level) => level.scale * devicePixelRatio),
      tileSize: tileSize / devicePixelRatio, // what the loader gives is fitted into it
    }),
    loader: (index, col, row) => tiles.square(index, col, row),
    transition: calm ? 0 : 150,
    wrapX: false,
    // The next larger level, so that no tile is enlarged: of a positive value it takes the smaller.
    zDirection: (resolution, smaller) => resolution - 0.99 * smaller,
  });
  const [x, y, w, h] = picture.place;
  return new ol.layer.Tile({ source, extent: [x, -y - h, x + w, -y] });
}

async function showPicture(element, picture) {
  const tiles = watch(await tilesOf(picture));
  const layer = tileLayer(picture, tiles);
  const extent = layer.getExtent();
  const duration = calm ? 0 : 250;
  const [smallest, largest] = limitsOf(picture);
  const view = new ol.View({
    projection: layer.getSource().getProjection(),
    extent,
    constrainOnlyCenter: true,
    center: ol.extent.getCenter(extent),
    minResolution: 1 / largest,
    maxResolution: 1 / smallest,
    resolution: 1,
  });
  const map = new ol.Map({
    target: element,
    layers: [layer],
    view,
    controls: [],
    interactions: ol.interaction.defaults.defaults({
      altShiftDragRotate: false,
      pinchRotate: false,
      keyboard: false,
      zoomDuration: duration,
      ...(calm && { dragPan: false }),
    }),
  });
  if (calm) map.addInteraction(new ol.interaction.DragPan());
  map.on("loadstart", () => busy(true));
  map.on("loadend", () => busy(false));
  map.on("change:size", resized);
  view.on(["change:center", "change:resolution", "change:rotation"], moved);
  const [left, top] = picture.place;
  return {
    tiles,
    turns: true,
    place() {
      const [x, y] = view.getCenter();
      const rotation = (view.getRotation() * 180) / Math.PI;
      return { zoom: 1 / view.getResolution(), x: x - left, y: -y - top, rotation };
    },
    show({ zoom, x, y, rotation }, now) {
      view.animate({
        center: [left + x, -top - y],
        resolution: 1 / zoom,
        rotation: (rotation * Math.PI) / 180,
        duration: now ? 0 : duration,
      });
    },
  };
}

run("ol", showPicture);
