// The reviewer's page. With REVIEW_DATA (a folder on disk) decisions stay in this browser until they are exported;
// without it each one is sent to the server, which writes it before it answers.
"use strict";

const SIGNS = { undecided: "•", release: "✓", withhold: "✕", another_face: "↻", area_wrong: "▢", disagreement: "≠", held: "–" };
const WORDS = {
  undecided: "To be decided", release: "Release", withhold: "Withhold", another_face: "Another face",
  area_wrong: "Area is wrong", disagreement: "The two reviewers disagree",
};
const AGAINST = ["withhold", "another_face", "area_wrong"];
const VIEWS = {
  frontal_rest: "frontal, at rest", frontal_smile: "frontal, smiling", three_quarter: "three-quarter view",
  profile: "profile", intraoral: "intraoral",
};
const KEYS = { r: "release", w: "withhold", f: "another_face", a: "area_wrong", u: "reopen" };
const MOST_PICTURES = 24; // kept decoded, so that the next photograph shows at once
const $ = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// ---- where photographs and decisions come from -------------------------------------------------------------------

class Refused extends Error {}

function servedBackend() {
  const pictures = new Map();
  async function asked(path, options) {
    let answer;
    try {
      answer = await fetch(path, { cache: "no-store", credentials: "omit", ...options });
    } catch {
      throw new Error("the review's server does not answer. Start `deidlib review` again, and open the address that it prints");
    }
    if (answer.ok) return answer;
    const refusal = await answer.json().catch(() => ({ error: "the server refused; open the address that it printed" }));
    throw answer.status === 409 ? new Refused(refusal.error) : new Error(refusal.error);
  }
  return {
    overview: async () => (await asked("overview")).json(),
    detail: async (photo) => (await asked(`photo/${encodeURIComponent(photo)}`)).json(),
    decide: async (given) => {
      const body = JSON.stringify(given);
      return (await asked("decision", { method: "POST", headers: { "Content-Type": "application/json" }, body })).json();
    },
    picture(detail, which) {
      const key = `${detail.id}/${which}/${detail.sha256}`;
      if (!pictures.has(key)) {
        const loading = asked(`picture/${encodeURIComponent(detail.id)}/${which}`)
          .then((answer) => answer.blob())
          .then((blob) => URL.createObjectURL(blob));
        loading.catch(() => pictures.delete(key));
        pictures.set(key, loading);
        if (pictures.size > MOST_PICTURES) {
          const [oldest, gone] = pictures.entries().next().value;
          pictures.delete(oldest);
          gone.then((url) => URL.revokeObjectURL(url), () => {});
        }
      }
      return pictures.get(key);
    },
    thumbnail: (photo, which) => `thumbnail/${encodeURIComponent(photo)}/${which}`,
  };
}

function folderBackend(data) {
  const name = `deidlib-review-${data.review}`;
  let made = [];
  try {
    made = JSON.parse(localStorage.getItem(name) || "[]");
  } catch {
    alarm("This browser keeps nothing for a page on disk: export your decisions before you close it.");
  }
  const { reviewer, role, reviewers } = data.overview;
  function mine(photo) {
    const here = made.filter((one) => one.photo === photo);
    if (here.length) return here[here.length - 1].decision === "reopen" ? null : here[here.length - 1];
    return data.details[photo].decisions.find((one) => one.reviewer === reviewer) || null;
  }
  function entry(photo) {
    const own = mine(photo.id);
    const touched = made.some((one) => one.photo === photo.id);
    const alone = reviewers === 1 ? (own ? own.decision : "undecided") : "undecided";
    return { ...photo, mine: own ? own.decision : null, state: touched ? alone : photo.state };
  }
  const entries = new Map(data.overview.patients.flatMap((patient) => patient.photos).map((photo) => [photo.id, photo]));
  function detail(photo) {
    const own = mine(photo);
    return { ...data.details[photo], ...entry(entries.get(photo)), decisions: own ? [own] : [] };
  }
  return {
    folder: true,
    overview: async () => ({
      ...data.overview,
      patients: data.overview.patients.map((patient) => ({ ...patient, photos: patient.photos.map(entry) })),
    }),
    detail: async (photo) => detail(photo),
    decide: async (given) => {
      const { sha256, attempt } = data.details[given.photo];
      const time = new Date().toISOString().replace(/\.\d+Z$/, "+00:00");
      const one = {
        photo: given.photo, sha256, attempt, decision: given.decision, reason: given.reason, note: given.note, role, reviewer, time,
      };
      try {
        made = JSON.parse(localStorage.getItem(name) || "[]"); // another tab may have decided
        localStorage.setItem(name, JSON.stringify([...made, one]));
      } catch {
        alarm("This browser keeps nothing for a page on disk: export your decisions before you close it.");
      }
      made = [...made, one];
      return detail(given.photo);
    },
    picture: async (shown, which) => `pictures/${shown.id}-${which}.png`,
    thumbnail: (photo, which) => `pictures/${photo}-${which}.jpg`,
    exported: () => ({ format: data.format, review: data.review, decisions: made }),
  };
}

