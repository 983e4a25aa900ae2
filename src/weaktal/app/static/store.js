// What the page knows of the project: loaded from the server, edited at once here and saved there in order.

import { toast } from "./lib.js";

/** @import { Change, Class, Conflict, EditAnswer, EditEvent, Fields, Mark, OpenVideo, Row } from "./types.js" */
/** @typedef {{ base: number, label: string, changes: Change[] }} Waiting */

const QUEUE = "weaktal-unsaved";
const RETRY = [500, 1000, 2000, 4000];

/**
 * Ask the server.
 * @param {string} path
 * @param {any} [body] with one it is a POST
 * @returns {Promise<any>}
 */
export async function ask(path, body) {
  const options = body === undefined
    ? {}
    : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const found = await fetch(path, options);
  const answer = await found.json().catch(() => ({ error: `the server answers ${found.status}` }));
  if (!found.ok) throw new Refused(answer.error ?? `the server answers ${found.status}`);
  return answer;
}

/** The server does not want to do something, and says why. */
export class Refused extends Error {}

/**
 * The id of this tab: its edits are undone apart from those of others, also after a reload. A tab that was
 * duplicated has the other one's id in its storage; it gets a new one, or the two would be taken for one author.
 * @returns {Promise<string>}
 */
async function tabId() {
  const fresh = () => "tab-" + crypto.getRandomValues(new Uint32Array(2)).join("").slice(0, 14);
  let id = sessionStorage.getItem("weaktal-tab") ?? fresh();
  const claim = (/** @type {string} */ name) => new Promise((resolve) => {
    void navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock ? new Promise(() => undefined) : undefined; // held as long as this tab lives
    });
  });
  // (there are no locks where the page comes over the network without encryption)
  if ("locks" in navigator && !(await claim(id))) {
    id = fresh();
    sessionStorage.removeItem(QUEUE);
    await claim(id);
  }
  sessionStorage.setItem("weaktal-tab", id);
  return id;
}

/**
 * Events: "rows" (detail: names, or null for all), "classes", "video", "save", "undo", "jobs", "proxy", "notice", "back"
 * (something was undone or redone), "reconnect" (what happened meanwhile was not heard).
 */
export class Store extends EventTarget {
  author = "";
  name = "";
  folder = "";
  version = 0;
  online = true;
  ready = false;
  /** @type {string | null} */
  undoLabel = null;
  /** @type {string | null} */
  redoLabel = null;
  /** @type {string | null} */
  featuresError = null;
  /** @type {Map<string, Class>} */
  classes = new Map();
  /** @type {Map<string, Row>} */
  rows = new Map();
  /** @type {OpenVideo | null} */
  video = null;
  /** @type {Waiting[]} */
  queue = [];
  sending = false;
  tries = 0;
  /** The version that was loaded, and of each record that of the last edit that was heard since. */
  loaded = 0;
  /** @type {Map<string, number>} */
  told = new Map();
  /** The stamp of the newest that is known of what the server counts: rows, copies of videos, runs. @type {Map<string, number>} */
  stamps = new Map();
  /** The video that is open or being opened. @type {string | null} */
  wanted = null;
  /** The last undo or redo; the next one waits for its answer. @type {Promise<void>} */
  turn = Promise.resolve();

