"use strict";
// Plays the structure that views/player.py documents: pictures, actions and chunks on one clock.

// The inverse of views/player.py's `packed`: a flat Float32Array with its shape; NaN where nothing is.
function unpack({ shape, low, scale, data: text }) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const steps = new DataView(bytes.buffer);
  const values = new Float32Array(bytes.length / 2);
  const width = shape[shape.length - 1];
  for (let i = 0; i < values.length; i++) {
    const step = steps.getInt16(2 * i, true);
    values[i] = step === -32768 ? NaN : low[i % width] + (step + 32767) * scale[i % width];
  }
  return { shape, values };
}

// Colours of the policies of a comparison, the base first; a single run has the first alone.
const LAYERS = ["policy", "hold", "repeat", "mean", "warn", "soft"];

class Player {
  constructor(box, data) {
    this.box = box;
    this.data = data;
    this.frame = 0;
    this.timer = null;
    this.known = new Map();
    this.find = (name) => box.querySelector(`[data-${name}]`);
    const roles = {
      first_success: t("first success"), first_failure: t("first failure"),
      worst: t("worst"), median: t("median"), best: t("best"),
      gain: t("largest gain"), loss: t("largest loss"),
    };
    const select = this.find("episode");
    for (const e of data.episodes) {
      const notes = [roles[e.role], e.clips.length ? t("with pictures") : null].filter(Boolean).join(", ");
      select.append(make("option", { value: e.index }, notes ? `${e.title} (${notes})` : e.title));
    }
    select.addEventListener("change", () => this.open(Number(select.value)));
    for (const role of Object.keys(roles)) {
      const e = data.episodes.find((one) => one.role === role);
      if (e) this.find("presets").append(make("button", { type: "button", "data-preset": role, onclick: () => this.open(e.index) }, `${roles[role]} (${e.title})`));
    }
    this.find("play").addEventListener("click", () => this.toggle());
    for (const button of box.querySelectorAll("[data-step]")) {
      button.addEventListener("click", () => this.seek(this.frame + Number(button.dataset.step)));
    }
    this.find("scrub").addEventListener("input", (event) => this.seek(Number(event.target.value)));
    this.find("all-dims").addEventListener("change", () => this.drawActions());
    for (const kind of ["pointerdown", "pointermove"]) this.find("errors").addEventListener(kind, (event) => this.scratch(event));
    document.addEventListener("keydown", (event) => this.press(event));
    let width = box.clientWidth;
    new ResizeObserver(() => {
      if (Math.abs(box.clientWidth - width) < 2) return;
      width = box.clientWidth;
      this.redraw();
    }).observe(box);
    page.listeners.push(() => this.redraw());
    const first = data.episodes.find((e) => ["worst", "gain"].includes(e.role)) ?? data.episodes.find((e) => e.clips.length) ?? data.episodes[0];
    this.open(first.index);
  }

  // ── episodes ──

  // With `scroll`: from elsewhere on the page, so that the player comes into view and gets the keys.
  open(index, scroll = false, frame = 0, why = "") {
    const episode = this.data.episodes.find((e) => e.index === index);
    if (scroll) {
      this.box.closest("section").scrollIntoView({ block: "start" });
      this.box.focus({ preventScroll: true });
    }
    this.find("why").textContent = why;
    this.find("why").hidden = !why;
    if (!episode) {
      this.say(t("The actions of episode {episode} are not in this page, to keep it below 15 MB; they are in predictions.parquet.", { episode: index }));
      return;
    }
    this.pause();
    this.episode = episode;
    this.arrays = this.read(episode);
    this.arrays.sheets ??= episode.clips.map((clip) => clip.sheets.map((sheet) => {
      const image = new Image();
      image.onload = () => this.drawPictures();
      image.src = `data:image/webp;base64,${sheet}`;
      return image;
    }));
    this.find("episode").value = index;
    const facts = Object.entries(episode.facts).map(([name, text]) => `${name}: ${text}`);
    if (episode.task) facts.unshift(t("Task: {task}", { task: episode.task }));
    this.find("task").textContent = facts.join(" · ");
    this.say(episode.left_out);
    const scrub = this.find("scrub");
    scrub.max = episode.n_frames - 1;
    this.frame = frame;
    for (const button of this.box.querySelectorAll("[data-preset]")) {
      button.setAttribute("aria-pressed", String(button.dataset.preset === episode.role));
    }
    this.redraw();
    page.stripChanged?.();
  }

