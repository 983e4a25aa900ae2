// The player: a video that knows which picture it shows, and steps from picture to picture.

const PATIENCE = 2000; // milliseconds

/**
 * Events: "frame" (another picture is shown), "state" (plays, stops, another speed), "trouble" (cannot be played).
 */
export class Player extends EventTarget {
  constructor() {
    super();
    this.video = document.createElement("video");
    this.video.playsInline = true;
    this.video.muted = true;
    this.video.preload = "auto";
    this.video.tabIndex = -1;
    /** When each picture is shown, seconds. @type {Float64Array | null} */
    this.frames = null;
    /** By how much the browser's clock is ahead of ours. @type {number | null} */
    this.origin = null;
    /** What the browser's clock says at the first picture. @type {number | null} */
    this.first = null;
    this.index = 0;
    /** The picture that was asked for and is not there yet, or -1. */
    this.goal = -1;
    /** A time that was asked for before those of the pictures were known. @type {number | null} */
    this.wish = null;
    /** It was to play before one clock could be told from the other. */
    this.willPlay = false;
    this.duration = 0;
    this.rate = 1;
    this.reverse = 0;
    this.loads = 0;
    /** @type {[number, number] | null} */
    this.loop = null;
    this.video.addEventListener("play", () => this.tell("state"));
    this.video.addEventListener("pause", () => this.tell("state"));
    this.video.addEventListener("ended", () => this.tell("state"));
    this.video.addEventListener("ratechange", () => this.tell("state"));
    this.video.addEventListener("seeked", () => this.arrived());
    this.video.addEventListener("error", () => this.tell("trouble"));
    this.video.addEventListener("loadeddata", () => this.soon());
    this.watch();
  }

  /** @param {string} kind */
  tell(kind) {
    this.dispatchEvent(new Event(kind));
  }

  watch() {
    this.video.requestVideoFrameCallback((_, about) => {
      // (with nothing loaded it is a last picture of the video before)
      if (this.video.readyState !== HTMLMediaElement.HAVE_NOTHING) this.shows(about.mediaTime);
      this.watch();
    });
  }

  /** Another picture is shown. @param {number} mediaTime of the browser's clock */
  shows(mediaTime) {
    this.first ??= mediaTime;
    this.begin();
    if (this.origin === null) return;
    const index = this.nearest(mediaTime - this.origin);
    if (this.goal < 0 || index === this.goal || !this.video.seeking) {
      this.index = index;
      if (index === this.goal) this.goal = -1;
    }
    if (this.loop && !this.video.paused && this.time >= this.loop[1]) this.seek(this.loop[0]);
    this.tell("frame");
  }

  /** A browser that does not tell of its first picture (it may hide the page) has a clock as ours. */
  soon() {
    const { loads, frames } = this;
    if (!frames || this.video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return; // what comes second calls again
    setTimeout(() => {
      if (loads !== this.loads) return;
      this.first ??= frames[0] ?? 0;
      this.begin();
    }, PATIENCE);
  }

  /** Once the first picture is shown and all times are known, one clock can be told from the other. */
  begin() {
    if (this.origin !== null || this.first === null || this.frames === null) return;
    this.origin = this.first - (this.frames[0] ?? 0);
    this.go();
    if (this.willPlay) this.play();
  }

  /**
   * Another video.
   * @param {string} name
   * @param {string} stamp of the file, so that a changed one is fetched anew
   * @param {number | null} duration
   */
  async load(name, stamp, duration) {
    const load = ++this.loads;
    this.stop();
    this.frames = null;
    this.origin = null;
    this.first = null;
    this.index = 0;
    this.goal = -1;
    this.wish = null;
    this.loop = null;
    this.duration = duration ?? 0;
    this.video.src = `/media/${encodeURIComponent(name)}?v=${encodeURIComponent(stamp)}`;
    const found = await fetch(`/api/frames/${encodeURIComponent(name)}`);
    if (!found.ok || load !== this.loads) return;
    const frames = new Float64Array(await found.arrayBuffer());
    if (load !== this.loads) return;
    this.frames = frames;
    this.duration = Math.max(duration ?? 0, this.end(this.frames.length - 1));
    if (this.wish !== null) this.seek(this.wish);
    this.begin();
    this.soon();
    this.tell("frame");
  }

  unload() {
    this.loads++;
    this.stop();
    this.frames = null;
    this.video.removeAttribute("src");
    this.video.load();
    this.tell("frame");
  }

  get playing() {
    return this.willPlay || this.reverse !== 0 || (!this.video.paused && !this.video.ended);
  }

  /** The time of the picture that is shown (or was asked for), seconds. */
  get time() {
    const index = this.goal >= 0 ? this.goal : this.index;
    return this.frames?.[index] ?? 0;
  }

  /** When a picture makes way for the next one. @param {number} index */
  end(index) {
    const t = this.frames;
    if (!t?.length) return 0;
    const now = t[index] ?? 0;
    if (index + 1 < t.length) return t[index + 1] ?? now;
    return now + (t.length > 1 ? now - (t[t.length - 2] ?? 0) : 0.04);
  }

  /** The picture that is shown at a time: the last one that begins there or before. @param {number} seconds */
  at(seconds) {
    const t = this.frames;
    if (!t?.length) return 0;
    let low = 0, high = t.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (/** @type {number} */ (t[middle]) <= seconds + 1e-6) low = middle;
      else high = middle;
    }
    return low;
  }

