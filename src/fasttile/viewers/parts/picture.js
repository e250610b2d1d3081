// One picture in OpenSeadragon.

async function showPicture(element, picture) {
  const tiles = watch(await tilesOf(picture));
  const viewer = openViewer(element);
  const { viewport } = viewer;
  if (Math.max(...picture.canvas) > 2 ** 26) intersectExactly();
  const [left, top, width, height] = picture.place;
  const [canvas] = picture.canvas; // a width of 1 in the viewport
  const scale = () => canvas / viewport.getContainerSize().x;
  const isOpen = new Promise((resolve) => {
    viewer.addTiledImage({
      tileSource: tileSource(picture, tiles),
      width: 1,
      clip: new OpenSeadragon.Rect(left, top, width, height),
      success: ({ item }) => {
        viewport.goHome(true);
        item.addHandler("fully-loaded-change", (event) => busy(!event.fullyLoaded));
        resolve();
      },
    });
  });
  await isOpen;
  viewer.addHandler("update-viewport", moved);
  const [smallest, largest] = limitsOf(picture);
  const limit = () => {
    viewport.minZoomLevel = smallest * scale();
    viewport.maxZoomLevel = largest * scale();
  };
  limit();
  viewer.addHandler("after-resize", () => {
    limit();
    resized();
  });
  return {
    tiles,
    turns: true,
    place() {
      const { x, y } = viewport.getCenter();
      const zoom = viewport.getZoom() / scale();
      return { zoom, x: x * canvas - left, y: y * canvas - top, rotation: viewport.getRotation() };
    },
    show({ zoom, x, y, rotation }, now) {
      viewport.panTo(new OpenSeadragon.Point((x + left) / canvas, (y + top) / canvas), now);
      viewport.zoomTo(zoom * scale(), null, now);
      viewport.setRotation(rotation, now);
    },
  };
}

run("OpenSeadragon", showPicture);
