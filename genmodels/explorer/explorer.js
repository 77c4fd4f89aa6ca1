const page = JSON.parse(document.getElementById("data").textContent);
const model = new BrowserModel(page.model);
const [channels, height, width] = model.image_shape;
const size = model.latent_dim;
const at = id => document.getElementById(id);

const PATH_MILLISECONDS = 2500; // from A to B
const TILES = 13; // decoded images along each side of the map
const TILE_MILLISECONDS = 30; // of drawing tiles, before the page may answer again
const QUICK_MILLISECONDS = 20; // of an image, of a model whose map has decoded images at first
const SAMPLES = 12;
const DOWNLOAD_SCALE = 12;

const points = page.points && {
  ...page.points,
  means: decodeFloat16(page.points.means),
};
const reach = new Float32Array(size);
for (const dimension of page.dimensions) reach[dimension.index] = dimension.reach;

const state = {
  z: new Float32Array(size),
  noise: model.drawNoise(),
  temperature: page.temperature,
  label: page.label,
  plane: null, // { directions, names, reach }
  ends: { a: null, b: null },
  playing: null, // when the path began to play
};

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// ---- images

function toImageData(image) {
  const pixels = new ImageData(width, height);
  const area = width * height;
  for (let pixel = 0; pixel < area; pixel++) {
    for (let colour = 0; colour < 3; colour++) {
      const channel = channels === 1 ? 0 : colour;
      pixels.data[4 * pixel + colour] = Math.round(255 * image[channel * area + pixel]);
    }
    pixels.data[4 * pixel + 3] = 255;
  }
  return pixels;
}

function paint(canvas, z) {
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(toImageData(model.generate(z, state.label)), 0, 0);
}

// ---- planes of the latent space: coordinates are projections on orthonormal directions

function unit(dimension) {
  return Array.from({ length: size }, (_, index) => (index === dimension ? 1 : 0));
}

function project(z, direction) {
  let sum = 0;
  for (let index = 0; index < size; index++) sum += z[index] * direction[index];
  return sum;
}

function choosePlane(directions, names) {
  const extents = directions.map(direction => Math.hypot(...direction.map((part, index) => part * reach[index])));
  let farthest = Math.max(...extents, 1);
  if (directions[0].filter(part => part !== 0).length > 1 && points) {
    farthest = 1;
    for (let point = 0; point < points.labels.length; point++) {
      const z = pointAt(point);
      for (const direction of directions) farthest = Math.max(farthest, Math.abs(project(z, direction)));
    }
  }
  state.plane = { directions, names, reach: 1.05 * farthest };
  tiles.key = "";
}

const pointAt = point => points.means.subarray(point * size, (point + 1) * size);

function moveTo(coordinates) {
  const z = Float32Array.from(state.z);
  state.plane.directions.forEach((direction, axis) => {
    const change = coordinates[axis] - project(state.z, direction);
    for (let index = 0; index < size; index++) z[index] += change * direction[index];
  });
  setLatents(z);
}

// ---- the map

const pad = at("pad");
const tiles = { key: "", canvas: document.createElement("canvas"), next: 0 };

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name);
}

