// OpenLayers: Zoomify, XYZ, TMS and IIIF by its own sources, in pixels instead of degrees.
"use strict";

{
  let map;
  // Where the picture's top left is; y grows upwards.
  let top = 0;

  const pixels = (extent) => new ol.proj.Projection({ code: "pixels", units: "pixels", extent });
  const still = { interpolate: false, transition: 0 };

  /** Tiles of a square of 2^zoom tiles a side, from its largest level to its smallest. */
  const square = (extent, size, zoom) =>
    new ol.tilegrid.TileGrid({
      extent,
      origin: ol.extent.getTopLeft(extent),
      tileSize: size,
      resolutions: Array.from({ length: zoom + 1 }, (_, z) => 2 ** (zoom - z)),
    });

  const iiif = async ({ url }) => {
    const info = await lab.json(`${url}/info.json`);
    const options = new ol.format.IIIFInfo(info).getTileSourceOptions({ format: "png" });
    return { source: new ol.source.IIIF({ ...options, ...still }) };
  };

  const layers = {
    async zoomify({ url, rounding }) {
      const { width, height, tileSize } = await lab.zoomify(url);
      const source = new ol.source.Zoomify({
        url: `${url}/{TileGroup}/{z}-{x}-{y}.png`,
        size: [width, height],
        tileSize,
        tierSizeCalculation: rounding === "ceil" ? "default" : "truncated",
        ...still,
      });
      return { source };
    },

    iiif2: iiif,
    iiif3: iiif,

    xyz({ url, width, height }) {
      const zoom = lab.topZoom(width, height, 256);
      const side = 256 * 2 ** zoom;
      const source = new ol.source.XYZ({
        url: `${url}/{z}/{x}/{y}.png`,
        projection: pixels([0, -side, side, 0]),
        tileGrid: square([0, -side, side, 0], 256, zoom),
        wrapX: false,
        ...still,
      });
      return { source, extent: [0, -height, width, 0] };
    },

    async tms({ url }) {
      const { width, height, tileSize, extension, zoom } = await lab.tms(url);
      const side = tileSize * 2 ** zoom;
      top = height;
      const source = new ol.source.XYZ({
        url: `${url}/{z}/{x}/{-y}.${extension}`,
        projection: pixels([0, 0, side, side]),
        tileGrid: square([0, 0, side, side], tileSize, zoom),
        wrapX: false,
        ...still,
      });
      return { source, extent: [0, 0, width, height] };
    },
  };

  lab.open = async (spec) => {
    top = 0;
    map?.setTarget(null);
    const layer = new ol.layer.Tile(await layers[spec.layout](spec));
    map = new ol.Map({
      target: "view",
      controls: [],
      interactions: [],
      pixelRatio: 1,
      layers: [layer],
      view: new ol.View({
        projection: layer.getSource().getProjection() ?? pixels([0, 0, 4096, 4096]),
        center: [0, 0],
        resolution: 1,
        minResolution: 1 / 8,
        maxResolution: 4096,
      }),
    });
  };

  lab.show = async ({ x, y, width, height, shrunk }) => {
    const scale = 2 ** shrunk;
    const rendered = new Promise((done) => map.once("rendercomplete", done));
    map.getView().setResolution(scale);
    map.getView().setCenter([x + (width * scale) / 2, top - y - (height * scale) / 2]);
    map.render();
    await rendered;
    await lab.painted();
  };
}