// ---- state ---------------------------------------------------------------------------------------------------------

const backend = window.REVIEW_DATA ? folderBackend(window.REVIEW_DATA) : servedBackend();
let patients = [];
let reviewers = 1;
let masks = false; // whether the server has a page to draw masks on
let order = []; // [patient number, photograph number], in the order of the sheet
let at = -1;
let detail = null;
let unsaved = null;
let request = 0;
const view = { mode: "side", outline: false, scale: 1, x: 0, y: 0 };

const entryAt = (index) => patients[order[index][0]].photos[order[index][1]];
const open = (photo) => !photo.held && photo.mine === null;
const FILTERS = {
  todo: open,
  all: () => true,
  against: (photo) => AGAINST.includes(photo.mine),
  held: (photo) => photo.held,
  disagreement: (photo) => photo.state === "disagreement",
};

function alarm(text, retry = null) {
  $("alarm").replaceChildren(text);
  if (retry) {
    const button = element("button", { type: "button" }, "Try again");
    button.addEventListener("click", retry);
    $("alarm").append(button);
  }
  $("alarm").hidden = !text;
}

function taken(answer) {
  const current = at >= 0 ? entryAt(at).id : null;
  patients = answer.patients;
  reviewers = answer.reviewers;
  masks = Boolean(answer.masks);
  order = patients.flatMap((patient, p) => patient.photos.map((_, n) => [p, n]));
  at = current === null ? -1 : order.findIndex((_, index) => entryAt(index).id === current);
  if (!$("reasons").children.length) {
    for (const [code, words] of Object.entries(answer.texts.reasons)) {
      const input = element("input", { type: "radio", name: "reason", value: code, required: "" });
      const number = $("reasons").children.length + 1;
      $("reasons").append(element("label", {}, input, element("span", {}, words), element("kbd", {}, String(number))));
    }
  }
  count();
}

function count() {
  const all = patients.flatMap((patient) => patient.photos);
  const ours = all.filter((photo) => !photo.held);
  const done = ours.filter((photo) => photo.mine !== null).length;
  $("bar").max = Math.max(1, ours.length);
  $("bar").value = done;
  $("count").textContent = `${done} of ${ours.length} decided` + (all.length > ours.length ? `, ${all.length - ours.length} held back` : "");
}

function step(direction, wanted = FILTERS[$("filter").value]) {
  for (let index = at + direction; index >= 0 && index < order.length; index += direction) {
    if (wanted(entryAt(index))) return index;
  }
  return -1;
}

// ---- one photograph ------------------------------------------------------------------------------------------------

async function show(index) {
  if (index < 0) return;
  const mine = ++request;
  at = index;
  closeWhy();
  try {
    const answer = await backend.detail(entryAt(index).id);
    if (mine !== request) return;
    detail = answer;
    Object.assign(entryAt(index), { mine: answer.mine, state: answer.state, held: answer.held });
    await draw(mine);
    count();
    prepare(step(1));
  } catch (error) {
    if (mine === request) alarm(`Not shown: ${error.message}.`, () => { alarm(""); show(index); });
  }
}

async function prepare(index) {
  if (index < 0) return;
  try {
    const next = await backend.detail(entryAt(index).id);
    if (next.original) backend.picture(next, "original");
    if (next.image) backend.picture(next, "result");
  } catch { /* it is tried again when it is shown */ }
}

async function draw(mine) {
  const [p, n] = order[at];
  const photos = patients[p].photos;
  $("position").replaceChildren(`Patient ${p + 1} of ${patients.length}`, element("br"), `photograph ${n + 1} of ${photos.length}`);
  const facts = [VIEWS[detail.view] || detail.view, detail.timepoint, `line ${detail.row} of the sheet`];
  if (detail.patient_id !== undefined) facts.push(`${detail.patient_id} / ${detail.photo_id}`);
  $("facts").textContent = facts.filter(Boolean).join(" · ");
  drawVerdict();
  drawDecisions();
  drawStrip(photos, n);
  await drawPictures(mine);
}

