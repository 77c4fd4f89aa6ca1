// Charts as svg elements, from the data of genmodels.report.charts.

const SIZE = { width: 400, height: 270, left: 58, right: 14, top: 12, bottom: 42 };
const ROW_HEIGHT = 42;
const MAX_DISTANCE = 24; // of the pointer from the point whose values it shows
const SLOPE_LENGTH = 18;

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function shape(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const numeric = value => value !== null && Number.isFinite(value);
const format = value => (Number.isInteger(value) ? value.toLocaleString("en") : Number(value.toPrecision(5)).toString());
// black and blue are lighter on a dark page
const visible = colour => ({ "#000000": "var(--text)", "#0072b2": "var(--accent)" })[colour] ?? colour;

/** Round numbers within [low, high]. */
function niceTicks(low, high, most = 5) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(candidate => candidate >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) ticks.push(Number(tick.toPrecision(12)));
  return ticks;
}

/** An axis: where values lie between the pixels from and to, and its ticks with their names. */
function makeScale({ places, zero, log1p }, values, from, to) {
  if (places) {
    const place = value => from + (to - from) * (value + 0.5) / places.length;
    return { place, ticks: places.map((name, index) => [index, name]) };
  }
  const change = log1p ? value => Math.log1p(Math.max(value, 0)) : value => value;
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (zero) low = Math.min(low, 0);
  if (high === low) { high += 0.5; low -= zero ? 0 : 0.5; }
  const margin = 0.05 * (change(high) - change(low));
  const first = change(low) - (zero ? 0 : margin);
  const last = change(high) + margin;
  const place = value => from + (to - from) * (change(value) - first) / (last - first);
  const ticks = log1p
    ? [0, 1, 10, 100, 1000, 10000].filter(tick => change(tick) <= last)
    : niceTicks(first, last);
  return { place, ticks: ticks.map(tick => [tick, format(tick)]) };
}

