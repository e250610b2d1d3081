// OpenSeadragon: Deep Zoom, Zoomify and IIIF by its own tile sources, XYZ and TMS by ours.
"use strict";

{
  let viewer;
  // Where the picture's top is on what the viewer takes for the whole.
  let top = 0;

  const sources = {
    dzi: ({ url }) => url,

    async zoomify({ url }) {
      const found = await lab.zoomify(url);
      return {
        type: "zoomifytileservice",
        tilesUrl: `${url}/`,
        fileFormat: "png",
        ...found,
      };
    },

    async iiif2({ url }) {
      // This viewer takes a format from preferredFormats only, which version 2 does not have.
      const info = await lab.json(`${url}/info.json`);
      return { ...info, preferredFormats: info.profile[1].formats };
    },

    iiif3: ({ url }) => `${url}/info.json`,

    xyz({ url, width, height }) {
      const maxLevel = lab.topZoom(width, height, 256);
      return {
        width,
        height,
        tileSize: 256,
        maxLevel,
        getTileUrl: (level, x, y) => `${url}/${level}/${x}/${y}.png`,
      };
    },

    async tms({ url }) {
      const map = await lab.tms(url);
      const side = map.tileSize * 2 ** map.zoom;
      top = side - map.height;
      return {
        width: side,
        height: side,
        tileSize: map.tileSize,
        maxLevel: map.zoom,
        getTileUrl: (z, x, y) => `${url}/${z}/${x}/${2 ** z - 1 - y}.${map.extension}`,
        // Nothing is asked for where the square has no picture.
        tileExists(z, x, y) {
          const covers = map.tileSize * 2 ** (map.zoom - z);
          const row = 2 ** z - 1 - y;
          const within = (at, length) => at >= 0 && at * covers < length;
          return within(x, map.width) && within(row, map.height);
        },
      };
    },
  };

  const stand = (drawer) => {
    const made = OpenSeadragon({
      id: "view",
      drawer,
      showNavigationControl: false,
      imageSmoothingEnabled: false,
      immediateRender: true,
      minPixelRatio: 0.9, // the level that fits, not one twice as fine
      animationTime: 0,
      blendTime: 0,
      minZoomImageRatio: 0,
      maxZoomPixelRatio: Infinity,
      visibilityRatio: 0,
      autoResize: false,
    });
    const found = made.drawer.getType();
    if (found !== drawer) throw new Error(`the drawer is ${found}, not ${drawer}`);
    return made;
  };

  lab.open = async (spec) => {
    top = 0;
    // A new viewer takes half a second to set up its drawer.
    if (viewer?.drawer.getType() !== spec.drawer) {
      viewer?.destroy();
      viewer = stand(spec.drawer);
    }
    const source = await sources[spec.layout](spec);
    await new Promise((opened, failed) => {
      viewer.addOnceHandler("open", opened);
      viewer.addOnceHandler("open-failed", (event) => failed(new Error(event.message)));
      viewer.open(source);
    });
    // Where tiles do not overlap, its canvas widens them by a pixel, lest there be seams. Here each
    // pixel has to be where it belongs; and this overlap changes no other sum.
    const opened = viewer.world.getItemAt(0).source;
    if (spec.drawer === "canvas") opened.tileOverlap ||= Number.MIN_VALUE;
  };

  lab.show = async ({ x, y, width, height, shrunk }) => {
    const scale = 2 ** shrunk;
    const image = viewer.world.getItemAt(0);
    const shown = image.imageToViewportRectangle(x, y + top, width * scale, height * scale);
    viewer.viewport.fitBounds(shown, true);
    viewer.forceRedraw();
    await lab.until(() => image.getFullyLoaded());
  };
}
