// Modest Maps: tiles by a template.
"use strict";

{
  let map;
  let layer;
  let zoom;

  lab.open = async ({ url, width, height }) => {
    map?.destroy();
    zoom = lab.topZoom(width, height, 256);
    const provider = new MM.Template(`${url}/{Z}-{X}-{Y}.png`);
    provider.tileLimits = [
      new MM.Coordinate(0, 0, 0),
      new MM.Coordinate(height / 256, width / 256, zoom),
    ];
    // The earth is round, this picture is not.
    const wrapped = provider.sourceCoordinate;
    provider.sourceCoordinate = function (at) {
      const beyond = at.column < 0 || at.column >= 2 ** at.zoom;
      return beyond ? null : wrapped.call(this, at);
    };
    layer = new MM.Layer(provider);
    map = new MM.Map("view", [layer], null, []);
    map.coordLimits = [
      new MM.Coordinate(-Infinity, -Infinity, 0),
      new MM.Coordinate(Infinity, Infinity, zoom),
    ];
  };

  lab.show = async ({ x, y, width, height, shrunk }) => {
    const scale = 2 ** shrunk;
    const middle = [y + (height * scale) / 2, x + (width * scale) / 2];
    const at = new MM.Coordinate(middle[0] / 256, middle[1] / 256, zoom);
    map.coordinate = at.zoomTo(zoom - shrunk);
    map.draw();
    const requests = layer.requestManager;
    await lab.until(() => !requests.openRequestCount && !requests.requestQueue.length);
    map.draw(); // without what stood in for tiles that were not there yet
    await lab.until(lab.imagesLoaded);
  };
}
