// The charts. Each takes its figure once, and returns what draws it at the width that it has.

const data = JSON.parse(document.getElementById("data").textContent);
const trials = data.trials;
const count = trials.id.length;
const metric = data.metric;
const KINDS = Object.keys(data.kinds);
const KIND_NAMES = data.kinds;
const kindOf = (i) => KINDS[trials.kind[i]];
const places = Array.from({ length: count }, (_, i) => i);
const valued = places.filter((i) => trials.value[i] !== null);
const succeeded = valued.filter((i) => kindOf(i) === "ok" || kindOf(i) === "below");
const winner = succeeded.find((i) => trials.id[i] === data.winner);
// Of two trials the better one first, the earlier one of equals.
const byValue = (a, b) => (data.mode === "min" ? 1 : -1) * (trials.value[a] - trials.value[b]) || a - b;

// Fifths of the trials by their rank: 0 is the best one. Equal results are in the same fifth.
const fifth = (() => {
  const ranked = [...succeeded].sort(byValue);
  const found = new Map();
  ranked.forEach((i, rank) => {
    const same = rank && trials.value[i] === trials.value[ranked[rank - 1]];
    found.set(i, same ? found.get(ranked[rank - 1]) : Math.floor((5 * rank) / ranked.length));
  });
  return found;
})();
const FIFTHS = [
  ["fifth0", "best fifth"],
  ["fifth1", "second"],
  ["fifth2", "third"],
  ["fifth3", "fourth"],
  ["fifth4", "last"],
];

function valueText(axis, place) {
  if (place === null) return "does not exist";
  return axis.labels.length ? axis.labels[place] : number(place);
}

function describe(i) {
  const lines = [
    ["how it ended", KIND_NAMES[kindOf(i)]],
    [metric, number(trials.value[i])],
  ];
  if (trials.generation[i] !== null) lines.push(["generation", number(trials.generation[i])]);
  lines.push(["duration", `${number(trials.seconds[i])} s`]);
  const params = data.axes.map((axis, a) => [axis.name, valueText(axis, trials.params[a][i])]);
  return [`trial ${trials.id[i]}`, ...lines, ...params.slice(0, 14)];
}

function rangeOf(kind) {
  const values = valued.map((i) => trials.value[i]);
  return kind === "all"
    ? wholeRange(values)
    : usualRange(succeeded.length ? succeeded.map((i) => trials.value[i]) : values, data.mode);
}

const within = (scale, plot, value) => Math.min(Math.max(scale.at(value), plot.top), plot.bottom);

function controlsOf(figure, ...nodes) {
  const row = html("div", { class: "controls" }, ...nodes);
  figure.prepend(row);
  return row;
}

// -- history --

function history(figure) {
  const state = { x: "trial", range: "usual" };
  const columns = { trial: places.map((i) => i + 1), cost: trials.cost, at: trials.at };
  const names = { trial: "trials that have ended", cost: trials.unit, at: `${trials.clock} since the first start` };
  const ways = [["trial", "trials"], ["cost", trials.unit], ...(trials.at ? [["at", "time"]] : [])];
  const draw = () => drawHistory(figure, columns[state.x], names[state.x], rangeOf(state.range), said);
  const kinds = [...new Set(places.map(kindOf))];
  const said = html("span", { class: "said", role: "status" });
  controlsOf(
    figure,
    choice("by", ways, state.x, (name) => {
      state.x = name;
      draw();
    }),
    choice(
      "range",
      [
        ["usual", "usual"],
        ["all", "all"],
      ],
      state.range,
      (name) => {
        state.range = name;
        draw();
      },
    ),
    legend([
      ...KINDS.filter((kind) => kinds.includes(kind)).map((kind) => [kind, KIND_NAMES[kind]]),
      ["best", "best so far"],
    ]),
    said,
  );
  return draw;
}

