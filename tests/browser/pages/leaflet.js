// Leaflet: XYZ by the plain coordinates it has for pictures, TMS on a square of a fixed size, and
// PMTiles by the layer that comes with the package.
"use strict";

{
  let map;
  let layer;
  let zoom;
  let top = 0;

  const bounds = (left, top, right, bottom) =>
    L.latLngBounds(map.unproject([left, top], zoom), map.unproject([right, bottom], zoom));

  const layers = {
    xyz({ url, width, height }) {
      zoom = lab.topZoom(width, height, 256);
      stand(L.CRS.Simple);
      return L.tileLayer(`${url}/{z}/{x}/{y}.png`, {
        maxZoom: zoom,
        bounds: bounds(0, 0, width, height),
      });
    },

    async tms({ url }) {
      const { width, height, tileSize, extension, zoom: last } = await lab.tms(url);
      zoom = last;
      const side = tileSize * 2 ** zoom;
      top = side - height;
      // Rows can be counted from below only where there is a lowest one.
      const crs = L.Util.extend({}, L.CRS.Simple, {
        infinite: false,
        transformation: L.transformation(1, 0, -1, tileSize),
        projection: L.Util.extend({}, L.Projection.LonLat, {
          bounds: L.bounds([0, 0], [tileSize, tileSize]),
        }),
      });
      stand(crs);
      return L.tileLayer(`${url}/{z}/{x}/{y}.${extension}`, {
        tms: true,
        tileSize,
        maxZoom: zoom,
        noWrap: true,
        bounds: bounds(0, top, width, side),
      });
    },

    async pmtiles({ url, width, height }) {
      // For some ranges that were read before, Chromium's cache answers 206 with the right
      // headers and no byte.
      const source = Object.assign(new pmtiles.FetchSource(url), { mustReload: true });
      const archive = new pmtiles.PMTiles(source);
      zoom = (await archive.getHeader()).maxZoom;
      stand(L.CRS.Simple);
      return pmtiles.leafletRasterLayer(archive, {
        maxZoom: zoom,
        bounds: bounds(0, 0, width, height),
      });
    },
  };

  const stand = (crs) => {
    map = L.map("view", {
      crs,
      fadeAnimation: false,
      zoomAnimation: false,
      zoomControl: false,
      attributionControl: false,
    });
  };

  lab.open = async (spec) => {
    top = 0;
    map?.remove();
    layer = await layers[spec.layout](spec);
    layer.addTo(map);
  };

  lab.show = async ({ x, y, width, height, shrunk }) => {
    const scale = 2 ** shrunk;
    const middle = [x + (width * scale) / 2, y + top + (height * scale) / 2];
    map.setView(map.unproject(middle, zoom), zoom - shrunk, { animate: false });
    await lab.until(() => !layer.isLoading() && lab.imagesLoaded());
  };
}
