// Review: what runs have found, one after the other; accepted ones become segments, rejected ones negatives.

import { button, clock, count, dot, fill, freshId, h, icon, quiet, toast, VirtualList } from "./lib.js";
import { keyOf, typing } from "./keys.js";
import { Player } from "./player.js";
import { Timeline } from "./timeline.js";
import { ask } from "./store.js";

/** @import { Context } from "./app.js" */
/** @import { Mark } from "./types.js" */
/** @import { Run } from "./train.js" */
/**
 * @typedef {{
 *   id: string, video: string, class: string, start: number, end: number, score: number, raw: number, run: string,
 *   agree: string[], status: "open" | "click" | "accepted" | "rejected", doubt: number, absent: boolean
 * }} Found
 */

const AROUND = 2; // seconds that are shown before and after
const CANDIDATE = "candidate";
const STATUS = { open: "open", click: "clicked", accepted: "accepted", rejected: "rejected" };

export class ReviewPage extends HTMLElement {
  /** @param {Context} context */
  constructor(context) {
    super();
    this.context = context;
    this.store = context.store;
    this.player = new Player();
    this.timeline = new Timeline();
    this.timeline.compact = true;
    /** @type {Run[]} */
    this.available = [];
    /** @type {string[]} */
    this.runs = [];
    /** @type {Found[]} */
    this.rows = [];
    /** @type {Found[]} */
    this.shown = [];
    /** Best certainty over each click, rising. @type {number[]} */
    this.clicks = [];
    this.filter = { least: 0.3, class: "", video: "", status: "todo", agree: "", sort: "sure" };
    /** @type {Found | null} */
    this.current = null;
    /** Borders that were dragged before a decision. @type {{ start: number, end: number } | null} */
    this.borders = null;
    this.video = "";
    /** @type {number | null} */
    this.stopAt = null;
    this.turn = 0;
    /** @type {(() => void)[]} */
    this.ends = [];
  }

  connectedCallback() {
    this.className = "page review";
    this.build();
    const { player, timeline } = this;
    player.addEventListener("frame", () => {
      timeline.time = player.time;
      if (this.stopAt !== null && player.playing && player.time >= this.stopAt - 1e-3) {
        player.stop();
        this.stopAt = null;
      }
      timeline.paint();
      if (this.clock) this.clock.textContent = clock(player.time, 2);
    });
    player.addEventListener("state", () => { this.dataset.playing = String(player.playing); });
    timeline.addEventListener("seek", (e) => player.seek(/** @type {CustomEvent} */ (e).detail));
    timeline.addEventListener("preview", (e) => player.seek(/** @type {CustomEvent} */ (e).detail));
    timeline.addEventListener("adjust", (e) => this.adjust(/** @type {CustomEvent} */ (e).detail));
    timeline.snap = (seconds) => player.snap(seconds);
    const press = (/** @type {KeyboardEvent} */ e) => this.press(e);
    addEventListener("keydown", press, true);
    const later = quiet(() => this.refresh(), 50);
    this.ends.push(() => removeEventListener("keydown", press, true),
      this.store.on("video", () => this.showMarks()), this.store.on("classes", later),
      this.store.on("back", () => void this.load(this.runs)),
      this.context.keys.bind(this.bindings()));
  }

  disconnectedCallback() {
    for (const end of this.ends.splice(0)) end();
    this.player.unload();
    this.store.close();
  }

