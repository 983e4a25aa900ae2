// Annotating a video: watch, press a key when it happens, put right what is not.

import { button, clock, count, dot, field, fill, h, icon, toast, VirtualList, freshId } from "./lib.js";
import { keyOf, typing } from "./keys.js";
import { classForm, editClass } from "./library.js";
import { Player } from "./player.js";
import { Timeline } from "./timeline.js";
import { ask } from "./store.js";

/** @import { Context } from "./app.js" */
/** @import { Mark, ProxyState, Row } from "./types.js" */

const HOLD = 350; // milliseconds from which on a key is held rather than pressed
const RATES = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4];

export class AnnotatePage extends HTMLElement {
  /** @param {Context} context */
  constructor(context) {
    super();
    this.context = context;
    this.store = context.store;
    this.player = new Player();
    this.timeline = new Timeline();
    this.name = "";
    this.run = sessionStorage.getItem("weaktal-run") ?? "";
    /** @type {string | null} */
    this.selected = null;
    /** @type {Mark[]} */
    this.marks = [];
    /** @type {Row[]} */
    this.list = [];
    /** The class key that is down. @type {{ code: string, class: string, time: number, since: number } | null} */
    this.held = null;
    /** @type {(() => void)[]} */
    this.ends = [];
  }

  connectedCallback() {
    this.className = "page annotate";
    this.build();
    const { player, timeline, store } = this;
    player.addEventListener("frame", () => this.showTime());
    player.addEventListener("state", () => this.showTransport());
    player.addEventListener("trouble", () => void this.trouble());
    timeline.addEventListener("seek", (e) => player.seek(/** @type {CustomEvent} */ (e).detail));
    timeline.addEventListener("preview", (e) => player.seek(/** @type {CustomEvent} */ (e).detail));
    timeline.addEventListener("pick", (e) => this.select(/** @type {CustomEvent} */ (e).detail));
    timeline.addEventListener("loop", (e) => { this.select(/** @type {CustomEvent} */ (e).detail); this.loop(); });
    timeline.addEventListener("adjust", (e) => {
      const { key, fields } = /** @type {CustomEvent} */ (e).detail;
      this.store.edit(key.startsWith("click") ? "move click" : "move border", [{ key, set: fields }]);
    });
    timeline.snap = (seconds) => player.snap(seconds);
    const up = (/** @type {KeyboardEvent} */ e) => this.release(e);
    const away = () => { this.held = null; timeline.ghost = null; timeline.paint(); };
    addEventListener("keyup", up);
    addEventListener("blur", away);
    this.ends.push(
      () => removeEventListener("keyup", up), () => removeEventListener("blur", away),
      store.on("video", () => this.refresh()),
      store.on("classes", () => { this.showClasses(); this.refresh(); }),
      store.on("rows", () => this.showList()),
      store.on("proxy", (state) => this.proxy(state)),
      store.on("reconnect", () => this.askAgain()),
      this.context.keys.bind(this.bindings()),
    );
    const press = (/** @type {KeyboardEvent} */ e) => this.press(e);
    addEventListener("keydown", press, true);
    this.ends.push(() => removeEventListener("keydown", press, true));
    this.showClasses();
    this.showList();
    this.showTransport();
    void this.loadRuns().then(() => (this.name ? this.showRun() : undefined)).catch(() => undefined);
  }

  disconnectedCallback() {
    for (const end of this.ends.splice(0)) end();
    this.player.unload();
    this.store.close();
  }

