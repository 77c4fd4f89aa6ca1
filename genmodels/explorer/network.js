"use strict";
// A generative model in plain JavaScript, for a page and for node: float16 weights, float32 values.
// Features are { data: Float32Array, shape: [C, H, W] or [C] }, for one image at a time.

/** Float16 numbers in base64 -> Float32Array. */
function decodeFloat16(base64) {
  const bytes = Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
  const halves = new Uint16Array(bytes.buffer);
  const values = new Float32Array(halves.length);
  for (let index = 0; index < halves.length; index++) {
    const half = halves[index];
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    const size = exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
    values[index] = half & 0x8000 ? -size : size;
  }
  return values;
}

const product = numbers => numbers.reduce((one, other) => one * other, 1);
const sigmoid = value => 1 / (1 + Math.exp(-value));
const softplus = value => Math.max(value, 0) + Math.log1p(Math.exp(-Math.abs(value)));
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

const ACTIVATIONS = {
  leaky_relu: (value, slope) => (value > 0 ? value : slope * value),
  silu: value => value * sigmoid(value),
};

const LAYERS = {
  linear(layer, features) {
    const { weight, bias } = layer;
    const inputs = features.data;
    const outputs = new Float32Array(layer.outputs);
    for (let output = 0; output < layer.outputs; output++) {
      let sum = bias ? bias[output] : 0;
      const row = output * inputs.length;
      for (let input = 0; input < inputs.length; input++) sum += weight[row + input] * inputs[input];
      outputs[output] = sum;
    }
    return { data: outputs, shape: [layer.outputs] };
  },

  unflatten: (layer, features) => ({ data: features.data, shape: layer.shape }),

  // The loops of both convolutions are alike: with them in one function, which calls another for each
  // weight, images took 1.1 to 1.6 times as long (in node, two models, two rounds).
  convolution(layer, features) {
    const [channels, height, width] = features.shape;
    const [kernelHeight, kernelWidth] = layer.kernel;
    const [padTop, padLeft] = layer.padding;
    const outHeight = height + 2 * padTop - kernelHeight + 1;
    const outWidth = width + 2 * padLeft - kernelWidth + 1;
    const area = outHeight * outWidth;
    const out = new Float32Array(layer.outputs * area);
    for (let output = 0; output < layer.outputs; output++) {
      const target = output * area;
      if (layer.bias) out.fill(layer.bias[output], target, target + area);
      for (let input = 0; input < channels; input++) {
        const source = input * height * width;
        const taps = (output * channels + input) * kernelHeight * kernelWidth;
        for (let ky = 0; ky < kernelHeight; ky++) {
          for (let kx = 0; kx < kernelWidth; kx++) {
            const tap = layer.weight[taps + ky * kernelWidth + kx];
            const firstX = Math.max(0, padLeft - kx);
            const lastX = Math.min(outWidth, width + padLeft - kx);
            for (let y = Math.max(0, padTop - ky); y < Math.min(outHeight, height + padTop - ky); y++) {
              const from = source + (y + ky - padTop) * width + kx - padLeft;
              const to = target + y * outWidth;
              for (let x = firstX; x < lastX; x++) out[to + x] += tap * features.data[from + x];
            }
          }
        }
      }
    }
    return { data: out, shape: [layer.outputs, outHeight, outWidth] };
  },

  transposed_convolution(layer, features) {
    const [channels, height, width] = features.shape;
    const [kernelHeight, kernelWidth] = layer.kernel;
    const [strideY, strideX] = layer.stride;
    const [padTop, padLeft] = layer.padding;
    const outHeight = (height - 1) * strideY - 2 * padTop + kernelHeight;
    const outWidth = (width - 1) * strideX - 2 * padLeft + kernelWidth;
    const area = outHeight * outWidth;
    const out = new Float32Array(layer.outputs * area);
    for (let output = 0; output < layer.outputs; output++) {
      const target = output * area;
      if (layer.bias) out.fill(layer.bias[output], target, target + area);
      for (let input = 0; input < channels; input++) {
        const source = input * height * width;
        const taps = (input * layer.outputs + output) * kernelHeight * kernelWidth;
        for (let ky = 0; ky < kernelHeight; ky++) {
          for (let kx = 0; kx < kernelWidth; kx++) {
            const tap = layer.weight[taps + ky * kernelWidth + kx];
            const firstX = Math.max(0, Math.ceil((padLeft - kx) / strideX));
            const lastX = Math.min(width, Math.floor((outWidth - 1 + padLeft - kx) / strideX) + 1);
            for (let y = 0; y < height; y++) {
              const outY = y * strideY + ky - padTop;
              if (outY < 0 || outY >= outHeight) continue;
              const from = source + y * width;
              const to = target + outY * outWidth + kx - padLeft;
              for (let x = firstX; x < lastX; x++) out[to + x * strideX] += tap * features.data[from + x];
            }
          }
        }
      }
    }
    return { data: out, shape: [layer.outputs, outHeight, outWidth] };
  },

  // what batch normalisation comes to outside of training
  scale_and_shift: (layer, features) =>
    eachChannel(features, (value, channel) => value * layer.scale[channel] + layer.shift[channel]),

  // over all values of an image
  layer_norm(layer, features) {
    const count = features.data.length;
    let sum = 0;
    for (const value of features.data) sum += value;
    const mean = sum / count;
    let squares = 0;
    for (const value of features.data) squares += (value - mean) ** 2;
    const scale = 1 / Math.sqrt(squares / count + layer.epsilon);
    return eachChannel(features, (value, channel) =>
      (value - mean) * scale * layer.weight[channel] + layer.bias[channel]);
  },

  // of labels, or of labels and latents
  conditional_bias(layer, features, embedding) {
    const shift = LAYERS.linear(layer, { data: embedding }).data;
    return eachChannel(features, (value, channel) => value + shift[channel]);
  },

  activation(layer, features) {
    const activate = ACTIVATIONS[layer.kind];
    return { data: features.data.map(value => activate(value, layer.slope)), shape: features.shape };
  },

  residual(layer, features, embedding) {
    const added = runLayers(layer.layers, features, embedding);
    const sums = features.data.map((value, index) => value + added.data[index]);
    return runLayers(layer.after, { data: sums, shape: features.shape }, embedding);
  },
};

