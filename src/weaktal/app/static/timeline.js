// The timeline: from hours to single pictures, drawn on one canvas.

import { clock, eachFrame, h } from "./lib.js";

/** @import { Class, Detection, Mark } from "./types.js" */
/**
 * @typedef {{ run: string, times: number[], foreground: number[], curves: Record<string, number[]> }} Activation
 * @typedef {{ lane: number, mark: Mark, part: "start" | "end" | "body" }} Hit
 */

const RULER = 22, THUMBS = 44, CURVES = 46, LANE = 22, STRIP = 9, LEAST = 0.02;
const KEEP = 400; // small pictures in memory

/**
 * Events: "seek" (detail: seconds), "pick" (key or null), "adjust" ({ key, fields }), "view".
 */
export class Timeline extends HTMLElement {
  duration = 1;
  name = "";
  time = 0;
  /** @type {[number, number]} */
  view = [0, 1];
  /** @type {Class[]} */
  classes = [];
  /** @type {Mark[]} in order of start */
  marks = [];
  /** @type {Detection[]} in order of start */
  detections = [];
  /** @type {string[]} */
  runs = [];
  /** @type {Activation[]} */
  activations = [];
  /** @type {{ start: number, end: number }[]} */
  ignored = [];
  /** @type {string | null} */
  selected = null;
  /** A segment that is being held. @type {{ class: string, start: number } | null} */
  ghost = null;
  /** @type {(seconds: number) => number} */
  snap = (seconds) => seconds;
  aspect = 4 / 3;
  stamp = "";
  /** Show lanes of classes that occur here only. */
  compact = false;
  /** @type {Map<string, HTMLImageElement>} */
  images = new Map();
  /** @type {Map<string, Mark[]>} */
  byClass = new Map();
  /** @type {{ class: Class, top: number, height: number }[]} */
  lanes = [];
  longest = 0;
  /** @type {Record<string, string>} */
  ink = {};
  /** @type {{ key: string, fields: Record<string, number> } | null} */
  moving = null;

  constructor() {
    super();
    this.canvas = h("canvas", { role: "img", "aria-label": "Timeline" });
    this.paint = eachFrame(() => this.draw());
    /** @type {(() => void)[]} */
    this.ends = [];
    this.listen();
  }

  connectedCallback() {
    this.className = "timeline";
    this.append(this.canvas);
    const recolour = () => { this.ink = {}; this.paint(); };
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const sizes = new ResizeObserver(() => this.paint());
    sizes.observe(this);
    addEventListener("themechange", recolour);
    dark.addEventListener("change", recolour);
    this.ends = [() => sizes.disconnect(), () => removeEventListener("themechange", recolour),
      () => dark.removeEventListener("change", recolour)];
  }

  disconnectedCallback() {
    for (const end of this.ends) end();
  }

  /**
   * Another video, whole.
   * @param {string} name
   * @param {number} duration
   * @param {string} stamp
   * @param {number} aspect width / height of a picture
   */
  open(name, duration, stamp, aspect) {
    this.name = name;
    this.stamp = stamp;
    this.aspect = Number.isFinite(aspect) && aspect > 0 ? aspect : 4 / 3;
    this.images.clear();
    this.selected = null;
    this.ghost = null;
    this.setDuration(duration);
    this.view = [0, this.duration];
    this.paint();
  }

  /** @param {number} duration */
  setDuration(duration) {
    const whole = this.view[1] >= this.duration;
    this.duration = Math.max(duration, 0.1);
    if (whole) this.view = [Math.min(this.view[0], this.duration - LEAST), this.duration];
  }

  /** @param {Mark[]} marks @param {Class[]} classes */
  setMarks(marks, classes) {
    this.marks = marks;
    this.classes = classes;
    this.byClass = new Map();
    this.longest = 0;
    for (const mark of marks) {
      const list = this.byClass.get(mark.class);
      if (list) list.push(mark);
      else this.byClass.set(mark.class, [mark]);
      this.longest = Math.max(this.longest, mark.end - mark.start);
    }
    this.paint();
  }

