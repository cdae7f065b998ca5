"use strict";
// Drawing as SVG: scales, axes, marks, and what is told where the pointer is. Colours come from the style sheet, so
// that dark mode and paper need no other drawing. Thousands of marks are one path: a dot is a line without length.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function html(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

// -- numbers --

// As everywhere in the report: four significant digits, 1.370e-5.
function number(value) {
  if (value === null || value === undefined) return "\u2013";
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e3) return value.toPrecision(4);
  if (size >= 1e3 && size < 1e6) return Math.round(value).toLocaleString("en");
  const [mantissa, exponent] = value.toExponential(3).split("e");
  return `${mantissa}e${Number(exponent)}`;
}

// The same without zeros at the end.
function tickText(value) {
  const [mantissa, exponent] = number(value).split("e");
  const short = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
  return exponent === undefined ? short : `${short}e${exponent}`;
}

function percent(part) {
  if (part < 0.0005) return "0 %";
  return part < 0.1 ? `${(100 * part).toFixed(1)} %` : `${Math.round(100 * part)} %`;
}

function quantile(sorted, part) {
  const place = part * (sorted.length - 1);
  const below = Math.floor(place);
  return sorted[below] + (place - below) * (sorted[Math.min(below + 1, sorted.length - 1)] - sorted[below]);
}

// The range that shows the better values well: what lies far beyond the upper quartile is left out.
function usualRange(values, mode) {
  const sign = mode === "min" ? 1 : -1;
  const sorted = values
    .filter((v) => v !== null)
    .map((v) => sign * v)
    .sort((a, b) => a - b);
  const high = quantile(sorted, 0.75) + 1.5 * (quantile(sorted, 0.75) - quantile(sorted, 0.25));
  const ends = [sign * sorted[0], sign * Math.min(sorted[sorted.length - 1], high)];
  return ends.sort((a, b) => a - b);
}

function wholeRange(values) {
  const known = values.filter((v) => v !== null);
  return known.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
}

// -- scales --

function linearTicks(low, high, count) {
  const raw = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999) * power;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
  return ticks.map((tick) => Number(tick.toPrecision(12)));
}

function logTicks(low, high, count) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  if (last - first < 1) return linearTicks(low, high, Math.min(count, 3)).filter((tick) => tick > 0);
  const step = Math.max(1, Math.ceil((last - first) / count));
  return Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, i) => Number(`1e${first + i * step}`));
}

// Where values lie between two pixels. Of values with labels, the places are the labels' indices.
function scaleOf({ lower, upper, log = false, labels = [], whole = false }, from, to, count = 6) {
  if (labels.length) {
    const at = (place) => from + ((place + 0.5) / labels.length) * (to - from);
    const every = Math.ceil(labels.length / Math.max(1, count));
    const ticks = labels.map((text, i) => ({ at: at(i), text })).filter((_, i) => i % every === 0);
    return { at, ticks, step: Math.abs(to - from) / labels.length };
  }
  const ends =
    lower < upper ? [lower, upper] : [lower - Math.abs(lower || 1) * 0.1, upper + Math.abs(upper || 1) * 0.1];
  const [low, high] = log && ends[0] > 0 ? ends.map(Math.log10) : ends;
  const scaled = log && ends[0] > 0 ? Math.log10 : (v) => v;
  const at = (value) => from + ((scaled(value) - low) / (high - low)) * (to - from);
  const values = (log && ends[0] > 0 ? logTicks : linearTicks)(...ends, count);
  return {
    at,
    ticks: values.map((value) => ({ at: at(value), text: tickText(value) })),
    step: whole ? Math.abs(at(low + 1) - at(low)) : 0,
  };
}

const between = ([lower, upper]) => ({ lower, upper });

// -- a plot --

const LETTER = 6.6;
const SMALL = 640;
const INSET = 10;
const MANY_DOTS = 1500;
const MANY_LINES = 150;

// Paper is narrower than most windows: what is printed is drawn for it.
const PAPER = 680;
let onPaper = false;

function widthOf(host) {
  if (!onPaper) return host.clientWidth;
  return host.parentElement.classList.contains("small-multiples") ? PAPER / 2 - 16 : PAPER;
}

class Plot {
  constructor(host, height, label, { left = 52, right = 12, top = 24, bottom = 40 } = {}) {
    this.width = Math.max(240, widthOf(host));
    this.height = height;
    this.left = left;
    this.right = this.width - right;
    this.top = top;
    this.bottom = height - bottom;
    this.root = svg("svg", { viewBox: `0 0 ${this.width} ${height}`, role: "img", "aria-label": label });
    host.replaceChildren(this.root);
  }

  add(name, attributes, ...children) {
    const node = svg(name, attributes, ...children);
    this.root.append(node);
    return node;
  }

  text(x, y, content, attributes = {}) {
    return this.add("text", { x, y, ...attributes }, content);
  }

  // Ticks from the bottom up, each with a line across; the title stands above the axis. What lies beyond the range has
  // room at the edge.
  yAxis(range, title, count = 5) {
    const scale = scaleOf(range, this.bottom - INSET, this.top + INSET, count);
    for (const { at, text } of scale.ticks) {
      this.add("line", { class: "grid", x1: this.left, x2: this.right, y1: at, y2: at });
      this.text(this.left - 8, at, clip(text, (this.left - 8) / LETTER), {
        class: "tick",
        "text-anchor": "end",
        dy: "0.32em",
      });
    }
    this.text(0, 12, clip(title, this.width / LETTER), { class: "title" });
    return scale;
  }

