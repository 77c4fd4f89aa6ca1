// The map: a plane of the latent space with its points and decoded images.
// Coordinates are projections of z on orthonormal directions.

const TILES = 13; // decoded images along each side of the map
const TILE_MILLISECONDS = 30; // of drawing tiles, before the page may answer again

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