  /** @param {Detection[]} detections @param {string[]} runs @param {Activation[]} activations */
  setRuns(detections, runs, activations) {
    this.detections = detections;
    this.runs = runs;
    this.activations = activations;
    this.paint();
  }

  // ---- seconds and pixels

  /** Room for the names of lanes, on the left. */
  get gutter() {
    return this.clientWidth < 600 ? 62 : 96;
  }

  get width() {
    return this.clientWidth - this.gutter;
  }

  /** @param {number} seconds */
  x(seconds) {
    return ((seconds - this.view[0]) / (this.view[1] - this.view[0])) * this.width;
  }

  /** @param {number} x */
  seconds(x) {
    return this.view[0] + (x / Math.max(1, this.width)) * (this.view[1] - this.view[0]);
  }

  /** @param {number} factor @param {number} [around] seconds */
  zoom(factor, around = this.time) {
    const [a, b] = this.view;
    const length = Math.max(LEAST * 8, Math.min(this.duration, (b - a) * factor));
    const center = Math.max(a, Math.min(b, around));
    const start = center - ((center - a) / (b - a)) * length;
    this.setView(start, start + length);
  }

  /** @param {number} start @param {number} end */
  setView(start, end) {
    const length = Math.min(end - start, this.duration);
    const first = Math.max(0, Math.min(this.duration - length, start));
    this.view = [first, first + length];
    this.paint();
    this.dispatchEvent(new Event("view"));
  }

  /** Move the view so that a time can be seen. @param {number} seconds @param {boolean} [turn] to its start, as a page */
  follow(seconds, turn = false) {
    const [a, b] = this.view;
    if (seconds >= a && seconds <= b) return;
    const length = b - a;
    const start = turn ? seconds - 0.05 * length : seconds - length / 2;
    this.setView(start, start + length);
  }

  // ---- pointer