  /** @param {string} kind @param {any} [detail] */
  emit(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  /**
   * @param {string} kind
   * @param {(detail: any) => void} call
   * @returns {() => void} ends it
   */
  on(kind, call) {
    const listener = (/** @type {Event} */ event) => call(/** @type {CustomEvent} */ (event).detail);
    this.addEventListener(kind, listener);
    return () => this.removeEventListener(kind, listener);
  }

  /** Load the project and follow what happens to it. */
  async start() {
    this.author = await tabId();
    this.queue = JSON.parse(sessionStorage.getItem(QUEUE) ?? "[]");
    const source = new EventSource("/api/events");
    const begun = new Promise((resolve) => {
      for (const kind of ["hello", "error"]) source.addEventListener(kind, resolve, { once: true });
    });
    let again = false;
    source.addEventListener("hello", () => {
      this.online = true;
      this.emit("save");
      if (!again) {
        again = true;
        return;
      }
      this.stamps.clear(); // (if the clock of the server was set back)
      void this.reload().then(() => this.emit("reconnect"));
      void this.send();
    });
    source.addEventListener("error", () => {
      this.online = false;
      this.emit("save");
    });
    /** @param {string} kind @param {(facts: any) => void} call */
    const heard = (kind, call) =>
      source.addEventListener(kind, (event) => call(JSON.parse(/** @type {MessageEvent} */ (event).data)));
    heard("edit", (edit) => this.take(edit));
    heard("rows", ({ rows }) => this.takeRows(rows));
    heard("notice", ({ text }) => this.emit("notice", text));
    heard("proxy", (state) => this.emit("proxy", state));
    heard("jobs", (jobs) => this.emit("jobs", jobs));
    heard("reload", () => void this.reload());
    await begun; // first listen, then load: what happens in between is heard
    await this.load();
    void this.send();
  }

  /**
   * An answer that has a version, asked for again if an edit was heard meanwhile that it does not know of.
   * @param {string} path
   * @returns {Promise<any>}
   */
  async newest(path) {
    for (;;) {
      const before = this.version;
      const found = await ask(path);
      if (found.version >= this.version || this.version === before) return found;
    }
  }

  async load() {
    const found = await this.newest(`/api/project?author=${this.author}`);
    this.name = found.name;
    this.folder = found.folder;
    this.version = this.loaded = found.version;
    this.told.clear();
    this.undoLabel = found.undo;
    this.redoLabel = found.redo;
    this.featuresError = found.featuresError;
    this.classes = new Map(found.classes.map((/** @type {Class} */ c) => [c.id, c]));
    this.rows = new Map(found.videos.map((/** @type {Row} */ r) =>
      [r.name, this.isNewest(`row/${r.name}`, r.stamp) ? r : this.rows.get(r.name) ?? r]));
    for (const waiting of this.queue) this.apply(waiting.changes);
    this.ready = true;
    this.emit("classes");
    this.emit("rows", null);
    this.emit("undo");
    for (const text of found.notices) this.emit("notice", text);
  }

  /** Class records in order. @returns {Class[]} */
  classList() {
    return [...this.classes.values()].sort((a, b) => a.order - b.order || (a.id < b.id ? -1 : 1));
  }

  /** @param {string} id */
  colour(id) {
    return this.classes.get(id)?.colour ?? "#888888";
  }

  /** @param {string} id */
  className(id) {
    return this.classes.get(id)?.name ?? "(deleted class)";
  }

  // ---- the open video

  /**
   * @param {string} name
   * @returns {Promise<OpenVideo | null>} null if another one was wanted before this one was there
   */
  async open(name) {
    this.wanted = name;
    const found = await this.newest(`/api/videos/${encodeURIComponent(name)}`);
    if (this.wanted !== name) return null;
    this.version = Math.max(this.version, found.version);
    this.video = { name, version: found.version, records: new Map(Object.entries(found.records)), media: found.media };
    if (this.isNewest(`row/${name}`, found.row.stamp)) this.rows.set(name, found.row);
    for (const waiting of this.queue) this.apply(waiting.changes);
    this.emit("video");
    return this.video;
  }

  close() {
    this.video = this.wanted = null;
  }

  /** Load everything again. */
  async reload() {
    try {
      await this.load();
      if (this.wanted) await this.open(this.wanted);
    } catch {
      // the server does not answer, which the page says, or has no such video any more
    }
  }

  /** The items of the open video in order of time. @returns {Mark[]} */
  marks() {
    /** @type {Mark[]} */
    const found = [];
    for (const [key, r] of this.video?.records ?? []) {
      const kind = key.split("/", 1)[0];
      if (kind === "click")
        found.push({ key, kind, class: r.class, start: r.time, end: r.time, note: r.note, origin: null });
      else if (kind === "segment" || kind === "negative")
        found.push({ key, kind, class: r.class, start: r.start, end: r.end, note: r.note ?? "", origin: r.origin });
    }
    return found.sort((a, b) => a.start - b.start || a.end - b.end || (a.key < b.key ? -1 : 1));
  }

  // ---- editing

  /**
   * Change records: here at once, on the server as soon as it answers.
   * @param {string} label what it is, for undo
   * @param {Change[]} changes
   */
  edit(label, changes) {
    if (!changes.length) return;
    this.apply(changes);
    this.queue.push({ base: this.version, label, changes });
    this.remember();
    this.emit("video");
    this.emit("save");
    void this.send();
  }

  remember() {
    if (this.queue.length) sessionStorage.setItem(QUEUE, JSON.stringify(this.queue));
    else sessionStorage.removeItem(QUEUE);
  }

  /** Do changes here. @param {Change[]} changes */
  apply(changes) {
    let classes = false;
    for (const { key, set } of changes) {
      const [kind, id = ""] = key.split(/\/(.*)/s);
      if (kind === "class") {
        classes = true;
        const old = this.classes.get(id);
        if (set === null) this.classes.delete(id);
        else {
          /** @type {Class} */
          const blank = { id, name: "", colour: "#888888", key: "", description: "", order: 0 };
          this.classes.set(id, { ...blank, ...old, ...set });
        }
      } else if (this.video && this.belongs(key, set)) {
        const old = this.video.records.get(key);
        if (set === null) this.video.records.delete(key);
        else this.video.records.set(key, { note: "", origin: null, ...old, ...set });
      }
      if (kind === "video" && set) {
        const row = this.rows.get(id);
        if (row) Object.assign(row, pick(set, ["subset", "nothing", "note"]));
        if (row && "done" in set) row.state = set.done ? "done" : "work";
      }
      if (kind === "tag") {
        const [c = "", name = ""] = id.split(/\/(.*)/s);
        const row = this.rows.get(name);
        if (row && set) row.tags[c] = set.value;
        else if (row) delete row.tags[c];
      }
    }
    if (classes) this.emit("classes");
  }

  /** Whether a record is of the open video. @param {string} key @param {Fields | null} set */
  belongs(key, set) {
    const open = this.video;
    if (!open) return false;
    if (key.startsWith("video/")) return key === `video/${open.name}`;
    if (key.startsWith("tag/")) return key.split("/").slice(2).join("/") === open.name;
    return set !== null && "video" in set ? set.video === open.name : open.records.has(key);
  }

  /** Send what is not saved yet, one after the other. */
  async send() {
    if (this.sending) return;
    this.sending = true;
    while (this.queue.length) {
      const next = /** @type {Waiting} */ (this.queue[0]);
      try {
        const answer = await ask("/api/edits", { author: this.author, ...next });
        this.tries = 0;
        this.queue.shift();
        this.remember();
        this.settle(answer);
      } catch (error) {
        if (error instanceof Refused) {
          this.queue.shift();
          this.remember();
          toast(`Not saved: ${error.message}`, { kind: "error" });
          await this.reload();
        } else {
          this.online = false;
          this.emit("save");
          const wait = RETRY[Math.min(this.tries++, RETRY.length - 1)] ?? 4000;
          await new Promise((resolve) => setTimeout(resolve, wait));
        }
      }
    }
    this.sending = false;
    this.emit("save");
  }

  /** Everything is on the server's disk. */
  async saved() {
    while (this.queue.length || this.sending) await new Promise((resolve) => setTimeout(resolve, 20));
  }

  /** @param {EditAnswer} answer */
  settle(answer) {
    this.online = true;
    if (answer.edit) this.take(answer.edit);
    this.version = Math.max(this.version, answer.version);
    for (const conflict of answer.conflicts) this.conflict(conflict);
    this.undoLabel = answer.undo;
    this.redoLabel = answer.redo;
    this.emit("undo");
    this.emit("save");
  }

  /** Something of ours was not done, as somebody else had changed it: show theirs, offer ours. @param {Conflict} c */
  conflict(c) {
    const change = { key: c.key, set: c.theirs };
    this.apply([change]);
    this.emit("video");
    this.emit("classes");
    const what = { click: "A click", segment: "A segment", tag: "A tag", class: "A class", video: "This video" }[
      c.key.split("/", 1)[0] ?? ""
    ] ?? "An item";
    const again = () => {
      const full = c.mine === null ? null : { ...c.theirs, ...c.mine };
      this.edit("apply my change after all", [{ key: c.key, set: full }]);
    };
    const can = c.theirs !== null || (c.mine !== null && "class" in c.mine && this.classes.has(c.mine.class));
    toast(`${what} was not changed: ${c.reason}.`, {
      kind: "warn", stay: true, ...(can ? { action: "Use mine", call: again } : {}),
    });
  }

  /**
   * Whether an edit tells of a record what is not known yet.
   * @param {string} key @param {number} version
   */
  isNews(key, version) {
    if ((this.told.get(key) ?? this.loaded) >= version) return false;
    this.told.set(key, version);
    return true;
  }

  /**
   * Whether nothing newer is known than what has this stamp; answers and events come in any order.
   * @param {string} what @param {number} stamp
   */
  isNewest(what, stamp) {
    if ((this.stamps.get(what) ?? 0) > stamp) return false;
    this.stamps.set(what, stamp);
    return true;
  }

  /**
   * An edit that was made, by anybody. It comes as an event and, if it is ours, as the answer to our request;
   * the answer may come after events of later edits.
   * @param {EditEvent} edit
   */
  take(edit) {
    const own = new Set(this.queue.flatMap((w) => w.changes.map((c) => c.key)));
    /** @type {Change[]} */
    const changes = [];
    for (const { key, record, video } of edit.changes) {
      if (own.has(key) || !this.isNews(key, edit.version)) continue;
      if (this.video && video === this.video.name && edit.version < this.video.version) continue;
      if (this.video && video === this.video.name && record && !key.startsWith("video/") && !key.startsWith("tag/"))
        this.video.records.set(key, record);
      else changes.push({ key, set: record });
    }
    this.apply(changes);
    this.version = Math.max(this.version, edit.version);
    this.takeRows(edit.rows);
    this.emit("video");
  }

  /** @param {Row[]} told */
  takeRows(told) {
    const rows = told.filter((r) => this.isNewest(`row/${r.name}`, r.stamp));
    for (const row of rows) {
      if (row.removed) this.rows.delete(row.name);
      else this.rows.set(row.name, row);
    }
    for (const waiting of this.queue) {
      // what is not saved yet is newer than these rows
      for (const { key, set } of waiting.changes) if (/^(tag|video)\//.test(key)) this.apply([{ key, set }]);
    }
    this.emit("rows", rows.map((r) => r.name));
  }

  /** One after the other. @param {"undo" | "redo"} what */
  back(what) {
    this.turn = this.turn.then(() => this.turnBack(what));
    return this.turn;
  }

  /** @param {"undo" | "redo"} what */
  async turnBack(what) {
    await this.saved();
    try {
      const answer = /** @type {EditAnswer} */ (await ask(`/api/${what}`, { author: this.author }));
      this.settle(answer);
      this.emit("back");
      if (answer.edit) {
        toast(`${what === "undo" ? "Undone" : "Done again"}: ${answer.edit.label}`);
        const other = answer.edit.changes.find((c) => c.video);
        if (other?.video && this.video && other.video !== this.video.name)
          toast(`That was in ${other.video}.`);
      }
    } catch (error) {
      toast(error instanceof Error ? error.message : String(error), { kind: "error" });
    }
  }
}

/** @param {Fields} from @param {string[]} names */
function pick(from, names) {
  return Object.fromEntries(names.filter((n) => n in from).map((n) => [n, from[n]]));
}
