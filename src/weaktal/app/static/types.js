// Types that several modules speak of; nothing here runs.

/**
 * @typedef {{ id: string, name: string, colour: string, key: string, description: string, order: number }} Class
 *
 * @typedef {{
 *   name: string, duration: number | null, fps: number | null, subset: string,
 *   state: "untouched" | "work" | "done", nothing: boolean, note: string,
 *   tags: Record<string, "occurs" | "absent">, seen: Record<string, number>,
 *   clicks: number, segments: number, negatives: number,
 *   features: boolean, trouble: string | null, playable: boolean, removed?: boolean, stamp: number
 * }} Row
 *
 * @typedef {{
 *   video: string, class: string, time?: number, start?: number, end?: number, note?: string,
 *   origin?: Record<string, string | number> | null, value?: string
 * }} Item An item of a video: a click has `time`, segments and negatives have `start` and `end`.
 *
 * @typedef {Record<string, any>} Fields
 * @typedef {{ key: string, set: Fields | null }} Change
 * @typedef {{ key: string, record: any, video: string | null }} Changed
 * @typedef {{ version: number, author: string, label: string, changes: Changed[], rows: Row[] }} EditEvent
 * @typedef {{ key: string, mine: Fields | null, theirs: any, reason: string }} Conflict
 * @typedef {{
 *   version: number, edit: EditEvent | null, conflicts: Conflict[], undo: string | null, redo: string | null
 * }} EditAnswer
 *
 * @typedef {{ state: "none" | "waiting" | "making" | "ready" | "failed", stamp: number, share?: number, error?: string }} ProxyState
 * @typedef {{
 *   width: number, height: number, codec: string, bytes: number, error: string | null, playable: boolean,
 *   stamp: string, path: string, proxy: ProxyState
 * }} Media
 *
 * @typedef {{ name: string, version: number, records: Map<string, any>, media: Media }} OpenVideo
 *
 * @typedef {{ key: string, kind: "click" | "segment" | "negative", class: string, start: number, end: number,
 *   note: string, origin: Record<string, string | number> | null }} Mark An item as timelines and lists show it.
 *
 * @typedef {{ run: string, class: string, start: number, end: number, score: number,
 *   status: string, id: string }} Detection
 */

export {};