  listen() {
    const canvas = this.canvas;
    /** @type {Map<number, PointerEvent>} */
    const fingers = new Map();
    /** @type {null | { kind: "scrub" | "pan" | "mark" | "pinch", x: number, view: [number, number], hit?: Hit,
     *   moved: boolean, gap?: number }} */
    let drag = null;
    const at = (/** @type {MouseEvent} */ e) => {
      const box = canvas.getBoundingClientRect();
      return [e.clientX - box.left - this.gutter, e.clientY - box.top];
    };
    const emit = (/** @type {string} */ kind, /** @type {any} */ detail) =>
      this.dispatchEvent(new CustomEvent(kind, { detail }));
    canvas.addEventListener("pointerdown", (e) => {
      if (e.button > 0) return;
      canvas.setPointerCapture(e.pointerId);
      fingers.set(e.pointerId, e);
      const [x = 0, y = 0] = at(e);
      if (fingers.size === 2) {
        const [p, q] = [...fingers.values()];
        drag = { kind: "pinch", x, view: [...this.view], moved: true,
          gap: Math.abs((p?.clientX ?? 0) - (q?.clientX ?? 0)) || 1 };
        return;
      }
      const hit = this.hit(x, y);
      if (hit) {
        emit("pick", hit.mark.key);
        drag = { kind: "mark", x, view: [...this.view], hit, moved: false };
      } else if (y < RULER + THUMBS + this.curveHeight || e.pointerType === "mouse") {
        drag = { kind: "scrub", x, view: [...this.view], moved: false };
        emit("seek", this.clamp(this.seconds(x)));
        if (y > RULER + THUMBS + this.curveHeight) emit("pick", null);
      } else drag = { kind: "pan", x, view: [...this.view], moved: false };
    });
    canvas.addEventListener("pointermove", (e) => {
      const [x = 0, y = 0] = at(e);
      if (!drag) {
        const hit = this.hit(x, y);
        canvas.style.cursor = hit ? (hit.part === "body" ? "grab" : "ew-resize") : y < RULER ? "col-resize" : "default";
        const title = hit ? `${this.classes.find((c) => c.id === hit.mark.class)?.name ?? ""} ${clock(hit.mark.start, 2)}`
          + (hit.mark.end > hit.mark.start ? ` – ${clock(hit.mark.end, 2)}` : "") + (hit.mark.note ? `\n${hit.mark.note}` : "") : "";
        if (canvas.title !== title) canvas.title = title;
        return;
      }
      if (fingers.has(e.pointerId)) fingers.set(e.pointerId, e);
      const length = drag.view[1] - drag.view[0];
      const by = ((x - drag.x) / Math.max(1, this.width)) * length;
      if (Math.abs(x - drag.x) > 3) drag.moved = true;
      if (drag.kind === "scrub") emit("seek", this.clamp(this.seconds(x)));
      else if (drag.kind === "pan") this.setView(drag.view[0] - by, drag.view[1] - by);
      else if (drag.kind === "pinch") {
        const [p, q] = [...fingers.values()];
        const gap = Math.abs((p?.clientX ?? 0) - (q?.clientX ?? 0)) || 1;
        const center = (drag.view[0] + drag.view[1]) / 2;
        const half = Math.max(LEAST * 4, (length / 2) * ((drag.gap ?? 1) / gap));
        this.setView(center - half, center + half);
      } else if (drag.hit && drag.moved) {
        const { mark, part } = drag.hit;
        const moved = (/** @type {number} */ s) => this.snap(this.clamp(s + by));
        if (mark.kind === "click") this.moving = { key: mark.key, fields: { time: moved(mark.start) } };
        else if (part === "start")
          this.moving = { key: mark.key, fields: { start: Math.min(moved(mark.start), mark.end - LEAST), end: mark.end } };
        else if (part === "end")
          this.moving = { key: mark.key, fields: { start: mark.start, end: Math.max(moved(mark.end), mark.start + LEAST) } };
        else {
          const start = moved(mark.start);
          this.moving = { key: mark.key, fields: { start, end: start + mark.end - mark.start } };
        }
        emit("preview", Object.values(this.moving.fields)[part === "end" ? 1 : 0]);
        this.paint();
      }
    });
    const end = (/** @type {PointerEvent} */ e) => {
      fingers.delete(e.pointerId);
      if (drag?.kind === "mark" && this.moving) emit("adjust", this.moving);
      else if (drag?.kind === "mark" && drag.hit) emit("seek", drag.hit.part === "end" ? drag.hit.mark.end : drag.hit.mark.start);
      else if (drag?.kind === "pan" && !drag.moved) {
        emit("seek", this.clamp(this.seconds(drag.x)));
        emit("pick", null);
      }
      this.moving = null;
      drag = null;
      this.paint();
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("wheel", (e) => {
      const across = Math.abs(e.deltaX) > Math.abs(e.deltaY) || e.shiftKey;
      if (!across && !e.ctrlKey && this.scrollHeight > this.clientHeight + 1 && e.altKey) return;
      e.preventDefault();
      const [x = 0] = at(e);
      const length = this.view[1] - this.view[0];
      if (across) {
        const by = ((e.deltaX || e.deltaY) / Math.max(1, this.width)) * length;
        this.setView(this.view[0] + by, this.view[1] + by);
      } else this.zoom(Math.exp(Math.max(-0.5, Math.min(0.5, e.deltaY * 0.0025))), this.seconds(x));
    }, { passive: false });
    canvas.addEventListener("dblclick", (e) => {
      const [x = 0, y = 0] = at(e);
      const hit = this.hit(x, y);
      if (hit && hit.mark.end > hit.mark.start) emit("loop", hit.mark.key);
    });
  }

  /** @param {number} seconds */
  clamp(seconds) {
    return Math.max(0, Math.min(this.duration, seconds));
  }

  /** What lies under a point; borders before bodies, the selected before others. @param {number} x @param {number} y @returns {Hit | null} */
  hit(x, y) {
    const place = this.lanes.findIndex((lane) => y >= lane.top && y < lane.top + LANE);
    const lane = this.lanes[place];
    if (!lane) return null;
    /** @type {{ mark: Mark, part: Hit["part"], distance: number } | null} */
    let best = null;
    for (const mark of this.visible(this.byClass.get(lane.class.id) ?? [], 8)) {
      const a = this.x(mark.start), b = this.x(mark.end);
      /** @type {[Hit["part"], number][]} */
      const parts = mark.kind === "click" ? [["body", Math.abs(x - a) - 3]]
        : [["start", Math.abs(x - a) + 1], ["end", Math.abs(x - b) + 1], ["body", x > a && x < b ? 4 : 99]];
      for (const [part, distance] of parts) {
        const d = distance - (mark.key === this.selected ? 2 : 0);
        if (d < 6 && (!best || d < best.distance)) best = { mark, part, distance: d };
      }
    }
    return best ? { lane: place, mark: best.mark, part: best.part } : null;
  }

  /** Of items in order of start, those in the view. @template {{ start: number, end: number }} T @param {T[]} list @param {number} [slack] pixels */
  visible(list, slack = 2) {
    const margin = (slack * (this.view[1] - this.view[0])) / Math.max(1, this.width);
    const first = this.view[0] - margin - this.longest, last = this.view[1] + margin;
    let low = 0, high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((list[middle]?.start ?? 0) < first) low = middle + 1;
      else high = middle;
    }
    let end = low;
    high = list.length;
    while (end < high) {
      const middle = (end + high) >> 1;
      if ((list[middle]?.start ?? 0) <= last) end = middle + 1;
      else high = middle;
    }
    return list.slice(low, end);
  }

