"use strict";
/* The gallery. Photographs are numbers 0 … n-1 in the order of the index, so that a patient's are neighbours. A column
   holds its distinct values and, for each photograph, the place of its value among them (-1: not stated). */

const at = (id) => document.getElementById(id);
const data = JSON.parse(at("data").textContent);
const ID = 16, PHOTOGRAPHS = 48, PATIENTS = 16, MOST_CHOICES = 60;
const described = ["width", "height"]; /* shown as one fact, and not to be filtered by */
const columns = data.columns || [];
const counts = data.photographs_of || [];
const n = (data.ids || "").length / ID;
const idOf = (i) => data.ids.slice(ID * i, ID * i + ID);
const patientId = (p) => data.patient_ids.slice(ID * p, ID * p + ID);
const number = (value) => value.toLocaleString("en");
const plural = (value, one) => `${number(value)} ${one}${value === 1 ? "" : "s"}`;

const patientOf = new Int32Array(n), firstOf = new Int32Array(counts.length);
counts.reduce((start, many, p) => { firstOf[p] = start; patientOf.fill(p, start, start + many); return start + many; }, 0);

/** Text as it may be shown: no control character, and none that turns the direction of what follows. */
const plain = (text) => String(text).replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "�");
function words(value) {
  if (value === undefined || value === null) return "not stated";
  return plain(value === true ? "yes" : value === false ? "no" : value);
}
const cell = (column, i) => column.values[column.cells[i]];

