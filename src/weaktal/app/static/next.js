// What should be labelled next, why, and what labels have brought so far.

import { clock, count, dot, fill, h, icon } from "./lib.js";
import { chart } from "./train.js";
import { ask } from "./store.js";

/** @import { Context } from "./app.js" */
/**
 * @typedef {{ video: string, time: number | null, class: string | null, value: number, reason: string,
 *   reasons: Record<string, number> }} Moment
 * @typedef {{ run: string, method: string, labels: number, right: number, total: number }} Point
 */

const LEVEL = -2; // small pictures a quarter of a second apart

export class NextPage extends HTMLElement {
  /** @param {Context} context */
  constructor(context) {
    super();
    this.context = context;
    this.store = context.store;
    /** @type {string[] | null} */
    this.used = null;
  }

  connectedCallback() {
    this.className = "page next";
    this.list = h("section", { class: "panel moments", "aria-label": "What to label next" }, h("p", { class: "loading" }, "Looking…"));
    this.side = h("aside", { class: "panel curve", "aria-label": "What labels bring" });
    this.append(this.list, this.side);
    void this.load();
  }

  async load() {
    await this.store.saved();
    try {
      const found = await ask("/api/next" + (this.used ? `?runs=${encodeURIComponent(this.used.join(","))}` : ""));
      this.showMoments(found.moments, found.runs, found.used);
      this.showCurve(found.curve);
    } catch (error) {
      if (this.list) fill(this.list, h("p", { class: "empty" }, icon("warn"), error instanceof Error ? error.message : String(error)));
    }
  }

  /** @param {Moment[]} moments @param {string[]} runs @param {string[]} used */
  showMoments(moments, runs, used) {
    if (!this.list) return;
    const chips = runs.map((name) => {
      const on = used.includes(name);
      return h("button", { type: "button", class: "chip-button", "aria-pressed": String(on), on: { click: () => {
        this.used = on ? used.filter((n) => n !== name) : [...used, name];
        void this.load();
      } } }, name);
    });
    fill(this.list,
      h("header", { class: "moments-head" }, h("h1", {}, "What should I label next?"),
        h("p", { class: "hint" }, runs.length
          ? "Moments where a click helps most, by what these runs found; between them, whole videos drawn by lot, as runs cannot tell what they have not learnt:"
          : "Before the first run: videos drawn by lot."),
        h("div", { class: "run-choice", role: "group", "aria-label": "Runs" }, chips)),
      moments.length ? h("ol", {}, moments.map((m) => this.moment(m)))
        : h("div", { class: "empty" }, icon("check"), h("p", {}, "Nothing to suggest: every video is done.")));
  }

  /** @param {Moment} m */
  moment(m) {
    const time = m.time ?? 0;
    const picture = m.time === null ? `/api/thumbnails/13/0/${encodeURIComponent(m.video)}`
      : `/api/thumbnails/${LEVEL}/${Math.max(1, Math.floor(time / 2 ** LEVEL))}/${encodeURIComponent(m.video)}`;
    const also = Object.entries(m.reasons).filter(([k, v]) => k !== m.reason && v > 0.5).map(([k]) => k);
    return h("li", {}, h("a", { class: "moment", href: `#/annotate/${encodeURIComponent(m.video)}/${time.toFixed(3)}` },
      h("img", { class: "thumb large", src: picture, alt: "", loading: "lazy",
        on: { error: (/** @type {Event} */ e) => /** @type {HTMLElement} */ (e.target).classList.add("broken") } }),
      h("span", { class: "grow" },
        h("b", {}, m.video, h("span", { class: "times" }, m.time === null ? " whole" : ` ${clock(time, 1)}`)),
        h("span", { class: "why" }, m.class ? [dot(this.store.colour(m.class)), `${this.store.className(m.class)}? `] : null,
          h("span", { class: "chip work" }, m.reason), also.map((text) => h("span", { class: "chip" }, text)))),
      h("span", { class: "score", title: "how much a click here is worth" }, h("i", { style: { width: `${100 * m.value}%` } }), h("span", {}, m.value.toFixed(2)))));
  }

  /** @param {Point[]} curve */
  showCurve(curve) {
    if (!this.side) return;
    const usable = curve.filter((p) => p.total > 0);
    const points = /** @type {[number, number][]} */ (usable.map((p) => [p.labels, (100 * p.right) / p.total]));
    points.sort((a, b) => a[0] - b[0]);
    fill(this.side, h("h2", {}, "What labels bring"),
      points.length > 1 ? chart([{ name: "agreement", points, colour: "var(--accent)", dots: true }], 300, 180,
        "Agreement with clicks that runs have not seen, by the number of labels they were given", { low: 0, high: 100, left: 0, x: "labels" }) : null,
      usable.length ? h("table", {}, h("thead", {}, h("tr", {}, ["Run", "Labels", "Right"].map((t) => h("th", { scope: "col" }, t)))),
        h("tbody", {}, usable.map((p) => h("tr", {}, h("td", {}, p.run), h("td", {}, p.labels), h("td", {}, `${p.right} of ${p.total}`))))) : null,
      h("p", { class: "hint" }, usable.length
        ? `Of ${count(usable[0]?.total ?? 0, "click")} that a run was not trained on: over how many its surest detection is of the right class.`
        : "Hold some videos out in the library and click in them, too: the share of those clicks that a run gets right shows what more labels bring."));
  }
}

customElements.define("wt-next", NextPage);
