// The molecule in 3D: atoms, bonds and what has become of them, contacts, relevances, the cell.
window.mdxai = window.mdxai || {};

mdxai.style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Positions of every frame, [x, y, z] per atom, from 16-bit steps.
mdxai.positionsOf = (packed, nAtoms) => {
  const bytes = Uint8Array.from(atob(packed.base64), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return packed.low.map((low, k) => Array.from({ length: nAtoms }, (_, atom) =>
    [0, 1, 2].map((axis) => low + packed.step[k] * view.getUint16(2 * (3 * (k * nAtoms + atom) + axis), true))));
};

// Whole cell vectors that bring `to` nearest to `from`; nothing where there is no cell.
mdxai.imageShift = (from, to, cell) => {
  if (!cell || !cell.some(Boolean)) return [0, 0, 0];
  const [a, b, c] = [cell.slice(0, 3), cell.slice(3, 6), cell.slice(6, 9)];
  const cross = (u, v) => [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
  const dot = (u, v) => u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
  const way = to.map((x, k) => x - from[k]), volume = dot(a, cross(b, c));
  if (!volume) return [0, 0, 0];
  const n = [cross(b, c), cross(c, a), cross(a, b)].map((v) => -Math.round(dot(way, v) / volume));
  return [0, 1, 2].map((k) => n[0] * a[k] + n[1] * b[k] + n[2] * c[k]);
};

mdxai.Molecule = class {
  constructor(element, data) {
    const film = data.film, canvas = document.createElement("canvas");
    if (!(canvas.getContext("webgl2") || canvas.getContext("webgl"))) throw new Error("no WebGL");
    this.film = film;
    this.data = data;
    this.positions = mdxai.positionsOf(film.positions, data.symbols.length);
    this.names = data.symbols.map((symbol, k) => symbol + k);
    this.view = $3Dmol.createViewer(element, { antialias: true, disableFog: true });
    this.options = { names: data.symbols.length <= 30, pairs: film.relevances.length ? "strongest" : "", cell: true };
    this.highlighted = [];
    this.paint();
    new ResizeObserver(() => { if (element.clientWidth) { this.view.resize(); this.view.render(); } }).observe(element);
  }

  paint() {
    this.view.setBackgroundColor(mdxai.style("--panel"));
  }

  reset() {
    this.view.zoomTo();
    this.view.zoom(this.film.cells.length ? 0.92 : 1.4);
    this.view.render();
  }

  show(k) {
    const { view, film, options } = this, first = this.at === undefined;
    this.at = k;
    view.removeAllModels();
    view.removeAllShapes();
    view.removeAllLabels();
    this.addAtoms(k);
    this.addPairs(film.broken[k], this.data.colours.alarm, "broken");
    this.addPairs(film.formed[k], "#f28c28", "close");
    this.addRelevances(k);
    if (film.cells.length && options.cell) this.addCell(film.cells[k]);
    this.addNames(k);
    if (first) {
      view.zoomTo();
      view.rotate(film.cells.length ? -20 : 12, "y"); // so that atoms behind each other are seen
      view.rotate(film.cells.length ? 12 : 18, "x");
      this.reset();
    }
    view.render();
  }

  addAtoms(k) {
    const { film } = this, places = this.positions[k], cell = film.cells[k];
    const gone = new Set(film.broken[k].map(String)), strained = new Set(film.stretched[k].map(String));
    const atoms = places.map(([x, y, z], index) => ({
      elem: this.data.symbols[index], x, y, z, serial: index, index, bonds: [], bondOrder: [], properties: {},
    }));
    for (const [i, j] of film.bonds) {
      if (gone.has(`${i},${j}`) || mdxai.imageShift(places[i], places[j], cell).some(Boolean)) continue;
      if (strained.has(`${i},${j}`)) {
        this.cylinder(places[i], places[j], { radius: 0.1, color: this.data.colours.caution });
        continue;
      }
      for (const [a, b] of [[i, j], [j, i]]) { atoms[a].bonds.push(b); atoms[a].bondOrder.push(1); }
    }
    const model = this.view.addModel();
    model.addAtoms(atoms);
    const scale = film.bonds.length ? 0.24 : 0.4, colours = { prop: "elem", map: film.elements };
    model.setStyle({}, { stick: { radius: 0.08, color: "#9aa0a6" }, sphere: { scale, colorscheme: colours } });
    for (const atom of this.highlighted) {
      if (places[atom]) this.view.addSphere({ center: this.point(places[atom]), radius: 0.62, color: this.data.colours.alarm, opacity: 0.35 });
    }
  }

  addPairs(pairs, color, word) {
    for (const [i, j] of pairs) {
      this.between(i, j, { radius: 0.06, color, dashed: true, dashLength: 0.16, gapLength: 0.12 }, word);
    }
  }

  // The explanation that holds at a frame: the last one up to its time, else the first.
  explanation(k) {
    const time = this.film.times[k], all = this.film.relevances;
    let found = all[0];
    for (const one of all) if (one[0] <= time + 1e-6) found = one;
    return found;
  }

  addRelevances(k) {
    const which = this.options.pairs;
    this.drawn = which ? this.explanation(k)[which === "strongest" ? 1 : 2] : [];
    const largest = Math.max(...this.drawn.map((pair) => Math.abs(pair[2])), 1e-300);
    const { holds, opposes } = this.data.colours;
    for (const [i, j, value] of this.drawn) {
      const share = Math.abs(value) / largest;
      const text = `${value < 0 ? "−" : "+"}${Math.abs(value)} eV`;
      this.between(i, j, { radius: 0.05 + 0.19 * share, color: value < 0 ? holds : opposes, opacity: 0.35 + 0.4 * share }, text);
    }
  }

  between(i, j, spec, text) {
    const places = this.positions[this.at], shift = mdxai.imageShift(places[i], places[j], this.film.cells[this.at]);
    const end = places[j].map((x, k) => x + shift[k]);
    this.cylinder(places[i], end, spec, `${this.names[i]}–${this.names[j]} ${text}`);
  }

  cylinder(from, to, spec, text) {
    const middle = from.map((x, k) => (x + to[k]) / 2), length = Math.hypot(...from.map((x, k) => x - to[k]));
    if (length > 30) spec = { ...spec, dashed: false }; // a dash per 0.3 Å would be too many
    const hover = !text || spec.dashed ? {} : {
      hoverable: true,
      hover_callback: () => { this.hint = this.view.addLabel(text, { position: this.point(middle), fontSize: 12, inFront: true }); },
      unhover_callback: () => { if (this.hint) this.view.removeLabel(this.hint); this.hint = undefined; },
    };
    this.view.addCylinder({ start: this.point(from), end: this.point(to), fromCap: 2, toCap: 2, ...spec, ...hover });
  }

  addCell(cell) {
    const corner = (a, b, c) => [0, 1, 2].map((k) => a * cell[k] + b * cell[3 + k] + c * cell[6 + k]);
    const color = mdxai.style("--soft");
    for (const [a, b] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      for (const [from, to] of [[[0, a, b], [1, a, b]], [[a, 0, b], [a, 1, b]], [[a, b, 0], [a, b, 1]]]) {
        this.view.addLine({ start: this.point(corner(...from)), end: this.point(corner(...to)), color });
      }
    }
  }

  addNames(k) {
    const some = this.options.names ? this.names.map((_, atom) => atom) : this.highlighted;
    for (const atom of some) {
      if (!this.positions[k][atom]) continue;
      this.view.addLabel(this.names[atom], {
        position: this.point(this.positions[k][atom]), fontSize: 11, fontColor: "#222831", inFront: true,
        showBackground: false, alignment: "center",
      }, undefined, true); // drawn with all else, not once per name
    }
  }

  point([x, y, z]) {
    return { x, y, z };
  }

  // What is drawn, in words.
  text(k) {
    const { film, names } = this, said = [];
    const list = (pairs) => pairs.slice(0, 6).map(([i, j]) => `${names[i]}–${names[j]}`).join(", ") + (pairs.length > 6 ? ` and ${pairs.length - 6} more` : "");
    if (film.broken[k].length) said.push(`broken: ${list(film.broken[k])}`);
    if (film.stretched[k].length) said.push(`stretched or shortened: ${list(film.stretched[k])}`);
    if (film.formed[k].length) said.push(`close: ${list(film.formed[k])}`);
    if (this.options.pairs && this.drawn.length) {
      const largest = Math.max(...this.drawn.map((pair) => Math.abs(pair[2])));
      const what = this.options.pairs === "strongest" ? `${film.measure} relevance` : "change from the mean";
      said.push(`pairs as explained at ${mdxai.timeText(this.explanation(k)[0], this.data)}, ${what} up to ${largest} eV`);
    }
    return said.join("; ");
  }

  picture() {
    return this.view.pngURI();
  }
};