function drawHistory(figure, xs, name, range, said) {
  const host = figure.querySelector(".plot");
  const small = widthOf(host) < SMALL;
  const plot = new Plot(host, small ? 300 : 400, `${metric} of each trial by ${name}`);
  const y = plot.yAxis(between(range), metric);
  const last = xs[count - 1];
  const x = plot.xAxis(between([Math.min(xs[0], last), last]), name);
  const points = valued.map((i) => [x.at(xs[i]), within(y, plot, trials.value[i]), i]);
  for (const kind of ["stopped", "below", "ok"])
    plot.dots(
      points.filter((p) => kindOf(p[2]) === kind),
      kind,
      6,
    );
  const failed = places.filter((i) => kindOf(i) === "failed").map((i) => [x.at(xs[i]), plot.bottom, i]);
  plot.add("path", { class: "rug failed", d: failed.map(([at]) => `M${at.toFixed(1)} ${plot.bottom}v-9`).join("") });
  const steps = trials.best.map((i) => [x.at(xs[i]), within(y, plot, trials.value[i])]);
  if (steps.length) plot.steps([...steps, [plot.right, steps[steps.length - 1][1]]], "best");
  plot.tell([...points, ...failed], describe);
  const beyond = valued.filter((i) => trials.value[i] < range[0] || trials.value[i] > range[1]).length;
  said.textContent = beyond ? `${number(beyond)} beyond the range, at its edge` : "";
}

// -- generations --

function generations(figure) {
  return () => {
    const boxes = data.groups.filter((group) => group.quartiles);
    const host = figure.querySelector(".plot");
    const plot = new Plot(host, widthOf(host) < SMALL ? 260 : 320, `${metric} by generation`);
    const least = Math.min(...boxes.map((b) => b.quartiles[0]));
    const most = Math.max(...boxes.map((b) => b.quartiles[4]));
    const near = rangeOf("usual");
    const quartiles = boxes.flatMap((b) => [b.quartiles[1], b.quartiles[3]]);
    const range = [Math.max(least, Math.min(near[0], ...quartiles)), Math.min(most, Math.max(near[1], ...quartiles))];
    const y = plot.yAxis(between(range), metric);
    const byTrials = boxes.some((box) => box.label.includes(" "));
    const x = plot.xAxis({ labels: boxes.map((box) => box.label) }, byTrials ? "trials, as they ended" : "generation");
    const half = Math.min(22, x.step * 0.32);
    const points = boxes.map((box, i) => [x.at(i), drawBox(plot, box, x.at(i), half, y), box]);
    plot.tell(points, ({ label, trials: size, without, quartiles: q }) => [
      byTrials ? `trials ${label}` : `generation ${label}`,
      ["trials", number(size)],
      ["without a result", number(without)],
      ["least", number(q[0])],
      ["median", number(q[2])],
      ["greatest", number(q[4])],
    ]);
  };
}

function drawBox(plot, { quartiles }, x, half, y) {
  const [low, q1, middle, q3, high] = quartiles.map((q) => within(y, plot, q));
  plot.add("path", { class: "whisker", d: `M${x} ${low}V${q1}M${x} ${q3}V${high}` });
  plot.add("rect", { class: "box", x: x - half, width: 2 * half, y: q3, height: Math.max(1, q1 - q3), rx: 2 });
  plot.add("path", { class: "median", d: `M${x - half} ${middle}h${2 * half}` });
  return middle;
}

// -- parallel coordinates --

const MOST_LINES = 600;
const MOST_PALE = 200;

// The best of those trials, and evenly many of the others, so that thousands stay legible.
function thinned(chosen, most) {
  if (chosen.length <= most) return chosen;
  const ranked = [...chosen].sort(byValue);
  const rest = ranked.slice(most / 2);
  const every = rest.length / (most / 2);
  return [...ranked.slice(0, most / 2), ...Array.from({ length: most / 2 }, (_, i) => rest[Math.floor(i * every)])];
}

function parallel(figure) {
  const objective = { name: metric, labels: [], log: false };
  const axes = [...data.axes, objective];
  const columns = [...trials.params, trials.value];
  const brushes = axes.map(() => null);
  const said = html("span", { class: "said", role: "status" });
  const reset = html("button", { type: "button" }, "Keep all");
  const draw = () => drawParallel(figure, axes, columns, brushes, said, reset, draw);
  reset.addEventListener("click", () => {
    brushes.fill(null);
    draw();
  });
  controlsOf(figure, legend(FIFTHS), said, reset);
  return () => {
    [objective.lower, objective.upper] = rangeOf("usual");
    draw();
  };
}

