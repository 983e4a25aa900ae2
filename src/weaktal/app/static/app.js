// The shell: navigation, what is saved, messages, theme.

import { Keys } from "./keys.js";
import { button, fill, h, icon, toast } from "./lib.js";
import { Store } from "./store.js";
import { LibraryPage } from "./library.js";
import { AnnotatePage } from "./annotate.js";
import { NextPage } from "./next.js";
import { ReviewPage } from "./review.js";
import { TrainPage } from "./train.js";

/** @import { IconName } from "./lib.js" */
/**
 * @typedef {HTMLElement & { show?: (rest: string, more: string) => void }} Page
 * @typedef {{ store: Store, keys: Keys, go: (page: string, rest?: string) => void }} Context
 */

/** @type {[string, string, IconName, new (context: Context) => Page][]} */
const PAGES = [
  ["library", "Library", "library", LibraryPage],
  ["annotate", "Annotate", "annotate", AnnotatePage],
  ["train", "Train", "train", TrainPage],
  ["review", "Review", "review", ReviewPage],
  ["next", "Next", "next", NextPage],
];

class App extends HTMLElement {
  store = new Store();
  keys = new Keys();
  /** @type {Page | null} */
  page = null;
  current = "";

  connectedCallback() {
    this.setTheme(localStorage.getItem("weaktal-theme") ?? "");
    history.replaceState(null, "", location.pathname + location.hash); // the token need not be seen or shared
    this.main = h("main", { id: "main", tabindex: "-1" });
    this.nav = h("nav", { "aria-label": "Pages" });
    this.saved = h("span", { class: "saved", role: "status" });
    this.undo = button("undo", "Undo", () => this.store.back("undo"), { bare: true, keys: "Ctrl+Z" });
    this.redo = button("redo", "Redo", () => this.store.back("redo"), { bare: true, keys: "Ctrl+Shift+Z" });
    this.title_ = h("span", { class: "project-name" });
    this.append(
      h("a", { class: "skip", href: "#main", on: { click: (/** @type {Event} */ e) => {
        e.preventDefault();
        this.main?.focus();
      } } }, "Skip to the page"),
      h("header", { class: "topbar" },
        h("a", { class: "brand", href: "#/library", "aria-label": "WeakTAL, to the library" },
          h("img", { src: "/static/icon.svg", alt: "", width: 22, height: 22 }), h("b", {}, "WeakTAL")),
        this.title_, this.nav, h("span", { class: "spacer" }), this.saved, this.undo, this.redo,
        button("theme", "Light or dark", () => this.nextTheme(), { bare: true }),
        button("help", "Keys", () => this.keys.help(), { bare: true, keys: "?" })),
      this.main,
    );
    this.keys.bind([
      { keys: "Mod+z", text: "Undo", group: "Everywhere", call: () => void this.store.back("undo") },
      { keys: "Mod+Shift+z Mod+y", text: "Redo", group: "Everywhere", call: () => void this.store.back("redo") },
      { keys: "?", text: "This help", group: "Everywhere", call: () => this.keys.help() },
    ]);
    this.store.on("save", () => this.showSaved());
    this.store.on("undo", () => this.showUndo());
    this.store.on("notice", (text) => toast(text, { kind: "warn", stay: true, action: "Read", call: () =>
      void fetch("/api/notices/read", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" }) }));
    addEventListener("hashchange", () => this.route());
    // after a click with the pointer, keys are the page's again: Space plays, Enter goes on
    addEventListener("click", (event) => {
      const el = document.activeElement?.closest("button, a, summary");
      if (event.detail > 0 && el instanceof HTMLElement && !el.closest("dialog, form")) el.blur();
    });
    addEventListener("beforeunload", (event) => {
      if (this.store.queue.length && !this.store.online) event.preventDefault();
    });
    fill(this.main, h("p", { class: "loading" }, "Opening the project…"));
    this.store.start().then(() => {
      document.title = `${this.store.name} · WeakTAL`;
      if (this.title_) this.title_.textContent = this.store.name;
      this.route();
      this.showSaved();
      this.showUndo();
    }).catch((error) => {
      if (this.main) fill(this.main, h("p", { class: "empty" }, icon("warn"), String(error.message ?? error)));
    });
  }

  /** @param {string} page @param {string} [rest] */
  go(page, rest = "") {
    location.hash = `#/${page}${rest ? "/" + encodeURIComponent(rest) : ""}`;
  }

  route() {
    const [, name = "library", rest = "", more = ""] = location.hash.split("/");
    const found = PAGES.find(([key]) => key === name) ?? PAGES[0];
    if (!found || !this.main || !this.nav) return;
    if (this.current !== found[0] || !this.page) {
      this.current = found[0];
      const kind = found[3];
      this.page = new kind({ store: this.store, keys: this.keys, go: (p, r) => this.go(p, r) });
      this.main.replaceChildren(this.page);
      this.main.scrollTop = 0;
    }
    this.page.show?.(decodeURIComponent(rest), more);
    fill(this.nav, PAGES.map(([key, text, image]) =>
      h("a", { href: `#/${key}`, "aria-current": key === found[0] ? "page" : null }, icon(image), h("span", {}, text))));
  }

  showSaved() {
    if (!this.saved) return;
    const { online, queue } = this.store;
    const state = !online ? "offline" : queue.length ? "saving" : "ok";
    const text = { offline: queue.length ? `Server does not answer; ${queue.length} not saved yet` : "Server does not answer",
      saving: "Saving…", ok: "Saved" }[state];
    if (this.saved.dataset.state === state && this.saved.textContent === text) return;
    this.saved.dataset.state = state;
    this.saved.textContent = text;
  }

  showUndo() {
    const show = (/** @type {HTMLButtonElement | undefined} */ el, /** @type {string} */ what,
      /** @type {string | null} */ label) => {
      if (!el) return;
      el.disabled = label === null;
      el.title = label === null ? what : `${what}: ${label}`;
    };
    show(this.undo, "Undo", this.store.undoLabel);
    show(this.redo, "Redo", this.store.redoLabel);
  }

  /** @param {string} theme "light", "dark", or "" for the system's */
  setTheme(theme) {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  }

  nextTheme() {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
    const next = now === "dark" ? "light" : "dark";
    localStorage.setItem("weaktal-theme", next);
    this.setTheme(next);
    dispatchEvent(new Event("themechange"));
  }
}

customElements.define("wt-app", App);
