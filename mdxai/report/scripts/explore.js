// The page to look into: joins molecule, charts, findings and keyboard.
mdxai.save = (url, name) => {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
};

// A still figure as a file of its own: colours of a light page, a white ground.
mdxai.saveFigure = (svg, name) => {
  const copy = svg.cloneNode(true);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("style", "background: #ffffff; font-family: system-ui, sans-serif");
  const text = new XMLSerializer().serializeToString(copy).replace(/var\(--c[0-9a-f]{6},\s*(#[0-9a-f]{6})\)/g, "$1");
  const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  mdxai.save(url, `${name}.svg`);
  setTimeout(() => URL.revokeObjectURL(url), 1000);
};

mdxai.Explorer = class {
  constructor(data) {
    this.data = data;
    this.$ = (id) => document.getElementById(id);
    this.root = this.$("explorer");
    this.root.hidden = false;
    this.k = 0;
    this.fileName = data.name.replace(/[^\w.-]+/g, "-");
    this.charts = new mdxai.Charts(data, (time) => this.showTime(time));
    this.makeMap();
    if (data.film) this.makeMolecule();
    this.makeFigures();
    this.makeFindings();
    this.makeStills();
    document.addEventListener("keydown", (event) => this.key(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
    const cause = data.onset === null ? -1 : data.findings.findIndex((finding) => finding.cause);
    if (cause < 0) this.showTime(data.end);
    else this.showFinding(cause);
  }

  paint() {
    this.charts.redraw();
    if (this.molecule) { this.molecule.paint(); this.molecule.show(this.k); }
  }

  makeMap() {
    const rows = this.data.principles, readout = this.$("readout");
    if (!rows.length) { readout.textContent = "No principle was measured."; return; }
    this.map = this.charts.map(this.$("map"), rows, (row) => this.choose(row), (row, time) => {
      if (row) readout.textContent = this.reading(row, time);
    });
    this.choose(rows[0]);
    this.$("map-picture").addEventListener("click", () => mdxai.save(this.map.ctx.canvas.toDataURL(), `${this.fileName}-principles.png`));
  }

  reading(row, time) {
    const value = this.charts.valueAt(row, time), at = mdxai.timeText(time, this.data);
    if (value === null) return `${row.name} at ${at}: not measured yet`;
    const limit = row.grave ?? row.warn, word = row.grave !== null ? row.outcome : "suspect";
    const share = limit > 0 ? `, ${Math.round((100 * value) / limit)} % of` : ", of";
    return `${row.name} at ${at}: ${mdxai.number(value)} ${row.unit}${limit === null ? "" : `${share} ${mdxai.number(limit)} (${word} above)`}. ${row.measure}`;
  }

  // The curve of one principle below the map.
  choose(row) {
    if (!row || this.chosen === row) return;
    this.chosen = row;
    const figure = this.$("chosen"), caption = document.createElement("figcaption"), name = document.createElement("b");
    if (this.curve) this.charts.remove(this.curve);
    figure.replaceChildren();
    this.curve = this.charts.principle(figure, 150, row);
    name.textContent = row.name;
    caption.append(name);
    figure.append(caption);
  }

  makeMolecule() {
    try {
      this.molecule = new mdxai.Molecule(this.$("molecule"), this.data);
    } catch {
      this.$("molecule").remove();
      this.$("scene").textContent = "The molecule cannot be shown in 3D: this browser offers no WebGL.";
    }
    const film = this.data.film, slider = this.$("frame");
    slider.max = film.times.length - 1;
    slider.addEventListener("input", () => this.showFrame(Number(slider.value)));
    this.$("play").addEventListener("click", () => this.play());
    this.$("onset").hidden = this.data.onset === null;
    this.$("onset").addEventListener("click", () => this.showTime(this.data.onset));
    this.$("reset").addEventListener("click", () => this.molecule?.reset());
    this.$("picture").addEventListener("click", () => { if (this.molecule) mdxai.save(this.molecule.picture(), `${this.fileName}-${film.steps[this.k]}.png`); });
    if (!this.molecule) return;
    this.$("names").checked = this.molecule.options.names;
    for (const [id, read] of [["names", (e) => e.checked], ["cell", (e) => e.checked], ["pairs", (e) => e.value]]) {
      this.$(id)?.addEventListener("change", (event) => {
        this.molecule.options[id] = read(event.target);
        this.showFrame(this.k);
      });
    }
  }

  showTime(time) {
    if (!this.data.film) { this.charts.setTime(time); return; }
    const times = this.data.film.times;
    let best = 0;
    times.forEach((t, k) => { if (Math.abs(t - time) < Math.abs(times[best] - time)) best = k; });
    this.showFrame(best);
  }

  showFrame(k) {
    const film = this.data.film;
    if (!film) return;
    this.k = Math.max(0, Math.min(film.times.length - 1, k));
    this.$("frame").value = this.k;
    this.$("when").textContent = mdxai.timeText(film.times[this.k], this.data);
    this.$("when").title = `step ${film.steps[this.k]}${film.box[this.k] ? ", of the black box" : ""}`;
    this.charts.setTime(film.times[this.k]);
    if (!this.molecule) return;
    this.molecule.show(this.k);
    this.$("scene").textContent = this.molecule.text(this.k);
  }

  // Paper takes the frame and the map as they are seen.
  makeStills() {
    const still = (uri, text) => {
      const figure = document.createElement("figure"), image = new Image(), caption = document.createElement("figcaption");
      image.src = uri;
      image.alt = caption.textContent = text;
      figure.append(image, caption);
      return figure;
    };
    window.addEventListener("beforeprint", () => {
      const stills = [];
      if (this.molecule) stills.push(still(this.molecule.picture(), `the molecule at ${this.$("when").textContent}`));
      if (this.map) stills.push(still(this.map.ctx.canvas.toDataURL(), "all principles over time"));
      this.$("stills").replaceChildren(...stills);
    });
  }

  // Plays what the charts show: all, or what was zoomed into.
  play() {
    const button = this.$("play"), film = this.data.film;
    if (!film) return;
    const stop = () => { clearTimeout(this.timer); this.timer = undefined; button.textContent = "▶"; button.setAttribute("aria-label", "play"); };
    if (this.timer) { stop(); return; }
    const inside = (k) => { const t = film.times[k] / this.data.unit[1]; return t >= this.charts.range[0] && t <= this.charts.range[1]; };
    const first = film.times.findIndex((_, k) => inside(k));
    if (first < 0) return;
    button.textContent = "■";
    button.setAttribute("aria-label", "stop");
    const step = () => {
      this.showFrame(this.k + 1 < film.times.length && inside(this.k + 1) && inside(this.k) ? this.k + 1 : first);
      this.timer = setTimeout(step, 90);
    };
    this.timer = setTimeout(step, 0);
  }

  // Still figures become curves to zoom into; they come back in print.
  makeFigures() {
    const rows = new Map(this.data.principles.map((row) => [row.key, row]));
    for (const figure of document.querySelectorAll("figure")) {
      const svg = figure.querySelector(":scope > svg");
      if (!svg) continue;
      this.addSave(figure, svg);
      const row = rows.get(figure.dataset.principle), curves = this.data.curves[figure.dataset.curve];
      const has = row ? row.times.length : curves && curves.series.some((one) => one.times.length);
      if (!has) continue;
      const place = document.createElement("div");
      place.className = "live";
      svg.before(place);
      figure.classList.add("has-live");
      if (row) this.charts.principle(place, 170, row);
      else this.charts.curves(place, 170, curves);
    }
  }

  addSave(figure, svg) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "save";
    button.textContent = "SVG";
    button.title = "save this figure";
    const name = svg.getAttribute("aria-label").replace(/[^\w.-]+/g, "-");
    button.addEventListener("click", () => mdxai.saveFigure(svg, `${this.fileName}-${name}`));
    figure.append(button);
  }

  makeFindings() {
    const chips = this.$("chips");
    this.data.findings.forEach((finding, k) => {
      if (finding.chip) {
        const chip = document.createElement("button");
        chip.type = "button";
        chip.className = finding.severity;
        chip.textContent = finding.text;
        chip.dataset.chip = k;
        chip.setAttribute("aria-pressed", "false");
        chip.addEventListener("click", () => this.showFinding(k));
        chips.append(chip);
      }
      const row = document.querySelector(`tr[data-finding="${k}"]`);
      if (!row) return;
      row.tabIndex = 0;
      row.title = "show its atoms";
      const go = () => { this.showFinding(k); this.root.scrollIntoView({ block: "start" }); };
      row.addEventListener("click", go);
      row.addEventListener("keydown", (event) => { if (event.key === "Enter") go(); });
    });
  }

  showFinding(k) {
    const finding = this.data.findings[k], again = this.finding === k;
    this.finding = again ? undefined : k;
    if (this.molecule) this.molecule.highlighted = again ? [] : finding.atoms;
    this.choose(this.data.principles.find((row) => row.key === finding.principle));
    for (const mark of document.querySelectorAll("[data-chip]")) mark.setAttribute("aria-pressed", String(Number(mark.dataset.chip) === this.finding));
    for (const row of document.querySelectorAll("tr[data-finding]")) row.classList.toggle("chosen", Number(row.dataset.finding) === this.finding);
    this.showTime(finding.time);
  }

  toggle(id) {
    const box = this.$(id);
    if (!box) return;
    box.checked = !box.checked;
    box.dispatchEvent(new Event("change"));
  }

  nextPairs() {
    const select = this.$("pairs");
    if (!select) return;
    select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
    select.dispatchEvent(new Event("change"));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const tag = event.target.tagName, inside = this.root.contains(event.target) || this.root.matches(":hover");
    if (tag === "SELECT" || tag === "TEXTAREA" || (tag === "INPUT" && event.key.startsWith("Arrow"))) return;
    if ((event.key === " " || event.key === "Home" || event.key === "End") && (!inside || tag === "BUTTON" || tag === "INPUT")) return;
    const film = this.data.film, last = film ? film.times.length - 1 : 0;
    const does = {
      ArrowLeft: () => this.showFrame(this.k - 1), ArrowRight: () => this.showFrame(this.k + 1),
      Home: () => this.showFrame(0), End: () => this.showFrame(last), " ": () => this.play(),
      o: () => { if (this.data.onset !== null) this.showTime(this.data.onset); },
      n: () => this.toggle("names"), c: () => this.toggle("cell"), p: () => this.nextPairs(),
      z: () => this.charts.zoom(this.charts.whole),
    }[event.key.length > 1 ? event.key : event.key.toLowerCase()];
    if (!does) return;
    event.preventDefault();
    does();
  }
};

mdxai.explore = (data) => { mdxai.explorer = new mdxai.Explorer(data); };
