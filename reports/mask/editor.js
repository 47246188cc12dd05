"use strict";
/* The editor. The mask is a canvas of the upright photograph's size whose opaque pixels are preserved; every step leaves
   it with alpha 0 or 255 alone. The photograph is drawn into the view by x_view = x · scale + offset. */

const at = (id) => document.getElementById(id);
const canvas = at("canvas"), view = canvas.getContext("2d"), ring = document.createElement("canvas");
const given = JSON.parse(at("preloaded").textContent);
const sends = "sends" in document.body.dataset;
let photo = null, mask = null, drawn = null, proposal = null, fileName = "", unsaved = false;
let tool = "brush", scale = 1, left = 0, top_ = 0, corners = [], cross = null, pointer = null, penSeen = false, spaceDown = false;
let undone = [], done = [];
const UNDO_BYTES = 256e6;

function say(text, wrong = false) {
  at("state").textContent = text;
  at("state").classList.toggle("wrong", wrong);
}

/* ---- opening ---- */

async function openFile(file) {
  if (sends) return; /* the mask of another photograph must not be sent as this one's */
  if (unsaved && !confirm("The mask was changed and not saved. Open another photograph all the same?")) return;
  try {
    const { orientation, blob, known } = withoutTurn(new Uint8Array(await file.arrayBuffer()), file.type);
    if (!known) throw new Error("format");
    begin(upright(await createImageBitmap(blob), orientation), file.name, file.name, null);
  } catch {
    say("This page opens JPEG, PNG and WebP. Save a copy of the photograph as PNG, upright and of the same size, and open that.", true);
  }
}

function begin(picture, name, path, area) {
  photo = picture;
  fileName = name;
  mask = document.createElement("canvas");
  [mask.width, mask.height] = [photo.width, photo.height];
  drawn = mask.getContext("2d", { willReadFrequently: true });
  proposal = area;
  if (area) fromLuminance(area);
  [undone, done, corners, cross, unsaved] = [[], [], [], null, false];
  at("empty").hidden = true;
  at("proposal").hidden = !area;
  at("name").textContent = `${name} · ${photo.width} × ${photo.height} pixels, upright`;
  at("path").value = path;
  writeCell();
  fit();
  buttons();
  say(area ? `The ${sends ? "present" : "proposed"} area is shown. Change it, and save the mask.` : "Paint what is to stay the patient's own.");
}

/** Take a black and white picture as the mask. */
function fromLuminance(picture) {
  drawn.clearRect(0, 0, mask.width, mask.height);
  drawn.drawImage(picture, 0, 0);
  const pixels = drawn.getImageData(0, 0, mask.width, mask.height), d = pixels.data;
  for (let i = 0; i < d.length; i += 4) {
    d[i + 3] = d[i] > 127 && d[i + 3] > 127 ? 255 : 0;
    d[i] = d[i + 1] = d[i + 2] = 255;
  }
  drawn.putImageData(pixels, 0, 0);
}

/* ---- steps ---- */

function boxOf(x0, y0, x1, y1) {
  const a = Math.max(0, Math.floor(x0) - 1), b = Math.max(0, Math.floor(y0) - 1);
  const c = Math.min(mask.width, Math.ceil(x1) + 1), d = Math.min(mask.height, Math.ceil(y1) + 1);
  return c > a && d > b ? [a, b, c - a, d - b] : null;
}

/** Make a change inside a box one step: remembered for undo, its edge cut to inside or outside. */
function step(box, change) {
  if (!box) return;
  const [x, y, w, h] = box;
  const before = drawn.getImageData(x, y, w, h);
  change();
  const after = drawn.getImageData(x, y, w, h), d = after.data;
  for (let i = 0; i < d.length; i += 4) { d[i + 3] = d[i + 3] > 127 ? 255 : 0; d[i] = d[i + 1] = d[i + 2] = 255; }
  drawn.putImageData(after, x, y);
  done.push({ x, y, before, after });
  undone = [];
  for (let bytes = done.reduce((sum, s) => sum + 2 * s.before.data.length, 0); bytes > UNDO_BYTES && done.length > 1;) bytes -= 2 * done.shift().before.data.length;
  unsaved = true;
  buttons();
  draw();
}