function drawParallel(figure, axes, columns, brushes, said, reset, redraw) {
  const host = figure.querySelector(".plot");
  const wide = widthOf(host) >= SMALL;
  const plot = new Plot(
    host,
    wide ? 420 : 76 * axes.length,
    "parallel coordinates",
    wide ? {} : { left: 14, right: 14 },
  );
  const across = scaleOf({ labels: axes.map((axis) => axis.name) }, ...(wide ? [0, plot.width] : [0, plot.height]), 99);
  const ends = wide ? [plot.bottom + 16, plot.top + 16] : [plot.left, plot.right];
  const scales = axes.map((axis) => scaleOf(axis, ...ends, !wide ? 5 : axis.labels.length ? 16 : 6));
  const along = (a, i) => {
    const value = columns[a][i];
    const [low, high] = [Math.min(...ends), Math.max(...ends)];
    return value === null ? null : Math.min(Math.max(scales[a].at(value), low), high);
  };
  const partOf = (px) => (px - ends[0]) / (ends[1] - ends[0]);
  const passes = (i) =>
    brushes.every((brush, a) => {
      const at = brush && along(a, i);
      return !brush || (at !== null && partOf(at) >= brush[0] && partOf(at) <= brush[1]);
    });
  const kept = succeeded.filter(passes);
  const drawn = thinned(kept, MOST_LINES);
  const strands = (chosen, kind) => {
    const lines = chosen.map((i) =>
      lineOf(
        axes.map((_, a) => [along(a, i), across.at(a)]),
        wide,
      ),
    );
    plot.paths(lines, `strand ${kind}`, drawn.length > MANY_LINES && 6);
  };
  if (kept.length < succeeded.length) strands(thinned(succeeded, MOST_PALE), "off");
  for (const f of [4, 3, 2, 1, 0])
    strands(
      drawn.filter((i) => fifth.get(i) === f),
      `fifth${f}`,
    );
  axes.forEach((axis, a) => drawStrand(plot, axis, scales[a], across.at(a), ends, wide, across.step));
  axes.forEach((_, a) => brushable(plot, brushes, a, across.at(a), ends, wide, redraw));
  const fewer = drawn.length < kept.length ? `, ${drawn.length} of them drawn, the best first` : "";
  reset.hidden = brushes.every((brush) => brush === null);
  said.textContent = `${number(kept.length)} of ${number(succeeded.length)} trials kept${fewer}`;
}

// A line through the axes, broken where a parameter does not exist.
function lineOf(points, wide) {
  let pen = "M";
  return points
    .map(([at, across]) => {
      if (at === null) {
        pen = "M";
        return "";
      }
      const step = `${pen}${(wide ? [across, at] : [at, across]).map((v) => v.toFixed(1)).join(" ")}`;
      pen = "L";
      return step;
    })
    .join("");
}

function drawStrand(plot, axis, scale, across, [from, to], wide, step) {
  const line = wide ? { x1: across, x2: across, y1: from, y2: to } : { x1: from, x2: to, y1: across, y2: across };
  plot.add("line", { class: "axis strong", ...line });
  const name = clip(axis.name, (wide ? step - 8 : plot.width) / LETTER);
  plot.text(wide ? across : plot.left, wide ? 14 : across - 14, name, {
    class: "title halo",
    "text-anchor": wide ? "middle" : "start",
  });
  for (const { at, text } of scale.ticks) {
    const short = clip(text, wide ? (step - 14) / LETTER : 9);
    const nearRight = wide && across + short.length * LETTER + 8 > plot.width;
    const place = wide ? { x: across + (nearRight ? -6 : 6), y: at, dy: "0.32em" } : { x: at, y: across + 16 };
    const anchor = wide ? (nearRight ? "end" : "start") : at < 30 ? "start" : at > plot.width - 30 ? "end" : "middle";
    plot.add("text", { ...place, class: "tick halo", "text-anchor": anchor }, short);
  }
}

