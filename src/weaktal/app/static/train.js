// Training from the page: what the labels allow, what runs, and what came of it.

import { button, choice, count, dialog, field, fill, h, icon, keepFocus, span, toast } from "./lib.js";
import { ask } from "./store.js";

/** @import { Context } from "./app.js" */
/**
 * @typedef {{ name: string, supervision: "video" | "point", recipe: string, title: string }} Method
 * @typedef {{ name: string, state: string, done?: number, total?: number, left?: number, failed?: string[] }} Step
 * @typedef {{
 *   name: string, state: string, method: string, recipe: string | null, settings: string[], supervision: string | null, seed: number | null,
 *   created: number | null, videos: number | null, clicks: number | null, commands: string[], ours: boolean,
 *   error: string | null, steps: Step[], done: number, total: number, stage: string, left: number | null,
 *   curve: [number, number][], detections: boolean, metrics: { average_mAP: number } | null, features: string | null
 * }} Run
 * @typedef {{
 *   choices: Method[], allowed: Record<"video" | "point", { videos: number, reason: string | null }>,
 *   missing: number, features: number, stamp: number, runs: Run[],
 *   extractor: { backbone: string, options: Record<string, any>, given: boolean } | null
 * }} Training
 */

const STATES = { starting: "Starting", running: "Running", done: "Done", failed: "Failed", stopped: "Stopped",
  interrupted: "Interrupted", waiting: "Waiting" };
const STEPS = { extract: "Features", train: "Training", localize: "Detections" };

export class TrainPage extends HTMLElement {
  /** @param {Context} context */
  constructor(context) {
    super();
    this.context = context;
    this.store = context.store;
    /** @type {Training | null} */
    this.training = null;
    /** @type {Run[]} */
    this.runs = [];
    this.method = "";
    this.seed = 0;
    this.settings = "";
    this.length = "short";
    /** @type {Set<string>} */
    this.compared = new Set();
    /** @type {(() => void)[]} */
    this.ends = [];
    /** @type {Map<string, string>} */
    this.drawn = new Map();
  }

  connectedCallback() {
    this.className = "page train";
    this.form = h("section", { class: "panel train-form", "aria-label": "New run" }, h("p", { class: "loading" }, "Looking at what can be trained…"));
    this.list = h("div", { class: "runs" });
    this.compare = h("section", { class: "panel compare", "aria-label": "Losses of the runs", hidden: true });
    this.append(this.form, h("section", { class: "run-area", "aria-label": "Runs" }, this.compare, this.list));
    this.ends.push(this.store.on("jobs", (state) => this.take(state)), this.store.on("reconnect", () => void this.load()));
    void this.load();
  }

  disconnectedCallback() {
    for (const end of this.ends.splice(0)) end();
  }

  async load() {
    await this.store.saved();
    try {
      if (!this.training) this.take(await ask("/api/runs"));
      this.training = /** @type {Training} */ (await ask("/api/training"));
    } catch (error) {
      if (this.form) fill(this.form, h("p", { class: "empty" }, icon("warn"), String(error instanceof Error ? error.message : error)));
      return;
    }
    if (!this.training.choices.some((c) => c.name === this.method)) {
      const fits = this.training.choices.filter((c) => !this.training?.allowed[c.supervision].reason);
      this.method = (fits.find((c) => c.supervision === "point") ?? fits[0] ?? this.training.choices[0])?.name ?? "";
    }
    this.showForm();
    this.take(this.training);
  }