function drawVerdict() {
  const lines = [];
  let kind = "open";
  if (detail.held && detail.mine === null) {
    lines.push(["Held back", detail.because || "by the checks"]);
  } else if (detail.mine === null) {
    lines.push(["To be decided", detail.again ? "You, or the other reviewer, turned down an earlier picture of this photograph. This one is new." : ""]);
  }
  for (const one of detail.decisions) {
    const reason = one.reason ? document.querySelector(`[name=reason][value="${one.reason}"]`) : null;
    const words = [reason ? reason.nextSibling.textContent : "", one.note].filter(Boolean).join(". ");
    const who = reviewers > 1 ? `Reviewer ${one.reviewer} (${one.role.replace("_", " ")}): ` : "Decided: ";
    lines.push([`${who}${SIGNS[one.decision]} ${WORDS[one.decision]}`, words]);
    kind = one.decision === "release" ? "release" : "against";
  }
  if (detail.state === "disagreement") {
    lines.push([`${SIGNS.disagreement} ${WORDS.disagreement}`, "It is not released until both make the same decision."]);
    kind = "open";
  }
  if (detail.mine === "area_wrong") {
    const draw = masks ? "Draw a mask of what is to be preserved." : `Draw a mask (deidlib mask-page), and name it in line ${detail.row} of the sheet, column mask.`;
    lines.push(detail.mask && masks
      ? ["The mask is drawn", "Start the workflow again. It makes the picture again with this area, and you will be shown it."]
      : ["What to do", `${draw} The next run makes the picture again.`]);
  }
  if (detail.mine === "another_face") {
    lines.push(["What to do", detail.state === "another_face"
      ? "Start the workflow again. It makes another face, which you will be shown."
      : "The next run makes another face once both reviewers ask for one."]);
  }
  $("verdict").className = `verdict ${kind}`;
  $("verdict").replaceChildren(...lines.map(([title, text]) => {
    const line = element("p", {}, element("b", {}, title));
    if (text) line.append(element("small", {}, text));
    return line;
  }));
  const nothing = detail.held ? [] : ["The checks found nothing that needs a closer look."];
  if (detail.mine === "area_wrong" && masks) {
    const link = element("a", { id: "draw", href: maskPage(), target: "_blank", rel: "noopener" }, detail.mask ? "Change the mask" : "Draw the mask now");
    $("verdict").append(element("p", {}, link));
  }
  $("remarks").className = detail.remarks.length ? "" : "none";
  $("remarks").replaceChildren(...(detail.remarks.length ? detail.remarks : nothing).map((text) => element("li", {}, text)));
}

const maskPage = () => `mask/${encodeURIComponent(detail.id)}`;

function drawDecisions() {
  for (const button of document.querySelectorAll("[data-decision]")) {
    const kind = button.dataset.decision;
    button.disabled = !detail.allowed.includes(kind);
    if (kind === "reopen") button.hidden = detail.mine === null;
    else button.setAttribute("aria-pressed", String(detail.mine === kind));
  }
}

function drawStrip(photos, current) {
  const first = at - current;
  $("strip").replaceChildren(...photos.map((photo, n) => {
    const button = element("button", { type: "button" });
    const state = photo.held && photo.mine === null ? "held" : photo.mine || "undecided";
    const words = state === "held" ? "Held back" : WORDS[state];
    for (const which of ["original", "result"]) {
      const there = which === "original" || photo.image;
      const picture = there ? element("img", { src: backend.thumbnail(photo.id, which), alt: "", loading: "lazy" }) : element("div", { class: "none" });
      picture.addEventListener("error", () => picture.replaceWith(element("div", { class: "none" })));
      button.append(picture);
    }
    button.append(element("span", {}, `${n + 1}: ${SIGNS[state]} ${words}`));
    if (n === current) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => show(first + n));
    return button;
  }));
}

async function drawPictures(mine) {
  const shown = ["original", "result"].filter((which) => (which === "original" ? detail.original : detail.image));
  const ready = await Promise.all(shown.map(async (which) => {
    const picture = element("img", { alt: which === "original" ? "Original photograph" : "De-identified photograph", draggable: "false" });
    picture.src = await backend.picture(detail, which);
    await picture.decode();
    return [which, picture];
  }));
  if (mine !== request) return;
  for (const which of ["original", "result"]) $(`pane-${which}`).hidden = !shown.includes(which);
  for (const [which, picture] of ready) document.querySelector(`#pane-${which} .layer`).replaceChildren(picture, ...outline());
  $("stage").classList.toggle("single", shown.length < 2);
  $("nothing").textContent = shown.length ? "" : "There is no picture: the file could not be used, or there is no consent.";
  $("nothing").hidden = shown.length > 0;
  Object.assign(view, { scale: 1, x: 0, y: 0 });
  setMode(shown.length < 2 ? "side" : view.mode, false);
  document.body.dataset.photo = detail.id; // says that this photograph is shown now
}

