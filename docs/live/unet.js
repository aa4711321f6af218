// The networks: the U-Net with its text encoder, the ControlNet, and the decoder of latents.
//
// Each class is the forward pass of the one of the same name in minidiff/nn/.  The names of the weights say what a network
// is made of: a layer `down.1` with weights `down.1.block…` is a stage, one with `down.1.w` is a convolution, and a
// stage has attention where there are weights for it.  The configuration adds what names and shapes do not show.
// Leaves out class labels and reference images (IP-Adapter).

import * as layers from "./layers.js";
import { PADDING } from "./tokenizer.js";

const { Features, Filter, vector, add, concat, convolve, groupNorm, linear, multiply, silu } = layers;

// The weights of a network by name: filters, and gains and biases of normalisations.  Filters are made once.
export class Weights {
  // tensors: a Map from "<group>/<name>" to {shape, data}.
  constructor(tensors, group = "ema") {
    this.tensors = new Map();
    this.parts = new Set(); // the names of all modules and parameters
    this.filters = new Map();
    for (const [full, tensor] of tensors) {
      if (!full.startsWith(`${group}/`)) continue;
      const name = full.slice(group.length + 1);
      this.tensors.set(name, tensor);
      for (let end = name.length; end > 0; end = name.lastIndexOf(".", end - 1)) this.parts.add(name.slice(0, end));
    }
  }

  has(name) {
    return this.parts.has(name);
  }

  get(name) {
    const found = this.tensors.get(name);
    if (!found) throw new Error(`the weights have no ${name}`);
    return found;
  }

  filter(name) {
    if (!this.filters.has(name)) this.filters.set(name, new Filter(this.get(`${name}.w`), this.get(`${name}.b`)));
    return this.filters.get(name);
  }

  norm(name) {
    return { gain: this.get(`${name}.gain`).data, bias: this.get(`${name}.bias`).data };
  }

  // The names of the modules in a list: name.0, name.1, …
  list(name) {
    const names = [];
    while (this.has(`${name}.${names.length}`)) names.push(`${name}.${names.length}`);
    return names;
  }
}

// What all networks have in common.  config: groups and heads, and for the U-Net the rest of its configuration.
class Network {
  constructor(weights, config) {
    Object.assign(this, { weights, config });
  }

  linear(name, x) {
    return linear(x, this.weights.filter(name));
  }

  // convolution(SiLU(normalise(x))).  adaptive: scale and shift, see `groupNorm`.
  normalisedConvolution(norm, convolution, x, adaptive = {}) {
    const filter = this.weights.filter(convolution);
    const settings = { ...adaptive, silu: true, border: filter.kernel >> 1 };
    return multiply(groupNorm(x, this.weights.norm(norm), this.config.groups, settings), filter, x.height, x.width);
  }

  // x + f(x), where f normalises, applies SiLU and convolves, twice.  emb: the embedding, null in the autoencoder.
  residualBlock(name, x, emb) {
    const shift = emb && this.linear(`${name}.shift`, emb).data;
    const scale = emb && this.weights.has(`${name}.scale`) ? this.linear(`${name}.scale`, emb).data : null;
    const shortcut = this.weights.has(`${name}.shortcut`) ? convolve(x, this.weights.filter(`${name}.shortcut`)) : x;
    const h = this.normalisedConvolution(`${name}.norm1`, `${name}.conv1`, x);
    if (shift && !scale) addToPixels(h, shift); // the time embedding is added to the features
    const y = this.normalisedConvolution(`${name}.norm2`, `${name}.conv2`, h, scale ? { scale, shift } : {});
    return add(shortcut, y);
  }

  selfAttention(name, x) {
    const h = groupNorm(x, this.weights.norm(`${name}.norm`), this.config.groups);
    const [q, k, v] = ["q", "k", "v"].map((each) => this.linear(`${name}.${each}`, h));
    return add(x, this.linear(`${name}.out`, layers.attention(q, k, v, this.config.heads)));
  }