/** Path of an image, as the release lays them out: the folder is named by the first characters of the id. */
function path(i) {
  const id = idOf(i), deeper = data.depths ? data.depths[i] : 0;
  return `images/${[id.slice(0, 2), ...id.slice(2, 2 + deeper)].join("/")}/${id}.png`;
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/* ---- what is shown ---- */

let found = [], groups = [], page = 0, chosen = new Map(), current = -1;

/** Photographs in which every word occurs: in an id, or in a value. */
function searched(text) {
  const all = text.toLowerCase().split(/\s+/).filter(Boolean);
  const tests = all.map((word) => {
    const hits = columns.map((column) => new Set(column.values.flatMap((value, k) => words(value).toLowerCase().includes(word) ? [k] : [])));
    const patients = counts.map((_, p) => patientId(p).includes(word));
    return (i) => patients[patientOf[i]] || idOf(i).includes(word) || hits.some((hit, c) => hit.has(columns[c].cells[i]));
  });
  return (i) => tests.every((test) => test(i));
}

/** Apply search and filters; count for each choice what it would show beside the other filters. */
function apply(keepPage = false) {
  const matches = searched(at("words").value);
  const active = [...chosen].map(([column, code]) => [column, code]);
  const tally = new Map(filtered.map((column) => [column, new Map()]));
  found = [];
  for (let i = 0; i < n; i++) {
    if (!matches(i)) continue;
    const missed = active.filter(([column, code]) => column.cells[i] !== code);
    if (!missed.length) found.push(i);
    if (missed.length > 1) continue;
    for (const column of missed.length ? [missed[0][0]] : filtered) {
      const of = tally.get(column), code = column.cells[i];
      of.set(code, (of.get(code) || 0) + 1);
    }
  }
  groups = [];
  for (const i of found) {
    if (groups.length && patientOf[groups[groups.length - 1][0]] === patientOf[i]) groups[groups.length - 1].push(i);
    else groups.push([i]);
  }
  for (const column of filtered) {
    for (const option of column.select.options) {
      if (option.value !== "") option.textContent = `${words(column.values[option.value])} (${number(tally.get(column).get(+option.value) || 0)})`;
    }
    column.select.classList.toggle("set", chosen.has(column));
  }
  at("active").textContent = chosen.size ? `${chosen.size} set` : "";
  at("clear").disabled = !chosen.size && !at("words").value;
  if (!keepPage) page = 0;
  draw();
}

const pages = () => Math.max(1, Math.ceil(at("together").checked ? groups.length / PATIENTS : found.length / PHOTOGRAPHS));

function draw() {
  const together = at("together").checked, last = pages();
  page = Math.min(Math.max(page, 0), last - 1);
  at("count").textContent = `${plural(found.length, "photograph")} of ${plural(groups.length, "patient")}` +
    (found.length < n ? `, of ${number(n)} photographs in all` : "");
  const grid = at("grid");
  grid.replaceChildren();
  if (together) {
    for (const group of groups.slice(page * PATIENTS, (page + 1) * PATIENTS)) {
      const title = element("h2", "Patient ");
      title.append(element("span", patientId(patientOf[group[0]]), "id"), element("small", ` · ${plural(group.length, "photograph")}`));
      grid.append(title, ...group.map(card));
    }
  } else {
    grid.append(...found.slice(page * PHOTOGRAPHS, (page + 1) * PHOTOGRAPHS).map(card));
  }
  at("pages").hidden = last === 1;
  at("last").textContent = number(last);
  at("page").value = page + 1;
  at("page").max = last;
  at("back").disabled = page === 0;
  at("forth").disabled = page === last - 1;
  remember();
}

const brief = (i) => columns.filter((column) => column.brief && column.cells[i] >= 0).map((column) => words(cell(column, i)));
const summary = (i) => brief(i).join(", ");

function image(i, alt) {
  const made = element("img");
  made.loading = "lazy";
  made.decoding = "async";
  made.alt = alt;
  made.src = path(i);
  return made;
}

function card(i) {
  const made = element("button", undefined, "card");
  made.type = "button";
  made.dataset.photo = i;
  const text = summary(i), shown = element("span");
  brief(i).forEach((value, k) => shown.append(k ? " · " : "", element("bdi", value, value.length < 20 ? "short" : "")));
  made.append(image(i, `Photograph ${idOf(i)}${text ? ": " + text : ""}`), shown, element("span", idOf(i), "id"));
  made.addEventListener("click", () => show(i));
  return made;
}

function turn(by) { page += by; draw(); scrollTo(0, 0); const first = at("grid").querySelector(".card"); if (first) first.focus(); }

/* ---- the address keeps search, filters and page, so that reloading keeps them too ---- */

function remember() {
  const state = new URLSearchParams();
  if (at("words").value) state.set("search", at("words").value);
  for (const [column, code] of chosen) state.set(`column.${column.name}`, code === -1 ? "" : String(column.values[code]));
  if (at("together").checked) state.set("together", "yes");
  if (page) state.set("page", page + 1);
  try { history.replaceState(null, "", `#${state}`); } catch { /* a browser that allows none for files */ }
}

function recall() {
  const state = new URLSearchParams(location.hash.slice(1));
  at("words").value = state.get("search") || "";
  at("together").checked = state.get("together") === "yes";
  for (const column of filtered) {
    const value = state.get(`column.${column.name}`);
    const code = value === "" ? -1 : column.values.findIndex((one) => String(one) === value);
    if (value !== null && column.codes.includes(code)) { chosen.set(column, code); column.select.value = code; }
  }
  page = Math.max(0, (parseInt(state.get("page"), 10) || 1) - 1);
  at("more").open = chosen.size > 0 || innerWidth > 830;
}

/* ---- one photograph, large ---- */

let scale = 1, left = 0, top_ = 0, fitted = true, pointers = new Map();
const stage = at("stage"), picture = at("picture");

function show(i) {
  current = i;
  const p = patientOf[i], place = found.indexOf(i);
  at("broken").hidden = true;
  picture.alt = `Photograph ${idOf(i)}`;
  picture.src = path(i);
  at("of").replaceChildren("Photograph ", element("span", idOf(i), "id"));
  const facts = [["patient", patientId(p)], ...columns.filter((column) => !described.includes(column.name)).map((column) => [plain(column.name), words(cell(column, i)), column.meaning])];
  const [w, h] = described.map((name) => columns.find((column) => column.name === name)).map((column) => column && words(cell(column, i)));
  if (w && h) facts.push(["size", `${w} × ${h} px`]);
  at("facts").replaceChildren(...facts.flatMap(([name, value, meaning]) => {
    const term = element("dt"), text = element("dd");
    term.append(element("bdi", name));
    text.append(element("bdi", value));
    if (meaning) term.title = plain(meaning);
    return [term, text];
  }));
  const own = Array.from({ length: counts[p] }, (_, k) => firstOf[p] + k);
  at("siblings").textContent = own.length > 1 ? `This patient's ${own.length} photographs` : "This patient's only photograph";
  at("strip").hidden = own.length === 1;
  at("strip").replaceChildren(...own.map((k) => {
    const made = element("button");
    made.type = "button";
    made.append(image(k, `Photograph ${idOf(k)}: ${summary(k)}`));
    if (k === i) made.setAttribute("aria-current", "true");
    made.addEventListener("click", () => show(k));
    return made;
  }));
  at("file").href = path(i);
  at("previous").disabled = place === 0;
  at("next").disabled = place === found.length - 1;
  if (!at("viewer").open) at("viewer").showModal();
  fitted = true;
  if (picture.complete) fit();
}

function step(by) {
  let place = found.indexOf(current); /* a photograph of the patient that the filters leave out has no place */
  if (place < 0) { place = found.findIndex((i) => i > current); if (place < 0) place = found.length; if (by > 0) place--; }
  if (found[place + by] !== undefined) show(found[place + by]);
}

function place() {
  picture.style.transform = `translate(${left}px, ${top_}px) scale(${scale})`;
  picture.classList.toggle("coarse", scale >= 3);
  at("zoom").textContent = fitted ? "fit" : `${Math.round(scale * 100)} %`;
}

function fit() {
  const { clientWidth: w, clientHeight: h } = stage;
  if (!picture.naturalWidth || !w) return;
  fitted = true;
  scale = Math.min(w / picture.naturalWidth, h / picture.naturalHeight);
  left = (w - picture.naturalWidth * scale) / 2;
  top_ = (h - picture.naturalHeight * scale) / 2;
  place();
}

/** Zoom so that the point (x, y) of the stage stays where it is. */
function zoomTo(wanted, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const next = Math.min(Math.max(wanted, 0.05), 32);
  left = x - (x - left) * next / scale;
  top_ = y - (y - top_) * next / scale;
  scale = next;
  fitted = false;
  place();
}

const middle = () => [...pointers.values()].reduce(([x, y], p) => [x + p.x / pointers.size, y + p.y / pointers.size], [0, 0]);
const spread = () => { const [a, b] = pointers.values(); return b ? Math.hypot(a.x - b.x, a.y - b.y) : 0; };
const local = (event) => { const box = stage.getBoundingClientRect(); return { x: event.clientX - box.left, y: event.clientY - box.top }; };

stage.addEventListener("pointerdown", (event) => { pointers.set(event.pointerId, local(event)); stage.setPointerCapture(event.pointerId); });
stage.addEventListener("pointermove", (event) => {
  if (!pointers.has(event.pointerId)) return;
  const [x, y] = middle(), wide = spread();
  pointers.set(event.pointerId, local(event));
  const [u, v] = middle(), now = spread();
  left += u - x;
  top_ += v - y;
  fitted = false;
  if (wide && now) zoomTo(scale * now / wide, u, v); else place();
});
for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => pointers.delete(event.pointerId));
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const { x, y } = local(event);
  zoomTo(scale * Math.exp(-event.deltaY / 400), x, y);
}, { passive: false });
stage.addEventListener("dblclick", (event) => { const { x, y } = local(event); if (fitted) zoomTo(Math.max(1, 2 * scale), x, y); else fit(); });
picture.addEventListener("load", fit);
picture.addEventListener("error", () => { at("broken").hidden = false; });
addEventListener("resize", () => { if (fitted) fit(); });
at("viewer").addEventListener("close", () => {
  const place = found.indexOf(current), together = at("together").checked;
  if (place >= 0) page = Math.floor(together ? groups.findIndex((group) => group.includes(current)) / PATIENTS : place / PHOTOGRAPHS);
  pointers.clear();
  draw();
  const shown = at("grid").querySelector(`[data-photo="${current}"]`);
  if (shown) shown.focus();
});

