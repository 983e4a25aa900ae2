// The library: all videos, what is known of them, and the classes.

import { button, choice, clock, count, dialog, dot, field, fill, h, icon, quiet, span, toast, VirtualList } from "./lib.js";
import { ask } from "./store.js";
import { RESERVED } from "./keys.js";

/** @import { Context } from "./app.js" */
/** @import { Class, Row } from "./types.js" */

const PALETTE = ["#3d7bd9", "#e08a1e", "#2a9d6f", "#d1495b", "#8661c1", "#1f9fb3", "#b5892b", "#d16ba5", "#6a994e",
  "#5c6bc0", "#c8553d", "#4d908e"];
const STATES = { untouched: "Untouched", work: "In work", done: "Done" };
const ROW = 52;

/** @typedef {"name" | "duration" | "state" | "clicks" | "segments"} SortKey */

export class LibraryPage extends HTMLElement {
  /** @param {Context} context */
  constructor(context) {
    super();
    this.context = context;
    this.store = context.store;
    /** @type {Set<string>} */
    this.selected = new Set();
    /** @type {Row[]} */
    this.list = [];
    this.filter = { text: "", state: "", class: "", subset: "" };
    /** @type {{ key: SortKey, down: boolean }} */
    this.sort = { key: "name", down: false };
    /** @type {(() => void)[]} */
    this.ends = [];
    this.anchor = -1;
  }

  connectedCallback() {
    this.className = "page library";
    this.search = h("input", { type: "search", placeholder: "Find a video…", "aria-label": "Find a video",
      on: { input: () => { this.filter.text = this.search?.value.toLowerCase() ?? ""; this.refresh(); } } });
    this.classFilter = h("select", { "aria-label": "Videos with a class", on: { change: () => {
      this.filter.class = this.classFilter?.value ?? "";
      this.refresh();
    } } });
    this.summary = h("p", { class: "summary" });
    this.bulk = h("div", { class: "bulk", hidden: true });
    this.head = h("div", { class: "table-head", role: "row" });
    this.rowsBox = h("div", { class: "table-rows", role: "rowgroup" });
    this.view = h("div", { class: "table-view" }, this.rowsBox);
    this.classList_ = h("ul", { class: "class-list" });
    this.classHint = h("p", { class: "hint" },
      "A class is something that happens: a jump, a fall, a bite. It gets a key, which drops a click while a video plays.");
    this.classes = h("aside", { class: "panel classes", "aria-label": "Classes" },
      h("h2", {}, "Classes"), this.classList_, classForm(this.store), this.classHint);
    const main = h("section", { class: "panel videos", "aria-label": "Videos" },
      h("div", { class: "toolbar" },
        h("span", { class: "search" }, icon("search"), this.search),
        choice("State", [["", "All"], ["untouched", "Untouched"], ["work", "In work"], ["done", "Done"]], "",
          (value) => { this.filter.state = value; this.refresh(); }),
        this.classFilter, h("span", { class: "spacer" }),
        button("import", "Add videos", () => this.addVideos()),
        button("plus", "Import labels", () => this.importLabels()),
        button("export", "Export", () => this.export())),
      this.summary, this.bulk,
      h("div", { class: "table", role: "table", "aria-label": "Videos" }, this.head, this.view));
    this.append(main, this.classes);
    this.virtual = new VirtualList(this.view, ROW, (i) => this.row(i));
    this.virtual.body.setAttribute("role", "rowgroup");
    this.rowsBox.remove();
    const later = quiet(() => this.refresh(), 60);
    this.ends.push(
      this.store.on("rows", (names) => {
        if (!names || names.length > 20) later();
        else this.update(names);
      }),
      this.store.on("classes", () => { this.showClasses(); this.showFilter(); later(); }),
      this.context.keys.bind([
        { keys: "Mod+a", text: "Select all videos that are shown", group: "Library", call: () => this.selectAll() },
        { keys: "ArrowDown", text: "Next video", group: "Library", repeat: true, call: () => this.moveFocus(1) },
        { keys: "ArrowUp", text: "Previous video", group: "Library", repeat: true, call: () => this.moveFocus(-1) },
        { keys: "/", text: "Find a video", group: "Library", call: () => this.search?.focus() },
      ]),
    );
    this.showFilter();
    this.showClasses();
    this.refresh();
  }