  build() {
    this.runBox = h("div", { class: "run-choice", role: "group", "aria-label": "Runs" });
    const select = (/** @type {string} */ label, /** @type {[string, string][]} */ options, /** @type {"class" | "video" | "status" | "agree" | "sort"} */ key) => {
      const el = h("select", { "aria-label": label, on: { change: () => { this.filter[key] = el.value; this.refresh(); } } },
        options.map(([value, text]) => h("option", { value }, text)));
      el.value = this.filter[key];
      return el;
    };
    this.classSelect = select("Class", [["", "Any class"]], "class");
    this.videoSelect = select("Video", [["", "Any video"]], "video");
    this.agreeSelect = select("Agreement", [["", "Any agreement"], ["all", "All runs agree"], ["some", "Runs differ"]], "agree");
    this.least = h("input", { type: "range", min: 0, max: 1, step: 0.01, value: this.filter.least, "aria-label": "Least score",
      on: { input: () => { this.filter.least = Number(this.least?.value ?? 0); this.refresh(); } } });
    this.leastText = h("output", {}, "");
    this.effect = h("p", { class: "hint effect" });
    this.meter = h("span", { class: "meter" }, h("i"));
    this.progress = h("p", { class: "hint" });
    this.listBox = h("div", { class: "found-list", role: "list", "aria-label": "Detections" });
    this.virtual = new VirtualList(this.listBox, 46, (i) => this.row(i));
    this.stage = h("div", { class: "stage", on: { click: () => this.player.toggle() } }, this.player.video);
    this.title_ = h("div", { class: "candidate-head" });
    this.clock = h("output", { class: "clock" });
    this.actions = h("div", { class: "candidate-actions" });
    this.announce = h("div", { class: "visually-hidden", role: "status", "aria-live": "polite" });
    this.append(
      h("aside", { class: "panel found", "aria-label": "Detections" },
        h("div", { class: "found-filter" }, this.runBox,
          h("div", { class: "filter-row" }, this.classSelect, this.videoSelect),
          h("div", { class: "filter-row" },
            select("State", [["todo", "To review"], ["all", "All"], ["accepted", "Accepted"], ["rejected", "Rejected"]], "status"),
            select("Order", [["sure", "Surest first"], ["doubt", "Most doubtful first"], ["time", "By video and time"]], "sort")),
          h("div", { class: "filter-row agree-row" }, this.agreeSelect),
          h("label", { class: "threshold" }, "Score from", this.least, this.leastText), this.effect,
          h("div", { class: "progress-row" }, this.meter, this.progress)),
        this.listBox),
      h("section", { class: "center", "aria-label": "Player" }, this.title_, this.stage, this.actions),
      h("section", { class: "panel time-panel", "aria-label": "Timeline" }, this.timeline), this.announce);
  }

  /** @param {string} rest names of runs, with commas */
  show(rest) {
    void this.load(rest.split(",").filter(Boolean));
  }

  /** @param {string[]} wanted */
  async load(wanted) {
    const turn = ++this.turn;
    await this.store.saved();
    try {
      const { runs } = await ask("/api/runs");
      if (turn !== this.turn) return; // it is loaded again already
      this.available = /** @type {Run[]} */ (runs).filter((r) => r.detections);
      const names = this.available.map((r) => r.name);
      const chosen = (wanted.length ? wanted : names.slice(-1)).filter((n) => names.includes(n));
      this.runs = chosen;
      this.showRuns();
      if (!chosen.length) {
        this.rows = [];
        this.refresh();
        if (this.listBox && !this.listBox.querySelector(".empty"))
          this.listBox.append(h("div", { class: "empty" }, icon("review"), h("p", {}, "Nothing to review yet."),
            h("p", { class: "hint" }, "Train a run first: what it finds is shown here.")));
        return;
      }
      let found;
      do {
        await this.store.saved();
        found = await this.store.newest(`/api/review?runs=${encodeURIComponent(chosen.join(","))}`);
        if (turn !== this.turn) return;
      } while (this.store.queue.length); // something was decided meanwhile
      this.rows = found.rows;
      this.clicks = found.clicks;
      if (found.foreign.length)
        toast(`Classes of these runs that the project does not have: ${found.foreign.join(", ")}.`, { kind: "warn" });
      this.fillSelects();
      const { current } = this;
      if (current) this.current = this.rows.find((r) => r.id === current.id) ?? null;
      this.refresh();
      if (!this.current || !this.shown.includes(this.current)) this.choose(this.shown[0] ?? null);
    } catch (error) {
      toast(error instanceof Error ? error.message : String(error), { kind: "error" });
    }
  }

  showRuns() {
    if (!this.runBox) return;
    fill(this.runBox, this.available.map((r) => {
      const on = this.runs.includes(r.name);
      return h("button", { type: "button", class: "chip-button", "aria-pressed": String(on), on: { click: () => {
        const next = on ? this.runs.filter((n) => n !== r.name) : [...this.runs, r.name];
        if (next.length) this.context.go("review", next.join(","));
      } } }, r.name);
    }));
    if (this.agreeSelect?.parentElement) this.agreeSelect.parentElement.hidden = this.runs.length < 2;
  }

  fillSelects() {
    const videos = [...new Set(this.rows.map((r) => r.video))].sort();
    if (this.classSelect) {
      fill(this.classSelect, h("option", { value: "" }, "Any class"), this.store.classList().map((c) => h("option", { value: c.id }, c.name)));
      this.classSelect.value = this.filter.class;
    }
    if (this.videoSelect) {
      fill(this.videoSelect, h("option", { value: "" }, "Any video"), videos.map((v) => h("option", { value: v }, v)));
      this.videoSelect.value = this.filter.video;
    }
  }

