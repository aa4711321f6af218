// A drawing of lines, and the map of it that the ControlNet reads: white lines on black.
//
// A pixel whose centre is d pixels away from the nearest line has the value 255 max(0, 1 - d), as in the outlines of
// scenes that the ControlNet was trained with (minidiff/images/edges.py, kernels/raster/reference.py).

export class Lines {
  constructor() {
    this.strokes = [];
  }

  get empty() {
    return !this.strokes.length;
  }

  // x, y: from 0 to 1, of the width and the height.
  begin(x, y) {
    this.strokes.push([[x, y]]);
  }

  move(x, y) {
    this.strokes.at(-1).push([x, y]);
  }

  undo() {
    this.strokes.pop();
  }

  clear() {
    this.strokes = [];
  }

  // The map: Uint8Array of height × width numbers.
  map(height, width) {
    const map = new Uint8Array(height * width);
    for (const stroke of this.strokes) {
      const points = stroke.map(([x, y]) => [x * width, y * height]);
      points.forEach((to, i) => drawLine(map, height, width, points[Math.max(0, i - 1)], to));
    }
    return map;
  }
}

function drawLine(map, height, width, from, to) {
  const [left, right] = [from[0], to[0]].sort((a, b) => a - b), [top, bottom] = [from[1], to[1]].sort((a, b) => a - b);
  for (let i = Math.max(0, Math.floor(top - 1.5)); i < Math.min(height, bottom + 1.5); i++) {
    for (let j = Math.max(0, Math.floor(left - 1.5)); j < Math.min(width, right + 1.5); j++) {
      const cover = Math.max(0, 1 - distance([j + 0.5, i + 0.5], from, to));
      map[i * width + j] = Math.max(map[i * width + j], Math.floor(255 * cover + 0.5));
    }
  }
}

// How far a point is from the line between two others.
function distance([x, y], [x0, y0], [x1, y1]) {
  const dx = x1 - x0, dy = y1 - y0, length = dx * dx + dy * dy;
  const share = length ? Math.min(1, Math.max(0, ((x - x0) * dx + (y - y0) * dy) / length)) : 0;
  return Math.hypot(x - x0 - share * dx, y - y0 - share * dy);
}