  // The numbers of an episode; its pictures are added when it is opened.
  read(episode) {
    if (!this.known.has(episode.index)) {
      this.known.set(episode.index, {
        layers: [episode, ...(episode.others ?? [])].map((one) => ({
          asked: one.asked, chunks: unpack(one.chunks), executed: one.executed && unpack(one.executed),
        })),
        demonstrated: episode.demonstrated && unpack(episode.demonstrated),
        errors: Object.fromEntries(Object.entries(episode.errors).map(([view, packed]) => [view, unpack(packed).values])),
      });
    }
    return this.known.get(episode.index);
  }

  say(text) {
    const note = this.find("missing");
    note.textContent = text;
    note.hidden = !text;
  }

  redraw() {
    if (!this.episode) return;
    this.drawCameras();
    this.drawActions();
    this.drawErrors();
    this.drawLegend();
    this.seek(this.frame);
  }

  // ── time ──

  seek(frame) {
    this.frame = Math.min(Math.max(frame, 0), this.episode.n_frames - 1);
    const { fps } = this.data;
    const scrub = this.find("scrub");
    scrub.value = this.frame;
    const clock = t("frame {frame} of {n}, {s} s", { frame: this.frame + 1, n: this.episode.n_frames, s: (this.frame / fps).toFixed(fps > 20 ? 2 : 1) });
    scrub.setAttribute("aria-valuetext", clock);
    this.find("clock").textContent = clock;
    this.drawPictures();
    for (const draw of this.cursors ?? []) draw();
  }

  toggle() {
    if (this.timer) this.pause();
    else this.play();
  }

  play() {
    if (this.frame >= this.episode.n_frames - 1) this.seek(0);
    let begin = performance.now();
    let from = this.frame;
    let speed = Number(this.find("speed").value);
    const tick = (now) => {
      const wanted = Number(this.find("speed").value);
      if (wanted !== speed) [begin, from, speed] = [now, this.frame, wanted];
      const frame = from + Math.floor(((now - begin) / 1000) * this.data.fps * speed);
      if (frame !== this.frame) this.seek(frame);
      if (this.frame >= this.episode.n_frames - 1) this.pause();
      else this.timer = requestAnimationFrame(tick);
    };
    this.timer = requestAnimationFrame(tick);
    this.label("M1 0h4v14H1zM9 0h4v14H9z", t("pause"));
  }

  pause() {
    if (this.timer) cancelAnimationFrame(this.timer);
    this.timer = null;
    this.label("M2 0v14l12-7z", t("play"));
  }

  label(sign, text) {
    const button = this.find("play");
    button.querySelector("path").setAttribute("d", sign);
    button.setAttribute("aria-label", text);
    button.title = `${text} (${t("space")})`;
  }

  inView() {
    const { top, bottom } = this.box.getBoundingClientRect();
    return top < innerHeight * 0.75 && bottom > innerHeight * 0.25;
  }