function eachChannel(features, change) {
  const area = product(features.shape.slice(1));
  const data = new Float32Array(features.data.length);
  for (let index = 0; index < data.length; index++) {
    data[index] = change(features.data[index], Math.floor(index / area));
  }
  return { data, shape: features.shape };
}

function runLayers(layers, features, embedding) {
  for (const layer of layers) features = LAYERS[layer.op](layer, features, embedding);
  return features;
}

/** The mean of a logistic variable that is clamped to [0, 1]. */
function logisticMean(location, scale) {
  return clamp(scale * (softplus(location / scale) - softplus((location - 1) / scale)), 0, 1);
}

const logisticScale = raw => Math.exp(clamp(raw - 2, -8, 3));

// From a network's output to an image, as the likelihoods of genmodels.likelihoods do
const HEADS = {
  sigmoid: (_, output) => output.data.map(sigmoid),
  tanh: (_, output) => output.data.map(value => 0.5 + 0.5 * Math.tanh(value)),

  continuous_bernoulli: (_, output) => output.data.map(logit => {
    const half = logit / 2;
    if (Math.abs(half) >= 0.25) return 0.5 + 0.5 * (1 / Math.tanh(half) - 1 / half);
    const squared = half * half;
    return 0.5 + 0.5 * half * (1 / 3 - squared * (1 / 45 - squared * (2 / 945 - squared / 4725)));
  }),

  discretised_logistic(_, output) {
    const count = output.data.length / 2;
    return output.data.slice(0, count).map((location, index) =>
      logisticMean(0.5 + location, logisticScale(output.data[count + index])));
  },

  discretised_logistic_mixture({ components, channels }, output) {
    const [all, height, width] = output.shape;
    const area = height * width;
    const parameters = all / components;
    const image = new Float32Array(channels * area);
    const at = (component, parameter, pixel) =>
      output.data[(component * parameters + parameter) * area + pixel];
    for (let pixel = 0; pixel < area; pixel++) {
      const logits = Array.from({ length: components }, (_, component) => at(component, 0, pixel));
      const highest = Math.max(...logits);
      const weights = logits.map(logit => Math.exp(logit - highest));
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      for (let component = 0; component < components; component++) {
        const center = (component + 0.5) / components;
        const locations = [];
        const means = [];
        let coefficient = 1 + 2 * channels;
        for (let channel = 0; channel < channels; channel++) {
          locations.push(center + at(component, 1 + channel, pixel));
          let placed = locations[channel];
          for (let earlier = 0; earlier < channel; earlier++, coefficient++) {
            placed += at(component, coefficient, pixel) * (means[earlier] - locations[earlier]);
          }
          means.push(logisticMean(placed, logisticScale(at(component, 1 + channels + channel, pixel))));
          image[channel * area + pixel] += (weights[component] / total) * means[channel];
        }
      }
    }
    return image.map(value => clamp(value, 0, 1));
  },
};