  /** Whether the score and the other filters but the state let a detection through. @param {Found} r */
  passes(r) {
    const f = this.filter;
    if (r.score < f.least || (f.class && r.class !== f.class) || (f.video && r.video !== f.video)) return false;
    if (f.agree && this.runs.length > 1 && (f.agree === "all") !== (r.agree.length === this.runs.length)) return false;
    return true;
  }

  refresh() {
    const f = this.filter;
    const passing = this.rows.filter((r) => this.passes(r));
    const todo = (/** @type {Found} */ r) => r.status === "open" || r.status === "click";
    this.shown = passing.filter((r) => f.status === "all" || (f.status === "todo" ? todo(r) || r === this.current : r.status === f.status));
    if (f.sort === "doubt") this.shown.sort((a, b) => b.doubt - a.doubt || b.score - a.score);
    else if (f.sort === "time") this.shown.sort((a, b) => (a.video < b.video ? -1 : a.video > b.video ? 1 : a.start - b.start));
    else this.shown.sort((a, b) => b.score - a.score);
    this.listBox?.querySelector(".empty")?.remove();
    this.virtual?.reset(this.shown.length);
    if (!this.shown.length && this.rows.length)
      this.listBox?.append(h("div", { class: "empty" }, icon("check"), h("p", {}, "Nothing left here."), h("p", { class: "hint" }, "Lower the score, or train again with what you have.")));
    if (this.leastText) this.leastText.textContent = f.least.toFixed(2);
    const judged = passing.filter((r) => !todo(r)).length;
    const covered = this.clicks.filter((p) => p >= f.least).length;
    if (this.effect)
      this.effect.textContent = `${count(passing.length, "detection")} in ${count(new Set(passing.map((r) => r.video)).size, "video")}`
        + (this.clicks.length ? `; over ${covered} of ${count(this.clicks.length, "click")}` : "");
    if (this.progress) this.progress.textContent = `${judged} of ${passing.length} reviewed`;
    /** @type {HTMLElement | null} */ (this.meter?.firstElementChild ?? null)?.style.setProperty("width", `${passing.length ? (100 * judged) / passing.length : 0}%`);
    this.showCandidate();
  }

  /** @param {number} index */
  row(index) {
    const r = /** @type {Found} */ (this.shown[index]);
    return h("div", { role: "listitem", class: "found-row" },
      h("button", { type: "button", "aria-current": r === this.current ? "true" : null, on: { click: () => this.choose(r) },
        "aria-label": `${this.store.className(r.class)} in ${r.video} at ${clock(r.start, 1)}, score ${r.score.toFixed(2)}, ${STATUS[r.status]}` },
        dot(this.store.colour(r.class)),
        h("span", { class: "grow" }, h("b", {}, this.store.className(r.class)),
          h("small", {}, `${r.video} · ${clock(r.start, 1)}–${clock(r.end, 1)}`)),
        this.runs.length > 1 ? h("span", { class: "hint" }, `${r.agree.length}/${this.runs.length}`) : null,
        r.status === "accepted" ? h("span", { class: "yes" }, icon("check")) : r.status === "rejected" ? h("span", { class: "no" }, icon("close"))
          : r.absent ? h("span", { class: "trouble", title: "tagged as not occurring" }, icon("warn")) : null,
        h("span", { class: "score", title: `score ${r.raw}` }, h("i", { style: { width: `${100 * r.score}%` } }), h("span", {}, r.score.toFixed(2)))));
  }

  // ---- one detection

  /** @param {Found | null} found */
  choose(found) {
    const before = this.current;
    this.current = found;
    this.borders = null;
    this.stopAt = null;
    for (const r of [before, found]) {
      const at = r ? this.shown.indexOf(r) : -1;
      if (at >= 0) this.virtual?.refresh(at);
    }
    const at = found ? this.shown.indexOf(found) : -1;
    if (at >= 0) this.virtual?.reveal(at);
    this.showCandidate();
    this.showMarks(); // at once: until the next video is open, the last candidate's borders must not be there to drag
    if (found) void this.goto(found);
  }