  // Keys are the player's while it is in view, wherever on the page the last click was; fields keep
  // those that they need themselves, and a button outside of the player its space.
  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const { target, key } = event;
    const inside = this.box.contains(target);
    if (!inside && (!this.inView() || target.closest(".scroll, pre, video"))) return;
    if (target !== this.find("scrub") && target.matches("select, textarea, input:not([type=checkbox])")) return;
    if (key === " " && (target.matches("input[type=checkbox]") || (!inside && target.matches("button, summary, a, [tabindex]")))) return;
    const jump = event.shiftKey ? 10 : 1;
    const list = this.data.episodes;
    const next = (by) => this.open(list[(list.indexOf(this.episode) + by + list.length) % list.length].index);
    const speed = this.find("speed");
    const faster = (by) => {
      speed.selectedIndex = Math.min(Math.max(speed.selectedIndex + by, 0), speed.options.length - 1);
    };
    const actions = {
      " ": () => this.toggle(), ArrowLeft: () => this.seek(this.frame - jump), ArrowRight: () => this.seek(this.frame + jump),
      Home: () => this.seek(0), End: () => this.seek(this.episode.n_frames - 1),
      "+": () => faster(1), "-": () => faster(-1), n: () => next(1), p: () => next(-1),
    };
    const action = actions[key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  // A press on the strip above the scrub bar, or a drag along it.
  scratch(event) {
    if (event.type === "pointermove" && !event.buttons) return;
    const { left, width } = this.find("errors").getBoundingClientRect();
    this.seek(Math.round(((event.clientX - left) / width) * (this.episode.n_frames - 1)));
  }

  // ── pictures ──

  drawCameras() {
    const { plane } = this.data;
    const clips = this.episode.clips.length ? this.episode.clips : plane ? [null] : [];
    this.canvases = clips.map((clip, at) => {
      const shape = clip ?? { width: plane.width, height: plane.height };
      const canvas = make("canvas", { role: "img" });
      canvas.style.aspectRatio = `${shape.width} / ${shape.height}`;
      const stride = clip && clip.stride > 1 ? ` (${t("every {n} frames", { n: clip.stride })})` : "";
      const title = clip ? `${clip.camera}${stride}` : t("board");
      return { canvas, clip, title, sheets: this.arrays.sheets[at] };
    });
    this.find("cameras").replaceChildren(...this.canvases.map(({ canvas, title }) => make("figure", {}, canvas, make("figcaption", {}, title))));
    for (const { canvas, clip } of this.canvases) {
      const ratio = Math.min(devicePixelRatio || 1, 2);
      const shape = clip ?? { width: plane.width, height: plane.height };
      canvas.width = Math.max(canvas.clientWidth, 160) * ratio;
      canvas.height = (canvas.width * shape.height) / shape.width;
    }
  }

  drawPictures() {
    for (const { canvas, clip, title, sheets } of this.canvases ?? []) {
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, canvas.width, canvas.height);
      canvas.setAttribute("aria-label", t("{camera}, frame {frame}", { camera: title, frame: this.frame + 1 }));
      if (clip) {
        const i = Math.floor(Math.min(this.frame, clip.n_frames - 1) / clip.stride);
        const image = sheets[Math.floor(i / (clip.columns * clip.rows))];
        const place = i % (clip.columns * clip.rows);
        if (image?.complete && image.naturalWidth) {
          context.drawImage(image, (place % clip.columns) * clip.width, Math.floor(place / clip.columns) * clip.height,
            clip.width, clip.height, 0, 0, canvas.width, canvas.height);
        }
      }
      if (this.data.plane) this.drawPaths(context, canvas, clip);
    }
  }