/** A model that was described in Python: images from latents, and latents from its prior. */
class BrowserModel {
  /** description: as genmodels.explorer.browser_model gives it. */
  constructor(description) {
    Object.assign(this, description);
    const values = decodeFloat16(description.weights);
    // references to weights, { start, length }, become views of them
    const resolve = node => {
      if (node === null || typeof node !== "object") return node;
      if (node.length !== undefined && node.start !== undefined) {
        return values.subarray(node.start, node.start + node.length);
      }
      for (const key of Object.keys(node)) node[key] = resolve(node[key]);
      return node;
    };
    this.network = resolve(this.network);
    this.prior = resolve(this.prior);
  }

  /** The image (C * H * W values in [0, 1]) of latents z (D); label -1: none. */
  generate(z, label = -1) {
    const { layers, inputs, shift, embedding, label_units, head } = this.network;
    const ofLabel = embedding
      ? embedding.subarray((label + 1) * label_units, (label + 2) * label_units)
      : new Float32Array();
    const sources = { latents: z, label: ofLabel, both: Float32Array.of(...z, ...ofLabel) };
    const data = Float32Array.from(sources[inputs]);
    const output = runLayers(layers, { data, shape: [data.length] }, sources[shift]);
    return HEADS[head.kind](head, output);
  }

  /** What is random in a draw from the prior: it stays when temperature or class change. */
  drawNoise(random = Math.random) {
    const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return { component: random(), classes: random(), normals: Array.from({ length: this.latent_dim }, normal) };
  }

  /** Latents z (D) from noise. */
  latentsOf(noise, temperature, label = -1) {
    const { mixture, flow } = this.prior;
    const scaled = noise.normals.map(value => Math.sqrt(temperature) * value);
    let z = mixture ? this.drawFromMixture(mixture, noise, scaled, label) : Float32Array.from(scaled);
    for (const layer of flow) z = this.invertCoupling(layer, z, label);
    return z;
  }

  drawFromMixture({ classes, weights, means, factors }, noise, scaled, label) {
    const size = this.latent_dim;
    const perClass = weights.length / classes;
    const ofClass = classes === 1 ? 0 : label < 0 ? Math.floor(noise.classes * classes) : label;
    let component = ofClass * perClass;
    const last = component + perClass - 1;
    for (let left = noise.component; component < last && left >= weights[component]; component++) {
      left -= weights[component];
    }
    const z = means.slice(component * size, (component + 1) * size);
    for (let row = 0; row < size; row++) {
      for (let column = 0; column <= row; column++) {
        z[row] += factors[(component * size + row) * size + column] * scaled[column];
      }
    }
    return z;
  }

  invertCoupling({ odd, first, second, last, embedding, hidden, limit }, noise, label) {
    const changes = index => (index % 2 === 1) === odd;
    const relu = features => ({ data: features.data.map(value => Math.max(value, 0)) });
    let features = LAYERS.linear(first, { data: noise.map((value, index) => (changes(index) ? 0 : value)) });
    if (embedding) {
      const start = (label + 1) * hidden;
      features.data = features.data.map((value, index) => value + embedding[start + index]);
    }
    features = LAYERS.linear(last, relu(LAYERS.linear(second, relu(features))));
    return noise.map((value, index) => {
      if (!changes(index)) return value;
      const logScale = limit * Math.tanh(features.data[noise.length + index] / limit);
      return (value - features.data[index]) * Math.exp(-logScale);
    });
  }
}

if (typeof module !== "undefined") module.exports = { BrowserModel };
