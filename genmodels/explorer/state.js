// What the page is given, what it shows now, and how an image is painted.

const page = JSON.parse(document.getElementById("data").textContent);
const model = new BrowserModel(page.model);
const [channels, height, width] = model.image_shape;
const size = model.latent_dim;
const at = id => document.getElementById(id);

const points = page.points && {
  ...page.points,
  means: decodeFloat16(page.points.means),
};
const reach = new Float32Array(size);
for (const dimension of page.dimensions) reach[dimension.index] = dimension.reach;

const state = {
  z: new Float32Array(size),
  noise: model.drawNoise(),
  isDrawn: true, // whether z is that of the noise, and was not moved since
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