/* ---- keys ---- */

/** The card that lies in a direction from another, by its place on the screen: titles of patients break the rows. */
function neighbour(from, key) {
  const cards = [...at("grid").querySelectorAll(".card")], k = cards.indexOf(from);
  if (key === "ArrowLeft") return cards[k - 1];
  if (key === "ArrowRight") return cards[k + 1];
  const ahead = key === "ArrowDown" ? cards.slice(k + 1) : cards.slice(0, k).reverse();
  const lower = ahead.filter((one) => one.offsetTop !== from.offsetTop);
  const row = lower.filter((one) => one.offsetTop === lower[0].offsetTop);
  return row.sort((a, b) => Math.abs(a.offsetLeft - from.offsetLeft) - Math.abs(b.offsetLeft - from.offsetLeft))[0];
}

const inViewer = {
  ArrowLeft: () => step(-1), ArrowRight: () => step(1), "+": () => zoomTo(scale * 1.25), "=": () => zoomTo(scale * 1.25),
  "-": () => zoomTo(scale / 1.25), 0: fit, 1: () => zoomTo(1),
};
const onPage = {
  "/": () => at("words").focus(), "?": () => at("keys").showModal(), p: () => at("together").click(), P: () => at("together").click(),
  PageDown: () => { if (page < pages() - 1) turn(1); }, PageUp: () => { if (page > 0) turn(-1); },
};
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("keys").open || !n) return;
  if (at("viewer").open) {
    if (inViewer[event.key]) { event.preventDefault(); inViewer[event.key](); }
    return;
  }
  if (event.target.matches("input:not([type=checkbox]), select")) return;
  if (onPage[event.key]) { event.preventDefault(); onPage[event.key](); return; }
  if (!event.key.startsWith("Arrow")) return;
  const card = document.activeElement.closest(".card");
  const next = card ? neighbour(card, event.key) : event.target === document.body && at("grid").querySelector(".card");
  if (next) { event.preventDefault(); next.focus(); }
});

