// Many pictures without a library: their thumbnails, each a button that shows its picture alone.

const SIDE = 160; // of the largest thumbnails, in pixels of CSS

class PlainWall {
  constructor(element, wall) {
    Object.assign(this, { element, wall, thumbnails: new Thumbnails(wall), waiting: 0 });
    this.list = document.getElementById("labels");
    this.view = null; // of the picture that is shown
    const seen = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) {
          seen.unobserve(target);
          this.draw(target.firstChild, wall.items[target.dataset.index]);
        }
      }
    });
    wall.items.forEach((item, index) => {
      const button = this.button(item, index);
      this.list.append(button);
      seen.observe(button);
    });
  }

  button(item, index) {
    const button = buttonOf(item);
    const name = Object.assign(document.createElement("span"), { textContent: item.title });
    button.dataset.index = index;
    button.disabled = !item.tileSize; // there is nothing but its thumbnail
    name.dir = "auto";
    button.append(document.createElement("canvas"), name);
    button.addEventListener("click", () => this.show(item, button));
    return button;
  }

  async draw(canvas, item) {
    this.waiting += 1;
    const { tile, from } = this.thumbnails.of(item, SIDE * devicePixelRatio);
    const image = await tile;
    canvas.width = Math.ceil(from[2]);
    canvas.height = Math.ceil(from[3]);
    const to = [0, 0, canvas.width, canvas.height];
    if (image) canvas.getContext("2d").drawImage(image, ...inner(from), ...to);
    this.waiting -= 1;
    busy(this.waiting > 0);
  }

  async show(item, button) {
    const place = document.createElement("div");
    place.style.cssText = "position: absolute; inset: 0";
    this.element.replaceChildren(place);
    this.list.hidden = true;
    this.shown = button;
    nameIt(item);
    this.element.focus();
    const picture = pictureOf(item, this.wall);
    this.view = new Steering(await showPlainly(place, picture), picture, place);
  }

  home() {
    if (!this.view) return;
    this.view = null;
    this.element.replaceChildren();
    this.list.hidden = false;
    this.shown.focus();
    nameIt();
    trouble("");
  }

  back() {
    this.home();
  }

  zoomBy(factor) {
    this.view?.zoomBy(factor);
  }

  panBy(right, down) {
    if (this.view) this.view.panBy(right, down);
    else this.list.scrollBy(right * this.list.clientWidth, down * this.list.clientHeight);
  }
}

run(null, (element, wall) => new PlainWall(element, wall));