  // Over the picture: the predicted chunk, and what was demonstrated ahead or executed so far.
  drawPaths(context, canvas, clip) {
    const { plane } = this.data;
    const onPicture = Boolean(clip);
    const at = (x, y) => [(x / plane.width) * canvas.width, (y / plane.height) * canvas.height];
    const unit = canvas.width / 420;
    const line = (points, stroke, width, dots = 0) => {
      const kept = points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y)).map(([x, y]) => at(x, y));
      if (!kept.length) return;
      const trace = () => {
        context.beginPath();
        kept.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
        context.stroke();
      };
      context.lineJoin = context.lineCap = "round";
      if (onPicture) {
        context.strokeStyle = halo;
        context.lineWidth = (width + 2.4) * unit;
        trace();
      }
      context.strokeStyle = context.fillStyle = stroke;
      context.lineWidth = width * unit;
      trace();
      for (const [x, y] of dots ? kept : []) {
        context.beginPath();
        context.arc(x, y, dots * unit, 0, 7);
        if (onPicture && dots > 4) {
          context.lineWidth = 2.4 * unit;
          context.strokeStyle = halo;
          context.stroke();
        }
        context.fill();
      }
    };
    const [demo, halo] = [colour("demo"), colour("paper")];
    const point = (array, row) => [array.values[row * array.shape[1] + plane.x], array.values[row * array.shape[1] + plane.y]];
    this.arrays.layers.forEach((layer, i) => {
      if (clip?.layer != null && clip.layer !== i) return; // the picture is of another policy's run
      const known = (i ? null : this.arrays.demonstrated) ?? layer.executed;
      const { n, since, samples, horizon } = this.chunkAt(this.frame, i);
      const ink = layer.executed && i ? colour(LAYERS[i % LAYERS.length]) : demo;
      if (!onPicture && known) {
        context.globalAlpha = 0.3;
        line(d3.range(known.shape[0]).map((row) => point(known, row)), ink, 1.2);
        context.globalAlpha = 1;
      }
      if (known) {
        const [first, end] = this.arrays.demonstrated ? [this.frame, this.frame + horizon] : [this.frame - horizon, this.frame + 1];
        line(d3.range(Math.max(first, 0), Math.min(end, known.shape[0])).map((row) => point(known, row)), ink, 2.6);
        if (this.frame < known.shape[0]) line([point(known, this.frame)], ink, 2.6, 5);
      }
      if (n == null) return;
      const stroke = colour(LAYERS[i % LAYERS.length]);
      for (let k = samples - 1; k >= 0; k--) {
        context.globalAlpha = k ? 0.45 : 1;
        line(d3.range(since, horizon).map((h) => [this.chunkValue(n, k, h, plane.x, i), this.chunkValue(n, k, h, plane.y, i)]), stroke, k ? 1.4 : 2.6, k ? 0 : 2.6);
      }
      context.globalAlpha = 1;
    });
  }

  // ── actions ──

  // The latest chunk of a policy; of it, the steps from this frame on are yet to come.
  chunkAt(frame, i = 0) {
    const { asked, chunks } = this.arrays.layers[i];
    const [, samples, horizon] = chunks.shape;
    const n = d3.bisectRight(asked, frame) - 1;
    return n < 0 ? { n: null, samples, horizon } : { n, from: asked[n], since: frame - asked[n], samples, horizon };
  }

  chunkValue(n, k, h, d, i = 0) {
    const { chunks } = this.arrays.layers[i];
    const [, samples, horizon, dims] = chunks.shape;
    return chunks.values[((n * samples + k) * horizon + h) * dims + d];
  }

  // What a robot would run of the predictions: the first steps of every n_action_steps-th chunk.
  assembled(d, i = 0) {
    const every = this.data.layers?.[i].n_action_steps ?? this.data.n_action_steps;
    const { asked, chunks } = this.arrays.layers[i];
    const rows = [];
    for (let n = 0; n < asked.length; n += every) {
      for (let h = 0; h < Math.min(every, chunks.shape[2]); h++) {
        const value = this.chunkValue(n, 0, h, d, i);
        if (Number.isFinite(value)) rows.push({ s: (asked[n] + h) / this.data.fps, value, n });
      }
    }
    return rows;
  }

  shownDims() {
    const all = d3.range(this.data.names.length);
    const most = 6;
    this.find("dims-label").hidden = all.length <= most;
    if (all.length <= most || this.find("all-dims").checked) return all;
    const error = new Map(this.data.dims.map((row) => [row.dim, row.nmae ?? 0]));
    return all.sort((a, b) => d3.descending(error.get(a), error.get(b))).slice(0, most).sort(d3.ascending);
  }

  drawActions() {
    const box = this.find("actions");
    const dims = this.shownDims();
    box.classList.toggle("few", dims.length <= 3);
    box.replaceChildren();
    this.cursors = [];
    const cells = dims.map(() => make("div", { class: "cell" }));
    box.append(...cells);
    dims.forEach((d, i) => this.drawDim(cells[i], d, dims.length));
    this.drawErrors();
    for (const draw of this.cursors) draw();
  }

  drawDim(cell, d, count) {
    const { fps } = this.data;
    const row = this.data.dims.find((r) => r.dim === d);
    const scaled = page.view === "normalized" && row && !row.excluded;
    const f = (v) => (scaled ? (v - row.mean) / row.std : v);
    const unit = scaled ? t("std") : this.data.units[d];
    const series = (array) => array && d3.range(array.shape[0]).map((i) => ({ s: i / fps, value: f(array.values[i * array.shape[1] + d]) }));
    const demonstrated = series(this.arrays.demonstrated);
    const { layers } = this.arrays;
    const runs = layers.map((layer, i) => series(layer.executed) ?? this.assembled(d, i).map((p) => ({ ...p, value: f(p.value) })));
    const run = runs.flat();
    const ink = (i) => `var(--${layers[i].executed && !i && layers.length < 2 && !this.data.recorded ? "demo" : LAYERS[i % LAYERS.length]})`;
    let [low, high] = d3.extent(demonstrated ?? run, (p) => p.value);
    const [first, last] = [d3.quantile(run, 0.01, (p) => p.value), d3.quantile(run, 0.99, (p) => p.value)];
    [low, high] = [Math.min(low, first ?? low), Math.max(high, last ?? high)];
    const margin = (high - low) * 0.07 || 1;
    const width = cell.clientWidth;
    const node = plot({
      width, height: count > 3 ? 128 : Math.min(230, 150 + 40 * (3 - count)), marginLeft: 46, marginRight: 10, marginTop: 8, marginBottom: 24,
      style: { ...FONT, fontSize: "11px" }, clip: true,
      ariaLabel: t("{name} over time", { name: this.data.names[d] }),
      x: { domain: [0, Math.max(this.episode.n_frames - 1, 1) / fps], label: null, ticks: Math.max(3, width / 90), tickFormat: (v) => `${v} s` },
      y: { domain: [low - margin, high + margin], label: null, grid: true, ticks: 4 },
      marks: [
        ...runs.map((rows, i) => Plot.lineY(rows, { x: "s", y: "value", z: layers[i].executed ? null : "n", stroke: ink(i), strokeWidth: 1.3, strokeOpacity: 0.75, clip: true })),
        ...(demonstrated ? [Plot.lineY(demonstrated, { x: "s", y: "value", stroke: COLOURS.demo, strokeWidth: 1.5, clip: true })] : []),
      ],
    });
    cell.append(make("h4", { title: this.data.names[d] }, `${this.data.names[d]} (${unit})`), node);
    const [x, y] = [node.scale("x"), node.scale("y")];
    const layer = d3.select(node).append("g").attr("aria-hidden", "true");
    const cursor = layer.append("line").attr("y1", y.range[0]).attr("y2", y.range[1]).attr("stroke", "var(--ink)").attr("stroke-opacity", 0.55);
    const fan = layers.flatMap(({ chunks }, i) => d3.range(chunks.shape[1]).reverse().map((k) => ({
      i, k, line: layer.append("path").attr("fill", "none").attr("stroke", `var(--${LAYERS[i % LAYERS.length]})`)
        .attr("stroke-width", k ? 1.2 : 3).attr("stroke-opacity", k ? 0.5 : 1).attr("stroke-linejoin", "round").attr("data-fan", k).attr("data-layer", i),
    })));
    const clamp = (v) => Math.min(Math.max(v, y.range[1] - 6), y.range[0] + 6);
    const path = d3.line().defined(([, v]) => Number.isFinite(v)).x(([s]) => x.apply(s)).y(([, v]) => clamp(y.apply(f(v))));
    this.cursors.push(() => {
      const at = x.apply(this.frame / fps);
      cursor.attr("x1", at).attr("x2", at);
      for (const { i, k, line } of fan) {
        const { n, from, since, horizon } = this.chunkAt(this.frame, i);
        line.attr("d", n == null ? null : path(d3.range(since, horizon).map((h) => [(from + h) / fps, this.chunkValue(n, k, h, d, i)])));
      }
    });
    const seek = (event) => this.seek(Math.round(x.invert(d3.pointer(event, node)[0]) * fps));
    node.addEventListener("pointerdown", (event) => {
      seek(event);
      node.setPointerCapture(event.pointerId);
    });
    node.addEventListener("pointermove", (event) => event.buttons && seek(event));
  }

  drawErrors() {
    const box = this.find("errors");
    if (this.data.layers) {
      this.drawErrorLines(box);
      return;
    }
    const { reward, native } = this.arrays.errors;
    const values = reward ?? this.arrays.errors[page.view === "normalized" || !native ? "normalized" : "native"] ?? [];
    const bottom = Math.min(0, d3.min(values) ?? 0);
    const span = (d3.max(values) ?? 0) - bottom || 1;
    const n = Math.max(values.length - 1, 1);
    // A run with a stride knows nothing of the frames between: lines lead over them.
    const known = [...values].flatMap((v, i) => (Number.isFinite(v) ? [[i, v]] : []));
    const area = d3.area().x(([i]) => (1000 * i) / n).y0(100).y1(([, v]) => 100 - (95 * (v - bottom)) / span);
    box.innerHTML = `<svg viewBox="0 0 1000 100" preserveAspectRatio="none"><path d="${area(known) ?? ""}" fill="var(--policy)" fill-opacity=".35"/></svg>`;
    const scaled = values === this.arrays.errors.normalized;
    const most = `${number(d3.max(values))}${reward ? "" : ` ${scaled ? t("std") : this.data.one_unit}`}`;
    if (this.data.recorded) this.nameErrors(t("largest step of any dim, at most {most}", { most }));
    else this.nameErrors(reward ? t("reward of each step, at most {most}", { most }) : t("error of the chunk of each frame, at most {most}", { most }));
  }

  nameErrors(text) {
    this.find("errors-label").textContent = text;
  }

  // Of a comparison: a line for each policy.
  drawErrorLines(box) {
    const lines = Object.values(this.arrays.errors);
    const top = d3.max(lines, (values) => d3.max(values)) || 1;
    const n = Math.max(this.episode.n_frames - 1, 1);
    const line = d3.line().x(([i]) => (1000 * i) / n).y(([, v]) => 98 - (94 * Math.max(v, 0)) / top);
    const known = (values) => [...values].flatMap((v, i) => (Number.isFinite(v) ? [[i, v]] : []));
    box.innerHTML = `<svg viewBox="0 0 1000 100" preserveAspectRatio="none">${lines.map((values, i) =>
      `<path d="${line(known(values)) ?? ""}" fill="none" stroke="var(--${LAYERS[i % LAYERS.length]})" stroke-width="1.5" vector-effect="non-scaling-stroke"/>`).join("")}</svg>`;
    this.nameErrors(this.arrays.demonstrated ? t("error of the chunk of each frame") : t("reward of each step"));
  }

  drawLegend() {
    const { layers } = this.data;
    if (layers) {
      const executed = this.arrays.layers[0].executed;
      this.find("legend").replaceChildren(...keySpans([
        ...(this.arrays.demonstrated ? [{ name: t("demonstrated"), stroke: COLOURS.demo }] : []),
        ...layers.map(({ name }, i) => ({ name, stroke: `var(--${LAYERS[i % LAYERS.length]})`, width: 4 })),
        { name: executed ? t("thin: executed") : t("thin: what a robot would run"), stroke: "var(--soft)", width: 1.4 },
      ]));
      return;
    }
    const [{ chunks, executed }] = this.arrays.layers;
    const samples = chunks.shape[1];
    if (this.data.recorded) {
      this.find("legend").replaceChildren(...keySpans([
        { name: t("recorded action"), stroke: COLOURS.demo, width: 1.6 },
        ...(executed ? [{ name: t("recorded state"), stroke: COLOURS.policy, width: 1.6 }] : []),
      ]));
      return;
    }
    if (executed) {
      this.find("legend").replaceChildren(...keySpans([
        { name: t("executed"), stroke: COLOURS.demo, width: 1.6 },
        { name: t("predicted chunk, from this step on"), stroke: COLOURS.policy, width: 4 },
      ]));
      return;
    }
    const entries = [
      this.arrays.demonstrated && { name: t("demonstrated"), stroke: COLOURS.demo },
      { name: samples > 1 ? t("chunk predicted at this frame, {k} samples", { k: samples }) : t("chunk predicted at this frame"), stroke: COLOURS.policy, width: 4 },
      { name: t("what a robot would run ({n} steps of each chunk)", { n: this.data.n_action_steps }), stroke: COLOURS.policy, width: 1.4 },
    ];
    this.find("legend").replaceChildren(...keySpans(entries.filter(Boolean)));
  }
}
