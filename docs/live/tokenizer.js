// The tokenizer: it turns a prompt into token ids, and refuses unknown words, as minidiff/nn/tokenizer.py does.
//
// The vocabulary is a list of words; the id of a word is its position in it, counted from 1, and 0 stands for "no word".
// The messages are those of Python, so two helpers of Python are here: repr, and difflib's most similar word.

export const PADDING = 0;

// Runs of letters, digits and accents; each Chinese or Japanese character is a word.
const WORD = /[\u3040-\u30ff\u3400-\u9fff]|(?:(?![\u3040-\u30ff\u3400-\u9fff])[\p{L}\p{N}\p{M}])+/gu;

export function split(text) {
  return (text.toLowerCase().normalize("NFC").match(WORD) ?? []).filter((word) => /[\p{L}\p{N}]/u.test(word));
}

export class Tokenizer {
  // words: the vocabulary.  maxTokens: the length of a caption in ids.
  constructor(words, maxTokens) {
    Object.assign(this, { words, maxTokens, ids: new Map(words.map((word, i) => [word, i + 1])) });
  }

  // The ids of a prompt, filled up with zeros: an array of maxTokens numbers.
  // Throws an Error if the prompt has no word, too many, or unknown ones, which the message names.
  encode(prompt) {
    const words = split(prompt);
    if (!words.length) throw new Error(`a prompt must have words, such as ${this.example()}; got ${repr(shorten(prompt))}`);
    if (words.length > this.maxTokens) {
      throw new Error(`a prompt may have up to ${this.maxTokens} words, got ${words.length}: ${repr(shorten(prompt))}`);
    }
    const unknown = [...new Set(words.filter((word) => !this.ids.has(word)))];
    if (unknown.length) {
      const offers = unknown.slice(0, 5).map((word) => this.offer(word)).join(", ");
      throw new Error(`unknown ${unknown.length > 1 ? "words" : "word"} in the prompt: ${offers}; ${this.known()}`);
    }
    return Array.from({ length: this.maxTokens }, (_, i) => (i < words.length ? this.ids.get(words[i]) : PADDING));
  }

  empty() {
    return Array(this.maxTokens).fill(PADDING);
  }

  decode(ids) {
    return ids.filter((id) => id !== PADDING).map((id) => this.words[id - 1]).join(" ");
  }

  offer(word) {
    const close = closest(word, this.words);
    return repr(shorten(word, 30)) + (close === null ? "" : ` (did you mean ${repr(close)}?)`);
  }

  known(most = 150) {
    const names = [...this.words].sort(), more = names.length > most ? ` and ${names.length - most} more` : "";
    return `known are ${names.slice(0, most).join(" ")}${more}`;
  }

  example() {
    return this.ids.has("dog") ? "'a dog'" : repr(this.words[0]);
  }
}

function shorten(text, most = 60) {
  const letters = [...text];
  return letters.length <= most ? text : `${letters.slice(0, most - 1).join("")}…`;
}

// A text in quotes, as Python shows it.
function repr(text) {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escapes = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", [quote]: `\\${quote}` };
  return quote + text.replace(/[\\\n\r\t'"]/g, (letter) => escapes[letter] ?? letter) + quote;
}

// The known word most like `word`, or null if none is alike: difflib.get_close_matches with its cutoff of 0.6.
// Of equally similar words it is the last in alphabetical order, as in Python.
function closest(word, known) {
  let best = null, most = 0.6;
  for (const other of known) {
    const ratio = (2 * matching(other, word)) / (other.length + word.length);
    if (ratio > most || (ratio === most && (best === null || other > best))) [best, most] = [other, ratio];
  }
  return best;
}

// How many letters of two texts match: those of the longest common part, and of what lies to its left and to its right.
// Source: Ratcliff and Metzener 1988, "Pattern matching: the Gestalt approach".
function matching(a, b) {
  let length = 0, i = 0, j = 0, above = [];
  for (let row = 0; row < a.length; row++) {
    const lengths = [];
    for (let column = 0; column < b.length; column++) {
      lengths[column] = a[row] === b[column] ? (above[column - 1] ?? 0) + 1 : 0;
      if (lengths[column] > length) [length, i, j] = [lengths[column], row, column];
    }
    above = lengths;
  }
  if (!length) return 0;
  const before = matching(a.slice(0, i + 1 - length), b.slice(0, j + 1 - length));
  return before + length + matching(a.slice(i + 1), b.slice(j + 1));
}