// Dragging along an axis keeps what lies in the range; a click without a drag keeps all again. Brushes are parts of the
// axis, so that they outlive another size.
function brushable(plot, brushes, a, across, [from, to], wide, redraw) {
  const low = Math.min(from, to) - 6;
  const length = Math.abs(to - from) + 12;
  const strip = wide
    ? { x: across - 14, y: low, width: 28, height: length }
    : { x: low, y: across - 14, width: length, height: 28 };
  const area = plot.add("rect", { class: wide ? "grip tall" : "grip", ...strip });
  if (brushes[a]) {
    const [start, end] = brushes[a].map((part) => from + part * (to - from)).sort((one, other) => one - other);
    const range = wide
      ? { x: across - 6, y: start, width: 12, height: end - start }
      : { x: start, y: across - 6, width: end - start, height: 12 };
    plot.add("rect", { class: "brush", ...range });
  }
  let began = null;
  const at = (event) => plot.position(event)[wide ? 1 : 0];
  area.addEventListener("pointerdown", (event) => {
    began = at(event);
    area.setPointerCapture(event.pointerId);
  });
  area.addEventListener("pointerup", (event) => {
    if (began === null) return;
    const parts = [began, at(event)].map((px) => (px - from) / (to - from)).sort((one, other) => one - other);
    brushes[a] = Math.abs(began - at(event)) < 4 ? null : parts;
    redraw();
  });
  area.addEventListener("pointercancel", () => {
    began = null;
  });
}

// -- one hyperparameter, two hyperparameters --

// Multiples of these fill an interval evenly; another one for each direction, lest trials of two choices form a line.
const ACROSS = 0.618034;
const UP = 0.754878;

// Where the i-th trial lies on an axis; choices and whole numbers are spread a little, lest trials hide each other.
function placeOn(scale, a, i, turn) {
  const place = trials.params[a][i];
  const spread = ((((i + 1) * turn) % 1) - 0.5) * 0.6;
  return place === null ? null : scale.at(place) + spread * scale.step;
}

function slices(figure) {
  return () => {
    const host = figure.querySelector(".plot");
    host.classList.add("small-multiples");
    host.replaceChildren(...data.axes.map(() => html("div")));
    const range = between(rangeOf("usual"));
    data.axes.forEach((axis, a) => drawSlice(host.children[a], axis, a, range));
  };
}

function drawSlice(host, axis, a, range) {
  const plot = new Plot(host, 220, `${metric} by ${axis.name}`);
  const y = plot.yAxis(range, metric, 4);
  const x = plot.xAxis(axis, axis.name);
  const points = succeeded
    .map((i) => [placeOn(x, a, i, ACROSS), within(y, plot, trials.value[i]), i])
    .filter((p) => p[0] !== null);
  for (let age = 0; age < 3; age++) {
    plot.dots(
      points.filter((p) => Math.min(2, Math.floor((3 * p[2]) / count)) === age),
      `age${age}`,
      5,
    );
  }
  const best = points.find((p) => p[2] === winner);
  if (best) plot.add("circle", { class: "winner", cx: best[0], cy: best[1], r: 5 });
  plot.tell(points, describe);
}

function pairs(figure) {
  const names = data.axes.map((axis) => axis.name);
  const order = data.importance
    ? data.importance.names.map((name, i) => [data.importance.total[i], names.indexOf(name)])
    : [];
  const chosen = order.sort((one, other) => other[0] - one[0]).map((entry) => entry[1]);
  const [x = 0, y = x ? 0 : 1] = chosen;
  const state = { x, y };
  const draw = () => drawPair(figure, state.x, state.y);
  controlsOf(
    figure,
    select("across", names, state.x, (i) => {
      state.x = i;
      draw();
    }),
    select("up", names, state.y, (i) => {
      state.y = i;
      draw();
    }),
    legend(FIFTHS),
  );
  return draw;
}

function drawPair(figure, across, up) {
  const host = figure.querySelector(".plot");
  const small = widthOf(host) < SMALL;
  const widest = Math.max(3, ...data.axes[up].labels.map((label) => Math.min(12, label.length)));
  const plot = new Plot(host, small ? 300 : 400, "trials by two hyperparameters", {
    left: Math.max(52, 16 + widest * LETTER),
  });
  const x = plot.xAxis(data.axes[across], data.axes[across].name);
  const y = plot.yAxis(data.axes[up], data.axes[up].name);
  const points = succeeded
    .map((i) => [placeOn(x, across, i, ACROSS), placeOn(y, up, i, UP), i])
    .filter((p) => p[0] !== null && p[1] !== null);
  for (const f of [4, 3, 2, 1, 0])
    plot.dots(
      points.filter((p) => fifth.get(p[2]) === f),
      `fifth${f}`,
      7,
    );
  const best = points.find((p) => p[2] === winner);
  if (best) plot.add("circle", { class: "winner", cx: best[0], cy: best[1], r: 6 });
  plot.tell(points, describe);
}