  build() {
    this.videoList = h("div", { class: "video-list" });
    this.stage = h("div", { class: "stage" }, this.player.video);
    this.overlay = h("div", { class: "stage-overlay", hidden: true });
    this.flash = h("div", { class: "flash", "aria-hidden": "true" });
    this.stage.append(this.overlay, this.flash);
    this.stage.addEventListener("click", () => this.player.toggle());
    this.clock = h("output", { class: "clock", "aria-label": "Time" });
    this.frameNo = h("output", { class: "frame-no", "aria-label": "Picture" });
    this.transport = h("div", { class: "transport", role: "toolbar", "aria-label": "Player" });
    this.heading = h("h1", {}, "");
    this.runSelect = h("select", { "aria-label": "Activation and detections of a run", class: "run-select", hidden: true, on: { change: () => {
      this.run = this.runSelect?.value ?? "";
      sessionStorage.setItem("weaktal-run", this.run);
      void this.showRun();
    } } });
    this.classList_ = h("ul", { class: "class-list" });
    this.nothing = h("button", { type: "button", class: "nothing", "aria-pressed": "false",
      on: { click: () => this.toggleNothing() } }, h("kbd", {}, "0"), "Nothing occurs in this video");
    this.classBox = h("section", { class: "class-box", "aria-label": "Classes" }, this.classList_,
      classForm(this.store, () => this.focus()), this.nothing);
    this.detail = h("section", { class: "detail", "aria-label": "Selected label" });
    this.labelsHead = h("h2", {}, "Labels");
    this.labelList = h("div", { class: "label-list", role: "list", "aria-label": "Labels of this video" });
    this.finish = h("div", { class: "finish" });
    this.announce = h("div", { class: "visually-hidden", role: "status", "aria-live": "polite" });
    this.note = h("textarea", { rows: 2, placeholder: "Note on this video", "aria-label": "Note on this video",
      on: { change: () => this.setVideo("note", { note: this.note?.value ?? "" }) } });
    this.append(
      h("aside", { class: "panel side-list", "aria-label": "Videos" }, this.videoList),
      h("section", { class: "center", "aria-label": "Player" },
        h("div", { class: "video-head" },
          button("stepback", "Previous video", () => this.neighbour(-1), { bare: true, keys: "Shift+Enter" }),
          this.heading, button("step", "Next video", () => this.neighbour(1), { bare: true, keys: "Enter" })),
        this.stage, this.transport),
      h("aside", { class: "panel tools", "aria-label": "Labels" }, this.classBox, this.detail,
        h("section", { class: "labels" }, this.labelsHead, this.labelList), this.note, this.finish),
      h("section", { class: "panel time-panel", "aria-label": "Timeline" }, this.timeline), this.announce);
    this.videos = new VirtualList(this.videoList, 44, (i) => this.videoRow(i));
    this.labels = new VirtualList(this.labelList, 30, (i) => this.labelRow(i));
  }

  // ---- which video

  /** @param {string} name @param {string} time where to begin, seconds */
  show(name, time) {
    if (!name) {
      const first = [...this.store.rows.values()].find((r) => r.state !== "done") ?? [...this.store.rows.values()][0];
      if (first) this.context.go("annotate", first.name);
      else this.empty("No videos yet. Add some in the library.");
      return;
    }
    const start = Number(time) || 0;
    if (name !== this.name) void this.open(name, start);
    else if (start) this.player.seek(start);
  }

  /** @param {string} name @param {number} start seconds */
  async open(name, start) {
    this.name = name;
    this.selected = null;
    this.held = null;
    this.marks = [];
    this.store.close(); // keys are about this video from now on
    this.player.unload(); // and no picture of the last one stands under its name
    if (this.heading) this.heading.textContent = name;
    try {
      const video = await this.store.open(name);
      if (!video || this.name !== name) return;
      const row = this.store.rows.get(name);
      const { media } = video;
      if (this.stage) this.stage.style.setProperty("--aspect", String(media.width && media.height ? media.width / media.height : 16 / 9));
      this.timeline.open(name, row?.duration ?? 1, media.error ? "" : media.stamp, media.width / media.height);
      if (this.overlay) this.overlay.hidden = true;
      if (media.error) this.empty(`${media.error}\n${media.path}`);
      else if (media.playable || media.proxy.state === "ready")
        void this.player.load(name, media.stamp + media.proxy.state, row?.duration ?? null).then(() => {
          if (this.player.duration > 0) this.timeline.setDuration(this.player.duration);
          if (start) this.player.seek(start);
          this.timeline.paint();
        });
      else {
        this.player.unload();
        await this.askProxy();
      }
      if (row?.trouble && !media.error)
        toast(row.trouble, { kind: "warn", stay: true, action: "It is right", call: () => void this.accept(name) });
      if (this.note) this.note.value = row?.note ?? "";
      this.refresh();
      void this.showRun();
      this.showList();
      const at = this.list.findIndex((r) => r.name === name);
      if (at >= 0) this.videos?.reveal(at);
    } catch (error) {
      this.empty(error instanceof Error ? error.message : String(error));
    }
  }