  showForm() {
    const t = this.training;
    if (!t || !this.form) return;
    const group = (/** @type {"video" | "point"} */ supervision, /** @type {string} */ title) => {
      const { videos, reason } = t.allowed[supervision];
      return h("fieldset", { disabled: Boolean(reason) },
        h("legend", {}, title, h("span", { class: "hint" }, reason ? ` ${reason}` : ` ${count(videos, "video")}`)),
        t.choices.filter((c) => c.supervision === supervision).map((c) => {
          const input = h("input", { type: "radio", name: "method", value: c.name, on: { change: () => { this.method = c.name; this.showForm(); } } });
          input.checked = c.name === this.method;
          return h("label", { class: "method" }, input, h("span", {}, h("b", {}, c.name), h("small", {}, c.title)));
        }));
    };
    const chosen = t.choices.find((c) => c.name === this.method);
    const blocked = chosen ? t.allowed[chosen.supervision].reason : "choose a method";
    const seed = h("input", { type: "number", min: 0, value: this.seed, on: { change: () => { this.seed = Number(seed.value) || 0; } } });
    const settings = h("textarea", { rows: 3, placeholder: "steps=400", spellcheck: "false", class: "settings", value: this.settings,
      on: { input: () => { this.settings = settings.value; } } });
    const features = t.missing === 0
      ? h("p", { class: "hint" }, icon("check"), ` ${count(t.features, "video")} with features.`)
      : t.extractor === null
        ? h("p", { class: "hint" }, `${count(t.missing, "video")} without features are left out: those that are here were not made by weaktal extract.`)
        : t.extractor.given
          ? h("p", { class: "hint" }, `Features of ${count(t.missing, "video")} are made first, as those that are here: ${t.extractor.backbone}.`)
          : h("div", { class: "field" }, h("span", { class: "field-label" }, `Features of ${count(t.missing, "video")} are made first`),
              choice("Length of what happens", [["short", "Short actions, from 1 s"], ["long", "Longer ones"]], this.length,
                (value) => { this.length = value; }),
              h("span", { class: "hint" }, "From motion, without weights; windows of 0.4 or 1.1 seconds. Other backbones: weaktal extract."));
    fill(this.form, h("h2", {}, "New run"),
      group("point", "With clicks"), group("video", "With video tags"),
      features,
      h("details", {}, h("summary", {}, "Settings"), field("One KEY=VALUE a line, in place of the recipe's", settings)),
      field("Seed", seed, "Runs that differ in the seed alone show how much chance matters."),
      button("train", "Train", () => void this.start(), { kind: "primary", disabled: Boolean(blocked) }),
      h("p", { class: "hint" }, chosen ? `Recipe ${chosen.recipe}. Labels are taken as they are now; the run goes on when this page or the server is closed.` : ""));
  }

  async start() {
    await this.store.saved();
    const options = this.length === "short" ? { window: 6 } : {};
    try {
      const { run } = await ask("/api/train", { method: this.method, seed: this.seed,
        settings: this.settings.split("\n").map((s) => s.trim()).filter(Boolean), backbone: { backbone: "motion", options } });
      toast(`${run} has begun.`);
      this.seed += 1;
      await this.load();
    } catch (error) {
      toast(error instanceof Error ? error.message : String(error), { kind: "error" });
    }
  }

  /** @param {{ stamp: number, runs: Run[] }} state */
  take({ stamp, runs }) {
    if (!this.store.isNewest("runs", stamp)) return;
    this.runs = [...runs].reverse();
    const list = this.list;
    if (!list) return;
    if (!this.runs.length) {
      fill(list, h("div", { class: "empty panel" }, icon("train"), h("p", {}, "No runs yet."),
        h("p", { class: "hint" }, "Two clicks of each class in a few videos are enough for a first look.")));
      this.drawn.clear();
      return;
    }
    list.querySelector(".empty")?.remove();
    const present = new Set(this.runs.map((r) => r.name));
    for (const el of [...list.children]) if (!present.has(/** @type {HTMLElement} */ (el).dataset.run ?? "")) el.remove();
    this.runs.forEach((run, place) => {
      const text = JSON.stringify(run) + this.compared.has(run.name);
      const old = list.querySelector(`[data-run="${CSS.escape(run.name)}"]`);
      if (old && this.drawn.get(run.name) === text) return;
      this.drawn.set(run.name, text);
      const made = this.card(run);
      if (old) keepFocus(list, () => old.replaceWith(made));
      else list.insertBefore(made, list.children[place] ?? null);
    });
    this.showCompare();
  }

