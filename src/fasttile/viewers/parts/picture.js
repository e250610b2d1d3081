// One picture in OpenSeadragon.

async function showPicture(element, picture) {
  const tiles = watch(await tilesOf(picture));
  const viewer = openViewer(element);
  if (Math.max(...picture.canvas) > 2 ** 26) intersectExactly();
  const [x, y, width, height] = picture.place;
  viewer.addTiledImage({
    tileSource: tileSource(picture, tiles),
    width: 1,
    clip: new OpenSeadragon.Rect(x, y, width, height),
    success: ({ item }) => {
      viewer.viewport.goHome(true);
      item.addHandler("fully-loaded-change", (event) => busy(!event.fullyLoaded));
    },
  });
  return steered(viewer);
}

run("OpenSeadragon", showPicture);