function drawMap() {
  const side = pad.clientWidth * devicePixelRatio;
  if (pad.width !== Math.round(side)) pad.width = pad.height = Math.round(side);
  const context = pad.getContext("2d");
  const { directions, names, reach: far } = state.plane;
  const place = value => ((value + far) / (2 * far)) * pad.width;
  const toPad = z => [place(project(z, directions[0])), directions[1] ? pad.height - place(project(z, directions[1])) : pad.height / 2];
  const unitLength = devicePixelRatio;
  context.clearRect(0, 0, pad.width, pad.height);
  if (at("tiles").checked) {
    drawTiles();
    context.imageSmoothingEnabled = false;
    context.drawImage(tiles.canvas, 0, 0, pad.width, pad.height);
  }
  context.strokeStyle = style("--line");
  context.lineWidth = unitLength;
  for (const radius of [1, 2]) {
    context.beginPath();
    context.arc(pad.width / 2, pad.height / 2, (radius / (2 * far)) * pad.width, 0, 2 * Math.PI);
    context.stroke();
  }
  if (points) {
    context.globalAlpha = at("tiles").checked ? 0.9 : 0.6;
    context.strokeStyle = "#fff9"; // dark points are seen on dark images too
    context.lineWidth = 0.6 * unitLength;
    for (let point = 0; point < points.labels.length; point++) {
      const [x, y] = toPad(pointAt(point));
      context.fillStyle = points.colours[points.labels[point]];
      context.beginPath();
      context.arc(x, directions[1] ? y : y + ((point % 41) - 20) * unitLength, 2 * unitLength, 0, 2 * Math.PI);
      context.fill();
      context.stroke();
    }
    context.globalAlpha = 1;
  }
  for (const [name, z] of Object.entries(state.ends)) {
    if (z) drawMark(context, toPad(z), 5, name.toUpperCase());
  }
  drawMark(context, toPad(state.z), 8, "");
  write(context, names[0], [pad.width - 6 * unitLength, pad.height - 6 * unitLength], "right");
  if (names[1]) write(context, names[1], [6 * unitLength, 16 * unitLength], "left");
  const coordinates = directions.map(direction => project(state.z, direction).toFixed(2));
  at("position").textContent = `Now at (${coordinates.join(", ")}); |z| = ${Math.hypot(...state.z).toFixed(2)}. Circles: radius 1 and 2.`;
}