  disconnectedCallback() {
    for (const end of this.ends.splice(0)) end();
  }

  showFilter() {
    if (!this.classFilter) return;
    fill(this.classFilter, h("option", { value: "" }, "Any class"),
      h("option", { value: "-" }, "No class"),
      this.store.classList().map((c) => h("option", { value: c.id }, c.name)));
    this.classFilter.value = this.filter.class;
  }

  // ---- the table

  /** @param {Row} row */
  fits(row) {
    const f = this.filter;
    if (f.text && !row.name.toLowerCase().includes(f.text)) return false;
    if (f.state && row.state !== f.state) return false;
    if (f.class === "-") return !Object.keys(row.seen).length && !Object.values(row.tags).includes("occurs");
    return !f.class || Boolean(row.seen[f.class]) || row.tags[f.class] === "occurs";
  }

  refresh() {
    const { key, down } = this.sort;
    const order = { untouched: 0, work: 1, done: 2 };
    const value = (/** @type {Row} */ r) => (key === "state" ? order[r.state] : key === "name" ? r.name : (r[key] ?? 0));
    const names = new Intl.Collator("en", { numeric: true });
    this.list = [...this.store.rows.values()].filter((r) => this.fits(r));
    this.list.sort((a, b) => {
      const x = value(a), y = value(b);
      const c = typeof x === "string" ? names.compare(x, String(y)) : x - Number(y);
      return (down ? -c : c) || names.compare(a.name, b.name);
    });
    for (const name of this.selected) if (!this.store.rows.has(name)) this.selected.delete(name);
    this.showHead();
    this.showSummary();
    this.showBulk();
    this.virtual?.reset(this.list.length);
    this.view?.classList.toggle("nothing", !this.list.length);
    this.querySelector(".table-view > .empty")?.remove();
    if (!this.list.length)
      this.view?.append(this.store.rows.size
        ? h("p", { class: "empty" }, icon("search"), "No video fits this filter.")
        : h("div", { class: "empty" }, icon("film"), h("p", {}, "No videos yet."),
            h("p", { class: "hint" }, "They are used where they are: nothing is copied."),
            button("import", "Add videos", () => this.addVideos(), { kind: "primary" })));
  }

  /** @param {string[]} names */
  update(names) {
    for (const name of names) {
      const index = this.list.findIndex((r) => r.name === name);
      const row = this.store.rows.get(name);
      if (!row || index < 0 || !this.fits(row)) {
        this.refresh();
        return;
      }
      this.list[index] = row;
      this.virtual?.refresh(index);
    }
    this.showSummary();
  }

  showHead() {
    if (!this.head) return;
    /** @type {[SortKey | "", string, string][]} */
    const columns = [["name", "Video", "c-name"], ["duration", "Length", "c-length"], ["state", "State", "c-state"],
      ["", "Tags", "c-tags"], ["clicks", "Clicks", "c-number"], ["segments", "Segments", "c-number"],
      ["", "Features", "c-features"]];
    const all = h("input", { type: "checkbox", "aria-label": "Select all videos that are shown",
      on: { change: () => this.selectAll() } });
    all.checked = this.list.length > 0 && this.list.every((r) => this.selected.has(r.name));
    fill(this.head, h("span", { class: "c-check", role: "columnheader" }, all),
      columns.map(([key, text, kind]) => {
        const sorted = key && this.sort.key === key;
        return h("span", { class: kind, role: "columnheader",
          "aria-sort": sorted ? (this.sort.down ? "descending" : "ascending") : null },
          key ? h("button", { type: "button", class: "sort", on: { click: () => {
            this.sort = { key, down: sorted ? !this.sort.down : key !== "name" && key !== "state" };
            this.refresh();
          } } }, text, sorted ? h("span", { "aria-hidden": "true" }, this.sort.down ? " ↓" : " ↑") : null) : text);
      }));
  }

