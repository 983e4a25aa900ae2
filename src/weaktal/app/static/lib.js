// Small things that every part of the page uses: elements, icons, texts, messages, dialogs.

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * An element. Properties: `class`, `on` (listeners by event), `style` (CSS properties), `data`, everything else an
 * attribute (true sets it empty, false and null leave it out).
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [props]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props = {}, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, call] of Object.entries(value)) el.addEventListener(event, call);
    else if (name === "style") for (const [k, v] of Object.entries(value)) el.style.setProperty(k, String(v));
    else if (name === "data") Object.assign(el.dataset, value);
    else if (name === "value") /** @type {any} */ (el).value = value;
    else el.setAttribute(name, value === true ? "" : String(value));
  }
  put(el, ...children);
  return el;
}

/**
 * Append children to an element.
 * @param {Element | DocumentFragment} el
 * @param {...(Child | Child[])} children
 */
export function put(el, ...children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    el.append(child instanceof Node ? child : String(child));
  }
}

/**
 * Replace all children of an element.
 * @param {Element} el
 * @param {...(Child | Child[])} children
 */
export function fill(el, ...children) {
  const fragment = document.createDocumentFragment();
  put(fragment, ...children);
  keepFocus(el, () => el.replaceChildren(fragment));
}

/**
 * Change what an element contains. What has the focus there keeps it: a control of the same name afterwards, or, where there
 * are as many as before, the one in its place (its name may say its state).
 * @param {Element} el
 * @param {() => void} change
 */
export function keepFocus(el, change) {
  const held = document.activeElement;
  if (!held || held === el || !el.contains(held)) {
    change();
    return;
  }
  const name = (/** @type {Element} */ c) => c.getAttribute("aria-label") ?? c.textContent;
  const controls = () => [...el.querySelectorAll(held.tagName)];
  const before = controls();
  const alike = before.filter((c) => name(c) === name(held)).indexOf(held);
  change();
  if (el.contains(document.activeElement)) return;
  const after = controls();
  const same = after.filter((c) => name(c) === name(held))[alike]
    ?? (after.length === before.length ? after[before.indexOf(held)] : undefined);
  if (same instanceof HTMLElement) same.focus();
}

const ICONS = {
  library: "M3 5h18v14H3zM3 9h18M7 5v14M17 5v14",
  annotate: "M4 17h16M9 13h8v4M6 5l2.5 2.5L6 10 3.500 7.500z",
  train: "M4 19V5M4 19h16M7 15l4-5 3 3 5-7",
  review: "M4 12.500l4 4L16 7M13 16.500l1 .500L21 8",
  next: "M12 3v3M12 18v3M3 12h3M18 12h3M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8z",
  undo: "M8 5L4 9l4 4M4 9h10a5 5 0 0 1 0 10h-3",
  redo: "M16 5l4 4-4 4M20 9H10a5 5 0 0 0 0 10h3",
  theme: "M12 4a8 8 0 1 0 8 8 6 6 0 0 1-8-8z",
  help: "M9.200 9a2.900 2.900 0 1 1 4.300 2.600c-.900.500-1.500 1-1.500 2M12 17.200v.100",
  play: "M8 5.500v13l10.500-6.500z",
  pause: "M8 5.500v13M16 5.500v13",
  back: "M16 5.500v13L5.500 12z",
  stepback: "M15 6l-6 6 6 6",
  step: "M9 6l6 6-6 6",
  loop: "M17 3l3 3-3 3M20 6H8a4 4 0 0 0-4 4M7 21l-3-3 3-3M4 18h12a4 4 0 0 0 4-4",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  check: "M5 12.500l4.500 4.500L19 7",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  import: "M12 4v11M8 11l4 4 4-4M4 19h16",
  export: "M12 15V4M8 8l4-4 4 4M4 19h16",
  edit: "M4 20l1-4L16 5l3 3L8 19z",
  film: "M4 5h16v14H4zM8 5v14M16 5v14M4 9h4M4 15h4M16 9h4M16 15h4",
  stop: "M7 7h10v10H7z",
  warn: "M12 4l9 16H3zM12 10v4M12 17v.100",
  note: "M5 4h14v11l-5 5H5zM14 20v-5h5M8 8h8M8 12h5",
  search: "M11 5a6 6 0 1 0 0 12 6 6 0 0 0 0-12zM15.500 15.500L20 20",
};

/** @typedef {keyof typeof ICONS} IconName */