  /** @param {Run} run */
  card(run) {
    const busy = run.state === "running" || run.state === "starting";
    const act = (/** @type {string} */ what) => async () => {
      await ask(`/api/runs/${run.name}/${what}`, {}).catch((e) => toast(e.message, { kind: "error" }));
    };
    const share = (/** @type {Step} */ s) => s.state === "done" || s.state === "skipped" ? 1
      : s.state !== "running" ? 0
        : s.name === "train" ? (run.total ? run.done / run.total : 0) : s.total ? (s.done ?? 0) / s.total : 0;
    const current = run.steps.find((s) => s.state === "running");
    const left = current?.name === "train" ? run.left : current?.left;
    const facts = [run.videos ? count(run.videos, "video") : null, run.clicks ? count(run.clicks, "click") : null,
      run.seed === null ? null : `seed ${run.seed}`, run.recipe ? `recipe ${run.recipe}` : null, run.settings.join(", "),
      run.metrics ? `average mAP ${(100 * run.metrics.average_mAP).toFixed(1)}` : null,
      run.created ? new Date(run.created * 1000).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" }) : null];
    const failed = run.steps.flatMap((s) => s.failed ?? []);
    const check = h("input", { type: "checkbox", on: { change: () => {
      if (check.checked) this.compared.add(run.name);
      else this.compared.delete(run.name);
      this.showCompare();
    } } });
    check.checked = this.compared.has(run.name);
    const now = current ? (current.name === "train"
      ? (run.total ? `step ${run.done.toLocaleString("en")} of ${run.total.toLocaleString("en")}` : "preparing")
      : current.total ? `${current.done ?? 0} of ${count(current.total, "video")}` : "") : "";
    return h("article", { class: "panel run", data: { run: run.name, state: run.state }, "aria-label": `Run ${run.name}` },
      h("header", {}, h("h3", {}, run.name), h("span", { class: `chip ${run.state}` }, STATES[/** @type {keyof typeof STATES} */ (run.state)] ?? run.state),
        h("span", { class: "spacer" }),
        run.curve.length > 1 ? h("label", { class: "compare-check" }, check, "Compare") : null,
        busy ? button("stop", "Stop", act("stop")) : null,
        run.ours && ["stopped", "failed", "interrupted"].includes(run.state) ? button("play", "Resume", act("resume")) : null,
        run.detections && !busy ? button("review", "Review", () => this.context.go("review", run.name), { kind: "primary" }) : null,
        button("note", "What it says", () => void this.log(run), { bare: true })),
      h("p", { class: "hint" }, facts.filter(Boolean).join(" · ")),
      busy ? h("div", { class: "steps" }, run.steps.filter((s) => s.state !== "skipped").map((s) =>
        h("div", { class: `step ${s.state}` }, h("span", {}, STEPS[/** @type {keyof typeof STEPS} */ (s.name)] ?? s.name),
          h("progress", { max: 1, value: share(s), "aria-label": `${s.name} of ${run.name}` })))) : null,
      busy ? h("p", { class: "now" }, now, left ? ` · about ${span(left)} left` : "",
        run.curve.length && current?.name === "train" ? ` · loss ${run.curve.at(-1)?.[1].toPrecision(3)}` : "") : null,
      run.features ? h("p", { class: "trouble" }, icon("warn"), run.features) : null,
      run.error ? h("p", { class: "error-text" }, run.error) : null,
      failed.length ? h("p", { class: "trouble" }, icon("warn"), `${count(failed.length, "video")} could not be read: ${failed[0]}`) : null,
      run.curve.length > 1 ? chart([{ name: run.name, points: run.curve, colour: "var(--accent)" }], chartWidth(), 90, `Loss of ${run.name}`) : null);
  }

  showCompare() {
    if (!this.compare) return;
    const colours = ["#3d7bd9", "#e08a1e", "#2a9d6f", "#d1495b", "#8661c1", "#1f9fb3"];
    const chosen = this.runs.filter((r) => this.compared.has(r.name) && r.curve.length > 1);
    this.compare.hidden = chosen.length < 2;
    if (chosen.length < 2) return;
    const lines = chosen.map((r, i) => ({ name: r.name, points: r.curve, colour: colours[i % colours.length] ?? "" }));
    fill(this.compare, h("h2", {}, "Losses"), chart(lines, chartWidth(), 160, "Losses of the chosen runs"),
      h("p", { class: "legend" }, lines.map((l) => h("span", {}, h("i", { class: "dot", style: { background: l.colour } }), l.name))),
      button("review", "Review together", () => this.context.go("review", chosen.map((r) => r.name).join(","))));
  }

  /** @param {Run} run */
  async log(run) {
    const { text } = await ask(`/api/runs/${run.name}/log`);
    dialog(run.name, () => [
      run.commands.length ? h("div", {}, h("h3", {}, "The same by hand"), h("pre", {}, run.commands.join("\n"))) : null,
      h("h3", {}, "What its process says"), h("pre", { class: "log", tabindex: 0, role: "region", "aria-label": "Log" }, text || "Nothing."),
    ], { wide: true });
  }
}

/** As wide as there is room for, so that its letters are as large as others. */
function chartWidth() {
  return Math.min(860, Math.max(300, innerWidth - (innerWidth > 1000 ? 420 : 60)));
}

/**
 * A line chart.
 * @param {{ name: string, points: [number, number][], colour: string, dots?: boolean }[]} lines
 * @param {number} width
 * @param {number} height
 * @param {string} label
 * @param {{ low?: number, high?: number, left?: number, x?: string }} [options]
 */
export function chart(lines, width, height, label, options = {}) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("class", "chart");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const all = lines.flatMap((l) => l.points);
  const sorted = all.map((p) => p[1]).sort((a, b) => a - b);
  // the first steps of a training are far above the rest
  const high = options.high ?? Math.max((sorted[Math.floor(0.97 * sorted.length)] ?? 1) * 1.08, 1e-9);
  const low = options.low ?? Math.min(0, sorted[0] ?? 0);
  const left = options.left ?? Math.min(...all.map((p) => p[0]));
  const right = Math.max(...all.map((p) => p[0]));
  const inset = 38, bottom = 16;
  const x = (/** @type {number} */ v) => inset + ((v - left) / Math.max(1e-9, right - left)) * (width - inset - 8);
  const y = (/** @type {number} */ v) => 6 + (1 - (Math.min(v, high) - low) / (high - low)) * (height - bottom - 8);
  const add = (/** @type {string} */ tag, /** @type {Record<string, string | number>} */ attributes, text = "") => {
    const el = document.createElementNS(ns, tag);
    for (const [k, v] of Object.entries(attributes)) el.setAttribute(k, String(v));
    el.textContent = text;
    svg.append(el);
  };
  for (const v of [low, (low + high) / 2, high]) {
    add("line", { x1: inset, x2: width - 8, y1: y(v), y2: y(v), class: "grid" });
    add("text", { x: inset - 6, y: y(v) + 4, "text-anchor": "end" }, high > 10 ? v.toFixed(0) : v.toPrecision(2));
  }
  add("text", { x: inset, y: height - 3 }, String(left));
  add("text", { x: width - 8, y: height - 3, "text-anchor": "end" }, `${options.x ?? "step"} ${right}`);
  for (const line of lines) {
    const path = line.points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
    add("path", { d: path, fill: "none", stroke: line.colour.startsWith("var") ? "currentColor" : line.colour, "stroke-width": 1.6, "stroke-linejoin": "round" });
    if (line.dots) for (const [a, b] of line.points) add("circle", { cx: x(a).toFixed(1), cy: y(b).toFixed(1), r: 3.5, fill: line.colour.startsWith("var") ? "currentColor" : line.colour });
  }
  return svg;
}

customElements.define("wt-train", TrainPage);