function outline() {
  if (!detail.outline || !view.outline) return [];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${detail.size[0]} ${detail.size[1]}`);
  for (const kind of ["under", "over"]) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", detail.outline);
    path.setAttribute("class", kind);
    svg.append(path);
  }
  return [svg];
}

// ---- comparing -----------------------------------------------------------------------------------------------------

let blinker = 0;
function setMode(mode, chosen = true) {
  if (chosen) view.mode = mode;
  $("stage").dataset.mode = mode;
  for (const button of document.querySelectorAll("[data-mode]:not(#stage)")) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
  $("slide").hidden = mode !== "slider";
  $("blinking").hidden = mode !== "blink";
  $("difference").hidden = mode !== "difference";
  clearInterval(blinker);
  if (mode === "blink" && !matchMedia("(prefers-reduced-motion: reduce)").matches) blinker = setInterval(blink, 900);
  slide();
  place();
}

function blink() {
  const result = $("stage").classList.toggle("result");
  $("seen").textContent = result ? "Result" : "Original";
}

function slide() {
  const cutting = $("stage").dataset.mode === "slider";
  document.querySelector("#pane-result .window").style.clipPath = cutting ? `inset(0 0 0 ${$("slider").value}%)` : "none";
  $("cut").hidden = !cutting;
  $("cut").style.left = `${$("slider").value}%`;
}

function fitted() {
  const pane = [...document.querySelectorAll(".pane:not([hidden]) .window")][0];
  if (!pane || !detail || !detail.size[0]) return null;
  const box = pane.getBoundingClientRect();
  return { box, base: Math.min(box.width / detail.size[0], box.height / detail.size[1]) };
}

function place() {
  const found = fitted();
  if (!found) return;
  const { base } = found;
  for (const layer of document.querySelectorAll(".layer")) {
    layer.style.width = `${detail.size[0] * base}px`;
    layer.style.height = `${detail.size[1] * base}px`;
    layer.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale}) translate(-50%, -50%)`;
  }
  const percent = Math.round(base * view.scale * devicePixelRatio * 100);
  $("zoom").textContent = view.scale === 1 ? "fit" : `${percent} %`;
}

function zoom(factor, point = { x: 0, y: 0 }) {
  const found = fitted();
  if (!found) return;
  const largest = Math.max(1, 8 / (found.base * devicePixelRatio));
  const scale = Math.min(largest, Math.max(1, view.scale * factor));
  view.x = point.x - (point.x - view.x) * (scale / view.scale);
  view.y = point.y - (point.y - view.y) * (scale / view.scale);
  view.scale = scale;
  move(0, 0);
}

// The preserved area fills most of the pane.
function approach() {
  const found = fitted();
  const numbers = (detail && detail.outline.match(/\d+/g) || []).map(Number);
  if (!found || !numbers.length) return;
  const { box, base } = found;
  const ends = (list) => [Math.min(...list), Math.max(...list)];
  const [left, right] = ends(numbers.filter((_, index) => index % 2 === 0));
  const [top, bottom] = ends(numbers.filter((_, index) => index % 2 === 1));
  const fits = Math.min(box.width / (right - left + 1), box.height / (bottom - top + 1)) * 0.6 / base;
  view.scale = Math.max(1, Math.min(fits, 8 / (base * devicePixelRatio)));
  view.x = (detail.size[0] / 2 - (left + right) / 2) * base * view.scale;
  view.y = (detail.size[1] / 2 - (top + bottom) / 2) * base * view.scale;
  move(0, 0);
}

function move(dx, dy) {
  const found = fitted();
  if (!found) return;
  const { box, base } = found;
  const room = (length, side) => Math.max(0, (length * base * view.scale - side) / 2);
  const kept = (value, most) => Math.min(most, Math.max(-most, value));
  view.x = kept(view.x + dx, room(detail.size[0], box.width));
  view.y = kept(view.y + dy, room(detail.size[1], box.height));
  place();
}