/**
 * A line icon in the colour of the text around it.
 * @param {IconName} name
 */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * A button with an icon, and a text or a name for screen readers.
 * @param {IconName | null} name
 * @param {string} text
 * @param {(event: MouseEvent) => void} click
 * @param {{ bare?: boolean, kind?: string, keys?: string, disabled?: boolean, pressed?: boolean }} [options]
 *   `bare` shows the icon alone; `keys` are shown in the tooltip.
 */
export function button(name, text, click, options = {}) {
  return h(
    "button",
    {
      type: "button",
      class: `button ${options.bare ? "bare" : ""} ${options.kind ?? ""}`,
      title: options.bare || options.keys ? text + (options.keys ? ` (${options.keys})` : "") : null,
      "aria-label": options.bare ? text : null,
      "aria-pressed": options.pressed === undefined ? null : String(options.pressed),
      disabled: options.disabled ?? false,
      on: { click },
    },
    name ? icon(name) : null,
    options.bare ? null : h("span", {}, text),
  );
}

/**
 * Seconds as a clock: 1:02:03.45.
 * @param {number} seconds
 * @param {number} [digits] after the point
 */
export function clock(seconds, digits = 0) {
  const scale = 10 ** digits;
  const ticks = Math.round(Math.max(0, seconds) * scale);
  const whole = Math.floor(ticks / scale);
  const rest = digits ? "." + String(ticks % scale).padStart(digits, "0") : "";
  const s = String(whole % 60).padStart(2, "0");
  const m = Math.floor(whole / 60) % 60;
  const hours = Math.floor(whole / 3600);
  return hours ? `${hours}:${String(m).padStart(2, "0")}:${s}${rest}` : `${m}:${s}${rest}`;
}

/**
 * How long something takes, for people.
 * @param {number} seconds
 */
export function span(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/**
 * A number and its noun: 1 click, 2 clicks.
 * @param {number} n
 * @param {string} noun
 */
export function count(n, noun) {
  return `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : noun.endsWith("s") ? "es" : "s"}`;
}

/** A new id for an item. */
export function freshId() {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}

/**
 * A message at the edge of the page; it goes by itself unless it is an error or has a button.
 * @param {string} text
 * @param {{ kind?: "info" | "error" | "warn", action?: string, call?: () => void, stay?: boolean }} [options]
 */
export function toast(text, options = {}) {
  let host = document.querySelector(".toasts");
  if (!host) {
    host = h("div", { class: "toasts", role: "status", "aria-live": "polite" });
    document.body.append(host);
  }
  const close = () => box.remove();
  const box = h(
    "div",
    { class: `toast ${options.kind ?? "info"}` },
    options.kind === "error" || options.kind === "warn" ? icon("warn") : null,
    h("p", {}, text),
    options.action
      ? h("button", { type: "button", class: "button small", on: { click: () => (options.call?.(), close()) } },
          options.action)
      : null,
    h("button", { type: "button", class: "button bare small", "aria-label": "Close message", on: { click: close } },
      icon("close")),
  );
  for (const old of [...host.children]) if (old.querySelector("p")?.textContent === text) old.remove();
  host.append(box);
  while (host.children.length > 4) host.firstElementChild?.remove();
  if (!options.stay && options.kind !== "error") setTimeout(close, options.action ? 9000 : 5000);
}

/**
 * A dialog; closes with Escape, by its cross, or when `done` is called.
 * @param {string} title
 * @param {(done: () => void) => Child[]} body
 * @param {{ wide?: boolean }} [options]
 * @returns {HTMLDialogElement}
 */
export function dialog(title, body, options = {}) {
  const box = h("dialog", { class: options.wide ? "wide" : "", "aria-label": title });
  const done = () => box.close();
  put(
    box,
    h("header", {}, h("h2", {}, title), button("close", "Close", done, { bare: true })),
    h("div", { class: "dialog-body" }, body(done)),
  );
  box.addEventListener("close", () => box.remove());
  box.addEventListener("pointerdown", (event) => {
    if (event.target === box) {
      const r = box.getBoundingClientRect();
      const inside = event.clientX >= r.left && event.clientX <= r.right && event.clientY >= r.top;
      if (!inside || event.clientY > r.bottom) done();
    }
  });
  document.body.append(box);
  box.showModal();
  return box;
}

/**
 * A labelled field of a form.
 * @param {string} label
 * @param {HTMLElement} control
 * @param {string} [hint]
 */
export function field(label, control, hint) {
  return h("label", { class: "field" }, h("span", { class: "field-label" }, label), control,
    hint ? h("span", { class: "hint" }, hint) : null);
}

/**
 * A choice among a few, as a row of buttons.
 * @param {string} name for screen readers
 * @param {[string, string][]} options value and text
 * @param {string} value
 * @param {(value: string) => void} change
 */
export function choice(name, options, value, change) {
  const box = h("div", { class: "choice", role: "radiogroup", "aria-label": name });
  for (const [key, text] of options) {
    const input = h("input", { type: "radio", name, value: key, class: "visually-hidden",
      on: { change: () => change(key) } });
    input.checked = key === value;
    box.append(h("label", {}, input, h("span", {}, text)));
  }
  return box;
}

/**
 * A mark in the colour of a class.
 * @param {string} colour
 */
export function dot(colour) {
  return h("i", { class: "dot", style: { background: colour }, "aria-hidden": "true" });
}

/**
 * Call at most once per animation frame.
 * @param {() => void} call
 */
export function eachFrame(call) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      call();
    });
  };
}