  /** @param {Found} found */
  async goto(found) {
    if (this.video !== found.video) {
      this.video = found.video;
      try {
        const open = await this.store.open(found.video);
        if (!open || this.video !== found.video) return;
        const { media } = open;
        const duration = this.store.rows.get(found.video)?.duration ?? found.end;
        this.timeline.open(found.video, duration, media.error ? "" : media.stamp, media.width / media.height);
        this.stage?.style.setProperty("--aspect", String(media.width && media.height ? media.width / media.height : 16 / 9));
        const found_ = await ask(`/api/found/${encodeURIComponent(found.video)}?runs=${encodeURIComponent(this.runs.join(","))}`);
        if (this.video !== found.video) return;
        const detections = found_.runs.flatMap((/** @type {any} */ r) => r.detections);
        detections.sort((/** @type {any} */ a, /** @type {any} */ b) => a.start - b.start);
        const curves = found_.runs.filter((/** @type {any} */ r) => r.activation).map((/** @type {any} */ r) => ({ run: r.run, ...r.activation }));
        this.timeline.setRuns(detections, this.runs, curves);
        if (media.playable || media.proxy.state === "ready") {
          await this.player.load(found.video, media.stamp + media.proxy.state, duration);
          if (this.player.duration) this.timeline.setDuration(this.player.duration);
        } else this.player.unload();
      } catch (error) {
        toast(error instanceof Error ? error.message : String(error), { kind: "error" });
        return;
      }
    }
    if (this.current !== found) return;
    const margin = Math.max(AROUND, found.end - found.start);
    this.timeline.setView(found.start - margin, found.end + margin);
    this.showMarks();
    this.playExactly();
  }

  showMarks() {
    if (!this.store.video || this.store.video.name !== this.video) return;
    const marks = this.store.marks();
    const found = this.current;
    if (found && found.video === this.video && (found.status === "open" || found.status === "click")) {
      const span = this.borders ?? found;
      marks.push({ key: CANDIDATE, kind: "segment", class: found.class, start: span.start, end: span.end, note: "", origin: null });
      marks.sort((a, b) => a.start - b.start);
    }
    this.timeline.selected = CANDIDATE;
    this.timeline.setMarks(/** @type {Mark[]} */ (marks), this.store.classList());
  }

  showCandidate() {
    const r = this.current;
    if (!this.title_ || !this.actions) return;
    if (!r) {
      fill(this.title_);
      fill(this.actions);
      return;
    }
    const span = this.borders ?? r;
    fill(this.title_, dot(this.store.colour(r.class)), h("h1", {}, this.store.className(r.class)),
      h("span", { class: "hint" }, `${r.video} · ${clock(span.start, 2)}–${clock(span.end, 2)} · score ${r.score.toFixed(2)}`
        + (this.runs.length > 1 ? ` · found by ${r.agree.join(", ")}` : ` · ${r.run}`)),
      r.status === "open" ? null : h("span", { class: `chip ${r.status === "accepted" ? "done" : r.status === "rejected" ? "failed" : "work"}` }, STATUS[r.status]),
      r.absent ? h("span", { class: "chip warn" }, "tagged as not occurring") : null);
    fill(this.actions,
      button("play", "Play", () => this.playExactly(), { keys: "Space" }),
      button("film", "With before and after", () => this.playAround(), { keys: "Shift+Space" }), this.clock ?? null,
      h("span", { class: "spacer" }),
      button("close", "Reject", () => this.reject(), { kind: "danger", keys: "Delete" }),
      button("check", "Accept", () => this.accept(r.class), { kind: "primary", keys: "Enter" }));
  }

  playExactly() {
    const span = this.borders ?? this.current;
    if (span) this.playSpan(span.start, span.end);
  }

  playAround() {
    const span = this.borders ?? this.current;
    if (span) this.playSpan(Math.max(0, span.start - AROUND), span.end + AROUND);
  }

  /** @param {number} start @param {number} end */
  playSpan(start, end) {
    this.stopAt = null;
    this.player.seek(start);
    this.player.play();
    this.stopAt = end;
  }

  /** @param {{ key: string, fields: Record<string, number> }} moved */
  adjust({ key, fields }) {
    if (key !== CANDIDATE) {
      this.store.edit("move border", [{ key, set: fields }]);
      return;
    }
    this.borders = { start: fields.start ?? 0, end: fields.end ?? 0 };
    this.showMarks();
    this.showCandidate();
  }