  /** @param {string} name */
  async accept(name) {
    await ask(`/api/accept/${encodeURIComponent(name)}`, {}).catch((e) => toast(e.message, { kind: "error" }));
  }

  /** @param {string} text */
  empty(text) {
    this.player.unload();
    if (!this.overlay) return;
    this.overlay.hidden = false;
    fill(this.overlay, icon("film"), text.split("\n").map((line) => h("p", {}, line)));
  }

  /** @param {number} step */
  neighbour(step) {
    const at = this.list.findIndex((r) => r.name === this.name);
    const next = this.list[at + step];
    if (next) this.context.go("annotate", next.name);
    else toast(step > 0 ? "This is the last video." : "This is the first video.");
  }

  // ---- videos that the browser cannot play

  async trouble() {
    if (!this.name || !this.player.video.error || !this.player.video.getAttribute("src")) return;
    await this.askProxy();
  }

  async askProxy() {
    const name = this.name;
    try {
      const state = await ask(`/api/proxies/${encodeURIComponent(name)}`, {});
      this.proxy({ video: name, ...state });
    } catch (error) {
      this.empty(error instanceof Error ? error.message : String(error));
    }
  }

  /** Whether the copy that was waited for has been made meanwhile; a new server makes it anew. */
  askAgain() {
    const open = this.store.video;
    if (open && !open.media.error && this.overlay && !this.overlay.hidden) void this.askProxy();
  }

  /** @param {ProxyState & { video: string }} state */
  proxy(state) {
    if (!this.store.isNewest(`proxy/${state.video}`, state.stamp) || state.video !== this.name || !this.overlay) return;
    if (state.state === "ready") {
      this.overlay.hidden = true;
      const open = this.store.video;
      void this.player.load(this.name, (open?.media.stamp ?? "") + "ready", this.store.rows.get(this.name)?.duration ?? null);
      return;
    }
    this.overlay.hidden = false;
    const texts = { none: "", waiting: "Waiting for other videos…", failed: `No copy could be made: ${state.error}`,
      making: "The browser cannot play this video as it is. A copy that it can play is being made, with the same pictures at the same times." };
    const bar = h("progress", { max: 1, value: state.share ?? 0, "aria-label": "Copy that is being made" });
    fill(this.overlay, icon("film"), h("p", {}, texts[state.state]), state.state === "making" ? bar : null);
  }

  // ---- what a run thinks

  async loadRuns() {
    const { runs } = await ask("/api/runs");
    const names = runs.filter((/** @type {any} */ r) => r.detections).map((/** @type {any} */ r) => r.name);
    if (!this.runSelect) return;
    this.runSelect.hidden = !names.length;
    fill(this.runSelect, h("option", { value: "" }, "No run"), names.map((/** @type {string} */ n) => h("option", { value: n }, n)));
    this.runSelect.value = names.includes(this.run) ? this.run : "";
    this.run = this.runSelect.value;
  }

  async showRun() {
    const { name, run } = this;
    if (!run) {
      this.timeline.setRuns([], [], []);
      return;
    }
    try {
      const found = await ask(`/api/found/${encodeURIComponent(name)}?runs=${encodeURIComponent(run)}`);
      if (this.name !== name || this.run !== run) return;
      const [each] = found.runs;
      each.detections.sort((/** @type {any} */ a, /** @type {any} */ b) => a.start - b.start);
      this.timeline.setRuns(each.detections, [run], each.activation ? [{ run, ...each.activation }] : []);
    } catch (error) {
      toast(error instanceof Error ? error.message : String(error), { kind: "error" });
    }
  }

  // ---- lists

  showList() {
    const names = new Intl.Collator("en", { numeric: true });
    this.list = [...this.store.rows.values()].sort((a, b) => names.compare(a.name, b.name));
    if (!this.videos) return;
    if (this.videos.length !== this.list.length) this.videos.reset(this.list.length);
    else for (const i of [...this.videos.shown.keys()]) this.videos.refresh(i);
    this.showFinish();
  }