function back() { const s = done.pop(); if (s) { drawn.putImageData(s.before, s.x, s.y); undone.push(s); unsaved = true; buttons(); draw(); } }
function again() { const s = undone.pop(); if (s) { drawn.putImageData(s.after, s.x, s.y); done.push(s); unsaved = true; buttons(); draw(); } }

const whole = () => [0, 0, mask.width, mask.height];
const erases = () => tool === "eraser" || tool === "cut" || (pointer && pointer.erases);

/* A stroke is drawn on the mask at once, and becomes a step when it ends. */
function strokeStart(x, y, erasing) {
  pointer.stroke = { points: [[x, y]], r: radius(), before: null, erasing };
  strokeTo(x, y);
}

function strokeTo(x, y) {
  pointer.stroke.points.push([x, y]);
  draw();
}

function paint(context, points, r, erasing) {
  context.save();
  context.globalCompositeOperation = erasing ? "destination-out" : "source-over";
  context.strokeStyle = context.fillStyle = "#fff";
  context.lineWidth = 2 * r;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  context.moveTo(...points[0]);
  for (const p of points) context.lineTo(...p);
  context.lineTo(points[points.length - 1][0] + 0.01, points[points.length - 1][1]);
  context.stroke();
  context.restore();
}

function strokeEnd(stroke) {
  const xs = stroke.points.map((p) => p[0]), ys = stroke.points.map((p) => p[1]), r = stroke.r + 1;
  const least = (v) => v.reduce((a, b) => Math.min(a, b)), most = (v) => v.reduce((a, b) => Math.max(a, b));
  step(boxOf(least(xs) - r, least(ys) - r, most(xs) + r, most(ys) + r), () => paint(drawn, stroke.points, stroke.r, stroke.erasing));
}

function dab(x, y) { strokeEnd({ points: [[x, y]], r: radius(), erasing: erases() }); }

function closePolygon() {
  if (corners.length < 3) { say("A polygon has three corners at least."); return; }
  const points = corners, erasing = tool === "cut";
  corners = [];
  const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  step(boxOf(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)), () => {
    drawn.save();
    drawn.globalCompositeOperation = erasing ? "destination-out" : "source-over";
    drawn.fillStyle = "#fff";
    drawn.beginPath();
    points.forEach((p) => drawn.lineTo(...p));
    drawn.fill();
    drawn.restore();
  });
}

function corner(x, y) {
  if (corners.length > 2 && Math.hypot(x - corners[0][0], y - corners[0][1]) * scale < 14) { closePolygon(); return; }
  corners.push([x, y]);
  say(corners.length < 3 ? "Set the next corner." : "Set the next corner, or close the polygon at its first one (F).");
  draw();
}

/* ---- view ---- */

const ratio = () => window.devicePixelRatio || 1;
/** Radius of the brush in pixels of the photograph: the slider goes from a point to a tenth of the longer side. */
function radius() {
  const longest = photo ? Math.max(photo.width, photo.height) : 1000;
  return Math.max(0.5, (longest / 10) * (Number(at("size").value) / 100) ** 2);
}
const toPhoto = (x, y) => [(x - left) / scale, (y - top_) / scale];
const toView = (x, y) => [x * scale + left, y * scale + top_];

function fit() {
  const box = at("stage").getBoundingClientRect();
  [canvas.width, canvas.height] = [box.width * ratio(), box.height * ratio()].map(Math.round);
  [ring.width, ring.height] = [canvas.width, canvas.height];
  if (!photo) return;
  scale = Math.min(canvas.width / photo.width, canvas.height / photo.height) * 0.96;
  left = (canvas.width - photo.width * scale) / 2;
  top_ = (canvas.height - photo.height * scale) / 2;
  draw();
}