  showSummary() {
    const rows = [...this.store.rows.values()];
    const total = (/** @type {(r: Row) => number} */ f) => rows.reduce((sum, r) => sum + f(r), 0);
    const done = rows.filter((r) => r.state === "done").length;
    const seconds = total((r) => r.duration ?? 0);
    const shown = this.list.length < rows.length ? `${this.list.length} of ` : "";
    if (this.summary)
      fill(this.summary, `${shown}${count(rows.length, "video")}`, seconds ? ` · ${span(seconds)}` : "",
        ` · ${done} done · ${count(total((r) => r.clicks), "click")} · ${count(total((r) => r.segments), "segment")}`,
        h("span", { class: "meter", role: "img", "aria-label": `${done} of ${rows.length} done` },
          h("i", { style: { width: `${rows.length ? (100 * done) / rows.length : 0}%` } })),
        this.store.featuresError ? h("span", { class: "trouble" }, icon("warn"), this.store.featuresError) : null);
  }

  /** @param {number} index */
  row(index) {
    const row = /** @type {Row} */ (this.list[index]);
    const check = h("input", { type: "checkbox", "aria-label": `Select ${row.name}`, on: {
      click: (/** @type {MouseEvent} */ e) => this.select(index, e.shiftKey) } });
    check.checked = this.selected.has(row.name);
    const occurs = this.store.classList().filter((c) => row.tags[c.id] === "occurs" || row.seen[c.id]);
    const absent = this.store.classList().filter((c) => row.tags[c.id] === "absent" && !row.seen[c.id]);
    const tags = [
      ...occurs.slice(0, 3).map((c) => h("span", { class: "tag" }, dot(c.colour), c.name)),
      occurs.length > 3 ? h("span", { class: "tag" }, `+${occurs.length - 3}`) : null,
      row.nothing ? h("span", { class: "tag quiet" }, "nothing occurs") : null,
      absent.length ? h("span", { class: "tag quiet", title: "Does not occur: " + absent.map((c) => c.name).join(", ") },
        `not ${absent.length > 1 ? absent.length + " classes" : absent[0]?.name}`) : null,
    ];
    const el = h("div", { class: "row", role: "row", "aria-selected": String(this.selected.has(row.name)) },
      h("span", { class: "c-check", role: "cell" }, check),
      h("span", { class: "c-name", role: "cell" },
        h("img", { class: "thumb", src: `/api/thumbnails/13/0/${encodeURIComponent(row.name)}`, alt: "", loading: "lazy",
          on: { error: (/** @type {Event} */ e) => /** @type {HTMLElement} */ (e.target).classList.add("broken") } }),
        h("span", { class: "name-box" },
          h("a", { href: `#/annotate/${encodeURIComponent(row.name)}`, title: row.name }, row.name),
          row.trouble ? h("span", { class: "trouble", title: row.trouble }, icon("warn"), row.trouble)
            : row.note ? h("span", { class: "hint", title: row.note }, row.note)
            : row.subset !== "train" ? h("span", { class: "hint" }, row.subset === "test" ? "held out" : row.subset) : null)),
      h("span", { class: "c-length", role: "cell" }, row.duration === null ? "–" : clock(row.duration)),
      h("span", { class: "c-state", role: "cell" }, h("span", { class: `chip ${row.state}` }, STATES[row.state])),
      h("span", { class: "c-tags", role: "cell" }, tags),
      h("span", { class: "c-number", role: "cell" }, row.clicks || h("span", { class: "zero" }, "0")),
      h("span", { class: "c-number", role: "cell" }, row.segments || h("span", { class: "zero" }, "0")),
      h("span", { class: "c-features", role: "cell" },
        row.features ? h("span", { class: "yes", title: "Features are there" }, icon("check"),
          h("span", { class: "visually-hidden" }, "yes")) : h("span", { class: "zero" }, "–")));
    el.addEventListener("dblclick", () => this.context.go("annotate", row.name));
    return el;
  }

