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

// Back from an image, its thumbnail is in view, and has the keyboard.
const LAST = `last of ${window.location.pathname}`;

document.querySelector("main").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (link) window.sessionStorage.setItem(LAST, link.getAttribute("href"));
});

const last = window.sessionStorage.getItem(LAST);
if (last) document.querySelector(`a[href="${CSS.escape(last)}"]`)?.focus();
