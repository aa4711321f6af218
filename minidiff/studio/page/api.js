// The server: its answers over HTTP, and what it tells by itself over a WebSocket, which reconnects.

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function answer(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new ApiError(0, "The studio does not answer.");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  throw new ApiError(response.status, said?.error ?? `The studio answered ${response.status}.`);
}

const json = async (path, options) => (await answer(path, options)).json();

export const get = (path) => json(path);
export const blob = async (path) => (await answer(path)).blob();
export const post = (path, body = {}) =>
  json(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
export const send = (path, file) =>
  json(path, { method: "POST", headers: { "Content-Type": file.type || "application/octet-stream" }, body: file });

const part = encodeURIComponent;
export const drawingPath = (id, ...rest) => ["/api/drawings", part(id), ...rest.map((each) => part(String(each)))].join("/");
export const picturePath = (id, use, model, kind) =>
  use ? `/api/pictures/${part(id)}/as/${use}.png?model=${part(model)}${kind ? `&kind=${part(kind)}` : ""}` : `/api/pictures/${part(id)}.png`;

// A preview: the length of its JSON, the JSON, and two pictures.
function preview(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const about = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const [x_t, x0_hat] = about.sizes;
  const from = 4 + length;
  const picture = (start, size) => new Blob([new Uint8Array(buffer, start, size)], { type: "image/png" });
  return { ...about, x_t: picture(from, x_t), x0_hat: picture(from + x_t, x0_hat) };
}

// on: {event(object), preview(object), open(), lost()}.  After a loss it tries again, ever less often, at most every 5 s.
export function watch(on) {
  let wait = 500;
  const connect = () => {
    const socket = new WebSocket(new URL("/api/watch", location.href.replace(/^http/, "ws")));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { wait = 500; on.open(); };
    socket.onmessage = ({ data }) => (typeof data === "string" ? on.event(JSON.parse(data)) : on.preview(preview(data)));
    socket.onclose = () => {
      on.lost();
      setTimeout(connect, wait);
      wait = Math.min(5000, 2 * wait);
    };
  };
  connect();
}