  // As self-attention, but keys and values come from the words of the prompt.
  crossAttention(name, x, cond) {
    const q = this.linear(`${name}.q`, groupNorm(x, this.weights.norm(`${name}.norm`), this.config.groups));
    const [k, v] = ["k", "v"].map((each) => this.ofTokens(`${name}.${each}`, cond));
    return add(x, this.linear(`${name}.out`, layers.attention(q, k, v, this.config.heads)));
  }

  // A linear layer of the words, which is the same at every step; cond keeps it.
  ofTokens(name, cond) {
    const filter = this.weights.filter(name);
    if (!cond.kept.has(filter)) cond.kept.set(filter, linear(cond.tokens, filter));
    return cond.kept.get(filter);
  }

  // A residual block, then self-attention and cross-attention where the level has them.
  stage(name, x, emb, cond) {
    x = this.residualBlock(`${name}.block`, x, emb);
    if (this.weights.has(`${name}.attention`)) x = this.selfAttention(`${name}.attention`, x);
    return this.weights.has(`${name}.cross_attention`) ? this.crossAttention(`${name}.cross_attention`, x, cond) : x;
  }

  isStage(name) {
    return this.weights.has(`${name}.block`);
  }

  // The encoder and the middle: [h, the output of every layer of the encoder, the output of the middle].
  encode(h, emb, cond) {
    const features = [h];
    for (const name of this.weights.list("down")) {
      h = this.isStage(name) ? this.stage(name, h, emb, cond) : convolve(h, this.weights.filter(name), { stride: 2 });
      features.push(h);
    }
    for (const name of this.weights.list("middle")) h = this.stage(name, h, emb, cond);
    return [...features, h];
  }
}

function addToPixels(x, channels) {
  for (let at = 0; at < x.data.length; at++) x.data[at] += channels[at % x.channels];
}

export class UNet extends Network {
  // What a prompt is to the network: an embedding, and a vector for each word.  ids: from the tokenizer.
  // It is computed once for all steps; `kept` is for what layers make of it.
  condition(ids) {
    const { tokens, caption } = this.encodeText(ids);
    return { embedding: this.linear("text_projection", caption), tokens, kept: new Map() };
  }

  // The text encoder: a learnt vector for each word and one for its position, then transformer blocks.
  encodeText(ids) {
    const { data: table, shape: [, width] } = this.weights.get("text.token_embedding.table");
    const places = this.weights.get("text.position_embedding").data;
    let h = new Features(ids.length, 1, width);
    ids.forEach((id, i) => {
      for (let c = 0; c < width; c++) h.data[i * width + c] = table[id * width + c] + places[i * width + c];
    });
    for (const name of this.weights.list("text.layers")) h = this.transformerBlock(name, h);
    const tokens = this.layerNorm("text.norm", h), caption = vector(new Float32Array(width));
    const words = ids.filter((id) => id !== PADDING).length;
    ids.forEach((id, i) => {
      if (id !== PADDING) for (let c = 0; c < width; c++) caption.data[c] += tokens.data[i * width + c] / words;
    });
    return { tokens, caption }; // the mean over the words; zero if there is none
  }

  transformerBlock(name, x) {
    let h = this.layerNorm(`${name}.norm1`, x);
    const [q, k, v] = ["q", "k", "v"].map((each) => this.linear(`${name}.${each}`, h));
    x = add(x, this.linear(`${name}.out`, layers.attention(q, k, v, this.config.heads)));
    h = silu(this.linear(`${name}.linear1`, this.layerNorm(`${name}.norm2`, x)));
    return add(x, this.linear(`${name}.linear2`, h));
  }