function zoom(factor, x = canvas.width / 2, y = canvas.height / 2) {
  if (!photo) return;
  const to = Math.min(40, Math.max(0.02, scale * factor));
  left = x - ((x - left) * to) / scale;
  top_ = y - ((y - top_) * to) / scale;
  scale = to;
  draw();
}

let waiting = false;
function draw() {
  if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; drawNow(); }); }
}

function drawNow() {
  view.setTransform(1, 0, 0, 1, 0, 0);
  view.clearRect(0, 0, canvas.width, canvas.height);
  if (!photo) return;
  const shown = at("show").value;
  const placed = (context, picture) => context.drawImage(picture, left, top_, photo.width * scale, photo.height * scale);
  view.imageSmoothingEnabled = scale < 3;
  const area = ring.getContext("2d");
  const silhouette = (dx = 0, dy = 0) => {
    area.imageSmoothingEnabled = scale < 1;
    area.drawImage(mask, left + dx, top_ + dy, photo.width * scale, photo.height * scale);
  };
  const around = (d, of = silhouette) => { for (let i = 0; i < 12; i++) of(d * Math.cos((i * Math.PI) / 6), d * Math.sin((i * Math.PI) / 6)); };
  const live = () => {
    if (!pointer || !pointer.stroke) return;
    area.setTransform(scale, 0, 0, scale, left, top_);
    paint(area, pointer.stroke.points, pointer.stroke.r, pointer.stroke.erasing);
    area.setTransform(1, 0, 0, 1, 0, 0);
  };
  area.globalCompositeOperation = "source-over";
  area.setTransform(1, 0, 0, 1, 0, 0);
  area.clearRect(0, 0, ring.width, ring.height);
  if (shown === "mask") {
    view.fillStyle = "#000";
    view.fillRect(left, top_, photo.width * scale, photo.height * scale);
    silhouette(); live();
    view.drawImage(ring, 0, 0);
  } else {
    placed(view, photo);
    if (shown === "shade") {
      /* All but the area is darkened and hatched: what is replaced is told by pattern, not by colour. */
      silhouette(); live();
      area.globalCompositeOperation = "source-out";
      area.fillStyle = hatch();
      area.fillRect(left, top_, photo.width * scale, photo.height * scale);
      view.drawImage(ring, 0, 0);
      area.globalCompositeOperation = "source-over";
      area.clearRect(0, 0, ring.width, ring.height);
    }
    /* The outline is black beside white, so that it shows on every colour. */
    const r = ratio();
    around(2.6 * r);
    area.globalCompositeOperation = "source-in"; area.fillStyle = "#000"; area.fillRect(0, 0, ring.width, ring.height);
    area.globalCompositeOperation = "source-over"; around(1.3 * r);
    area.globalCompositeOperation = "destination-out"; silhouette();
    area.globalCompositeOperation = "source-over";
    view.drawImage(ring, 0, 0);
    if (pointer && pointer.stroke && shown === "line") {
      view.globalAlpha = 0.6;
      view.setTransform(scale, 0, 0, scale, left, top_);
      view.strokeStyle = pointer.stroke.erasing ? "#000" : "#fff";
      view.lineWidth = 2 * pointer.stroke.r; view.lineCap = view.lineJoin = "round";
      view.beginPath(); pointer.stroke.points.forEach((p) => view.lineTo(...p)); view.stroke();
      view.setTransform(1, 0, 0, 1, 0, 0);
      view.globalAlpha = 1;
    }
  }
  drawCorners();
  drawCursor();
  at("zoom").textContent = `${Math.round((scale / ratio()) * 100)} %`;
}