/**
 * Call once things have been quiet for a while.
 * @param {() => void} call
 * @param {number} milliseconds
 */
export function quiet(call, milliseconds) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = window.setTimeout(call, milliseconds);
  };
}

/**
 * A list of which only the visible rows exist.
 */
export class VirtualList {
  /**
   * @param {HTMLElement} viewport scrolls
   * @param {number} rowHeight pixels
   * @param {(index: number) => HTMLElement} row makes the row at an index
   */
  constructor(viewport, rowHeight, row) {
    this.viewport = viewport;
    this.rowHeight = rowHeight;
    this.row = row;
    this.length = 0;
    viewport.classList.add("viewport"); // rows are placed in it
    this.body = h("div", { class: "virtual" });
    viewport.append(this.body);
    /** @type {Map<number, HTMLElement>} */
    this.shown = new Map();
    this.draw = eachFrame(() => this.drawNow());
    viewport.addEventListener("scroll", this.draw, { passive: true });
    new ResizeObserver(this.draw).observe(viewport);
  }

  /**
   * Show another list, or the same with other content.
   * @param {number} length
   */
  reset(length) {
    this.length = length;
    this.body.style.height = `${length * this.rowHeight}px`;
    keepFocus(this.body, () => {
      for (const el of this.shown.values()) el.remove();
      this.shown.clear();
      this.drawNow();
    });
  }

  /** Make one row again. @param {number} index */
  refresh(index) {
    const old = this.shown.get(index);
    if (!old) return;
    const focused = old.contains(document.activeElement)
      ? [...old.querySelectorAll("button, input, a")].indexOf(/** @type {Element} */ (document.activeElement))
      : -1;
    const made = this.make(index);
    old.replaceWith(made);
    this.shown.set(index, made);
    if (focused >= 0) /** @type {HTMLElement} */ (made.querySelectorAll("button, input, a")[focused])?.focus();
    else if (old === document.activeElement) made.focus();
  }

  /** @param {number} index */
  make(index) {
    const el = this.row(index);
    el.style.top = `${index * this.rowHeight}px`;
    el.style.height = `${this.rowHeight}px`;
    return el;
  }

  drawNow() {
    const top = this.viewport.scrollTop - this.body.offsetTop;
    const first = Math.max(0, Math.floor(top / this.rowHeight) - 4);
    const last = Math.min(this.length - 1, Math.ceil((top + this.viewport.clientHeight) / this.rowHeight) + 4);
    for (const [index, el] of this.shown) {
      if (index < first || index > last) {
        el.remove();
        this.shown.delete(index);
      }
    }
    for (let i = first; i <= last; i++) {
      if (this.shown.has(i)) continue;
      const el = this.make(i);
      this.shown.set(i, el);
      const after = [...this.shown.entries()].filter(([k]) => k > i).sort((a, b) => a[0] - b[0])[0]?.[1];
      this.body.insertBefore(el, after ?? null);
    }
  }

  /** Scroll so that a row can be seen. @param {number} index */
  reveal(index) {
    const top = this.body.offsetTop + index * this.rowHeight;
    const view = this.viewport;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + this.rowHeight > view.scrollTop + view.clientHeight)
      view.scrollTop = top + this.rowHeight - view.clientHeight;
    this.drawNow();
  }
}
