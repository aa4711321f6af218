// Reading safetensors files: a length, a header in JSON, and the numbers of all tensors one after another.
//
// Idea: a file holds its weights as float16, half the size of float32.  JavaScript computes with float32 and float64, so
// each weight is looked up in a table of all 65,536 float16 numbers.
// Format: https://github.com/huggingface/safetensors, "Format".

// The number that 16 bits stand for: a sign, 5 bits of exponent, 10 bits of mantissa (IEEE 754, binary16).
export function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa ? NaN : sign * Infinity;
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

let halves = null; // the table, made when it is first needed

function fromHalves(bits) {
  halves ??= Float32Array.from({ length: 65536 }, (_, number) => half(number));
  const out = new Float32Array(bits.length);
  for (let i = 0; i < out.length; i++) out[i] = halves[bits[i]];
  return out;
}

const READERS = {
  F16: (bytes) => fromHalves(new Uint16Array(bytes)),
  F32: (bytes) => new Float32Array(bytes),
};

// The metadata of a file, an object of texts, and its tensors, a Map from name to {shape, data: Float32Array}.
export function read(buffer) {
  const length = buffer.byteLength < 8 ? Infinity : Number(new DataView(buffer).getBigUint64(0, true));
  if (8 + length > buffer.byteLength) throw new Error("this is not a safetensors file, or only a part of one");
  const { __metadata__: metadata = {}, ...entries } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const tensors = new Map();
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(entries)) {
    if (!READERS[dtype]) throw new Error(`${name} is ${dtype}; this page reads ${Object.keys(READERS).join(" and ")}`);
    tensors.set(name, { shape, data: READERS[dtype](buffer.slice(8 + length + from, 8 + length + to)) });
  }
  return { metadata, tensors };
}

// Fetch a file as an ArrayBuffer.  progress(done, all): called with numbers of bytes; all is 0 if the server does not say.
export async function download(url, progress = () => {}) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`cannot load ${url}: the server answers ${answer.status}`);
  const all = Number(answer.headers.get("Content-Length") ?? 0), reader = answer.body.getReader(), parts = [];
  let done = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    done += part.value.length;
    progress(done, all);
  }
  return new Blob(parts).arrayBuffer();
}
