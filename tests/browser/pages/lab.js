// What the viewers' pages share. Each page makes `lab.open(spec)`, which resolves when its viewer
// stands, instead of any that stood before, and `lab.show(view)`, which resolves when all of the
// view is on the screen.
"use strict";

const lab = {
  /** What is promised, or an error if it does not come. */
  soon(promised) {
    const seconds = 30;
    const late = new Promise((_, failed) =>
      setTimeout(() => failed(new Error(`nothing within ${seconds} seconds`)), seconds * 1000),
    );
    return Promise.race([promised, late]);
  },

  /** Two frames: what was changed before is on the screen after. */
  painted() {
    return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  },

  /** Wait until a condition holds, and what it tells is on the screen. */
  async until(holds) {
    do await lab.painted();
    while (!holds());
    await lab.painted();
  },

  /** Whether all pictures in the page are there, or known not to be. */
  imagesLoaded() {
    return [...document.images].every((image) => image.complete);
  },

  /** The zoom at which a square of tiles of `size` pixels, 2^zoom of them a side, holds both. */
  topZoom(width, height, size) {
    let zoom = 0;
    while (size * 2 ** zoom < Math.max(width, height)) zoom += 1;
    return zoom;
  },

  async json(url) {
    return (await fetch(url)).json();
  },

  async xml(url) {
    return new DOMParser().parseFromString(await (await fetch(url)).text(), "text/xml");
  },

  /** Zoomify's descriptor: the picture's size and the tiles'. */
  async zoomify(url) {
    const root = (await lab.xml(`${url}/ImageProperties.xml`)).documentElement;
    const [width, height, tileSize] = ["WIDTH", "HEIGHT", "TILESIZE"].map((name) =>
      Number(root.getAttribute(name)),
    );
    return { width, height, tileSize };
  },

  /** TMS's descriptor: the picture's size, the tiles', and the largest zoom. */
  async tms(url) {
    const map = await lab.xml(`${url}/tilemapresource.xml`);
    const box = map.querySelector("BoundingBox");
    const side = (low, high) => Number(box.getAttribute(high)) - Number(box.getAttribute(low));
    const form = map.querySelector("TileFormat");
    const hrefs = [...map.querySelectorAll("TileSet")].map((set) => set.getAttribute("href"));
    return {
      width: side("minx", "maxx"),
      height: side("miny", "maxy"),
      tileSize: Number(form.getAttribute("width")),
      extension: form.getAttribute("extension"),
      zoom: Math.max(...hrefs.map(Number)),
    };
  },
};