let pattern = null;
function hatch() {
  if (!pattern) {
    const tile = document.createElement("canvas"), c = tile.getContext("2d");
    tile.width = tile.height = 12;
    c.fillStyle = "rgba(0,0,0,.5)"; c.fillRect(0, 0, 12, 12);
    c.strokeStyle = "rgba(255,255,255,.35)"; c.lineWidth = 1.5;
    c.beginPath(); c.moveTo(-3, 3); c.lineTo(3, -3); c.moveTo(-3, 15); c.lineTo(15, -3); c.moveTo(9, 15); c.lineTo(15, 9); c.stroke();
    pattern = view.createPattern(tile, "repeat");
  }
  return pattern;
}

function twice(path, width = 1.5) {
  for (const [colour, extra] of [["#000", 2], ["#fff", 0]]) {
    view.strokeStyle = colour; view.lineWidth = (width + extra) * ratio(); view.beginPath(); path(); view.stroke();
  }
}

function drawCorners() {
  if (!corners.length) return;
  twice(() => corners.forEach((p) => view.lineTo(...toView(...p))));
  for (const [i, p] of corners.entries()) twice(() => view.arc(...toView(...p), (i ? 4 : 8) * ratio(), 0, 7));
}

let hover = null;
function drawCursor() {
  if (cross) {
    const [x, y] = toView(...cross), n = 12 * ratio();
    twice(() => { view.moveTo(x - n, y); view.lineTo(x + n, y); view.moveTo(x, y - n); view.lineTo(x, y + n); });
  }
  const place = cross ? toView(...cross) : hover;
  if (place && (tool === "brush" || tool === "eraser")) twice(() => view.arc(...place, radius() * scale, 0, 7), 1);
}

/* ---- hands: mouse, pen, fingers ---- */

const fingers = new Map();
const place = (event) => { const b = canvas.getBoundingClientRect(); return [(event.clientX - b.left) * ratio(), (event.clientY - b.top) * ratio()]; };

canvas.addEventListener("pointerdown", (event) => {
  if (!photo) return;
  canvas.setPointerCapture(event.pointerId);
  const [x, y] = place(event);
  cross = null;
  penSeen ||= event.pointerType === "pen";
  if (event.pointerType === "touch") {
    fingers.set(event.pointerId, [x, y]);
    if (fingers.size > 1) { pointer = { id: null }; draw(); return; }  /* a second finger: the stroke of the first is dropped */
  }
  const moves = tool === "hand" || spaceDown || event.button === 1 || (event.pointerType === "touch" && penSeen);
  if (event.button > 1 && event.button !== 5) return;
  pointer = { id: event.pointerId, moves, erases: event.button === 5 || (event.buttons & 32) > 0, last: [x, y], stroke: null };
  if (moves) return;
  if (tool === "brush" || tool === "eraser" || pointer.erases) strokeStart(...toPhoto(x, y), erases());
  else corner(...toPhoto(x, y));
});

canvas.addEventListener("pointermove", (event) => {
  if (!photo) return;
  const [x, y] = place(event);
  hover = event.pointerType === "touch" ? null : [x, y];
  if (fingers.has(event.pointerId)) {
    const before = [...fingers.values()];
    fingers.set(event.pointerId, [x, y]);
    if (fingers.size === 2) { pinch(before, [...fingers.values()]); return; }
  }
  if (!pointer || pointer.id !== event.pointerId) { draw(); return; }
  if (pointer.moves) { left += x - pointer.last[0]; top_ += y - pointer.last[1]; pointer.last = [x, y]; draw(); return; }
  if (pointer.stroke) {
    const all = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    for (const e of all.length ? all : [event]) strokeTo(...toPhoto(...place(e)));
  }
});

function pinch(before, after) {
  const middle = (p) => [(p[0][0] + p[1][0]) / 2, (p[0][1] + p[1][1]) / 2];
  const apart = (p) => Math.hypot(p[0][0] - p[1][0], p[0][1] - p[1][1]) || 1;
  const [a, b] = [middle(before), middle(after)];
  left += b[0] - a[0]; top_ += b[1] - a[1];
  zoom(apart(after) / apart(before), ...b);
}

