// Keys: one table for what they do and for the help that shows it.

import { dialog, h } from "./lib.js";

/**
 * @typedef {{
 *   keys: string, text: string, call: (event: KeyboardEvent) => void, group: string, repeat?: boolean
 * }} Binding `keys` is such as "Space", "Shift+ArrowLeft", "Mod+z"; Mod is Ctrl, or Command on a Mac.
 */

/** Letters and digits that classes cannot have, as the player has them. */
export const RESERVED = "jklno0";

/**
 * The key of an event as bindings write it. Letters are as typed; everything else by its place on the keyboard,
 * so that brackets are where they are on other layouts, too.
 * @param {KeyboardEvent} event
 */
export function keyOf(event) {
  const named = { " ": "Space", BracketLeft: "[", BracketRight: "]", Minus: "-", Equal: "=", Comma: ",", Period: "." };
  let name = event.key;
  if (event.code.startsWith("Digit")) name = event.code.slice(5);
  else if (event.code.startsWith("Numpad") && /^\d$/.test(event.key)) name = event.key;
  else if (event.code in named) name = named[/** @type {keyof typeof named} */ (event.code)];
  else if (name in named) name = named[/** @type {keyof typeof named} */ (name)];
  if (name.length === 1) name = name.toLowerCase();
  const mod = event.ctrlKey || event.metaKey ? "Mod+" : "";
  const shift = event.shiftKey && name !== "?" ? "Shift+" : "";
  return mod + (event.altKey ? "Alt+" : "") + shift + name;
}

/** Whether a person is typing or choosing, so that keys belong to what has the focus. @param {Event} event */
export function typing(event) {
  const el = event.target instanceof Element ? event.target : null;
  if (!el) return false;
  if (el.closest("dialog")) return true;
  return Boolean(el.closest("textarea, select, [contenteditable]"))
    || (el instanceof HTMLInputElement && !["checkbox", "radio", "range", "button"].includes(el.type));
}

export class Keys {
  constructor() {
    /** @type {Set<Binding[]>} */
    this.tables = new Set();
    addEventListener("keydown", (event) => this.press(event));
  }

  /**
   * Have these keys until the returned function is called.
   * @param {Binding[]} bindings
   * @returns {() => void}
   */
  bind(bindings) {
    this.tables.add(bindings);
    return () => this.tables.delete(bindings);
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    if (event.defaultPrevented || typing(event)) return;
    const key = keyOf(event);
    const el = event.target instanceof Element ? event.target : null;
    // a focused control keeps the keys that it is worked with
    if (el?.closest("button, a, input, summary") && (key === "Enter" || key === "Space")) return;
    if (el instanceof HTMLInputElement && el.type !== "checkbox" && /^(Arrow|Home|End|Page)/.test(event.key)) return;
    for (const table of [...this.tables].reverse()) {
      for (const binding of table) {
        if (binding.keys.split(" ").includes(key)) {
          event.preventDefault();
          if (!event.repeat || binding.repeat) binding.call(event);
          return;
        }
      }
    }
  }

  help() {
    const groups = new Map();
    for (const table of this.tables)
      for (const b of table) if (b.text) groups.set(b.group, [...(groups.get(b.group) ?? []), b]);
    dialog("Keys", () => [
      h("div", { class: "key-help" },
        [...groups.entries()].map(([group, list]) =>
          h("section", {}, h("h3", {}, group),
            h("dl", {}, list.map((/** @type {Binding} */ b) => [
              h("dt", {}, b.keys.split(" ").map((k, i) => [i ? " or " : "", keycap(k)]).flat()),
              h("dd", {}, b.text),
            ]).flat())))),
    ], { wide: true });
  }
}

/** A key as it is printed on a keyboard. @param {string} keys */
export function keycap(keys) {
  const mac = navigator.platform.startsWith("Mac");
  const names = { Mod: mac ? "⌘" : "Ctrl", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓",
    Delete: "Del", PageUp: "PgUp", PageDown: "PgDn" };
  const parts = keys === "+" ? ["+"] : keys.split("+");
  const shown = parts.map((p) => names[/** @type {keyof typeof names} */ (p)] ?? (p.length === 1 ? p.toUpperCase() : p));
  return h("kbd", {}, shown.join(mac ? "" : "+"));
}