  /** @param {number} index */
  videoRow(index) {
    const row = /** @type {Row} */ (this.list[index]);
    return h("a", { class: "video-row", href: `#/annotate/${encodeURIComponent(row.name)}`,
      "aria-current": row.name === this.name ? "true" : null, title: row.name },
      h("img", { class: "thumb", src: `/api/thumbnails/13/0/${encodeURIComponent(row.name)}`, alt: "", loading: "lazy",
        on: { error: (/** @type {Event} */ e) => /** @type {HTMLElement} */ (e.target).classList.add("broken") } }),
      h("span", { class: "grow" }, row.name,
        h("small", {}, row.duration === null ? "" : clock(row.duration), row.clicks ? ` · ${count(row.clicks, "click")}` : "",
          row.segments ? ` · ${count(row.segments, "segment")}` : "")),
      h("i", { class: `state ${row.state}`, role: "img", "aria-label": { untouched: "untouched", work: "in work", done: "done" }[row.state] }));
  }

  /** @param {number} index */
  labelRow(index) {
    const mark = /** @type {Mark} */ (this.marks[index]);
    const name = this.store.className(mark.class);
    const kind = { click: "", segment: "", negative: "not " }[mark.kind];
    return h("div", { class: "label-row", role: "listitem" },
      h("button", { type: "button", class: "label-button", "aria-current": mark.key === this.selected ? "true" : null,
        "aria-label": `${mark.kind} ${name} at ${clock(mark.start, 2)}`,
        on: { click: () => { this.select(mark.key); this.player.seek(mark.start); } } },
        h("i", { class: `mark ${mark.kind}`, style: { "--c": this.store.colour(mark.class) }, "aria-hidden": "true" }),
        h("span", { class: "grow" }, kind + name, mark.note ? h("span", { class: "hint" }, ` ${mark.note}`) : null),
        h("span", { class: "times" }, clock(mark.start, 2), mark.end > mark.start ? `–${clock(mark.end, 2)}` : "")));
  }

  refresh() {
    if (!this.store.video || this.store.video.name !== this.name) return;
    this.marks = this.store.marks();
    if (this.selected && !this.marks.some((m) => m.key === this.selected)) this.selected = null;
    this.timeline.selected = this.selected;
    const ignored = [];
    for (const [key, r] of this.store.video.records) if (key.startsWith("ignored/")) ignored.push({ start: r.start, end: r.end });
    this.timeline.ignored = ignored;
    this.timeline.setMarks(this.marks, this.store.classList());
    this.labels?.reset(this.marks.length);
    if (this.labelsHead) {
      const clicks = this.marks.filter((m) => m.kind === "click").length;
      const segments = this.marks.filter((m) => m.kind === "segment").length;
      fill(this.labelsHead, "Labels", h("span", { class: "hint" }, ` ${count(clicks, "click")}, ${count(segments, "segment")}`));
    }
    this.showClasses();
    this.showDetail();
    this.showFinish();
  }

  // ---- classes and tags

  /** The tag of a class in this video. @param {string} id @returns {"occurs" | "absent" | null} */
  tag(id) {
    return this.store.video?.records.get(`tag/${id}/${this.name}`)?.value ?? null;
  }