  // Each vector is normalised by itself: group normalisation, with one group, of an image of one pixel.
  layerNorm(name, x) {
    const norm = this.weights.norm(`${name}.norm`), y = new Features(x.height, x.width, x.channels);
    for (let from = 0; from < x.data.length; from += x.channels) {
      y.data.set(groupNorm(vector(x.data.subarray(from, from + x.channels)), norm, 1).data, from);
    }
    return y;
  }

  // From the timestep and the condition to the vector that every residual block receives.
  embed(t, cond) {
    const waves = vector(sinusoidal(t, this.config.model_channels));
    const h = this.linear("embedding.linear2", silu(this.linear("embedding.linear1", waves)));
    return silu(add(cond.embedding, h));
  }

  // From a noisy image x, Features, and its timestep to the prediction that the network was trained for.
  // control: null, or a function of x, emb and cond, which returns what a ControlNet adds to the features of the encoder.
  predict(x, t, cond, control = null) {
    const emb = this.embed(t, cond), { patch } = this.config;
    let features = this.encode(convolve(layers.spaceToDepth(x, patch), this.weights.filter("conv_in")), emb, cond);
    if (control) {
      const residuals = control(x, emb, cond);
      features = features.map((h, i) => add(h, residuals[i]));
    }
    return layers.depthToSpace(this.decode(features, emb, cond), patch);
  }

  // The decoder: the last of the features is its input, the others are the skips, used from the end.
  decode(features, emb, cond) {
    let h = features.pop();
    for (const name of this.weights.list("up")) {
      if (this.isStage(name)) h = this.stage(name, concat(h, features.pop()), emb, cond);
      else h = convolve(h, this.weights.filter(name), { upsample: true });
    }
    return this.normalisedConvolution("norm", "conv_out", h);
  }
}

// Sines and cosines of t: [sin(t f_i), cos(t f_i)] with f_i = 10000^(-i / (width/2 - 1)).
// Rounded to float32 where Python rounds: t is up to 999, so a rounding of f moves the angle in the fifth digit.
export function sinusoidal(t, width) {
  const half = width / 2, waves = new Float32Array(width), { fround } = Math;
  for (let i = 0; i < half; i++) {
    const frequency = fround(Math.exp(fround(i * fround(-Math.log(10000) / (half - 1)))));
    waves[i] = Math.sin(fround(fround(t) * frequency));
    waves[half + i] = Math.cos(fround(fround(t) * frequency));
  }
  return waves;
}

// A copy of the U-Net's encoder that also sees a drawing.  Its residuals are added to the features of the original.
export class ControlNet extends Network {
  // The features of a drawing (height, width, channels) in [0, 1]; they are the same at all steps.
  hint(drawing) {
    const filter = this.weights.filter("hint_in"), patch = Math.round(Math.sqrt(filter.inputs / drawing.channels));
    return convolve(silu(convolve(layers.spaceToDepth(drawing, patch), filter)), this.weights.filter("hint_out"));
  }

  // One residual for each of the features that `encode` returns, times a weight.
  residuals(x, hint, emb, cond, weight) {
    const h = convolve(layers.spaceToDepth(x, this.config.patch), this.weights.filter("conv_in"));
    return this.encode(add(hint, h), emb, cond).map((feature, i) => {
      const residual = linear(feature, this.weights.filter(`zero_convs.${i}`));
      for (let at = 0; at < residual.data.length; at++) residual.data[at] *= weight;
      return residual;
    });
  }
}

// From latents to the image: residual blocks, and between the levels convolutions that double height and width.
export class Decoder extends Network {
  // z: Features of latents, not normalised.
  decode(z) {
    let h = convolve(z, this.weights.filter("decoder.conv_in"));
    for (const name of this.weights.list("decoder.layers")) {
      if (this.weights.has(`${name}.conv1`)) h = this.residualBlock(name, h, null);
      else h = convolve(h, this.weights.filter(name), { upsample: true });
    }
    return layers.depthToSpace(this.normalisedConvolution("decoder.norm", "decoder.conv_out", h), this.config.autoencoder_patch);
  }
}