function released(event) {
  fingers.delete(event.pointerId);
  if (pointer && pointer.id === event.pointerId) {
    const stroke = event.type === "pointerup" ? pointer.stroke : null;
    pointer = null;
    if (stroke) strokeEnd(stroke);
    draw();
  } else if (!fingers.size && pointer && pointer.id === null) pointer = null;
}
canvas.addEventListener("pointerup", released);
canvas.addEventListener("pointercancel", released);
canvas.addEventListener("pointerleave", () => { hover = null; draw(); });
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("dblclick", () => { if (corners.length > 2) closePolygon(); });
canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 400), ...place(event)); }, { passive: false });

/* ---- keys ---- */

document.addEventListener("keydown", (event) => {
  const control = event.ctrlKey || event.metaKey, key = event.key.toLowerCase();
  if (control && key === "s") { event.preventDefault(); save(); return; }
  if (event.target.matches("input[type=text], select")) return;
  if (control && key === "z") { event.preventDefault(); (event.shiftKey ? again : back)(); return; }
  if (control && key === "y") { event.preventDefault(); again(); return; }
  if (control || event.altKey) return;
  const tools = { b: "brush", e: "eraser", p: "polygon", c: "cut", h: "hand" };
  if (tools[key]) choose(tools[key]);
  else if (key === "[" || key === "]") { at("size").value = Number(at("size").value) + (key === "]" ? 4 : -4); sized(); }
  else if (key === "+" || key === "=") zoom(1.25);
  else if (key === "-") zoom(0.8);
  else if (key === "0") fit();
  else if (event.target === canvas && photo) onPhoto(event);
});
document.addEventListener("keyup", (event) => { if (event.key === " ") spaceDown = false; });

function onPhoto(event) {
  const far = (event.shiftKey ? 10 : 1) * Math.max(1, 1 / scale);
  const ways = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] };
  if (ways[event.key]) {
    event.preventDefault();
    if (tool === "hand") { left -= ways[event.key][0] * scale * 10; top_ -= ways[event.key][1] * scale * 10; draw(); return; }
    cross ||= toPhoto(canvas.width / 2, canvas.height / 2).map(Math.round);
    cross = [Math.min(photo.width, Math.max(0, cross[0] + ways[event.key][0])), Math.min(photo.height, Math.max(0, cross[1] + ways[event.key][1]))];
    draw();
  } else if (event.key === "Enter") {
    event.preventDefault();
    cross ||= toPhoto(canvas.width / 2, canvas.height / 2).map(Math.round);
    if (tool === "brush" || tool === "eraser") dab(...cross); else if (tool !== "hand") corner(...cross);
  } else if (event.key === " ") { event.preventDefault(); spaceDown = true; }
  else if (event.key === "Backspace") { corners.pop(); draw(); }
  else if (event.key.toLowerCase() === "f") closePolygon();
  else if (event.key === "Escape") { corners = []; cross = null; draw(); }
}

/* ---- saving ---- */

/** Name of the mask beside the photograph: portrait.jpg becomes portrait.mask.png. */
const maskName = (path) => `${path.replace(/\.[^./\\]*$/, "")}.mask.png`;

function writeCell() { at("cell").value = at("path").value.trim() ? maskName(at("path").value.trim()) : ""; }