const fingers = new Map();
for (const pane of document.querySelectorAll(".window")) {
  const middle = (x, y) => {
    const box = pane.getBoundingClientRect();
    return { x: x - box.left - box.width / 2, y: y - box.top - box.height / 2 };
  };
  pane.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), middle(event.clientX, event.clientY));
  }, { passive: false });
  pane.addEventListener("dblclick", (event) => {
    const found = fitted();
    if (view.scale > 1) zoom(0);
    else if (found) zoom(Math.max(2, 1 / (found.base * devicePixelRatio)), middle(event.clientX, event.clientY));
  });
  pane.addEventListener("pointerdown", (event) => {
    pane.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  pane.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    const other = [...fingers].find(([id]) => id !== event.pointerId);
    if (other) {
      const length = (one) => Math.hypot(one.x - other[1].x, one.y - other[1].y);
      zoom(length(now) / Math.max(1, length(before)), middle((now.x + other[1].x) / 2, (now.y + other[1].y) / 2));
    } else {
      move(now.x - before.x, now.y - before.y);
    }
    fingers.set(event.pointerId, now);
  });
  for (const end of ["pointerup", "pointercancel"]) pane.addEventListener(end, (event) => fingers.delete(event.pointerId));
}
new ResizeObserver(() => move(0, 0)).observe($("stage"));

// ---- deciding ------------------------------------------------------------------------------------------------------

function closeWhy() {
  $("why").hidden = true;
  $("why").reset();
}

async function decide(decision, reason = null, note = "") {
  if (!detail || !detail.allowed.includes(decision) || unsaved) return;
  const given = { photo: detail.id, sha256: detail.sha256, decision, reason, note, seen: detail.seen };
  const [index, mine] = [at, request];
  unsaved = given;
  $("saved").textContent = "Saving …";
  try {
    const answer = await backend.decide(given);
    unsaved = null;
    alarm("");
    Object.assign(entryAt(index), { mine: answer.mine, state: answer.state });
    count();
    if (mine !== request) return;
    detail = answer;
    $("saved").textContent = decision === "reopen" ? "Taken back." : `${backend.folder ? "Kept in this browser" : "Saved"}: ${WORDS[decision]}.`;
    closeWhy();
    const drawing = decision === "area_wrong" && masks; // the reviewer stays here while the mask is drawn in a new tab
    if (drawing) window.open(maskPage(), "_blank", "noopener");
    const next = decision === "reopen" || drawing ? -1 : step(1, FILTERS.todo);
    if (next >= 0) {
      await show(next);
    } else {
      await draw(request);
      if (drawing) $("saved").textContent += " A new tab opens, to draw what is to be preserved. → goes on here.";
      else if (decision !== "reopen") finished();
    }
  } catch (error) {
    unsaved = null;
    $("saved").textContent = "";
    if (error instanceof Refused) {
      await show(index);
      alarm(`Nothing was saved: ${error.message}.`);
    } else {
      alarm(`NOT SAVED: ${error.message}.`, () => decide(decision, reason, note));
    }
  }
}

function finished() {
  const left = patients.flatMap((patient) => patient.photos).filter(open).length;
  const end = backend.folder ? "Export your decisions now." : "You may close this page, and start the workflow again.";
  $("saved").textContent += left ? ` ${left} before this one are still to be decided.` : ` All are decided. ${end}`;
}

function ask(decision) {
  if (!detail || !detail.allowed.includes(decision)) return;
  if (decision !== "withhold") {
    decide(decision);
    return;
  }
  $("why").hidden = false;
  $("why").scrollIntoView({ block: "nearest" });
  document.querySelector("[name=reason]").focus();
}