  get curveHeight() {
    return this.activations.length ? CURVES : 0;
  }

  /** Lanes of the classes: those that occur here, and all where there are few. */
  layout() {
    const used = new Set([...this.byClass.keys(), ...this.detections.map((d) => d.class), this.ghost?.class]);
    const few = this.classes.length <= 8 && !this.compact;
    let top = RULER + THUMBS + this.curveHeight + 4;
    this.lanes = [];
    for (const c of this.classes) {
      if (!few && !used.has(c.id)) continue;
      const height = LANE + STRIP * this.runs.length + 2;
      this.lanes.push({ class: c, top, height });
      top += height;
    }
    return top + 4;
  }

  // ---- drawing

  colours() {
    if (!this.ink.text) {
      const style = getComputedStyle(this);
      for (const name of ["text", "muted", "line", "panel", "sunken", "accent", "bad", "good"])
        this.ink[name] = style.getPropertyValue(`--${name}`).trim();
      this.ink.font = style.fontFamily;
    }
    return this.ink;
  }

  draw() {
    const height = Math.max(this.layout(), 130);
    const { width, gutter } = this;
    if (width <= 0 || !this.isConnected) return;
    const ratio = devicePixelRatio || 1;
    const canvas = this.canvas;
    const across = Math.round((width + gutter) * ratio);
    if (canvas.width !== across || canvas.height !== Math.round(height * ratio)) {
      canvas.width = across;
      canvas.height = Math.round(height * ratio);
      canvas.style.height = `${height}px`;
    }
    const g = canvas.getContext("2d");
    if (!g) return;
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width + gutter, height);
    const ink = this.colours();
    this.drawNames(g, ink, height);
    g.save();
    g.beginPath();
    g.rect(gutter, 0, width, height);
    g.clip();
    g.translate(gutter, 0);
    this.drawRuler(g, ink, height);
    this.drawThumbs(g, ink);
    if (this.activations.length) this.drawCurves(g, ink);
    this.drawLanes(g, ink);
    for (const part of this.ignored) {
      g.fillStyle = ink.muted ?? "";
      g.globalAlpha = 0.15;
      g.fillRect(this.x(part.start), RULER, this.x(part.end) - this.x(part.start), height);
      g.globalAlpha = 1;
    }
    const x = Math.round(this.x(this.time)) + 0.5;
    g.strokeStyle = g.fillStyle = ink.accent ?? "";
    g.lineWidth = 1.5;
    g.beginPath();
    g.moveTo(x, 8);
    g.lineTo(x, height);
    g.stroke();
    g.beginPath();
    g.moveTo(x - 5, 2);
    g.lineTo(x + 5, 2);
    g.lineTo(x + 5, 8);
    g.lineTo(x, 14);
    g.lineTo(x - 5, 8);
    g.fill();
    g.restore();
  }

  /** The names of the lanes, in the gutter. @param {CanvasRenderingContext2D} g @param {Record<string, string>} ink @param {number} height */
  drawNames(g, ink, height) {
    g.textBaseline = "middle";
    g.fillStyle = ink.muted ?? "";
    g.font = `${this.gutter < 80 ? 10 : 11}px ${ink.font}`;
    if (this.activations.length) g.fillText("activation", 8, RULER + THUMBS + CURVES / 2);
    g.font = `600 11px ${ink.font}`;
    for (const lane of this.lanes) {
      g.fillStyle = lane.class.colour;
      g.beginPath();
      g.arc(13, lane.top + LANE / 2 - 1, 3.5, 0, 7);
      g.fill();
      g.fillStyle = ink.text ?? "";
      let text = lane.class.name;
      while (text.length > 1 && g.measureText(text).width > this.gutter - 28) text = `${text.replace(/…$/, "").slice(0, -1)}…`;
      g.fillText(text, 22, lane.top + LANE / 2 - 1);
      g.font = `9.5px ${ink.font}`;
      g.fillStyle = ink.muted ?? "";
      if (this.runs.length > 1)
        this.runs.forEach((run, row) => g.fillText(run.slice(0, this.gutter < 80 ? 2 : 14), 22, lane.top + LANE + row * STRIP));
      g.font = `600 11px ${ink.font}`;
    }
    g.fillStyle = ink.line ?? "";
    g.fillRect(this.gutter - 1, 0, 1, height);
  }

  /** @param {CanvasRenderingContext2D} g @param {Record<string, string>} ink @param {number} height */
  drawRuler(g, ink, height) {
    const length = this.view[1] - this.view[0];
    const steps = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
    const wanted = (length / Math.max(1, this.width)) * 84;
    const step = steps.find((s) => s >= wanted) ?? 7200;
    const digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
    g.font = `11px ${ink.font}`;
    g.textBaseline = "middle";
    g.fillStyle = ink.muted ?? "";
    g.strokeStyle = ink.line ?? "";
    g.lineWidth = 1;
    g.beginPath();
    const minor = step / 5;
    for (let k = Math.floor(this.view[0] / minor); k * minor <= this.view[1]; k++) {
      const x = Math.round(this.x(k * minor)) + 0.5;
      const major = k % 5 === 0;
      g.moveTo(x, major ? 4 : RULER - 5);
      g.lineTo(x, major ? height : RULER);
      if (major) g.fillText(clock(k * step / 5, digits), x + 4, 10);
    }
    g.stroke();
  }

  /** @param {CanvasRenderingContext2D} g @param {Record<string, string>} ink */
  drawThumbs(g, ink) {
    g.fillStyle = ink.sunken ?? "";
    g.fillRect(0, RULER, this.width, THUMBS);
    if (!this.name || !this.stamp) return;
    const perPixel = (this.view[1] - this.view[0]) / Math.max(1, this.width);
    const level = Math.max(-4, Math.min(13, Math.floor(Math.log2(THUMBS * this.aspect * perPixel))));
    const step = 2 ** level;
    for (let k = Math.max(0, Math.floor(this.view[0] / step)); k * step < Math.min(this.view[1], this.duration); k++) {
      const x = this.x(k * step);
      const cell = Math.min(this.x((k + 1) * step), this.x(this.duration)) - x;
      const image = this.image(level, k);
      if (!image?.complete || !image.naturalWidth) continue;
      const scale = Math.max(cell / image.naturalWidth, THUMBS / image.naturalHeight);
      const w = cell / scale, v = THUMBS / scale;
      g.drawImage(image, (image.naturalWidth - w) / 2, (image.naturalHeight - v) / 2, w, v, x, RULER, cell + 0.5, THUMBS);
    }
  }

  /** @param {number} level @param {number} index */
  image(level, index) {
    const key = `${level}/${index}`;
    let image = this.images.get(key);
    if (!image) {
      image = new Image();
      image.addEventListener("load", this.paint);
      image.src = `/api/thumbnails/${level}/${index}/${encodeURIComponent(this.name)}?v=${this.stamp}`;
    } else this.images.delete(key); // the last used goes to the end
    this.images.set(key, image);
    if (this.images.size > KEEP) {
      const oldest = this.images.keys().next().value;
      if (oldest !== undefined) {
        const dropped = this.images.get(oldest);
        if (dropped && !dropped.complete) dropped.src = "";
        this.images.delete(oldest);
      }
    }
    return image;
  }

  /** @param {CanvasRenderingContext2D} g @param {Record<string, string>} ink */
  drawCurves(g, ink) {
    const top = RULER + THUMBS, bottom = top + CURVES - 2, tall = CURVES - 8;
    const colour = new Map(this.classes.map((c) => [c.id, c.colour]));
    this.activations.forEach((run, place) => {
      const t = run.times;
      let first = 0, last = t.length - 1;
      while (first < last && (t[first + 1] ?? 0) < this.view[0]) first++;
      while (last > first && (t[last - 1] ?? 0) > this.view[1]) last--;
      const stride = Math.max(1, Math.floor((last - first) / (this.width * 2)));
      const trace = (/** @type {number[]} */ values) => {
        for (let i = first; i <= last; i += stride) g.lineTo(this.x(t[i] ?? 0), bottom - tall * (values[i] ?? 0));
      };
      if (place === 0) {
        g.fillStyle = ink.muted ?? "";
        g.globalAlpha = 0.16;
        g.beginPath();
        g.moveTo(this.x(t[first] ?? 0), bottom);
        trace(run.foreground);
        g.lineTo(this.x(t[last] ?? 0), bottom);
        g.fill();
        g.globalAlpha = 1;
      }
      g.lineWidth = 1.4;
      g.setLineDash(place ? [4, 3] : []);
      for (const [id, values] of Object.entries(run.curves)) {
        g.strokeStyle = colour.get(id) ?? ink.muted ?? "";
        g.beginPath();
        trace(values);
        g.stroke();
      }
      g.setLineDash([]);
    });
  }

  /** @param {CanvasRenderingContext2D} g @param {Record<string, string>} ink */
  drawLanes(g, ink) {
    for (const lane of this.lanes) {
      g.fillStyle = ink.sunken ?? "";
      g.fillRect(0, lane.top, this.width, lane.height - 2);
      let chosen = null;
      // one path for all that look alike: thousands of single fills are slow
      const bars = new Path2D(), clicks = new Path2D();
      const top = lane.top + 3, tall = LANE - 8, middle = top + tall / 2, r = 5.5;
      let until = -1; // where many are narrower than a pixel, one is drawn
      const perSecond = this.width / (this.view[1] - this.view[0]);
      for (const mark of this.visible(this.byClass.get(lane.class.id) ?? [])) {
        const moved = this.moving?.key === mark.key ? this.moving.fields : null;
        if (mark.key === this.selected || moved) {
          chosen = { mark, moved };
          continue;
        }
        const a = (mark.start - this.view[0]) * perSecond;
        if (mark.kind === "click") {
          clicks.moveTo(a, middle - r);
          clicks.lineTo(a + r, middle);
          clicks.lineTo(a, middle + r);
          clicks.lineTo(a - r, middle);
          clicks.closePath();
          continue;
        }
        const width = Math.max(1.5, (mark.end - mark.start) * perSecond);
        if (mark.kind === "negative" || (mark.note && width > 10)) this.drawMark(g, ink, lane, mark, false, null);
        else if (width > 6) bars.roundRect(a, top, width, tall, 3);
        else if (a + width > until) {
          const from = Math.max(a, until);
          bars.rect(from, top, a + width - from, tall);
          until = a + width;
        }
      }
      g.fillStyle = lane.class.colour;
      g.fill(bars);
      g.fill(clicks);
      g.lineWidth = 1;
      g.strokeStyle = ink.panel ?? "";
      g.stroke(clicks);
      if (chosen) this.drawMark(g, ink, lane, chosen.mark, true, chosen.moved);
      if (this.ghost?.class === lane.class.id) {
        const a = this.x(Math.min(this.ghost.start, this.time)), b = this.x(Math.max(this.ghost.start, this.time));
        g.fillStyle = lane.class.colour;
        g.globalAlpha = 0.45;
        g.fillRect(a, lane.top + 3, Math.max(2, b - a), LANE - 8);
        g.globalAlpha = 1;
      }
    }
    if (this.runs.length) this.drawDetections(g, ink);
  }

  /**
   * @param {CanvasRenderingContext2D} g
   * @param {Record<string, string>} ink
   * @param {{ class: Class, top: number }} lane
   * @param {Mark} mark
   * @param {boolean} selected
   * @param {Record<string, number> | null} moved
   */
  drawMark(g, ink, lane, mark, selected, moved) {
    const start = moved?.time ?? moved?.start ?? mark.start, end = moved?.time ?? moved?.end ?? mark.end;
    const a = this.x(start), b = this.x(end);
    const top = lane.top + 3, tall = LANE - 8, middle = top + tall / 2;
    g.fillStyle = lane.class.colour;
    if (mark.kind === "click") {
      const r = selected ? 7 : 5.5;
      g.beginPath();
      g.moveTo(a, middle - r);
      g.lineTo(a + r, middle);
      g.lineTo(a, middle + r);
      g.lineTo(a - r, middle);
      g.closePath();
      g.fill();
      g.lineWidth = selected ? 2 : 1;
      g.strokeStyle = (selected ? ink.text : ink.panel) ?? "";
      g.stroke();
      return;
    }
    const width = Math.max(1.5, b - a);
    if (mark.kind === "negative") {
      g.strokeStyle = ink.bad ?? "";
      g.lineWidth = 1;
      g.setLineDash([3, 2]);
      g.strokeRect(a + 0.5, top + 0.5, width - 1, tall - 1);
      g.setLineDash([]);
    } else if (width > 6) {
      g.beginPath();
      g.roundRect(a, top, width, tall, 3);
      g.fill();
    } else g.fillRect(a, top, width, tall);
    if (selected) {
      g.strokeStyle = ink.text ?? "";
      g.lineWidth = 2;
      g.beginPath();
      g.roundRect(a - 1, top - 1, width + 2, tall + 2, 4);
      g.stroke();
    }
    if (mark.note && width > 10) {
      g.fillStyle = ink.panel ?? "";
      g.beginPath();
      g.arc(a + 7, middle, 2, 0, 7);
      g.fill();
    }
  }

  /** @param {CanvasRenderingContext2D} g @param {Record<string, string>} ink */
  drawDetections(g, ink) {
    const place = new Map(this.lanes.map((lane) => [lane.class.id, lane]));
    for (const d of this.detections) {
      const lane = place.get(d.class);
      const row = this.runs.indexOf(d.run);
      if (!lane || row < 0 || d.end < this.view[0] || d.start > this.view[1]) continue;
      const a = this.x(d.start), width = Math.max(2, this.x(d.end) - a);
      const top = lane.top + LANE - 3 + row * STRIP;
      g.globalAlpha = 0.25 + 0.65 * Math.max(0, Math.min(1, d.score));
      g.fillStyle = lane.class.colour;
      g.fillRect(a, top, width, STRIP - 3);
      g.globalAlpha = 1;
      if (d.id === this.selected) {
        g.strokeStyle = ink.text ?? "";
        g.lineWidth = 1.5;
        g.strokeRect(a - 0.5, top - 1.5, width + 1, STRIP);
      }
    }
  }
}

customElements.define("wt-timeline", Timeline);