function importance(figure) {
  const { names, main, total } = data.importance;
  const order = names.map((_, i) => i).sort((i, j) => total[j] - total[i]);
  controlsOf(
    figure,
    legend([
      ["main", "by itself"],
      ["more", "in interactions"],
    ]),
  );
  return () => {
    const host = figure.querySelector(".plot");
    const left = Math.min(widthOf(host) * 0.38, 14 + LETTER * Math.max(...names.map((name) => name.length)));
    const plot = new Plot(host, 30 * order.length + 10, "importance of the hyperparameters", {
      left,
      right: 60,
      top: 4,
      bottom: 4,
    });
    const x = scaleOf({ lower: 0, upper: Math.max(...total, 0.01) }, plot.left, plot.right);
    order.forEach((i, row) => {
      const y = 30 * row + 6;
      const alone = Math.min(main[i], total[i]);
      plot.text(left - 10, y + 11, clip(names[i], left / LETTER - 2), {
        class: "label",
        "text-anchor": "end",
        dy: "0.32em",
      });
      plot.add("rect", { class: "bar more", x: plot.left, y, width: x.at(total[i]) - plot.left, height: 22, rx: 2 });
      plot.add("rect", { class: "bar main", x: plot.left, y, width: x.at(alone) - plot.left, height: 22, rx: 2 });
      plot.text(x.at(total[i]) + 8, y + 11, percent(total[i]), { class: "tick", dy: "0.32em" });
    });
  };
}

// -- time --

function timeline(figure) {
  const { lanes, bars, spans, clock } = data.timeline;
  const end = Math.max(
    ...spans.map((span) => span[1]),
    bars.end.reduce((a, b) => Math.max(a, b), 0),
  );
  const state = { window: [0, end] };
  const reset = html("button", { type: "button", hidden: "" }, "Whole time");
  const kinds = KINDS.filter((_, k) => bars.kind.includes(k));
  const draw = () => {
    reset.hidden = state.window[1] - state.window[0] === end;
    drawTimeline(figure, lanes, bars, spans, clock, state.window, (range) => {
      state.window = range;
      draw();
    });
  };
  reset.addEventListener("click", () => {
    state.window = [0, end];
    draw();
  });
  controlsOf(figure, legend([...kinds.map((kind) => [kind, KIND_NAMES[kind]]), ["idle", "idle"]]), reset);
  return draw;
}

function drawTimeline(figure, lanes, bars, spans, clock, [from, to], zoom) {
  const host = figure.querySelector(".plot");
  const lane = Math.min(24, Math.max(2, Math.floor(520 / lanes.length)));
  const busy = 46;
  const widest = Math.max(...lanes.map((name) => name.length)) * LETTER + 16;
  const left = Math.max(40, Math.min(widest, widthOf(host) * 0.28));
  const plot = new Plot(host, busy + lane * lanes.length + 80, "attempts by worker", { left });
  const top = plot.top + busy + 10;
  const x = plot.xAxis({ lower: from, upper: to }, `${clock} since the first start`, 0);
  const inside = (at) => Math.min(Math.max(x.at(at), plot.left), plot.right);
  const thick = lane > 5 ? lane - 3 : lane;
  const box = (row, start, end) => {
    const [a, b] = [inside(start), inside(end)];
    const width = Math.max(0.7, b - a - (b - a > 4 ? 1 : 0)).toFixed(1);
    return b > a || (start >= from && start <= to)
      ? `M${a.toFixed(1)} ${top + row * lane}h${width}v${thick}H${a.toFixed(1)}z`
      : "";
  };
  plot.add("path", {
    class: "bars idle",
    d: lanes.map((_, row) => spans.map(([a, b]) => box(row, a, b)).join("")).join(""),
  });
  KINDS.forEach((kind, k) => {
    const d = bars.lane.map((row, i) => (bars.kind[i] === k ? box(row, bars.start[i], bars.end[i]) : "")).join("");
    if (d) plot.add("path", { class: `bars ${kind}`, d });
  });
  const every = Math.ceil(13 / lane);
  lanes.forEach(
    (name, row) =>
      row % every === 0 &&
      plot.text(left - 8, top + row * lane + lane / 2 - 1, clip(name, (left - 12) / LETTER), {
        class: "tick",
        "text-anchor": "end",
        dy: "0.32em",
      }),
  );
  drawBusy(plot, bars, inside, busy, lanes.length);
  tellBars(
    plot,
    lanes,
    bars,
    clock,
    (px) => from + ((px - plot.left) / (plot.right - plot.left)) * (to - from),
    top,
    lane,
  );
  zoomable(plot, (px) => from + ((px - plot.left) / (plot.right - plot.left)) * (to - from), zoom);
}

