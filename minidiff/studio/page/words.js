// The words of a prompt, as the tokenizer sees them; unknown ones are underlined, and the nearest known one is offered.

import { element } from "./dom.js";

// Runs of letters, digits and accents; each Chinese or Japanese character is a word.
const WORD = /[\u3040-\u30ff\u3400-\u9fff]|(?:(?![\u3040-\u30ff\u3400-\u9fff])[\p{L}\p{N}\p{M}])+/gu;

export const plain = (word) => word.toLowerCase().normalize("NFC");

export function split(text) {
  return [...text.matchAll(WORD)].filter((match) => /[\p{L}\p{N}]/u.test(match[0]))
    .map((match) => ({ text: match[0], word: plain(match[0]), from: match.index, to: match.index + match[0].length }));
}

// Damerau and Levenshtein: how many letters are put in, left out, replaced, or exchanged with their neighbour.
export function distance(a, b) {
  let before = [], above = [], row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    [before, above, row] = [above, row, [i]];
    for (let j = 1; j <= b.length; j++) {
      row[j] = Math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) row[j] = Math.min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.length];
}

// The known word with the fewest changes, at most a third of the letters; of several the one that begins alike.
// A word of two letters is as near to one as to another.
export function nearest(word, words) {
  let best = null, least = Math.floor(word.length / 3) + 0.5;
  if (word.length < 3) return null;
  for (const known of words) {
    if (Math.abs(known.length - word.length) > least) continue;
    const away = distance(word, known) - (known[0] === word[0] ? 0.25 : 0);
    if (away < least) [best, least] = [known, away];
  }
  return best;
}

// Watches a text field.  model(): {words, max_tokens} or null; lines: each line is a prompt of its own.
export class Spelling {
  constructor(field, advice, model, lines) {
    Object.assign(this, { field, advice, model, lines, under: field.previousElementSibling, found: new Map() });
    field.addEventListener("input", () => this.check());
    field.addEventListener("scroll", () => { this.under.scrollTop = field.scrollTop; });
    this.check();
  }

  reset() {
    this.found.clear();
    this.check();
  }

  check() {
    const model = this.model(), text = this.field.value;
    const known = model?.words?.length ? new Set(model.words) : null;
    const unknown = known ? split(text).filter(({ word }) => !known.has(word)) : [];
    let at = 0;
    const pieces = [];
    for (const each of unknown) {
      pieces.push(text.slice(at, each.from), element("mark", { textContent: each.text }));
      at = each.to;
    }
    this.under.replaceChildren(...pieces, text.slice(at) + "\n");
    this.under.scrollTop = this.field.scrollTop;
    this.unknown = [...new Map(unknown.map((each) => [each.word, each])).values()].slice(0, 4);
    const notes = this.offers();
    const most = model?.max_tokens ?? 0;
    for (const line of this.lines ? text.split("\n") : [text]) {
      const length = split(line).length;
      if (most && length > most) notes.push(element("span", { textContent: `${length} words; the model reads up to ${most}.` }));
    }
    this.advice.replaceChildren(...notes);
  }

  // What to say of each unknown word, of the first few.
  offers() {
    return this.unknown.map((each) => this.offer(each, this.model().words));
  }

  offer({ text, word }, words) {
    if (!this.found.has(word)) this.found.set(word, nearest(word, words));
    const better = this.found.get(word);
    const said = element("span", {}, `The model does not know “${text}”.`);
    if (!better) return said;
    const replace = () => {
      const all = split(this.field.value).filter((each) => each.word === word).reverse();
      for (const { from, to } of all) this.field.setRangeText(better, from, to, "end");
      this.field.focus();
      this.field.dispatchEvent(new Event("input", { bubbles: true }));
    };
    said.append(" ", element("button", { type: "button", className: "word", textContent: better, onclick: replace, aria: { label: `Write ${better} instead of ${text}` } }));
    return said;
  }
}