function drawAxes(svg, chart, x, y, height, left = SIZE.left) {
  const { width, right, top, bottom } = SIZE;
  svg.append(shape("path", { class: "axis", d: `M${left} ${top}V${height - bottom}H${width - right}` }));
  for (const [value, name] of x.ticks) {
    const at = x.place(value);
    svg.append(shape("path", { class: "axis", d: `M${at} ${height - bottom}v4` }));
    svg.append(shape("text", { x: at, y: height - bottom + 16, "text-anchor": "middle" }, name));
  }
  for (const [value, name] of y.ticks) {
    const at = y.place(value);
    svg.append(shape("path", { class: "axis", d: `M${left} ${at}H${width - right}`, opacity: 0.5 }));
    svg.append(shape("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, name));
  }
  svg.append(shape("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, chart.x.label));
  if (chart.y) {
    const middle = (top + height - bottom) / 2;
    svg.append(shape("text", { transform: `translate(12 ${middle}) rotate(-90)`, "text-anchor": "middle" }, chart.y.label));
  }
}

/** Show the values of the nearest point; targets: { x, y } in the picture's units, { text }. */
function addTooltip(figure, svg, targets) {
  const tooltip = element("div", { className: "tooltip", hidden: true });
  figure.append(tooltip);
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect();
    const scale = SIZE.width / box.width;
    const x = (event.clientX - box.left) * scale;
    const y = (event.clientY - box.top) * scale;
    let nearest = null;
    let distance = MAX_DISTANCE;
    for (const target of targets) {
      const away = Math.hypot(target.x - x, target.y - y);
      if (away < distance && !target.group?.hasAttribute("hidden")) [nearest, distance] = [target, away];
    }
    tooltip.hidden = nearest === null;
    if (nearest === null) return;
    tooltip.textContent = nearest.text;
    const above = svg.offsetTop + nearest.y / scale - tooltip.offsetHeight - 8;
    tooltip.style.top = `${Math.max(above, 0)}px`;
    tooltip.style.left = `${Math.min(Math.max(nearest.x / scale - 40, 0), box.width - tooltip.offsetWidth)}px`;
  });
  svg.addEventListener("pointerleave", () => { tooltip.hidden = true; });
}

const asPoint = point => (Array.isArray(point) ? { x: point[0], y: point[1] } : point);

function drawPoint(group, point, x, y, colour) {
  const atX = x.place(point.x);
  const atY = y.place(point.y);
  if (point.slope !== undefined) {
    const steep = (y.place(point.y + point.slope) - atY) / (x.place(point.x + 1) - atX);
    const half = SLOPE_LENGTH / Math.hypot(1, steep);
    group.append(shape("path", { class: "slope", d: `M${atX - half} ${atY - steep * half}l${2 * half} ${2 * steep * half}` }));
  }
  const bars = [];
  if (point.y_error) bars.push(`M${atX} ${y.place(point.y - point.y_error)}V${y.place(point.y + point.y_error)}`);
  if (point.x_error) bars.push(`M${x.place(point.x - point.x_error)} ${atY}H${x.place(point.x + point.x_error)}`);
  if (bars.length) group.append(shape("path", { d: bars.join(""), stroke: colour }));
  group.append(shape("circle", { cx: atX, cy: atY, r: 3.5, fill: colour }));
  if (point.label) group.append(shape("text", { class: "label", x: atX + 6, y: atY - 6 }, point.label));
}

/** Lines over two axes. Each series is a group of the class "series-<index>". */
function lineChart(chart) {
  const figure = element("figure", { className: "chart" }, element("figcaption", { textContent: chart.title }));
  const svg = shape("svg", { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "img" });
  svg.setAttribute("aria-label", chart.title);
  const all = chart.series.flatMap(series => series.lines.flat().map(asPoint)).filter(point => numeric(point.x) && numeric(point.y));
  if (!all.length) return element("div", {});
  // where the KL is free, at weight 0, it can be so large that the other points would be one
  const weighted = all.filter(point => point.slope);
  const reach = Math.max(...weighted.map(point => point.x));
  const far = weighted.length ? all.filter(point => point.slope === 0 && point.x > 1.5 * reach) : [];
  const near = all.filter(point => !far.includes(point));
  const x = makeScale(chart.x, near.map(point => point.x), SIZE.left, SIZE.width - SIZE.right);
  const y = makeScale(chart.y, near.flatMap(point => [point.y - (point.y_error ?? 0), point.y + (point.y_error ?? 0)]), SIZE.height - SIZE.bottom, SIZE.top);
  drawAxes(svg, chart, x, y, SIZE.height);
  const targets = [];
  chart.series.forEach((series, index) => {
    const colour = visible(series.colour);
    const group = shape("g", { class: `series-${index}` });
    for (const line of series.lines) {
      const points = line.map(asPoint).filter(point => numeric(point.x) && numeric(point.y) && !far.some(other => other.x === point.x && other.y === point.y));
      const path = points.map(point => `${x.place(point.x).toFixed(1)} ${y.place(point.y).toFixed(1)}`).join("L");
      if (points.length > 1) group.append(shape("path", { class: "line", d: `M${path}`, stroke: colour }));
      for (const point of points) {
        if (!series.dense || points.length === 1) drawPoint(group, point, x, y, colour);
        const error = point.y_error ? ` \u00b1 ${format(point.y_error)}` : "";
        const where = chart.x.places ? `${chart.x.label} ${chart.x.places[point.x]}` : `${chart.x.label} ${format(point.x)}`;
        targets.push({ x: x.place(point.x), y: y.place(point.y), group, text: `${series.name ? `${series.name}: ` : ""}${format(point.y)}${error} (${where})` });
      }
    }
    svg.append(group);
  });
  figure.append(svg);
  const notes = far.map(point => `Not shown: KL weight ${point.label}, at KL ${format(point.x)} and distortion ${format(point.y)}.`);
  for (const note of [chart.note, ...notes].filter(Boolean)) figure.append(element("p", { textContent: note }));
  addTooltip(figure, svg, targets);
  return figure;
}

/** One row for each setting, with a dot at the mean of each of its values. */
function dotChart(chart) {
  const figure = element("figure", { className: "chart" }, element("figcaption", { textContent: chart.title }));
  const height = SIZE.top + SIZE.bottom + ROW_HEIGHT * (chart.rows.length + 0.3);
  const svg = shape("svg", { viewBox: `0 0 ${SIZE.width} ${height}`, role: "img" });
  svg.setAttribute("aria-label", chart.title);
  const values = chart.rows.flatMap(row => row.points.flatMap(point => [point.low ?? point.value, point.value, point.high ?? point.value]));
  const longest = Math.max(...chart.rows.flatMap(row => row.points.map(point => point.label.length)));
  const room = Math.min(12 + longest * 6, SIZE.width / 3); // of the labels beside the lines
  const x = makeScale(chart.x, values, SIZE.left / 2 + room, SIZE.width - SIZE.right - room);
  drawAxes(svg, chart, x, { ticks: [] }, height, SIZE.left / 2);
  const targets = [];
  chart.rows.forEach((row, index) => {
    const middle = SIZE.top + ROW_HEIGHT * (index + 0.7);
    const places = row.points.map(point => x.place(point.value));
    const [start, end] = [Math.min(...places), Math.max(...places)];
    svg.append(shape("text", { class: "label", x: SIZE.left / 2 + 4, y: middle - 12 }, row.name));
    svg.append(shape("path", { class: "line", stroke: "var(--accent)", d: `M${start} ${middle}H${end}` }));
    row.points.forEach((point, order) => {
      const at = places[order];
      const bar = numeric(point.low ?? NaN) && numeric(point.high ?? NaN);
      if (bar) svg.append(shape("path", { stroke: "var(--text)", d: `M${x.place(point.low)} ${middle}H${x.place(point.high)}M${x.place(point.low)} ${middle - 4}v8M${x.place(point.high)} ${middle - 4}v8` }));
      svg.append(shape("circle", { cx: at, cy: middle, r: 4, fill: "var(--accent)" }));
      const isFirst = order === places.indexOf(start);
      if (isFirst || order === places.indexOf(end)) {
        const reach = x.place((isFirst ? point.low : point.high) ?? point.value) + (isFirst ? -7 : 7);
        svg.append(shape("text", { x: reach, y: middle + 4, "text-anchor": isFirst ? "end" : "start" }, point.label));
      }
      const interval = bar ? ` [${format(point.low)} to ${format(point.high)}]` : "";
      targets.push({ x: at, y: middle, text: `${row.name.split(":")[0]} ${point.label}: ${format(point.value)}${interval}` });
    });
  });
  figure.append(svg, element("p", { textContent: chart.note }));
  addTooltip(figure, svg, targets);
  return figure;
}

/** Names of the series; a click hides or shows one in all charts of a place. */
function legend(series, place) {
  const buttons = series.map(({ name, colour }, index) => {
    const swatch = element("i");
    swatch.style.background = visible(colour);
    const button = element("button", {}, swatch, name);
    button.setAttribute("aria-pressed", true);
    button.onclick = () => {
      const shown = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", shown);
      for (const group of place.querySelectorAll(`.series-${index}`)) group.toggleAttribute("hidden", !shown);
    };
    return button;
  });
  return element("div", { className: "legend" }, ...buttons);
}

function drawCharts(charts) {
  for (const [id, group] of Object.entries(charts)) {
    const place = document.getElementById(id);
    if (!place) continue;
    const series = group[0]?.series ?? [];
    const named = group.every(chart => chart.series?.length === series.length && chart.series.every(({ name }, index) => name === series[index].name));
    if (named && series.length > 1) place.before(legend(series, place));
    place.append(...group.map(chart => (chart.rows ? dotChart(chart) : lineChart(chart))));
  }
}
