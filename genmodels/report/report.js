// The pictures of the runs, the lightbox, sorted tables, and a page that refreshes itself.

const { axes, runs, notes, charts, refresh_seconds } = JSON.parse(document.getElementById("data").textContent);
const at = id => document.getElementById(id);
const kinds = [...new Set(runs.flatMap(run => Object.keys(run.pictures)))];
const PLAY_MILLISECONDS = 500;

function longestAxis() {
  let longest = axes.findIndex(axis => axis.name !== "seed");
  axes.forEach((axis, index) => {
    if (axis.name !== "seed" && axis.values.length > axes[longest].values.length) longest = index;
  });
  return Math.max(longest, 0);
}

const state = {
  kind: kinds[0],
  along: longestAxis(), // the axis whose values are side by side
  at: axes.map(() => 0), // the place on the others
  step: Infinity, // of the snapshots; the newest before it
};
let playing = null;

// ---- pictures

const stepsOf = kind => [...new Set(runs.flatMap(run => (run.pictures[kind] ?? []).map(picture => picture.step)))]
  .filter(step => step !== null).sort((one, other) => one - other);

/** The picture of a run: the newest one up to the chosen step. */
function pictureOf(run, kind = state.kind) {
  const all = run?.pictures[kind] ?? [];
  return all.filter(picture => picture.step === null || picture.step <= state.step).at(-1) ?? all[0];
}

function choice(text, values, chosen, change) {
  const select = element("select", { onchange: event => { change(Number(event.target.value)); show(); } });
  values.forEach((value, index) => {
    select.append(element("option", { value: index, textContent: value, selected: index === chosen }));
  });
  return element("label", {}, `${text} `, select);
}

function slider(name, values, chosen, change) {
  const shown = element("output", { textContent: values[chosen] });
  const range = element("input", { type: "range", min: 0, max: values.length - 1, value: chosen });
  range.setAttribute("aria-label", name);
  range.oninput = () => {
    shown.textContent = values[range.value];
    change(Number(range.value));
    drawGrid();
  };
  return element("label", {}, `${name} `, range, " ", shown);
}

function controls() {
  const words = kinds.map(kind => kind.replaceAll("_", " "));
  const parts = [choice("show", words, kinds.indexOf(state.kind), index => { state.kind = kinds[index]; })];
  if (axes.length > 1) {
    parts.push(choice("side by side", axes.map(axis => axis.word), state.along, index => { state.along = index; }));
  }
  axes.forEach((axis, index) => {
    if (index === state.along || axis.values.length < 2) return;
    parts.push(slider(axis.word, axis.values, state.at[index], place => { state.at[index] = place; }));
  });
  const steps = stepsOf(state.kind);
  if (steps.length > 1) {
    const chosen = steps.findLastIndex(step => step <= state.step);
    parts.push(slider("step", steps, Math.max(chosen, 0), index => { state.step = steps[index]; }));
    parts.push(element("button", { textContent: playing ? "Stop" : "Play", onclick: play }));
  }
  parts.push(element("span", { textContent: notes[state.kind] ?? "" }));
  at("controls").replaceChildren(...parts);
}

/** Go through the snapshots of training, again and again. */
function play() {
  clearInterval(playing);
  playing = playing ? null : setInterval(() => {
    const steps = stepsOf(state.kind);
    const chosen = steps.findLastIndex(step => step <= state.step);
    state.step = steps[(chosen + 1) % steps.length];
    show();
  }, PLAY_MILLISECONDS);
  show();
}

/** The runs side by side, each with what it is called there; null where there is no such run. */
function shownRuns() {
  const along = axes[state.along];
  if (!along) return [{ name: "", run: runs[0] }];
  return along.values.map((value, index) => {
    const place = state.at.map((other, axis) => (axis === state.along ? index : other));
    const run = runs.find(candidate => candidate.place.every((position, axis) => position === place[axis]));
    return { name: `${along.word} ${value}`, run };
  });
}