function save() {
  if (!photo) return;
  const w = mask.width, h = mask.height, pixels = drawn.getImageData(0, 0, w, h), d = pixels.data;
  let inside = 0;
  for (let i = 0; i < d.length; i += 4) {
    const on = d[i + 3] > 127;
    inside += on;
    d[i] = d[i + 1] = d[i + 2] = on ? 255 : 0;
    d[i + 3] = 255;
  }
  if (!inside || inside === w * h) {
    say(inside ? "The mask covers the whole photograph: nothing would be replaced. Erase a part." : "The mask is empty: paint what is to be preserved.", true);
    return;
  }
  const out = document.createElement("canvas");
  [out.width, out.height] = [w, h];
  out.getContext("2d").putImageData(pixels, 0, 0);
  out.toBlob((blob) => {
    if (!blob) { say("This browser could not write the mask: the photograph is too large for it.", true); return; }
    if (sends) { send(blob, inside / (w * h)); return; }
    const name = maskName(fileName).split(/[\\/]/).pop(), link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    unsaved = false;
    say(`${name} was handed to the browser to save (${((100 * inside) / (w * h)).toFixed(1)} % preserved). Put it beside the photograph, and write the cell mask as below.`);
  }, "image/png");
}

/** Give the mask to the review that opened this page. */
async function send(blob, share) {
  at("save").disabled = true;
  try {
    const answer = await fetch(location.pathname, { method: "POST", body: blob, headers: { "Content-Type": "image/png" }, credentials: "omit" });
    if (!answer.ok) throw new Error((await answer.json()).error);
    unsaved = false;
    say(`Saved (${(100 * share).toFixed(1)} % preserved). The next run of the workflow makes the picture again with it. You may close this tab.`);
  } catch (error) {
    const why = error instanceof TypeError ? "the review does not answer; start `deidlib review` again and draw from there" : error.message;
    say(`NOT SAVED: ${why}.`, true);
  }
  at("save").disabled = false;
}

/* ---- controls ---- */

function choose(name) {
  if (corners.length && name !== tool) corners = [];
  tool = name;
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  canvas.style.cursor = tool === "hand" ? "grab" : "crosshair";
  draw();
}

function sized() { at("size-shown").textContent = `${Math.max(1, Math.round(2 * radius()))} px`; draw(); }

function buttons() {
  at("undo").disabled = !done.length;
  at("redo").disabled = !undone.length;
  at("clear").disabled = at("save").disabled = !photo;
  sized();
}

for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => choose(button.dataset.tool));
at("open").addEventListener("change", (event) => { if (event.target.files[0]) openFile(event.target.files[0]); event.target.value = ""; });
at("save").addEventListener("click", save);
at("undo").addEventListener("click", back);
at("redo").addEventListener("click", again);
at("clear").addEventListener("click", () => step(whole(), () => drawn.clearRect(0, 0, mask.width, mask.height)));
at("proposal").addEventListener("click", () => step(whole(), () => fromLuminance(proposal)));
at("in").addEventListener("click", () => zoom(1.25));
at("out").addEventListener("click", () => zoom(0.8));
at("fit").addEventListener("click", fit);
at("show").addEventListener("change", draw);
at("size").addEventListener("input", sized);
at("path").addEventListener("input", writeCell);
at("copy").addEventListener("click", async () => {
  at("cell").select();
  try { await navigator.clipboard.writeText(at("cell").value); } catch { document.execCommand("copy"); }
  say("The cell's text was copied.");
});
const stage = at("stage");
stage.addEventListener("dragover", (event) => { event.preventDefault(); stage.classList.add("over"); });
stage.addEventListener("dragleave", () => stage.classList.remove("over"));
stage.addEventListener("drop", (event) => { event.preventDefault(); stage.classList.remove("over"); if (event.dataTransfer.files[0]) openFile(event.dataTransfer.files[0]); });
window.addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
new ResizeObserver(fit).observe(stage);

/** A photograph and an area that came with the page: both upright already. */
async function preload() {
  if (!given) return;
  const load = (data) => new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = reject;
    image.src = `data:image/png;base64,${data}`;
  });
  const picture = await load(given.photo);
  begin(upright(picture, 1), given.name, given.path, given.area ? await load(given.area) : null);
}
choose("brush");
sized();
preload();