  /** @param {number} step */
  moveFocus(step) {
    const links = [...this.querySelectorAll(".row")];
    const at = links.findIndex((el) => el.contains(document.activeElement));
    const next = at < 0 ? links[0] : links[at + step];
    /** @type {HTMLElement | null} */ (next?.querySelector("a") ?? null)?.focus();
  }

  // ---- selection

  /** @param {number} index @param {boolean} range */
  select(index, range) {
    const name = this.list[index]?.name ?? "";
    const on = !this.selected.has(name);
    const from = range && this.anchor >= 0 ? this.anchor : index;
    for (let i = Math.min(from, index); i <= Math.max(from, index); i++) {
      const each = this.list[i]?.name;
      if (each && on) this.selected.add(each);
      else if (each) this.selected.delete(each);
    }
    this.anchor = index;
    this.showBulk();
    this.showHead();
    for (let i = Math.min(from, index); i <= Math.max(from, index); i++) this.virtual?.refresh(i);
  }

  selectAll() {
    const all = this.list.every((r) => this.selected.has(r.name));
    for (const row of this.list) if (all) this.selected.delete(row.name); else this.selected.add(row.name);
    this.refresh();
  }

  showBulk() {
    if (!this.bulk) return;
    this.bulk.hidden = !this.selected.size;
    if (!this.selected.size) return;
    const names = [...this.selected];
    const classes = h("select", { "aria-label": "Class to tag" }, this.store.classList().map((c) =>
      h("option", { value: c.id }, c.name)));
    const tag = (/** @type {"occurs" | "absent" | null} */ value) => {
      if (!classes.value) return;
      this.store.edit(`tag ${count(names.length, "video")}`, names.map((n) =>
        ({ key: `tag/${classes.value}/${n}`, set: value ? { value } : null })));
      this.refresh();
    };
    const set = (/** @type {string} */ label, /** @type {Record<string, any>} */ fields) => {
      this.store.edit(`${label}: ${count(names.length, "video")}`, names.map((n) => ({ key: `video/${n}`, set: fields })));
      this.refresh();
    };
    fill(this.bulk, h("b", {}, `${names.length} selected`),
      this.store.classes.size ? [classes, button(null, "Occurs", () => tag("occurs")),
        button(null, "Does not occur", () => tag("absent")), button(null, "No tag", () => tag(null)),
        h("span", { class: "divider" })] : null,
      button(null, "Nothing occurs", () => set("nothing occurs", { nothing: true })),
      button("check", "Done", () => set("done", { done: true })),
      button(null, "Not done", () => set("not done", { done: false })),
      h("span", { class: "divider" }),
      button(null, "For training", () => set("for training", { subset: "train" })),
      button(null, "Hold out", () => set("hold out", { subset: "test" })),
      h("span", { class: "spacer" }),
      button("trash", "Remove", () => this.removeVideos(names), { bare: true }),
      button("close", "Select none", () => { this.selected.clear(); this.refresh(); }, { bare: true }));
  }

  /** @param {string[]} names */
  removeVideos(names) {
    dialog("Remove from the project", (done) => [
      h("p", {}, `${count(names.length, "video")} with all labels leave this project. The files stay where they are; `,
        "undo brings everything back."),
      h("div", { class: "dialog-buttons" }, button(null, "Keep", done),
        button("trash", "Remove", async () => {
          await ask("/api/remove", { author: this.store.author, names }).catch((e) => toast(e.message, { kind: "error" }));
          this.selected.clear();
          done();
          await this.store.load();
        }, { kind: "danger" })),
    ]);
  }

  // ---- classes

  showClasses() {
    if (!this.classList_) return;
    const totals = new Map();
    for (const row of this.store.rows.values())
      for (const [c, n] of Object.entries(row.seen)) totals.set(c, (totals.get(c) ?? 0) + n);
    fill(this.classList_,  this.store.classList().map((c) =>
        h("li", {}, h("button", { type: "button", class: "class-row", on: { click: () => editClass(this.context, c) },
          title: c.description || null },
          dot(c.colour), h("span", { class: "grow" }, c.name), h("span", { class: "hint" }, totals.get(c.id) ?? 0),
          c.key ? h("kbd", {}, c.key.toUpperCase()) : null))));
    if (this.classHint) this.classHint.hidden = this.store.classes.size > 0;
  }

