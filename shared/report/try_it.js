/*
 * "Try it": what the programs in a page (program.js) answer to an image that is drawn, dropped or taken from the test
 * samples. Nothing is loaded, and nothing is sent.
 */
(() => {
  const { logitsOf, probabilitiesOf, bytesOf, clipped } = PROGRAM;
  const facts = JSON.parse(document.getElementById("try-it-facts").textContent);
  const find = (name) => document.getElementById(`try-it-${name}`);
  const [channels, height, width] = facts.shape;
  const DARK = facts.background < 0.5; // Of an empty image; ink is the other one.
  const MOST_CLASSES = 10; // Of more classes, the likeliest are shown.

  // ---- From the canvas to an image as the data have them ----

  const canvas = find("canvas"), pen = find("pen"), seen = find("seen");
  const drawing = canvas.getContext("2d", { willReadFrequently: true });
  let shown = null; // An image of the data's own size, as a test sample: it is taken as it is.

  // Shares of white of one channel of the canvas: means over the areas of a grid's cells that cover a box.
  function averaged(image, channel, box, rows, columns) {
    const cell = (from, size, count, place) => [from + (size * place) / count, from + (size * (place + 1)) / count];
    const cells = new Float32Array(rows * columns);
    for (let place = 0; place < cells.length; place++) {
      const [top, bottom] = cell(box.top, box.height, rows, Math.floor(place / columns));
      const [left, right] = cell(box.left, box.width, columns, place % columns);
      let sum = 0, area = 0;
      for (let y = Math.floor(top); y < Math.min(Math.ceil(bottom), image.height); y++) {
        const tall = Math.min(y + 1, bottom) - Math.max(y, top);
        for (let x = Math.floor(left); x < Math.min(Math.ceil(right), image.width); x++) {
          const part = tall * (Math.min(x + 1, right) - Math.max(x, left)), at = 4 * (y * image.width + x);
          const [red, green, blue] = [image.data[at], image.data[at + 1], image.data[at + 2]];
          sum += part * (channels === 1 ? 0.299 * red + 0.587 * green + 0.114 * blue : image.data[at + channel]);
          area += part;
        }
      }
      cells[place] = sum / area / 255;
    }
    return cells;
  }

  // The smallest box around all ink; null where there is none.
  function boxOf(image) {
    let [top, left, bottom, right] = [Infinity, Infinity, -1, -1];
    for (let place = 0; place < image.width * image.height; place++) {
      const ink = Math.abs(image.data[4 * place + 1] / 255 - facts.background);
      if (ink < 0.2) continue;
      const y = Math.floor(place / image.width), x = place % image.width;
      [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
      [left, right] = [Math.min(left, x), Math.max(right, x)];
    }
    return bottom < 0 ? null : { top, left, height: bottom - top + 1, width: right - left + 1 };
  }

  // A drawing as large as the data's things are, with its middle where theirs is.
  function placed(image, { side, middle, by }) {
    const cells = new Float32Array(height * width).fill(facts.background), box = boxOf(image);
    if (!box) return cells;
    const factor = side / Math.max(box.height, box.width);
    const rows = Math.max(1, Math.round(box.height * factor)), columns = Math.max(1, Math.round(box.width * factor));
    const small = averaged(image, 0, box, rows, columns);
    let [mass, y, x] = [0, 0, 0];
    small.forEach((value, place) => {
      const weight = by === "mass" ? Math.abs(value - facts.background) : 1;
      mass += weight;
      y += weight * (Math.floor(place / columns) + 0.5);
      x += weight * ((place % columns) + 0.5);
    });
    const top = clipped(Math.round(middle[0] - y / mass), 0, height - rows);
    const left = clipped(Math.round(middle[1] - x / mass), 0, width - columns);
    small.forEach((value, place) => {
      cells[(top + Math.floor(place / columns)) * width + left + (place % columns)] = value;
    });
    return cells;
  }

  // Every channel of the whole canvas.
  function wholeOf(image) {
    const all = { top: 0, left: 0, height: image.height, width: image.width };
    return [...Array(channels).keys()].map((channel) => averaged(image, channel, all, height, width));
  }

  const bytesFrom = (cells) =>
    Uint8Array.from(cells.flatMap((each) => [...each]), (value) => Math.round(value * facts.white));

  function pixelsOfCanvas() {
    const image = drawing.getImageData(0, 0, canvas.width, canvas.height);
    return bytesFrom(facts.placement ? [placed(image, facts.placement)] : wholeOf(image));
  }

  // An image of the data's size, as bytes, on a canvas of that size.
  function paint(target, pixels) {
    const image = new ImageData(width, height);
    for (let place = 0; place < width * height; place++) {
      const at = (channel) => (255 / facts.white) * pixels[(channels === 1 ? 0 : channel) * width * height + place];
      image.data.set([at(0), at(1), at(2), 255], 4 * place);
    }
    target.getContext("2d").putImageData(image, 0, 0);
  }

  // ---- The answers ----

  const chosen = () => {
    const students = facts.models.filter(({ role }) => role === "student");
    return [students[find("student") ? find("student").selectedIndex : 0],
            ...facts.models.filter(({ role }) => role === "teacher")];
  };
  const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
  const element = (tag, text, className = "") => Object.assign(document.createElement(tag), { textContent: text, className });

  function answer(pixels) {
    paint(seen, pixels);
    const models = chosen();
    const answers = models.map((model) => probabilitiesOf(logitsOf(model.operations, pixels, facts.shape)));
    const best = answers.map((shares) => shares.indexOf(Math.max(...shares)));
    const said = models.map(({ name }, place) => `${name}: ${facts.classes[best[place]]} (${percent(answers[place][best[place]])})`);
    find("said").textContent = [...said, ...(shown?.label ? [`label: ${shown.label}`] : [])].join(" · ");
    const likeliest = [...facts.classes.keys()].sort((one, other) =>
      Math.max(...answers.map((each) => each[other])) - Math.max(...answers.map((each) => each[one])));
    const rows = likeliest.slice(0, MOST_CLASSES).sort((one, other) => one - other);
    find("head").replaceChildren(element("th", "class"), ...models.map(({ name }) => element("th", name)));
    find("bars").replaceChildren(...rows.map((label) => {
      const row = element("tr", ""), name = element("th", facts.classes[label]);
      name.scope = "row";
      row.append(name, ...models.map(({ role }, place) => {
        const [cell, share, track] = [element("td", ""), element("div", "", "share"), element("span", "", "track")];
        const bar = element("span", "", `bar ${role}`);
        bar.style.width = `${100 * answers[place][label]}%`;
        track.append(bar);
        share.append(track, element("span", percent(answers[place][label]), best[place] === label ? "most" : ""));
        cell.append(share);
        return cell;
      }));
      return row;
    }));
  }

  let isEmpty = true, waits = false, tookMilliseconds = 0;
  function empty() {
    isEmpty = true;
    shown = null;
    drawing.fillStyle = DARK ? "#000" : "#fff";
    drawing.fillRect(0, 0, canvas.width, canvas.height);
    for (const name of ["head", "bars"]) find(name).replaceChildren();
    paint(seen, new Uint8Array(channels * height * width).fill(Math.round(facts.background * facts.white)));
    find("said").textContent = "Nothing is drawn.";
  }

  // While a pen moves, as much time is left to drawing as the answers take.
  function answerSoon() {
    isEmpty = false;
    if (waits) return;
    waits = true;
    setTimeout(() => {
      waits = false;
      if (isEmpty) return; // Cleared since.
      const began = performance.now();
      answer(shown ? shown.pixels : pixelsOfCanvas());
      tookMilliseconds = performance.now() - began;
    }, tookMilliseconds);
  }

  // ---- Drawing by mouse, finger and keys ----

  const at = { x: canvas.width / 2, y: canvas.height / 2 };
  function draw(x, y) {
    if (shown) empty();
    drawing.strokeStyle = DARK ? "#fff" : "#000";
    Object.assign(drawing, { lineWidth: canvas.width / 12, lineCap: "round", lineJoin: "round" });
    drawing.beginPath();
    drawing.moveTo(at.x, at.y);
    drawing.lineTo(x, y);
    drawing.stroke();
    Object.assign(at, { x, y });
    answerSoon();
  }

  const placeOf = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pen.hidden = true;
    [at.x, at.y] = placeOf(event);
    draw(at.x, at.y);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    const all = event.getCoalescedEvents?.() ?? [];
    for (const each of all.length ? all : [event]) draw(...placeOf(each));
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const [x, y] = [clipped(at.x + step[0] * 10, 0, canvas.width), clipped(at.y + step[1] * 10, 0, canvas.height)];
    if (event.shiftKey) draw(x, y);
    else Object.assign(at, { x, y });
    pen.hidden = false;
    Object.assign(pen.style, { left: `${(100 * x) / canvas.width}%`, top: `${(100 * y) / canvas.height}%` });
  });
  canvas.addEventListener("blur", () => { pen.hidden = true; });

  // ---- Files and test samples ----

  async function open(file) {
    let image;
    try {
      image = await createImageBitmap(file);
    } catch {
      empty();
      find("said").textContent = "This file is no image that the browser can read.";
      return;
    }
    empty();
    // Whole pixels: an edge between two of them would be a line of ink.
    const factor = Math.min(canvas.width / image.width, canvas.height / image.height);
    const [wide, tall] = [image.width, image.height].map((size) => Math.max(1, Math.round(size * factor)));
    const [left, top] = [Math.floor((canvas.width - wide) / 2), Math.floor((canvas.height - tall) / 2)];
    drawing.fillStyle = "#fff"; // As a browser shows what is transparent.
    drawing.fillRect(left, top, wide, tall);
    drawing.imageSmoothingEnabled = image.width > width || image.height > height;
    drawing.drawImage(image, left, top, wide, tall);
    if (image.width === width && image.height === height) {
      shown = { pixels: bytesFrom(wholeOf(drawing.getImageData(0, 0, canvas.width, canvas.height))) };
      answerSoon();
      return; // It is as the data's images are.
    }
    // A dark thing on light paper, where the data have light ones on black, or the other way round.
    const corner = drawing.getImageData(left, top, 1, 1).data[1] / 255;
    if (facts.placement && Math.abs(corner - facts.background) > 0.5) {
      drawing.globalCompositeOperation = "difference";
      drawing.fillStyle = "#fff";
      drawing.fillRect(left, top, wide, tall);
      drawing.globalCompositeOperation = "source-over";
    }
    answerSoon();
  }

  find("parts").addEventListener("dragover", (event) => event.preventDefault());
  find("parts").addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
  });
  find("file").addEventListener("change", (event) => {
    if (event.target.files.length) open(event.target.files[0]);
    event.target.value = "";
  });
  find("clear").addEventListener("click", empty);
  find("student")?.addEventListener("change", () => { if (find("bars").children.length) answerSoon(); });
  find("sample")?.addEventListener("click", () => {
    const others = facts.samples.filter((sample) => sample !== shown?.of);
    const sample = others[Math.floor(Math.random() * others.length)];
    empty();
    shown = { of: sample, label: sample.label, pixels: bytesOf(sample.pixels) };
    paint(seen, shown.pixels);
    drawing.imageSmoothingEnabled = false;
    drawing.drawImage(seen, 0, 0, canvas.width, canvas.height);
    answerSoon();
  });

  empty();
  find("parts").hidden = false;
  // What the project's tests ask, and anybody may in the browser's console.
  const programOf = (name) => facts.models.find((model) => model.name === name).operations;
  globalThis.tryIt = { logits: (name, pixels) => [...logitsOf(programOf(name), pixels, facts.shape)], pixelsOfCanvas };
})();
