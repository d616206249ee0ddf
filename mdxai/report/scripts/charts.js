// Curves and the map of all principles over time; they share time, zoom and cursor.
mdxai.number = (value) => Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 }).replace("-", "−");
mdxai.timeText = (fs, data) => `${Number((fs / data.unit[1]).toPrecision(6))} ${data.unit[0]}`;

mdxai.Charts = class {
  constructor(data, onTime) {
    this.data = data;
    this.onTime = onTime;
    this.all = new Set();
    this.size = data.unit[1];
    const beside = data.start === data.end ? 0.5 : 0; // fs, to either side of a single frame
    this.whole = [(data.start - beside) / this.size, (data.end + beside) / this.size];
    this.range = this.whole;
  }

  // uPlot's options that all charts share.
  options(element, height, more) {
    const ink = () => mdxai.style("--ink"), line = () => mdxai.style("--line");
    const axis = { stroke: ink, font: "11px system-ui", grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 }, labelFont: "11px system-ui", labelSize: 16, size: 34 };
    return {
      width: element.clientWidth || 400, height, pxAlign: 0,
      scales: { x: { time: false, range: (_, low, high) => (low < high ? [low, high] : this.whole) }, y: more.yScale },
      axes: [{ ...axis, label: `time / ${this.data.unit[0]}` }, { ...axis, size: 52, ...more.yAxis }],
      series: [{ label: this.data.unit[0], value: (_, x) => (x == null ? "" : Number(x.toPrecision(6))) }, ...more.series],
      cursor: { sync: { key: "run" }, drag: { x: true, y: false }, points: { size: 6 }, ...more.cursor },
      legend: { show: more.legend !== false },
      hooks: {
        ...more.hooks, draw: [...more.hooks.draw, (chart) => this.mark(chart)],
        setScale: [(chart, key) => { if (key === "x") this.zoomFrom(chart); }],
      },
    };
  }

  add(element, options, columns) {
    const chart = new uPlot(options, columns, element), over = chart.over;
    const now = document.createElement("div");
    now.className = "now";
    over.append(now);
    chart.root.classList.toggle("one", columns.length === 2); // its legend only reads out
    over.addEventListener("mouseenter", () => document.body.classList.add("reading"));
    over.addEventListener("mouseleave", () => document.body.classList.remove("reading"));
    this.all.add(chart);
    let pressed = 0;
    over.addEventListener("mousedown", (event) => { pressed = event.clientX; });
    over.addEventListener("click", (event) => {
      if (Math.abs(event.clientX - pressed) > 3) return; // it was a drag
      const box = over.getBoundingClientRect();
      this.onTime(chart.posToVal(event.clientX - box.left, "x") * this.size);
    });
    over.addEventListener("dblclick", () => this.zoom(this.whole));
    new ResizeObserver(() => {
      const width = element.clientWidth;
      if (width && width !== chart.width) chart.setSize({ width, height: chart.height });
    }).observe(element);
    chart.setScale("x", { min: this.range[0], max: this.range[1] });
    return chart;
  }

  remove(chart) {
    this.all.delete(chart);
    chart.destroy();
  }

  zoomFrom(chart) {
    const { min, max } = chart.scales.x;
    if (this.busy || min == null || !this.all.has(chart)) return;
    this.zoom([min, max]);
  }

  zoom(range) {
    this.busy = true;
    this.range = range;
    for (const chart of this.all) chart.setScale("x", { min: range[0], max: range[1] });
    queueMicrotask(() => { this.busy = false; });
    if (this.onZoom) this.onZoom();
  }

  setTime(fs) {
    this.time = fs;
    for (const chart of this.all) this.mark(chart);
  }

  mark(chart) {
    const now = chart.over.querySelector(".now");
    if (!now) return; // the first drawing
    const left = this.time === undefined ? NaN : chart.valToPos(this.time / this.size, "x");
    now.hidden = !(left >= 0 && left <= chart.over.clientWidth);
    if (!now.hidden) now.style.left = `${left}px`;
  }

  redraw() {
    for (const chart of this.all) chart.redraw(false);
  }

  // A vertical line at the onset, red ones where a value was not finite.
  drawMarks(chart, wrong) {
    const { ctx } = chart, { top, height, left, width } = chart.bbox;
    const line = (fs, colour, thick) => {
      const x = chart.valToPos(fs / this.size, "x", true);
      if (x < left || x > left + width) return;
      ctx.fillStyle = colour;
      ctx.fillRect(x - thick / 2, top, thick, height);
    };
    for (const fs of wrong) line(fs, "rgba(193, 18, 31, 0.4)", devicePixelRatio);
    if (this.data.onset !== null) line(this.data.onset, mdxai.style("--alarm"), 1.5 * devicePixelRatio);
  }

  // Bands beyond the limits of a principle.
  drawBands(chart, principle) {
    const { ctx } = chart, { top, height, left, width } = chart.bbox;
    const y = (value) => Math.min(top + height, Math.max(top, chart.valToPos(value, "y", true)));
    const band = (low, high, colour, alpha) => {
      ctx.globalAlpha = alpha;
      ctx.fillStyle = colour;
      ctx.fillRect(left, y(high), width, y(low) - y(high));
      ctx.globalAlpha = 1;
    };
    const huge = chart.scales.y.max, grave = principle.grave ?? huge;
    if (principle.warn !== null) band(principle.warn, grave, this.data.colours.caution, 0.14);
    if (principle.grave !== null) band(principle.grave, huge, principle.colour, 0.11);
  }

  curves(element, height, figure, principle) {
    const parts = figure.series.map((one) => [one.times.map((t) => t / this.size), one.values]);
    const columns = parts.length > 1 ? uPlot.join(parts) : parts[0];
    const [low, high] = figure.range;
    const options = this.options(element, height, {
      yScale: { range: (_, least, most) => this.yRange(least, most, low, high, principle) },
      yAxis: { label: figure.label },
      series: figure.series.map((one) => ({
        label: one.name, width: 1.1, spanGaps: true, points: { show: one.times.length <= 40, size: 4 },
        stroke: principle ? () => mdxai.style("--ink") : () => mdxai.style(`--c${one.colour.slice(1)}`) || one.colour,
        value: (_, y) => (y == null ? "" : mdxai.number(y)),
      })),
      hooks: {
        drawClear: principle ? [(chart) => this.drawBands(chart, principle)] : [],
        draw: [(chart) => this.drawMarks(chart, figure.series.flatMap((one) => one.wrong))],
      },
    });
    return this.add(element, options, columns);
  }

  // What is seen, but not far beyond what the still figure shows; zoomed in, in detail.
  yRange(least, most, low, high, principle) {
    const zoomed = this.range[0] > this.whole[0] || this.range[1] < this.whole[1];
    if (!zoomed || least == null) return [low, high > low ? high : low + 1];
    const bottom = principle ? 0 : Math.max(least, low), top = Math.min(most, high);
    const room = 0.08 * (top - bottom) || Math.abs(top) * 0.1 || 1;
    return [principle ? 0 : bottom - room, top + room];
  }

  principle(element, height, principle) {
    const figure = { label: principle.unit || "value", range: principle.range, series: [{ ...principle, colour: "#222831" }] };
    return this.curves(element, height, figure, principle);
  }

  // All principles: a row each, coloured by share of the threshold.
  map(element, rows, onRow, onHover) {
    const n = rows.length, narrow = element.clientWidth < 420;
    const options = this.options(element, 15 * n + 66, {
      legend: false,
      yScale: { range: () => [0, n] },
      yAxis: {
        size: narrow ? 118 : 150, font: narrow ? "9.5px system-ui" : "11px system-ui", grid: { show: false }, ticks: { show: false }, gap: 4,
        splits: () => rows.map((_, k) => n - k - 0.5), values: () => rows.map((row) => row.name),
      },
      series: [{ show: true, stroke: "transparent", points: { show: false } }],
      cursor: { y: true, points: { show: false } },
      hooks: {
        draw: [(chart) => this.drawMap(chart, rows), (chart) => this.drawMarks(chart, [])],
        setCursor: [(chart) => {
          const { left, top } = chart.cursor;
          if (left >= 0 && top >= 0 && chart.over.matches(":hover")) onHover(rows[Math.floor((top / chart.over.clientHeight) * n)], chart.posToVal(left, "x") * this.size);
        }],
      },
    });
    const chart = this.add(element, options, [this.whole, [null, null]]);
    chart.over.addEventListener("click", (event) => {
      const box = chart.over.getBoundingClientRect();
      onRow(rows[Math.floor(((event.clientY - box.top) / box.height) * n)]);
    });
    return chart;
  }

  drawMap(chart, rows) {
    const { ctx } = chart, { top, height, left, width } = chart.bbox, size = height / rows.length;
    const columns = Math.max(1, Math.round(width / devicePixelRatio));
    const { min, max } = chart.scales.x;
    rows.forEach((row, k) => {
      const values = this.columnsOf(row, min * this.size, max * this.size, columns);
      values.forEach((value, column) => {
        const colour = this.colourOf(row, value);
        if (!colour) return;
        const from = Math.floor(left + (column / columns) * width), to = Math.ceil(left + ((column + 1) / columns) * width);
        ctx.fillStyle = colour;
        ctx.fillRect(from, Math.round(top + k * size) + 1, to - from, Math.round(size) - 1);
      });
    });
  }

  // The largest value of a row in each column of time; rare values fill the time until the next one.
  columnsOf(row, start, end, n) {
    const found = new Array(n).fill(NaN), { times, values } = row;
    const step = times.length > 1 ? (times[times.length - 1] - times[0]) / (times.length - 1) : 0;
    const place = (fs) => Math.floor(((fs - start) / (end - start)) * n);
    times.forEach((time, k) => {
      const next = k + 1 < times.length ? Math.min(times[k + 1], time + 3 * step) : time + step;
      const last = Math.max(place(time), place(next) - 1);
      for (let c = Math.max(0, place(time)); c <= Math.min(n - 1, last); c++) if (!(found[c] >= values[k])) found[c] = values[k];
    });
    for (const time of row.wrong) {
      const c = place(time);
      if (c >= 0 && c < n) found[c] = Infinity;
    }
    return found;
  }

  colourOf(row, value) {
    if (Number.isNaN(value)) return null;
    if (value === Infinity || (row.grave !== null && value > row.grave)) return value === Infinity ? this.data.colours.alarm : row.colour;
    if (row.warn === null) return mdxai.style("--panel");
    if (value > row.warn) return this.data.colours.caution;
    const share = row.warn > 0 ? Math.min(1, Math.max(0, value / row.warn)) : 0;
    return `rgba(123, 139, 161, ${(0.1 + 0.9 * share).toFixed(3)})`;
  }

  // The value of a principle at a time: of the last point up to it.
  valueAt(row, time) {
    let found = null;
    for (let k = 0; k < row.times.length && row.times[k] <= time; k++) found = row.values[k];
    return found;
  }
};