  showClasses() {
    if (!this.classBox || !this.classList_) return;
    const counts = new Map();
    for (const m of this.marks) if (m.kind !== "negative") counts.set(m.class, (counts.get(m.class) ?? 0) + 1);
    const nothing = Boolean(this.store.video?.records.get(`video/${this.name}`)?.nothing);
    const focus = document.activeElement instanceof HTMLElement && this.classBox.contains(document.activeElement)
      ? document.activeElement.getAttribute("aria-label")?.split(/[:,]/)[0] : null;
    fill(this.classList_, this.store.classList().map((c) => {
        const tag = this.tag(c.id);
        const implied = counts.get(c.id) && !tag;
        const text = tag === "occurs" ? "occurs" : tag === "absent" ? "does not occur" : implied ? "occurs, by its labels" : "no tag";
        return h("li", {},
          h("button", { type: "button", class: "class-row", title: `Click here: ${c.name}${c.description ? "\n" + c.description : ""}`,
            "aria-label": `Drop a click of ${c.name}${c.key ? `, key ${c.key}` : ""}`,
            on: { click: (/** @type {MouseEvent} */ e) => (e.altKey ? editClass(this.context, c) : this.drop(c.id, this.player.time)) } },
            c.key ? h("kbd", { style: { "--c": c.colour }, class: "class-key" }, c.key.toUpperCase()) : dot(c.colour),
            h("span", { class: "grow" }, c.name), h("span", { class: "hint" }, counts.get(c.id) ?? "")),
          h("button", { type: "button", class: `tag-button ${tag ?? (implied ? "implied" : "")}`, "aria-label": `${c.name}: ${text}`,
            title: `${text} (Shift+${c.key.toUpperCase() || "click"} to change)`, on: { click: () => this.cycleTag(c.id) } },
            tag === "occurs" || implied ? icon("check") : tag === "absent" ? icon("close") : icon("minus")),
          button("edit", `Change class ${c.name}`, () => editClass(this.context, c), { bare: true }));
      }));
    if (focus) // what had the focus has been made anew
      for (const el of this.classList_.querySelectorAll("button"))
        if (el.getAttribute("aria-label")?.split(/[:,]/)[0] === focus) el.focus();
    this.nothing?.classList.toggle("on", nothing);
    this.nothing?.setAttribute("aria-pressed", String(nothing));
  }

  /** @param {string} id */
  cycleTag(id) {
    const key = `tag/${id}/${this.name}`;
    const now = this.tag(id);
    const next = now === null ? "occurs" : now === "occurs" ? "absent" : null;
    this.store.edit(`tag ${this.store.className(id)}`, [{ key, set: next ? { value: next } : null }]);
    this.say(`${this.store.className(id)} ${next === "occurs" ? "occurs" : next ? "does not occur" : "has no tag"}`);
    this.refresh();
  }

  toggleNothing() {
    const now = Boolean(this.store.video?.records.get(`video/${this.name}`)?.nothing);
    if (!now && this.marks.some((m) => m.kind !== "negative")) {
      toast("There are labels in this video; delete them first.", { kind: "warn" });
      return;
    }
    this.setVideo("nothing occurs", { nothing: !now });
    this.say(now ? "No statement about this video" : "Nothing occurs in this video");
    this.refresh();
  }

  /** @param {string} label @param {Record<string, any>} set */
  setVideo(label, set) {
    if (this.name) this.store.edit(label, [{ key: `video/${this.name}`, set }]);
  }

  /** @param {string} text */
  say(text) {
    if (this.announce) this.announce.textContent = text;
  }

  // ---- clicks and segments

  /** @param {string} id @param {number} time */
  drop(id, time) {
    if (this.store.video?.name !== this.name) return;
    const key = `click/${freshId()}`;
    this.store.edit(`click ${this.store.className(id)}`, [{ key, set: { video: this.name, class: id, time, note: "" } }]);
    this.select(key);
    this.blink(id);
    this.say(`Click ${this.store.className(id)} at ${clock(time, 2)}`);
  }

  /** @param {string} id @param {number} start @param {number} end */
  add(id, start, end) {
    const key = `segment/${freshId()}`;
    this.store.edit(`segment ${this.store.className(id)}`,
      [{ key, set: { video: this.name, class: id, start, end, note: "", origin: null } }]);
    this.select(key);
    this.blink(id);
    this.say(`Segment ${this.store.className(id)} from ${clock(start, 2)} to ${clock(end, 2)}`);
  }

  /** @param {string} id */
  blink(id) {
    const el = this.flash;
    if (!el) return;
    el.style.setProperty("--c", this.store.colour(id));
    el.textContent = this.store.className(id);
    el.classList.remove("on");
    void el.offsetWidth; // starts the animation again
    el.classList.add("on");
  }

