// The gallery: all that was drawn, the newest first; more is fetched as one scrolls.

import { blob, get } from "./api.js";
import { $, element, listed, nameOf, toast, valueOf } from "./dom.js";
import { restore } from "./dropping.js";
import { on } from "./store.js";

const known = new Set();
let oldest = null, more = true, busy = false, begun = false, large = null;

// The words with which a picture ended: those of its last branch that has some.
function words(settings) {
  for (const line of [...(settings?.branch ?? [])].reverse()) {
    const found = /\bprompt = (\[(?:"(?:[^"\\]|\\.)*"(?:, )?)*\])/.exec(line)?.[1];
    try {
      if (found) return JSON.parse(found);
    } catch { /* TOML that is not JSON */ }
  }
  return settings?.prompt ?? [];
}

const caption = ({ settings, name }) => words(settings).join(" / ") || settings?.label?.join(", ") || name;

function tile(picture) {
  const image = element("img", { src: picture.url, alt: "", loading: "lazy", decoding: "async" });
  return element("button", { type: "button", className: "tile", title: caption(picture), onclick: () => show(picture), aria: { label: caption(picture) } }, image, element("span", { textContent: caption(picture) }));
}

function add(picture, first) {
  if (known.has(picture.id)) return;
  known.add(picture.id);
  if (first) $("gallery").prepend(tile(picture));
  else $("gallery").append(tile(picture));
  $("gallery-empty").hidden = true;
}

async function load() {
  if (busy || !more || $("panel-gallery").hidden) return;
  busy = true;
  try {
    const answer = await get(`/api/gallery?count=60${oldest ? `&before=${encodeURIComponent(oldest)}` : ""}`);
    for (const picture of answer.pictures) add(picture, false);
    oldest = answer.pictures.at(-1)?.id ?? oldest;
    more = answer.more && answer.pictures.length > 0;
    begun = true;
    $("gallery-empty").hidden = known.size > 0;
  } catch (error) {
    more = false;
    toast(error.message);
  }
  busy = false;
  const end = $("gallery-end").getBoundingClientRect();
  if (more && end.top < innerHeight + 600) load();
}

function show(picture) {
  large = picture;
  $("large-picture").src = picture.url;
  $("large-picture").alt = caption(picture);
  $("large-title").textContent = caption(picture);
  $("large-save").href = picture.url;
  $("large-save").download = `${picture.id}.png`;
  const terms = listed(picture.settings ?? {}).flatMap((key) => [element("dt", { textContent: nameOf(key) }), element("dd", { textContent: valueOf(key, picture.settings[key]) })]);
  const drawn = picture.drawn ? [element("dt", { textContent: "drawn" }), element("dd", { textContent: new Date(picture.drawn).toLocaleString() })] : [];
  $("large-settings").replaceChildren(...terms, ...drawn);
  $("large-use").disabled = !picture.settings;
  $("large").showModal();
}

$("large-use").addEventListener("click", async () => {
  $("large").close();
  try {
    await restore(await blob(large.url)); // the file knows more than the list: which pictures it needed, and its branches
    $("draw").focus();
  } catch (error) {
    toast(error.message);
  }
});
$("large-close").addEventListener("click", () => $("large").close());
new IntersectionObserver((entries) => entries[0].isIntersecting && load(), { rootMargin: "600px" }).observe($("gallery-end"));
on("tab", (name) => name === "gallery" && load());
on("gallery", (picture) => begun && add(picture, true));
