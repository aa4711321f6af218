// A trained model, ready to draw: the networks, the schedule, the tokenizer, and what pixels or latents look like.
//
// It does what minidiff.load(…).generate(…) does, for one image, and yields every step of it.
// Files are those that docs/make_live.py writes: weights in float16, and the settings as JSON in the metadata "live".

import { Features } from "./layers.js";
import { normal, STREAM } from "./random.js";
import { levels, makeSchedule, networkInput, Sampler, toX0 } from "./sampling.js";
import { Tokenizer } from "./tokenizer.js";
import { ControlNet, Decoder, UNet, Weights } from "./unet.js";

export class Model {
  // file: a model as `safetensors.read` returns it.
  constructor({ metadata, tensors }) {
    const settings = JSON.parse(metadata.live), { network, diffusion, words, autoencoder, latents } = settings;
    Object.assign(this, { config: network, diffusion, identity: settings.identity });
    this.unet = new UNet(new Weights(tensors), network);
    this.schedule = makeSchedule(diffusion);
    this.tokenizer = new Tokenizer(words, network.max_tokens);
    this.space = latents ? new Latents(new Weights(tensors, "autoencoder"), autoencoder, latents) : new Pixels();
    this.control = null;
  }

  // Height, width and channels of what the network denoises, and of its images.
  get noiseShape() {
    return [this.config.height, this.config.width, this.config.channels];
  }

  get shape() {
    return this.space.imageShape(this.noiseShape);
  }

  // Add the ControlNet of a file, which must have been trained for this model.
  addControl({ metadata, tensors }) {
    const { base, adapter } = JSON.parse(metadata.live);
    if (base !== this.identity) throw new Error(`the adapter for ${adapter} was trained for another model`);
    this.control = new ControlNet(new Weights(tensors), this.config);
  }

  // Draw an image as an asynchronous generator of steps, see `Sampler`; the last xPrev is the image or its latents.
  //
  // guidance: the guidance scale; with 1 the network is evaluated once a step, else twice.  seed: a number or a BigInt.
  // drawing: null, or a map of edges, Uint8Array (height, width, 1), white on black; controlScale: its weight.
  // elsewhere: null, or a function of x and t that evaluates the network without the prompt for this drawing and returns a
  // promise, so that both evaluations of a step run at the same time.
  async *draw({ prompt, seed = 0, steps = 16, guidance = 3, sampler = "dpm-solver", eta = 0, drawing = null, controlScale = 1 }, elsewhere = null) {
    const hint = this.hint(drawing), network = this.evaluator(this.tokenizer.encode(prompt), hint, controlScale);
    const without = elsewhere ?? this.evaluator(this.tokenizer.empty(), hint, controlScale);
    const guided = guidance === 1 ? network : withGuidance(network, without, guidance);
    const { target } = this.diffusion, count = this.noiseShape.reduce((a, b) => a * b);
    const x = normal({ seed, stream: STREAM.START, step: 0, sample: 0 }, count);
    const noise = (index) => normal({ seed, stream: STREAM.SAMPLER, step: index, sample: 0 }, count);
    const run = new Sampler(sampler, { levels: levels(this.schedule, steps), x, noise, eta });
    while (!run.finished) {
      const output = await guided(...networkInput(target, run.xT, run.level));
      yield run.step(this.space.clip(toX0(target, output, run.xT, run.level)));
    }
  }

  // The network as a function of x (a flat array) and t.  ids: the tokens of the prompt.  hint: null, or what `hint` returns.
  evaluator(ids, hint = null, controlScale = 1) {
    const cond = this.unet.condition(ids);
    const control = hint && ((x, emb, cond) => this.control.residuals(x, hint, emb, cond, controlScale));
    return (x, t) => this.unet.predict(new Features(...this.noiseShape, x), t, cond, control).data;
  }

  // The features of a drawing, null for none.
  hint(drawing) {
    if (!drawing) return null;
    const [height, width] = this.shape;
    return this.control.hint(new Features(height, width, 1, Float32Array.from(drawing, (value) => value / 255)));
  }

  // What a step looks like: an image, Features of three channels or one.  finished: whether x is that of a finished image.
  picture(x, finished = false) {
    const image = new Features(...this.noiseShape, x);
    return finished ? this.space.decode(image) : this.space.preview(image);
  }
}

// The network with guidance, as an asynchronous function of x and t:
//
//     output = uncond + guidance (cond - uncond)
//
// cond, uncond: the network with the prompt and without, as functions of x and t; uncond may return a promise.
// Source: Ho and Salimans 2022, arXiv:2207.12598, eq. 6.
function withGuidance(cond, uncond, guidance) {
  return async (x, t) => {
    const begun = uncond(x, t), output = cond(x, t);
    return (await begun).map((without, i) => without + guidance * (output[i] - without));
  };
}

// What the network denoises is the image itself.
class Pixels {
  imageShape(shape) {
    return shape;
  }

  clip(x0Hat) {
    return x0Hat.map((value) => Math.min(1, Math.max(-1, value)));
  }

  decode(x) {
    return x;
  }

  preview(x) {
    return x;
  }
}

// What the network denoises are latents of an autoencoder, normalised: minidiff/latent/space.py.
class Latents {
  constructor(weights, config, { mean, std, colour }) {
    this.factor = config.autoencoder_patch << (config.encoder_channels.length - 1);
    Object.assign(this, { decoder: new Decoder(weights, config), channels: config.channels, mean, std, colour });
  }

  imageShape([height, width]) {
    return [height * this.factor, width * this.factor, this.channels];
  }

  clip(x0Hat) {
    return x0Hat; // latents have no range
  }

  decode(x) {
    const { std, mean } = this, c = x.channels;
    return this.decoder.decode(new Features(x.height, x.width, c, x.data.map((z, i) => z * std[i % c] + mean[i % c])));
  }

  // Roughly what latents look like, without the decoder: a linear map from the channels of a position to its colour.
  preview(x) {
    const { factor, channels, colour } = this, y = new Features(x.height * factor, x.width * factor, channels);
    for (let i = 0, at = 0; i < y.height; i++) {
      for (let j = 0; j < y.width; j++) {
        const from = (Math.floor(i / factor) * x.width + Math.floor(j / factor)) * x.channels;
        for (let c = 0; c < channels; c++, at++) {
          y.data[at] = colour[x.channels * channels + c];
          for (let k = 0; k < x.channels; k++) y.data[at] += x.data[from + k] * colour[k * channels + c];
        }
      }
    }
    return y;
  }
}

// An image in [-1, 1] as the bytes of a canvas, RGBA; grey has one channel.
export function toBytes(image) {
  const { height, width, channels, data } = image, bytes = new Uint8ClampedArray(4 * height * width).fill(255);
  for (let pixel = 0; pixel < height * width; pixel++) {
    for (let c = 0; c < 3; c++) bytes[4 * pixel + c] = (data[pixel * channels + (c % channels)] + 1) * 127.5;
  }
  return bytes;
}