// How many workers were busy, as an area above the lanes.
function drawBusy(plot, bars, inside, height, most) {
  const changes = [...bars.start.map((at) => [at, 1]), ...bars.end.map((at) => [at, -1])].sort(
    (a, b) => a[0] - b[0] || a[1] - b[1],
  );
  let running = 0;
  let d = `M${plot.left} ${plot.top + height}`;
  const y = () => (plot.top + height - (Math.min(running, most) / most) * (height - 6)).toFixed(1);
  for (const [at, change] of changes) {
    d += `H${inside(at).toFixed(1)}`;
    running += change;
    d += `V${y()}`;
  }
  plot.add("path", { class: "area", d: `${d}V${plot.top + height}z` });
  plot.text(0, 12, "busy workers", { class: "title" });
  plot.text(plot.left - 8, plot.top + 8, number(most), { class: "tick", "text-anchor": "end", dy: "0.32em" });
  plot.text(plot.left - 8, plot.top + height, "0", { class: "tick", "text-anchor": "end", dy: "0.32em" });
}

function tellBars(plot, lanes, bars, clock, timeAt, top, lane) {
  plot.onPointer((event) => {
    const [px, py] = plot.position(event);
    const row = Math.floor((py - top) / lane);
    const at = timeAt(px);
    const i = bars.lane.findIndex((each, k) => each === row && bars.start[k] <= at && at <= bars.end[k]);
    if (i < 0) return hideTip();
    const kind = KINDS[bars.kind[i]];
    return showTip(event, [
      bars.name[i],
      ["attempt", number(bars.attempt[i])],
      ["kind", KIND_NAMES[kind]],
      ["worker", lanes[row]],
      ["start", `${number(bars.start[i])} ${clock}`],
      ["duration", `${number(bars.end[i] - bars.start[i])} ${clock}`],
    ]);
  });
}

// A mouse that is dragged across chooses a time; a finger scrolls.
function zoomable(plot, timeAt, zoom) {
  let began = null;
  const shade = plot.add("rect", { class: "brush", y: plot.top, height: plot.bottom - plot.top, visibility: "hidden" });
  plot.root.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse") began = plot.position(event)[0];
  });
  plot.root.addEventListener("pointermove", (event) => {
    if (began === null) return;
    const [a, b] = [began, plot.position(event)[0]].sort((one, other) => one - other);
    fill(shade, { x: a, width: b - a, visibility: "visible" }, []);
  });
  plot.root.addEventListener("pointerup", (event) => {
    const range = began === null ? [0, 0] : [began, plot.position(event)[0]].sort((one, other) => one - other);
    began = null;
    shade.setAttribute("visibility", "hidden");
    if (range[1] - range[0] > 6) zoom(range.map((px) => timeAt(Math.min(Math.max(px, plot.left), plot.right))));
  });
}

// -- several objectives, several runs --

function pareto(figure) {
  const { metrics } = data.pareto;
  const state = { x: 0, y: 1 };
  const draw = () => drawPareto(figure, state.x, state.y);
  const boxes =
    metrics.length > 2
      ? [
          select("across", metrics, 0, (i) => {
            state.x = i;
            draw();
          }),
          select("up", metrics, 1, (i) => {
            state.y = i;
            draw();
          }),
        ]
      : [];
  controlsOf(
    figure,
    ...boxes,
    legend([
      ["fifth0", "front"],
      ["fifth4", "beaten by others"],
    ]),
  );
  return draw;
}