/* ---- the page ---- */

/** Columns with few values, each with its menu; a column in which all are equal tells nothing apart. */
const filtered = columns.filter((column) => {
  column.codes = [...new Set(column.cells)].sort((a, b) => a - b);
  return !described.includes(column.name) && column.codes.length > 1 && column.codes.length <= MOST_CHOICES;
});

function menu(column) {
  const label = element("label", plain(column.name)), select = element("select");
  label.title = plain(column.meaning);
  select.append(new Option("all", ""), ...column.codes.map((code) => new Option("", code)));
  select.addEventListener("change", () => {
    if (select.value === "") chosen.delete(column); else chosen.set(column, +select.value);
    apply();
  });
  column.select = select;
  label.append(select);
  return label;
}

function begin() {
  document.title = plain(`${data.name} ${data.version}`);
  at("name").replaceChildren(element("bdi", plain(data.name)));
  at("about").append(element("bdi", plain(`Version ${data.version} of ${data.date} · ${plural(data.photographs, "photograph")} of ${plural(data.patients, "patient")} · Licence: ${data.licence}`)));
  at("total").textContent = number(data.photographs);
  at("limit").textContent = number(data.limit);
  at("none").hidden = "ids" in data;
  at("tools").hidden = at("main").hidden = !("ids" in data);
  if (!("ids" in data)) return;
  for (const name of data.brief) columns.find((column) => column.name === name).brief = true;
  at("filters").append(...filtered.map(menu));
  at("more").hidden = !filtered.length;
  let waiting = 0;
  at("words").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(apply, 150); });
  at("search").addEventListener("submit", (event) => { event.preventDefault(); apply(); });
  at("together").addEventListener("change", () => { page = 0; draw(); });
  at("clear").addEventListener("click", () => {
    at("words").value = "";
    chosen.clear();
    for (const column of filtered) column.select.value = "";
    apply();
  });
  at("back").addEventListener("click", () => turn(-1));
  at("forth").addEventListener("click", () => turn(1));
  at("page").addEventListener("change", () => { page = (parseInt(at("page").value, 10) || 1) - 1; draw(); });
  at("help").addEventListener("click", () => at("keys").showModal());
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  at("larger").addEventListener("click", () => zoomTo(scale * 1.25));
  at("smaller").addEventListener("click", () => zoomTo(scale / 1.25));
  at("fit").addEventListener("click", fit);
  at("pixels").addEventListener("click", () => zoomTo(1));
  at("close").addEventListener("click", () => at("viewer").close());
  recall();
  apply(true);
}

begin();