function drawMark(context, [x, y], radius, text) {
  for (const [colour, thickness] of [[style("--page"), 5], [style("--text"), 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = thickness * devicePixelRatio;
    context.beginPath();
    context.arc(x, y, radius * devicePixelRatio, 0, 2 * Math.PI);
    context.stroke();
  }
  write(context, text, [x, y - 10 * devicePixelRatio], "center");
}

function write(context, text, [x, y], align) {
  context.font = `bold ${13 * devicePixelRatio}px system-ui`;
  context.textAlign = align;
  context.strokeStyle = style("--page");
  context.lineWidth = 4 * devicePixelRatio;
  context.strokeText(text, x, y);
  context.fillStyle = style("--text");
  context.fillText(text, x, y);
}

/** Decode images of the plane in time slices; what else z holds stays as it is. */
function drawTiles() {
  const offPlane = Float32Array.from(state.z);
  for (const direction of state.plane.directions) {
    const coordinate = project(state.z, direction);
    for (let index = 0; index < size; index++) offPlane[index] -= coordinate * direction[index];
  }
  const key = JSON.stringify([state.label, Array.from(offPlane, value => value.toFixed(3)), state.plane.names]);
  if (key !== tiles.key) {
    tiles.key = key;
    tiles.next = 0;
    tiles.canvas.width = TILES * width;
    tiles.canvas.height = TILES * height;
  }
  const started = performance.now();
  const { directions, reach: far } = state.plane;
  for (; tiles.next < TILES ** 2 && performance.now() - started < TILE_MILLISECONDS; tiles.next++) {
    const column = tiles.next % TILES;
    const row = Math.floor(tiles.next / TILES);
    const coordinates = [((2 * column + 1) / TILES - 1) * far, (1 - (2 * row + 1) / TILES) * far];
    const z = Float32Array.from(offPlane);
    directions.forEach((direction, axis) => {
      for (let index = 0; index < size; index++) z[index] += coordinates[axis] * direction[index];
    });
    tiles.canvas.getContext("2d").putImageData(toImageData(model.generate(z, state.label)), column * width, row * height);
  }
  if (tiles.next < TILES ** 2) requestDraw();
}

// ---- what is shown

let waiting = false;
function requestDraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(now => {
    waiting = false;
    if (state.playing !== null) followPath(now);
    const started = performance.now();
    paint(at("picture"), state.z);
    at("speed").textContent = `${Math.max(1, Math.round(performance.now() - started))} ms`;
    drawMap();
    for (const slider of document.querySelectorAll("#sliders input")) {
      const value = state.z[slider.dataset.dimension];
      slider.value = value;
      slider.parentElement.querySelector("output").textContent = value.toFixed(2);
    }
    if (state.playing !== null) requestDraw();
  });
}

function setLatents(z) {
  state.z = z;
  requestDraw();
}

function stop() {
  state.playing = null;
  at("play").textContent = "Play";
}

function drawFromPrior() {
  stop();
  setLatents(model.latentsOf(state.noise, state.temperature, state.label));
}

function newNoise() {
  state.noise = model.drawNoise();
  drawFromPrior();
}

let samples = [];
function newSamples() {
  samples = Array.from({ length: SAMPLES }, () => model.drawNoise());
  drawSamples();
}

function drawSamples() {
  at("samples").replaceChildren(...samples.map((noise, index) => {
    const canvas = element("canvas");
    paint(canvas, model.latentsOf(noise, state.temperature, state.label));
    const button = element("button", { onclick: () => { state.noise = noise; drawFromPrior(); } }, canvas);
    button.setAttribute("aria-label", `sample ${index + 1}`);
    return button;
  }));
}

function setTemperature(temperature) {
  state.temperature = temperature;
  at("temperature").value = temperature;
  at("temperature-value").textContent = temperature.toFixed(2);
  drawFromPrior();
  drawSamples();
}

function setLabel(label) {
  state.label = label;
  for (const button of at("classes").children) button.setAttribute("aria-pressed", Number(button.dataset.label) === label);
  for (const name of ["a", "b"]) if (state.ends[name]) paint(at(`image-${name}`), state.ends[name]);
  drawSamples();
  requestDraw();
}

// ---- from A to B

function setEnd(name) {
  state.ends[name] = Float32Array.from(state.z);
  paint(at(`image-${name}`), state.z);
  requestDraw();
}

function onPath(fraction) {
  const { a, b } = state.ends;
  const cosine = project(a, b) / (Math.hypot(...a) * Math.hypot(...b));
  const angle = Math.acos(clamp(cosine, -1, 1));
  const arc = at("kind").value === "arc" && Math.sin(angle) > 1e-3;
  const ofA = arc ? Math.sin((1 - fraction) * angle) / Math.sin(angle) : 1 - fraction;
  const ofB = arc ? Math.sin(fraction * angle) / Math.sin(angle) : fraction;
  return a.map((value, index) => ofA * value + ofB * b[index]);
}

function bothEnds() {
  if (!state.ends.a) setEnd("a");
  if (!state.ends.b) {
    state.ends.b = model.latentsOf(model.drawNoise(), state.temperature, state.label);
    paint(at("image-b"), state.ends.b);
  }
}

function followPath(now) {
  const turn = ((now - state.playing) / PATH_MILLISECONDS) % 2;
  const fraction = turn < 1 ? turn : 2 - turn;
  at("path").value = fraction;
  state.z = onPath(clamp(fraction, 0, 1));
}

function play() {
  if (state.playing !== null) return stop();
  bothEnds();
  state.playing = performance.now();
  at("play").textContent = "Stop";
  requestDraw();
}

function download() {
  const canvas = element("canvas", { width: width * DOWNLOAD_SCALE, height: height * DOWNLOAD_SCALE });
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(at("picture"), 0, 0, canvas.width, canvas.height);
  element("a", { href: canvas.toDataURL("image/png"), download: "sample.png" }).click();
}

// ---- the parts of the page

function makeSliders() {
  at("unit").textContent = `(last column: ${page.unit})`;
  for (const { index, value, reach: far } of page.dimensions) {
    const range = element("input", { type: "range", min: -far, max: far, step: far / 100 });
    range.dataset.dimension = index;
    range.oninput = () => {
      stop();
      const z = Float32Array.from(state.z);
      z[index] = Number(range.value);
      setLatents(z);
    };
    const text = value >= 0.095 ? value.toFixed(1) : value.toFixed(3);
    at("sliders").append(element("label", {}, `z${index}`, range, element("output"), element("small", { textContent: text })));
  }
}

function makeClasses() {
  const names = page.classes.map((name, label) => [label, name]);
  if (page.classes.length && !page.needs_label) names.push([-1, "no label"]);
  for (const [label, name] of names) {
    const button = element("button", { textContent: name, onclick: () => setLabel(label) });
    button.dataset.label = label;
    at("classes").append(button);
  }
}

function makePlanes() {
  const axes = [at("x-axis"), at("y-axis")];
  page.planes.forEach((plane, index) => at("plane").append(element("option", { value: index, textContent: "principal components" })));
  at("plane").append(element("option", { value: "", textContent: "two dimensions" }));
  axes.forEach((axis, order) => {
    for (const { index } of page.dimensions) axis.append(element("option", { value: index, textContent: `z${index}` }));
    axis.value = page.dimensions[Math.min(order, size - 1)].index;
  });
  if (size === 2) axes.forEach((axis, order) => { axis.value = order; });
  const change = () => {
    const plane = page.planes[at("plane").value];
    for (const axis of axes) axis.parentElement.hidden = plane !== undefined || size === 1;
    if (plane) choosePlane(plane.directions, plane.names);
    else {
      const chosen = [...new Set(axes.map(axis => Number(axis.value)))];
      choosePlane(chosen.map(unit), chosen.map(index => `z${index}`));
    }
    requestDraw();
  };
  for (const select of [at("plane"), ...axes]) select.onchange = change;
  at("plane").parentElement.hidden = page.planes.length === 0;
  change();
}

function makeLegend() {
  if (!points) return;
  for (const [label, name] of Object.entries(points.names)) {
    const dot = element("i");
    dot.style.background = points.colours[label];
    at("legend").append(element("span", {}, dot, name || "test images"));
  }
}

function padCoordinates(event) {
  const box = pad.getBoundingClientRect();
  const far = state.plane.reach;
  return [((event.clientX - box.left) / box.width * 2 - 1) * far, (1 - (event.clientY - box.top) / box.height * 2) * far];
}

function listen() {
  pad.onpointerdown = event => {
    stop();
    pad.setPointerCapture(event.pointerId);
    moveTo(padCoordinates(event));
  };
  pad.onpointermove = event => { if (event.buttons) moveTo(padCoordinates(event)); };
  pad.onkeydown = event => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    stop();
    const length = state.plane.reach * (event.shiftKey ? 0.1 : 0.02);
    moveTo(state.plane.directions.map((direction, axis) => project(state.z, direction) + step[axis] * length));
  };
  const actions = {
    noise: newNoise, more: newSamples, play, download,
    origin: () => { stop(); setLatents(new Float32Array(size)); },
    "set-a": () => setEnd("a"), "set-b": () => setEnd("b"),
  };
  for (const [id, action] of Object.entries(actions)) at(id).onclick = action;
  const keys = { n: "noise", m: "more", p: "play", s: "download", 0: "origin", a: "set-a", b: "set-b" };
  document.onkeydown = event => {
    const typing = event.target.tagName === "SELECT" || event.ctrlKey || event.metaKey || event.altKey;
    if (keys[event.key] && !typing) at(keys[event.key]).click();
  };
  at("temperature").oninput = event => setTemperature(Number(event.target.value));
  at("path").oninput = event => { stop(); bothEnds(); setLatents(onPath(Number(event.target.value))); };
  at("tiles").onchange = requestDraw;
  addEventListener("resize", requestDraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", requestDraw);
}

makeSliders();
makeClasses();
makePlanes();
makeLegend();
listen();
const started = performance.now();
model.generate(state.z, state.label);
const isFast = performance.now() - started < QUICK_MILLISECONDS;
at("tiles").checked = size <= 2 || (isFast && !points); // nothing else would be on the map
at("prior").textContent = `z is drawn from ${page.prior}. T is the temperature: lower is more typical, higher more varied.`;
at("image-a").width = at("image-b").width = width;
at("image-a").height = at("image-b").height = height;
newSamples();
setTemperature(state.temperature);
setLabel(state.label);