  /** @param {"start" | "end"} border @param {number} frames */
  nudge(border, frames) {
    const r = this.current;
    const t = this.player.frames;
    if (!r || !t) return;
    const span = { ...(this.borders ?? { start: r.start, end: r.end }) };
    const to = t[Math.max(0, Math.min(t.length - 1, this.player.nearest(span[border]) + frames))] ?? span[border];
    span[border] = border === "start" ? Math.min(to, span.end) : Math.max(to, span.start);
    this.borders = span;
    this.player.stop();
    this.player.seek(to);
    this.showMarks();
    this.showCandidate();
  }

  /** @param {string} id the class that it is */
  accept(id) {
    const r = this.current;
    if (!r || r.status === "accepted" || r.status === "rejected") return;
    const span = this.borders ?? r;
    const origin = { run: r.run, score: r.raw, start: r.start, end: r.end };
    const changes = [{ key: `segment/${freshId()}`, set: { video: r.video, class: id, start: span.start, end: span.end, note: "", origin } }];
    if (id !== r.class) // it is not what the run took it for
      changes.push({ key: `negative/${freshId()}`, set: /** @type {any} */ ({ video: r.video, class: r.class, start: r.start, end: r.end, origin }) });
    this.store.edit(`accept ${this.store.className(id)}`, changes);
    this.decided(r, id === r.class ? "accepted" : "rejected", `Accepted as ${this.store.className(id)}`);
  }

  reject() {
    const r = this.current;
    if (!r || r.status === "accepted" || r.status === "rejected") return;
    const origin = { run: r.run, score: r.raw };
    this.store.edit(`reject ${this.store.className(r.class)}`, [{ key: `negative/${freshId()}`,
      set: { video: r.video, class: r.class, start: r.start, end: r.end, origin } }]);
    this.decided(r, "rejected", "Rejected");
  }

  /** @param {Found} r @param {"accepted" | "rejected"} status @param {string} text */
  decided(r, status, text) {
    const at = this.shown.indexOf(r);
    r.status = status;
    if (this.announce) this.announce.textContent = text;
    this.current = null;
    this.refresh();
    const next = this.filter.status === "todo" ? this.shown[at] ?? this.shown.at(-1) : this.shown[at + 1];
    this.choose(next ?? null);
    if (!next) toast("All of these are reviewed.");
  }

  /** @param {number} step */
  move(step) {
    const at = this.current ? this.shown.indexOf(this.current) : -1;
    const next = this.shown[Math.max(0, Math.min(this.shown.length - 1, at + step))];
    if (next && next !== this.current) this.choose(next);
  }

  /** A class key accepts as that class. @param {KeyboardEvent} event */
  press(event) {
    if (typing(event) || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || !this.current) return;
    const key = keyOf(event);
    const found = key.length === 1 ? this.store.classList().find((c) => c.key === key) : undefined;
    if (!found) return;
    event.preventDefault();
    event.stopPropagation();
    if (!event.repeat) this.accept(found.id);
  }

  /** @returns {import("./keys.js").Binding[]} */
  bindings() {
    const { player } = this;
    const group = "Review";
    return [
      { keys: "Enter", text: "Accept: it becomes a segment", group, call: () => this.current && this.accept(this.current.class) },
      { keys: "Delete Backspace", text: "Reject: it becomes a negative", group, call: () => this.reject() },
      { keys: "class-key", text: "Accept as that class", group, call: () => undefined },
      { keys: "ArrowDown PageDown", text: "Next detection", group, repeat: true, call: () => this.move(1) },
      { keys: "ArrowUp PageUp", text: "Previous detection", group, repeat: true, call: () => this.move(-1) },
      { keys: "Space", text: "Play exactly the segment", group, call: () => (player.playing ? player.stop() : this.playExactly()) },
      { keys: "Shift+Space", text: "Play with two seconds before and after", group, call: () => this.playAround() },
      { keys: "ArrowLeft", text: "A picture back", group, repeat: true, call: () => player.step(-1) },
      { keys: "ArrowRight", text: "A picture forward", group, repeat: true, call: () => player.step(1) },
      { keys: "[", text: "Its start a picture earlier", group, repeat: true, call: () => this.nudge("start", -1) },
      { keys: "]", text: "… later", group, repeat: true, call: () => this.nudge("start", 1) },
      { keys: "Shift+[", text: "Its end a picture earlier", group, repeat: true, call: () => this.nudge("end", -1) },
      { keys: "Shift+]", text: "… later", group, repeat: true, call: () => this.nudge("end", 1) },
    ];
  }
}

customElements.define("wt-review", ReviewPage);
