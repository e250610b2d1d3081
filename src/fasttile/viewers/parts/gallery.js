// Where a thumbnail cannot be made, the reason of the server is shown in its place.

async function explain(image) {
  const text = document.createElement("span");
  text.className = "error";
  try {
    const answer = await fetch(image.src);
    text.textContent = (await answer.text()).trim();
  } catch {
    text.textContent = "The server does not answer.";
  }
  image.nextElementSibling.removeAttribute("aria-hidden");
  image.replaceWith(text);
}

for (const image of document.images) {
  // One that failed before this script ran has no size.
  if (image.complete && image.currentSrc && !image.naturalWidth) explain(image);
  else image.addEventListener("error", () => explain(image), { once: true });
}