function drawGrid() {
  const isPhoto = state.kind === "samples" || state.kind === "reconstructions";
  at("grid").className = isPhoto ? "" : "detailed";
  at("grid").replaceChildren(...shownRuns().map(({ name, run }, index) => {
    const caption = element("figcaption", {}, element("b", { textContent: name }));
    const picture = pictureOf(run);
    const parts = [];
    const source = picture?.source ?? picture?.link; // "" of a damaged picture
    if (source) {
      const image = element("img", { src: source, alt: `${state.kind} of ${name || run.name}` });
      image.onerror = () => image.replaceWith("This picture is too large for the page, and its file is not beside it.");
      parts.push(element("button", { onclick: () => openLightbox(index) }, image));
    }
    caption.append(run ? ` (${run.status}${picture ? "" : "; no image"}) ${run.metrics}` : " no such run");
    if (run?.explorer) caption.append(" ", element("a", { href: run.explorer, textContent: "explorer" }));
    return element("figure", {}, ...parts, caption);
  }));
}

function show() {
  controls();
  drawGrid();
}

// ---- one picture at a time

const box = at("lightbox");
let opened = 0; // which of the runs side by side

function openLightbox(index) {
  const shown = shownRuns();
  const { name, run } = shown[index];
  const picture = pictureOf(run);
  if (!picture) return;
  opened = index;
  const image = at("lightbox-image");
  image.src = picture.source ?? picture.link;
  image.alt = `${state.kind} of ${name}`;
  image.className = at("grid").className ? "smooth" : "";
  const step = picture.step === null ? "" : `, step ${picture.step}`;
  at("lightbox-caption").textContent = `${name || run.name}: ${state.kind.replaceAll("_", " ")}${step} (${run.status})`;
  at("lightbox-file").href = picture.link;
  if (!box.open) box.showModal();
}

/** To the next run that has such a picture, in one direction. */
function turn(direction) {
  const shown = shownRuns();
  for (let index = opened + direction; index >= 0 && index < shown.length; index += direction) {
    if (pictureOf(shown[index].run)) return openLightbox(index);
  }
}

/** To an earlier or later snapshot. */
function turnStep(direction) {
  const steps = stepsOf(state.kind);
  const chosen = steps.findLastIndex(step => step <= state.step) + direction;
  if (chosen < 0 || chosen >= steps.length) return;
  state.step = steps[chosen];
  show();
  openLightbox(opened);
}

box.onkeydown = event => {
  const actions = { ArrowLeft: () => turn(-1), ArrowRight: () => turn(1), ArrowDown: () => turnStep(-1), ArrowUp: () => turnStep(1) };
  if (actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
  }
};
box.onclick = event => { if (event.target === box) box.close(); };
at("lightbox-previous").onclick = () => turn(-1);
at("lightbox-next").onclick = () => turn(1);
at("lightbox-close").onclick = () => box.close();

// ---- tables

function sortTable(table, column, heading) {
  const falling = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const value = row => row.cells[column].textContent.trim();
  const compare = (one, other) => {
    if (!one || !other) return one ? -1 : other ? 1 : 0; // empty cells last
    const [first, second] = [parseFloat(one), parseFloat(other)];
    const order = Number.isNaN(first) || Number.isNaN(second) ? one.localeCompare(other) : first - second;
    return falling ? -order : order;
  };
  const rows = [...table.tBodies[0].rows].sort((one, other) => compare(value(one), value(other)));
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th").forEach((heading, column) => {
    heading.querySelector("button").onclick = () => sortTable(table, column, heading);
  });
}

// ---- while runs train

const MEMORY = "genmodels report";

function remember() {
  const { step } = state;
  const kept = { ...state, step: Number.isFinite(step) ? step : null, scroll: scrollY };
  sessionStorage.setItem(MEMORY, JSON.stringify(kept));
}

function recall() {
  const kept = JSON.parse(sessionStorage.getItem(MEMORY) ?? "null");
  if (!kept || kept.at.length !== axes.length || !kinds.includes(kept.kind)) return;
  const place = kept.at.map((index, axis) => Math.min(index, axes[axis].values.length - 1));
  Object.assign(state, { kind: kept.kind, along: kept.along, at: place, step: kept.step ?? Infinity });
  addEventListener("load", () => scrollTo(0, kept.scroll));
}

if (refresh_seconds) {
  recall();
  setInterval(() => {
    if (box.open) return;
    remember();
    location.reload();
  }, 1000 * refresh_seconds);
}

drawCharts(charts);
if (kinds.length) show();
else at("grid").textContent = "No run has pictures.";