$("why").addEventListener("submit", (event) => {
  event.preventDefault();
  const reason = document.querySelector("[name=reason]:checked");
  if (reason) decide("withhold", reason.value, $("note").value.trim());
});
$("cancel").addEventListener("click", closeWhy);
for (const button of document.querySelectorAll("[data-decision]")) button.addEventListener("click", () => ask(button.dataset.decision));
for (const button of document.querySelectorAll("[data-mode]:not(#stage)")) button.addEventListener("click", () => setMode(button.dataset.mode));
$("slider").addEventListener("input", slide);
$("toggle").addEventListener("click", blink);
$("previous").addEventListener("click", () => show(step(-1)));
$("next").addEventListener("click", () => show(step(1)));
$("larger").addEventListener("click", () => zoom(1.5));
$("smaller").addEventListener("click", () => zoom(1 / 1.5));
$("fit").addEventListener("click", () => zoom(0));
$("mouth").addEventListener("click", approach);
$("help").addEventListener("click", () => $("keys").showModal());
$("outline").addEventListener("click", () => {
  view.outline = !view.outline;
  $("outline").setAttribute("aria-pressed", String(view.outline));
  for (const svg of document.querySelectorAll(".layer svg")) svg.remove();
  for (const layer of document.querySelectorAll(".layer")) layer.append(...outline());
});
$("filter").addEventListener("change", () => {
  const wanted = FILTERS[$("filter").value];
  const first = order.findIndex((_, index) => wanted(entryAt(index)));
  $("saved").textContent = first < 0 ? "There is none of these." : "";
  show(first);
});
$("patients").addEventListener("click", () => {
  let index = 0;
  $("all").replaceChildren(...patients.map((patient) => {
    const line = element("li", {}, element("span", {}, String(patients.indexOf(patient) + 1)));
    for (const photo of patient.photos) {
      const state = photo.held && photo.mine === null ? "held" : photo.mine || "undecided";
      const here = index++;
      const button = element("button", { type: "button", "aria-label": `photograph ${patient.photos.indexOf(photo) + 1}: ${state.replace("_", " ")}` }, SIGNS[state]);
      button.addEventListener("click", () => { $("list").close(); show(here); });
      line.append(button);
    }
    return line;
  }));
  $("list").showModal();
  const here = document.querySelectorAll("#all button")[at];
  if (here) { here.setAttribute("aria-current", "true"); here.focus(); }
});
if (backend.folder) {
  $("export").addEventListener("click", () => {
    const file = new Blob([JSON.stringify(backend.exported(), null, 1)], { type: "application/json" });
    const link = element("a", { href: URL.createObjectURL(file), download: "review-decisions.json" });
    link.click();
    URL.revokeObjectURL(link.href);
    $("saved").textContent = "Exported. Bring the file back: deidlib review RESULTS --import FILE";
  });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (!$("why").hidden) {
    if (event.key === "Escape") closeWhy();
    else if (event.target.tagName !== "TEXTAREA" && /^[1-9]$/.test(event.key)) {
      const reason = document.querySelectorAll("[name=reason]")[Number(event.key) - 1];
      if (reason) { reason.checked = true; reason.focus(); }
    }
    return;
  }
  if (["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) && event.target.type !== "range") return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const slid = (by) => { $("slider").value = Number($("slider").value) + by; slide(); };
  const acts = {
    ArrowLeft: () => event.target.type !== "range" && show(step(-1)),
    ArrowRight: () => event.target.type !== "range" && show(step(1)),
    "1": () => setMode("side"), "2": () => setMode("slider"), "3": () => setMode("blink"), "4": () => setMode("difference"),
    "[": () => slid(-5), "]": () => slid(5),
    "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), "0": () => zoom(0),
    m: approach, o: () => $("outline").click(), p: () => $("patients").click(), "?": () => $("keys").showModal(),
    " ": () => view.mode === "blink" && event.target.tagName !== "BUTTON" && (event.preventDefault(), blink()),
  };
  if (KEYS[key]) { event.preventDefault(); ask(KEYS[key]); } else if (acts[key]) acts[key]();
});
addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });

// ---- start, and what other windows decide --------------------------------------------------------------------------

async function refresh() {
  if (document.hidden || unsaved || at < 0) return;
  try {
    const before = JSON.stringify(entryAt(at));
    taken(await backend.overview());
    if ($("alarm").textContent.includes("does not answer") && !$("alarm").textContent.startsWith("NOT SAVED")) alarm("");
    if (at >= 0 && JSON.stringify(entryAt(at)) !== before && $("why").hidden) await show(at);
  } catch (error) {
    if ($("alarm").hidden) alarm(`Careful: ${error.message}.`);
  }
}

async function start() {
  try {
    taken(await backend.overview());
  } catch (error) {
    alarm(`Nothing to show: ${error.message}.`, () => { alarm(""); start(); });
    return;
  }
  if (!order.length) {
    alarm("There is no photograph to review.");
    return;
  }
  const first = order.findIndex((_, index) => open(entryAt(index)));
  if (first < 0) $("filter").value = "all";
  await show(Math.max(0, first));
  setInterval(refresh, 10000);
  document.addEventListener("visibilitychange", async () => {
    await refresh();
    const waiting = detail && detail.mine === "area_wrong" && masks && !detail.mask;
    if (!document.hidden && waiting && !unsaved) await show(at); // back from the tab in which the mask was drawn
  });
}
start();