  // ---- in and out

  addVideos() {
    dialog("Add videos", (done) => {
      const paths = h("textarea", { rows: 4, placeholder: "/data/videos\n/data/more/clip.mp4", spellcheck: "false" });
      const say = h("p", { class: "error-text", role: "alert" });
      return [
        field("Paths of videos or folders on the server's machine, one a line", paths,
          "Videos are used where they are; nothing is copied."),
        say,
        h("div", { class: "dialog-buttons" }, button(null, "Cancel", done),
          button("import", "Add", async () => {
            try {
              const lines = paths.value.split("\n").filter((line) => line.trim());
              const found = await ask("/api/import/videos", { author: this.store.author, paths: lines });
              toast(`${count(found.added.length, "video")} added.`);
              done();
              await this.store.load();
            } catch (error) {
              say.textContent = error instanceof Error ? error.message : String(error);
            }
          }, { kind: "primary" })),
      ];
    });
  }

  importLabels() {
    const input = h("input", { type: "file", "aria-label": "File of annotations" });
    dialog("Import labels", (done) => {
      const say = h("p", { class: "error-text", role: "alert" });
      return [
        field("File", input, "Any annotation format that weaktal reads. Videos are matched by name; what is here already is not added twice."),
        say,
        h("div", { class: "dialog-buttons" }, button(null, "Cancel", done),
          button("import", "Import", async () => {
            const file = input.files?.[0];
            if (!file) return;
            const url = `/api/import/annotations?name=${encodeURIComponent(file.name)}&author=${this.store.author}`;
            const answer = await fetch(url, { method: "POST", body: file });
            const found = await answer.json();
            if (!answer.ok) {
              say.textContent = found.error;
              return;
            }
            toast(`${found.changes} labels of ${count(found.videos, "video")} imported.`);
            done();
            await this.store.load();
          }, { kind: "primary" })),
      ];
    });
  }

  async export() {
    await this.store.saved();
    const kinds = /** @type {{ name: string, title: string }[]} */ (await ask("/api/formats"));
    const save = async (/** @type {string} */ name) => {
      const answer = await fetch(`/api/export?format=${name}`);
      if (!answer.ok) {
        toast((await answer.json()).error, { kind: "error" });
        return;
      }
      const file = /filename="(.*)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? "annotations";
      const url = URL.createObjectURL(await answer.blob());
      h("a", { href: url, download: file }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      const notes = decodeURIComponent(answer.headers.get("X-Notes") ?? "");
      if (notes) toast(`${file}: ${notes}`, { kind: "warn", stay: true });
    };
    dialog("Export labels", () => [
      h("ul", { class: "link-list" }, kinds.map((k) =>
        h("li", {}, h("button", { type: "button", class: "link", on: { click: () => void save(k.name) } }, icon("export"), k.title)))),
      h("p", { class: "hint" }, "The project's own annotations.json is ActivityNet JSON, too: every command reads it where it is."),
    ]);
  }
}

/**
 * A new class, with the next colour and the next free key.
 * @param {import("./store.js").Store} store
 * @param {string} name
 */
export function addClass(store, name) {
  const list = store.classList();
  const keys = new Set(list.map((c) => c.key));
  const key = [..."123456789qwertyuiasdfghzxcvbm"].find((k) => !keys.has(k)) ?? "";
  const colours = new Set(list.map((c) => c.colour));
  const colour = PALETTE.find((c) => !colours.has(c)) ?? PALETTE[list.length % PALETTE.length];
  const order = 1 + Math.max(-1, ...list.map((c) => c.order));
  const id = "c" + crypto.getRandomValues(new Uint32Array(2)).join("").slice(0, 12);
  store.edit(`add class ${name}`, [{ key: `class/${id}`, set: { name, key, colour, order, description: "" } }]);
  return id;
}

/**
 * Where the name of a new class is typed.
 * @param {import("./store.js").Store} store
 * @param {() => void} [added]
 */
export function classForm(store, added) {
  const input = h("input", { type: "text", placeholder: "New class…", "aria-label": "Name of a new class", maxlength: 200,
    autocomplete: "off" });
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    const name = input.value.trim();
    if (!name) return;
    if (store.classList().some((c) => c.name === name)) {
      toast(`There is a class ${name} already.`, { kind: "warn" });
      return;
    }
    input.value = "";
    addClass(store, name);
    added?.();
  };
  return h("form", { class: "add", on: { submit, keydown: (/** @type {KeyboardEvent} */ e) => { if (e.key === "Escape") input.blur(); } } },
    input, h("button", { type: "submit", class: "button bare", "aria-label": "Add class" }, icon("plus")));
}