  xAxis(range, title, inset = INSET) {
    const count = Math.max(2, Math.floor((this.right - this.left) / 70));
    const scale = scaleOf(range, this.left + inset, this.right - inset, range.labels?.length ? 99 : count);
    const room = scale.ticks.length > 1 ? Math.abs(scale.ticks[1].at - scale.ticks[0].at) : this.right - this.left;
    const widest = Math.max(...scale.ticks.map((tick) => tick.text.length), 1);
    const every = range.labels?.length ? Math.ceil((widest <= 8 ? widest * LETTER + 6 : 44) / room) : 1;
    this.add("line", { class: "axis", x1: this.left, x2: this.right, y1: this.bottom, y2: this.bottom });
    scale.ticks
      .filter((_, i) => i % every === 0)
      .forEach(({ at, text }) => {
        this.add("line", { class: "axis", x1: at, x2: at, y1: this.bottom, y2: this.bottom + 4 });
        const fit = Math.min(2 * Math.min(at, this.width - at), room * every - 4) / LETTER;
        this.text(at, this.bottom + 17, clip(text, range.labels?.length ? fit : 99), {
          class: "tick",
          "text-anchor": "middle",
        });
      });
    this.text((this.left + this.right) / 2, this.bottom + 34, clip(title, (this.right - this.left) / LETTER), {
      class: "title",
      "text-anchor": "middle",
    });
    return scale;
  }

  dots(points, kind, size = 5) {
    const many = points.length > MANY_DOTS;
    const marks = points.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`);
    this.paths(marks, `dots ${kind}`, many && 200, { "stroke-width": size * (many ? 0.6 : 1) });
  }

  // Few marks are one path. Of many, so many ``together`` are one, and pale: colours add up, and density is seen.
  paths(marks, kind, together, attributes = {}) {
    const size = together || marks.length;
    const name = together ? `${kind} many` : kind;
    for (let i = 0; i < marks.length; i += size) {
      this.add("path", { class: name, d: marks.slice(i, i + size).join(""), ...attributes });
    }
  }

  steps(points, kind) {
    const d = points.map(([x, y], i) => (i ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `M${x.toFixed(1)} ${y.toFixed(1)}`));
    return this.add("path", { class: `line ${kind}`, d: d.join("") });
  }

  // Tells of the nearest of the points ([x, y, what]) when the pointer comes near, or a finger taps it.
  tell(points, describe) {
    const ring = this.add("circle", { class: "ring", r: 6, visibility: "hidden" });
    const show = (event) => {
      const [x, y] = this.position(event);
      const found = nearest(points, x, y, 24);
      ring.setAttribute("visibility", found ? "visible" : "hidden");
      if (!found) return hideTip();
      fill(ring, { cx: found[0], cy: found[1] }, []);
      return showTip(event, describe(found[2]));
    };
    this.onPointer(show, () => ring.setAttribute("visibility", "hidden"));
  }

  onPointer(show, hide = () => {}) {
    this.root.addEventListener("pointermove", show);
    this.root.addEventListener("pointerdown", show);
    this.root.addEventListener("pointerleave", () => {
      hide();
      hideTip();
    });
  }

  position(event) {
    const box = this.root.getBoundingClientRect();
    const scale = this.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }
}

function nearest(points, x, y, reach) {
  let found = null;
  let least = reach * reach;
  for (const point of points) {
    const away = (point[0] - x) ** 2 + (point[1] - y) ** 2;
    if (away < least) [found, least] = [point, away];
  }
  return found;
}

function clip(text, letters) {
  const characters = Array.from(text);
  return characters.length <= letters
    ? text
    : `${characters.slice(0, Math.max(1, Math.floor(letters) - 1)).join("")}\u2026`;
}

// -- what is told beside the pointer --

const tip = html("div", { class: "tip", role: "status", hidden: "" });
document.body.append(tip);

// Lines are [name, value]; the first one is the heading.
function showTip(event, [heading, ...lines]) {
  const rows = lines.map(([name, value]) => html("div", {}, html("span", {}, name), html("b", {}, value)));
  tip.replaceChildren(html("strong", {}, heading), ...rows);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect(),
    { clientWidth, clientHeight } = document.documentElement;
  const left = event.clientX + 16 + width > clientWidth ? event.clientX - 16 - width : event.clientX + 16;
  tip.style.left = `${Math.min(Math.max(4, left), Math.max(4, clientWidth - width - 4))}px`;
  tip.style.top = `${Math.min(Math.max(4, event.clientY + 16), clientHeight - height - 4)}px`;
}

function hideTip() {
  tip.hidden = true;
}

// -- controls --

// A row of buttons of which one is pressed. Options are [name, text].
function choice(label, options, current, change) {
  const buttons = options.map(([name, text]) => {
    const button = html("button", { type: "button", "aria-pressed": name === current, "data-name": name }, text);
    button.addEventListener("click", () => {
      buttons.forEach((each) => each.setAttribute("aria-pressed", each === button));
      change(name);
    });
    return button;
  });
  return html("div", { class: "choice", role: "group", "aria-label": label }, html("span", {}, label), ...buttons);
}

function select(label, names, current, change) {
  const options = names.map((name, i) =>
    html("option", { value: i, ...(i === current ? { selected: "" } : {}) }, name),
  );
  const box = html("select", {}, ...options);
  box.addEventListener("change", () => change(Number(box.value)));
  return html("label", { class: "choice" }, html("span", {}, label), box);
}

function legend(entries) {
  return html(
    "ul",
    { class: "legend" },
    ...entries.map(([kind, text]) => html("li", {}, html("span", { class: `swatch ${kind}` }), text)),
  );
}