  /** A class key goes down. @param {KeyboardEvent} event */
  press(event) {
    if (typing(event) || event.ctrlKey || event.metaKey || event.altKey || !this.store.video) return;
    const key = keyOf(event).replace("Shift+", "");
    const found = key.length === 1 ? this.store.classList().find((c) => c.key === key) : undefined;
    if (!found) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.repeat || this.held) return;
    if (event.shiftKey) {
      this.cycleTag(found.id);
      return;
    }
    this.held = { code: event.code, class: found.id, time: this.player.time, since: performance.now() };
    this.timeline.ghost = { class: found.id, start: this.held.time };
    this.timeline.paint();
  }

  /** @param {KeyboardEvent} event */
  release(event) {
    const held = this.held;
    if (!held || event.code !== held.code) return;
    this.held = null;
    this.timeline.ghost = null;
    const now = this.player.time;
    const long = performance.now() - held.since >= HOLD;
    if (long && Math.abs(now - held.time) > 1e-6) this.add(held.class, Math.min(held.time, now), Math.max(held.time, now));
    else this.drop(held.class, held.time);
    this.timeline.paint();
  }

  /** @param {string | null} key */
  select(key) {
    const before = this.selected;
    this.selected = key;
    this.timeline.selected = key;
    this.timeline.paint();
    this.showDetail();
    for (const k of [before, key]) {
      const at = k ? this.marks.findIndex((m) => m.key === k) : -1;
      if (at >= 0) this.labels?.refresh(at);
    }
    const at = key ? this.marks.findIndex((m) => m.key === key) : -1;
    if (at >= 0) this.labels?.reveal(at);
  }

  get mark() {
    return this.marks.find((m) => m.key === this.selected) ?? null;
  }

  /** @param {number} step */
  selectNext(step) {
    if (!this.marks.length) return;
    const at = this.marks.findIndex((m) => m.key === this.selected);
    const time = this.player.time;
    const near = step > 0 ? this.marks.findIndex((m) => m.start >= time) : this.marks.findLastIndex((m) => m.start <= time);
    const next = this.marks[at >= 0 ? Math.max(0, Math.min(this.marks.length - 1, at + step)) : Math.max(0, near)];
    if (!next) return;
    this.select(next.key);
    this.player.seek(next.start);
    this.timeline.follow(next.start);
    this.say(`${next.kind} ${this.store.className(next.class)} at ${clock(next.start, 2)}`);
  }

  /** Move a time of the selected item by pictures. @param {"start" | "end"} border @param {number} frames */
  nudge(border, frames) {
    const mark = this.mark;
    const { player } = this;
    if (!mark || !player.frames) return;
    const from = player.nearest(mark[border]);
    const to = player.frames[Math.max(0, Math.min(player.frames.length - 1, from + frames))] ?? mark[border];
    if (mark.kind === "click") this.store.edit("nudge click", [{ key: mark.key, set: { time: to } }]);
    else {
      const set = border === "start" ? { start: Math.min(to, mark.end), end: mark.end } : { start: mark.start, end: Math.max(to, mark.start) };
      this.store.edit("nudge border", [{ key: mark.key, set }]);
    }
    player.seek(to);
    this.refresh();
  }

  remove() {
    const mark = this.mark;
    if (!mark) return;
    const at = this.marks.indexOf(mark);
    this.store.edit(`delete ${mark.kind} ${this.store.className(mark.class)}`, [{ key: mark.key, set: null }]);
    this.say("Deleted");
    const next = this.marks[Math.min(at, this.marks.length - 1)];
    this.select(next?.key ?? null);
  }

  /** @param {string} id */
  relabel(id) {
    const mark = this.mark;
    if (mark) this.store.edit(`relabel as ${this.store.className(id)}`, [{ key: mark.key, set: { class: id } }]);
  }

  loop() {
    const mark = this.mark;
    if (this.player.loop) this.player.setLoop(null);
    else if (mark && mark.end > mark.start) this.player.setLoop([mark.start, mark.end]);
    else if (mark) this.player.setLoop([Math.max(0, mark.start - 1), mark.start + 1]);
    else toast("Select a segment to loop over it.");
  }

  showDetail() {
    if (!this.detail) return;
    const mark = this.mark;
    this.detail.hidden = !mark;
    if (!mark) return;
    if (this.detail.contains(document.activeElement) && document.activeElement instanceof HTMLInputElement) return;
    const classes = h("select", { on: { change: () => this.relabel(classes.value) } }, this.store.classList().map((c) =>
      h("option", { value: c.id }, c.name)));
    classes.value = mark.class;
    const note = h("input", { type: "text", value: mark.note, placeholder: "Note", "aria-label": "Note on this label", class: "mark-note",
      on: { change: () => this.store.edit("note", [{ key: mark.key, set: { note: note.value } }]),
        keydown: (/** @type {KeyboardEvent} */ e) => { if (e.key === "Enter" || e.key === "Escape") note.blur(); } } });
    const time = (/** @type {"start" | "end"} */ border, /** @type {string} */ text, /** @type {string} */ keys) =>
      h("div", { class: "nudge" }, h("span", { class: "hint" }, text),
        button("stepback", `${text}: a picture earlier`, () => this.nudge(border, -1), { bare: true, keys: keys[0] ?? "" }),
        h("output", {}, clock(mark[border], 3)),
        button("step", `${text}: a picture later`, () => this.nudge(border, 1), { bare: true, keys: keys[1] ?? "" }));
    const origin = mark.origin ? h("p", { class: "hint" }, `from run ${mark.origin.run}`) : null;
    fill(this.detail,
      h("div", { class: "detail-head" }, h("i", { class: `mark ${mark.kind}`, style: { "--c": this.store.colour(mark.class) } }),
        h("b", {}, { click: "Click", segment: "Segment", negative: "Rejected" }[mark.kind]), h("span", { class: "spacer" }),
        mark.kind === "click" ? null : button("loop", "Loop over it", () => this.loop(), { bare: true, keys: "O" }),
        button("trash", "Delete", () => this.remove(), { bare: true, keys: "Del" })),
      field("Class", classes),
      mark.kind === "click" ? time("start", "Time", "[]") : [time("start", "Start", "[]"), time("end", "End", "{}")],
      mark.kind === "negative" ? null : note, origin);
  }

  showFinish() {
    if (!this.finish) return;
    const row = this.store.rows.get(this.name);
    if (!row) return;
    const done = row.state === "done";
    fill(this.finish, button("check", done ? "Done" : "Mark as done", () => this.setVideo(done ? "not done" : "done", { done: !done }),
      { kind: done ? "on" : "", pressed: done, keys: "Mod+Enter" }),
      button("step", "Next video", () => this.neighbour(1), { kind: "primary", keys: "Enter" }));
  }

  // ---- time

  showTime() {
    const { player, timeline } = this;
    const time = player.time;
    timeline.time = time;
    if (player.playing && !player.loop) timeline.follow(time, true);
    timeline.paint();
    if (this.clock) this.clock.textContent = `${clock(time, 2)} / ${clock(player.duration || timeline.duration)}`;
    if (this.frameNo)
      this.frameNo.textContent = player.frames
        ? `${(player.goal >= 0 ? player.goal : player.index) + 1} of ${player.frames.length}`
        : "";
    this.dataset.time = String(time);
    this.dataset.frame = String(player.goal >= 0 ? player.goal : player.index);
  }

  showTransport() {
    const { player } = this;
    if (!this.transport) return;
    const state = `${player.playing} ${player.rate} ${player.loop}`;
    if (this.transport.dataset.state === state) return;
    this.transport.dataset.state = state;
    this.dataset.playing = String(player.playing);
    const rates = h("select", { "aria-label": "Speed", title: "Speed (, and .)", class: "rate", on: { change: () => player.setRate(Number(rates.value)) } },
      RATES.map((r) => h("option", { value: r }, `${r}×`)));
    rates.value = String(player.rate);
    fill(this.transport,
      button("stepback", "A picture back", () => player.step(-1), { bare: true, keys: "←" }),
      button(player.playing ? "pause" : "play", player.playing ? "Stop" : "Play", () => player.toggle(), { bare: true, keys: "Space", kind: "play" }),
      button("step", "A picture forward", () => player.step(1), { bare: true, keys: "→" }),
      rates,
      button("loop", "Loop over the selected segment", () => this.loop(), { bare: true, keys: "O", pressed: Boolean(player.loop) }),
      this.clock ?? null, this.frameNo ?? null, h("span", { class: "spacer" }),
      this.runSelect ?? null,
      button("minus", "Zoom out", () => this.timeline.zoom(1.6), { bare: true, keys: "-" }),
      button("plus", "Zoom in", () => this.timeline.zoom(1 / 1.6), { bare: true, keys: "=" }),
      button("fit", "Whole video", () => this.timeline.setView(0, this.timeline.duration), { bare: true, keys: "\\" }));
  }

  /** @returns {import("./keys.js").Binding[]} */
  bindings() {
    const { player, timeline } = this;
    const rate = (/** @type {number} */ step) => {
      const at = RATES.findIndex((r) => r >= player.rate - 1e-6);
      player.setRate(RATES[Math.max(0, Math.min(RATES.length - 1, at + step))] ?? 1);
    };
    const play = "Player", label = "Labels", view = "Timeline";
    return [
      { keys: "Space", text: "Play, stop", group: play, call: () => player.toggle() },
      { keys: "j", text: "Backwards; again: faster", group: play, call: () => player.shuttle(-1) },
      { keys: "k", text: "Stop", group: play, call: () => player.shuttle(0) },
      { keys: "l", text: "Forwards; again: faster", group: play, call: () => player.shuttle(1) },
      { keys: "ArrowLeft", text: "A picture back", group: play, repeat: true, call: () => player.step(-1) },
      { keys: "ArrowRight", text: "A picture forward", group: play, repeat: true, call: () => player.step(1) },
      { keys: "Shift+ArrowLeft", text: "A second back", group: play, repeat: true, call: () => player.seek(player.time - 1) },
      { keys: "Shift+ArrowRight", text: "A second forward", group: play, repeat: true, call: () => player.seek(player.time + 1) },
      { keys: "Home", text: "To the start", group: play, call: () => player.seek(0) },
      { keys: "End", text: "To the end", group: play, call: () => player.show(Infinity) },
      { keys: ",", text: "Slower", group: play, call: () => rate(-1) },
      { keys: ".", text: "Faster", group: play, call: () => rate(1) },
      { keys: "o", text: "Loop over the selected label", group: play, call: () => this.loop() },
      { keys: "class-key", text: "Drop a click of that class, also while the video plays", group: label, call: () => undefined },
      { keys: "hold", text: "… the class key while it happens: a segment", group: label, call: () => undefined },
      { keys: "Shift+class-key", text: "Tag: occurs, does not occur, no tag", group: label, call: () => undefined },
      { keys: "0", text: "Nothing occurs in this video", group: label, call: () => this.toggleNothing() },
      { keys: "PageDown ArrowDown", text: "Next label", group: label, repeat: true, call: () => this.selectNext(1) },
      { keys: "PageUp ArrowUp", text: "Previous label", group: label, repeat: true, call: () => this.selectNext(-1) },
      { keys: "[", text: "Its time or start a picture earlier", group: label, repeat: true, call: () => this.nudge("start", -1) },
      { keys: "]", text: "… later", group: label, repeat: true, call: () => this.nudge("start", 1) },
      { keys: "Shift+[", text: "Its end a picture earlier", group: label, repeat: true, call: () => this.nudge("end", -1) },
      { keys: "Shift+]", text: "… later", group: label, repeat: true, call: () => this.nudge("end", 1) },
      { keys: "Delete Backspace", text: "Delete the selected label", group: label, call: () => this.remove() },
      { keys: "n", text: "Note on the selected label", group: label, call: () =>
        /** @type {HTMLInputElement | null} */ (this.detail?.querySelector(".mark-note") ?? null)?.focus() },
      { keys: "Escape", text: "Select nothing", group: label, call: () => this.select(null) },
      { keys: "Enter", text: "Next video", group: "Video", call: () => this.neighbour(1) },
      { keys: "Shift+Enter", text: "Previous video", group: "Video", call: () => this.neighbour(-1) },
      { keys: "Mod+Enter", text: "Done, or not", group: "Video", call: () =>
        this.setVideo("done", { done: this.store.rows.get(this.name)?.state !== "done" }) },
      { keys: "= Shift+=", text: "Zoom in", group: view, repeat: true, call: () => timeline.zoom(1 / 1.6) },
      { keys: "-", text: "Zoom out", group: view, repeat: true, call: () => timeline.zoom(1.6) },
      { keys: "\\", text: "Whole video", group: view, call: () => timeline.setView(0, timeline.duration) },
    ];
  }
}

customElements.define("wt-annotate", AnnotatePage);