  /** The picture whose time is nearest. @param {number} seconds */
  nearest(seconds) {
    const i = this.at(seconds);
    const t = this.frames;
    if (!t || i + 1 >= t.length) return i;
    return Math.abs((t[i + 1] ?? 0) - seconds) < Math.abs((t[i] ?? 0) - seconds) ? i + 1 : i;
  }

  /** A time moved to the nearest picture. @param {number} seconds */
  snap(seconds) {
    return this.frames?.[this.nearest(seconds)] ?? seconds;
  }

  /** @param {number} index */
  show(index) {
    if (!this.frames?.length) return;
    this.goal = Math.max(0, Math.min(this.frames.length - 1, index));
    this.go();
    this.tell("frame");
  }

  /** @param {number} seconds */
  seek(seconds) {
    if (this.frames) this.show(this.at(Math.max(0, seconds)));
    else this.wish = seconds;
  }

  go() {
    // (while it seeks, the next one starts when this one has arrived)
    if (this.origin === null || this.video.seeking || this.goal < 0) return;
    const start = this.frames?.[this.goal] ?? 0;
    // in the middle of the picture: neither neighbour is a rounding error away
    this.asked = this.goal;
    this.video.currentTime = this.origin + (start + this.end(this.goal)) / 2;
  }

  arrived() {
    if (this.goal >= 0 && this.goal !== this.asked) {
      this.go();
      return;
    }
    if (this.goal >= 0) {
      this.index = this.goal;
      this.goal = -1;
    }
    this.tell("frame");
  }

  /** @param {number} frames */
  step(frames) {
    this.stop();
    this.show((this.goal >= 0 ? this.goal : this.index) + frames);
  }

  toggle() {
    if (this.playing) this.stop();
    else this.play();
  }

  play() {
    this.halt();
    if (this.origin === null) {
      this.willPlay = true;
      return;
    }
    if (this.frames && this.index >= this.frames.length - 1) this.show(0);
    this.video.playbackRate = this.rate;
    void this.video.play().catch(() => undefined);
  }

  stop() {
    this.halt();
    this.video.pause();
    this.tell("state");
  }

  halt() {
    clearInterval(this.reverse);
    this.reverse = 0;
    this.willPlay = false;
  }

  /** @param {number} rate */
  setRate(rate) {
    this.rate = Math.max(0.25, Math.min(4, rate));
    this.video.playbackRate = this.rate;
    this.tell("state");
  }

  /** J, K, L: backwards, stop, forwards; again is faster. @param {-1 | 0 | 1} direction */
  shuttle(direction) {
    if (direction === 0) {
      this.stop();
      this.rate = 1;
      this.tell("state");
    } else if (direction === 1) {
      if (this.playing && !this.reverse) this.setRate(this.rate * 2);
      else {
        if (this.reverse) this.rate = 1;
        this.play();
      }
    } else {
      if (this.reverse) this.rate = Math.min(4, this.rate * 2);
      else this.rate = 1;
      this.halt();
      this.video.pause();
      let position = this.time;
      let last = performance.now();
      this.reverse = window.setInterval(() => {
        const now = performance.now();
        position -= ((now - last) / 1000) * this.rate;
        last = now;
        if (position <= 0) {
          this.show(0);
          this.stop();
        } else if (!this.video.seeking) this.seek(position);
      }, 40);
      this.tell("state");
    }
  }

  /**
   * Play a stretch over and over.
   * @param {[number, number] | null} stretch
   */
  setLoop(stretch) {
    this.loop = stretch;
    if (stretch) {
      this.seek(stretch[0]);
      this.play();
    }
    this.tell("state");
  }
}
