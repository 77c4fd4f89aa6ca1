// What follows when something is moved, and the parts of the page that can be moved.

const PATH_MILLISECONDS = 2500; // from A to B
const QUICK_MILLISECONDS = 20; // of an image, of a model whose map has decoded images at first
const SAMPLES = 12;
const DOWNLOAD_SCALE = 12;

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
  state.isDrawn = false;
  requestDraw();
}

function stop() {
  state.playing = null;
  at("play").textContent = "Play";
}

function drawFromPrior() {
  stop();
  setLatents(model.latentsOf(state.noise, state.temperature, state.label));
  state.isDrawn = true;
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
  if (state.isDrawn) drawFromPrior(); // the prior may be another one for each class
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
  state.isDrawn = false;
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