/**
 * The dialog of a class: name, colour, key, description; merge and delete.
 * @param {Context} context
 * @param {Class} c
 */
export function editClass(context, c) {
  const { store } = context;
  dialog(`Class ${c.name}`, (done) => {
    const name = h("input", { type: "text", value: c.name, maxlength: 200 });
    const colour = h("input", { type: "color", value: c.colour });
    const key = h("input", { type: "text", value: c.key.toUpperCase(), maxlength: 1, size: 2, class: "key-input" });
    const description = h("textarea", { rows: 3, value: c.description, placeholder: "When does it begin, when does it end?" });
    const say = h("p", { class: "error-text", role: "alert" });
    const others = store.classList().filter((o) => o.id !== c.id);
    const into = h("select", {}, h("option", { value: "" }, "Choose a class…"),
      others.map((o) => h("option", { value: o.id }, o.name)));
    const used = [...store.rows.values()].reduce((n, r) => n + (r.seen[c.id] ?? 0), 0);
    const save = () => {
      const letter = key.value.trim().toLowerCase();
      const taken = others.find((o) => letter && o.key === letter);
      if (!name.value.trim()) say.textContent = "A class has a name.";
      else if (others.some((o) => o.name === name.value.trim())) say.textContent = "Another class has this name; merge them below.";
      else if (letter && RESERVED.includes(letter)) say.textContent = `The player uses ${letter.toUpperCase()}.`;
      else if (taken) say.textContent = `${taken.name} has this key.`;
      else {
        /** @type {Record<string, string>} */
        const next = { name: name.value.trim(), colour: colour.value, key: letter, description: description.value };
        const now = /** @type {Record<string, any>} */ (c);
        const set = Object.fromEntries(Object.entries(next).filter(([k, v]) => now[k] !== v));
        if (Object.keys(set).length) store.edit(`change class ${c.name}`, [{ key: `class/${c.id}`, set }]);
        done();
      }
    };
    const whole = async (/** @type {string} */ path, /** @type {Record<string, string>} */ body) => {
      await store.saved();
      try {
        const answer = await ask(path, { author: store.author, class: c.id, ...body });
        store.settle(answer);
        await store.reload();
        toast("Undo brings it back.");
        done();
      } catch (error) {
        say.textContent = error instanceof Error ? error.message : String(error);
      }
    };
    return [
      h("form", { class: "form", on: { submit: (/** @type {Event} */ e) => { e.preventDefault(); save(); } } },
        h("div", { class: "form-row" }, field("Name", name), field("Colour", colour), field("Key", key)),
        field("Description", description), say,
        h("div", { class: "dialog-buttons" }, button(null, "Cancel", done),
          h("button", { type: "submit", class: "button primary" }, h("span", {}, "Save")))),
      h("hr", {}),
      others.length ? h("div", { class: "form-row end" }, field("Merge into", into),
        button(null, "Merge", () => { if (into.value) void whole("/api/classes/merge", { into: into.value }); })) : null,
      h("div", { class: "form-row end" },
        h("p", { class: "hint grow" }, used ? `${count(used, "label")} of this class would go along.` : "No label is of this class."),
        button("trash", "Delete class", () => void whole("/api/classes/delete", {}), { kind: "danger" })),
    ];
  });
}

customElements.define("wt-library", LibraryPage);