function drawPareto(figure, across, up) {
  const { id, values, metrics, front } = data.pareto;
  const host = figure.querySelector(".plot");
  const plot = new Plot(host, widthOf(host) < SMALL ? 300 : 400, "Pareto front");
  const modeOf = (k) => (metrics[k].endsWith(" max") ? "max" : "min");
  const range = (k) => between(usualRange(values[k], modeOf(k)));
  const y = plot.yAxis(range(up), metrics[up]);
  const x = plot.xAxis(range(across), metrics[across]);
  const clamp = (at) => Math.min(Math.max(at, plot.left), plot.right);
  const points = id.map((trial, k) => [clamp(x.at(values[across][k])), within(y, plot, values[up][k]), k]);
  const chosen = new Set(front);
  const isFront = (p) => chosen.has(id[p[2]]);
  plot.dots(
    points.filter((p) => !isFront(p)),
    "fifth4",
    6,
  );
  const ends = points.filter(isFront).sort((a, b) => a[0] - b[0]);
  if (metrics.length === 2)
    plot.add("path", {
      class: "line thin",
      d: `M${ends.map((p) => `${p[0].toFixed(1)} ${p[1].toFixed(1)}`).join("L")}`,
    });
  plot.dots(ends, "fifth0", 8);
  plot.tell(points, (k) => [`trial ${id[k]}`, ...metrics.map((name, m) => [name, number(values[m][k])])]);
}

function comparison(figure) {
  const state = { x: "trial" };
  const runs = data.progress.filter((run) => run.value.length);
  const draw = () => drawComparison(figure, runs, state.x);
  controlsOf(
    figure,
    choice(
      "by",
      [
        ["trial", "trials"],
        ["cost", data.unit],
      ],
      state.x,
      (name) => {
        state.x = name;
        draw();
      },
    ),
    legend(runs.map((run, r) => [`run${r % 8}`, run.name])),
  );
  return draw;
}

function drawComparison(figure, runs, by) {
  const host = figure.querySelector(".plot");
  const plot = new Plot(host, widthOf(host) < SMALL ? 280 : 360, "best so far of each run");
  const values = runs.flatMap((run) => run.value);
  const y = plot.yAxis(between(usualRange(values, data.mode)), `best ${metric} so far`);
  const x = plot.xAxis(
    between([0, Math.max(...runs.flatMap((run) => run[by]))]),
    by === "trial" ? "trials that have ended" : data.unit,
  );
  const told = runs.flatMap((run, r) => {
    const points = run.value.map((value, k) => [x.at(run[by][k]), within(y, plot, value), [run, k]]);
    plot.steps(points, `run${r % 8}`);
    return points;
  });
  plot.tell(told, ([run, k]) => [
    run.name,
    ["trials", number(run.trial[k])],
    [data.unit, number(run.cost[k])],
    [`best ${metric}`, number(run.value[k])],
  ]);
}

// -- the page --

const CHARTS = { history, generations, parallel, slices, pairs, importance, timeline, pareto, comparison };

// Charts are drawn one by one while the browser is idle, at once when they come near the window or are to be printed,
// and again at another width.
const drawers = new Map();
const widths = new Map();

function drawFigure(figure) {
  if (!drawers.has(figure)) drawers.set(figure, CHARTS[figure.dataset.chart](figure));
  widths.set(figure, figure.clientWidth);
  drawers.get(figure)();
}

const figures = document.querySelectorAll("figure[data-chart]");
const near = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting && !drawers.has(target)) drawFigure(target);
  },
  { rootMargin: "600px" },
);
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries)
    if (drawers.has(target) && widths.get(target) !== target.clientWidth) drawFigure(target);
});
for (const figure of figures) {
  near.observe(figure);
  sizes.observe(figure);
}

const undrawn = () => [...figures].filter((figure) => !drawers.has(figure));
const whenIdle = window.requestIdleCallback ?? setTimeout;

function drawNext() {
  const [figure] = undrawn();
  if (!figure) return;
  drawFigure(figure);
  whenIdle(drawNext);
}

whenIdle(drawNext);

// All is drawn and open on paper, and as it was afterwards.
let opened = [];
window.addEventListener("beforeprint", () => {
  onPaper = true;
  figures.forEach(drawFigure);
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((details) => {
    details.open = true;
  });
});
window.addEventListener("afterprint", () => {
  onPaper = false;
  figures.forEach(drawFigure);
  opened.forEach((details) => {
    details.open = false;
  });
});

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
    button.textContent = "Copied";
  });
}
