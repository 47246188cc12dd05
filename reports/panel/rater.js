"use strict";
const study = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const storageKey = "deidlib-panel:" + study.study + ":" + study.rater;
const DAY = 86400000;
const LETTERS = "ABCDEF";
const CANNOT = "cannot";
const ROUGHLY = { realism: 10, usefulness: 12, reading: 60, identity: 25 }; // seconds a picture

// What was answered so far; it is written after every change.
let state = { answers: {}, sessions: {} };
let stored = true;
let current = null; // { session, list, at, values, unsure, seconds, since }

function load() {
  try {
    const text = localStorage.getItem(storageKey);
    if (text) state = JSON.parse(text);
    localStorage.setItem(storageKey + ":test", "1");
    localStorage.removeItem(storageKey + ":test");
  } catch (error) {
    stored = false;
  }
}

function save() {
  try {
    const other = JSON.parse(localStorage.getItem(storageKey) || "{}"); // a second tab may have written
    for (const [id, answer] of Object.entries(other.answers || {})) {
      if (!state.answers[id] || state.answers[id].at < answer.at) state.answers[id] = answer;
    }
    for (const [number, times] of Object.entries(other.sessions || {})) state.sessions[number] = { ...times, ...state.sessions[number] };
    localStorage.setItem(storageKey, JSON.stringify(state));
    stored = true;
  } catch (error) {
    stored = false;
  }
}

function element(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function show(...children) {
  main.replaceChildren(...children);
  window.scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

function trialsOf(session) {
  return session.blocks.flatMap((block) => block.trials.map((trial) => ({ ...trial, block })));
}

function done(session) {
  return trialsOf(session).filter((trial) => state.answers[trial.id]).length;
}

// When a session may begin: after the one before it, and its days.
function opens(session) {
  if (session.number === 1) return 0;
  const before = state.sessions[session.number - 1];
  return before && before.finished ? Date.parse(before.finished) + session.wait_days * DAY : Infinity;
}

function day(time) {
  return new Date(time).toLocaleDateString(undefined, { weekday: "long", year: "numeric", month: "long", day: "numeric" });
}

function exported() {
  return {
    format: "deidlib panel answers 1",
    study: study.study,
    rater: study.rater,
    // A page that a program works through is no person's.
    simulated: navigator.webdriver === true,
    exported: new Date().toISOString(),
    sessions: state.sessions,
    answers: state.answers,
  };
}

function exportFile() {
  const blob = new Blob([JSON.stringify(exported(), null, 1) + "\n"], { type: "application/json" });
  const link = element("a", { href: URL.createObjectURL(blob), download: "answers-" + study.rater + ".json" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function importFile(event) {
  const file = event.target.files[0];
  event.target.value = "";
  if (!file) return;
  file.text().then((text) => {
    const given = JSON.parse(text);
    if (given.study !== study.study || given.rater !== study.rater) throw new Error("other");
    const known = new Set(study.sessions.flatMap(trialsOf).map((trial) => trial.id));
    for (const [id, answer] of Object.entries(given.answers)) {
      const mine = state.answers[id];
      if (known.has(id) && (!mine || mine.at < answer.at)) state.answers[id] = answer;
    }
    for (const [number, times] of Object.entries(given.sessions)) {
      state.sessions[number] = { ...times, ...state.sessions[number] };
    }
    save();
    start("The file was read: " + Object.keys(given.answers).length + " answers.");
  }).catch(() => start("This file holds no answers of this rater in this study. Nothing was changed."));
}

function header(session) {
  document.getElementById("title").textContent = study.title;
  document.getElementById("who").textContent = study.rater;
  document.getElementById("leave").hidden = !session;
  const bar = document.getElementById("progress");
  const place = document.getElementById("place");
  bar.hidden = place.hidden = !session;
  if (!session) return;
  const all = trialsOf(session).length;
  bar.max = all;
  bar.value = done(session);
  place.textContent = "Session " + session.number + " of " + study.sessions.length + ", " + done(session) + " of " + all + " answered";
}

function start(message) {
  current = null;
  header(null);
  const rows = study.sessions.map((session) => {
    const all = trialsOf(session).length, answered = done(session), when = opens(session);
    const finished = answered === all;
    let note = session.blocks.map((block) => block.title).join(" · ");
    const minutes = Math.max(1, Math.round(session.blocks.reduce((sum, block) => sum + block.trials.length * (ROUGHLY[block.name] || 20), 0) / 60));
    note += " · " + all + " pictures, about " + minutes + " min";
    let label = answered ? "Go on" : "Begin", ready = true;
    if (finished) [label, ready] = ["Finished", false];
    else if (when === Infinity) [label, ready] = ["Later", false];
    else if (when > Date.now()) {
      [label, ready] = ["Later", false];
      note += " · opens on " + day(when);
    }
    return element("li", {},
      element("div", {}, element("strong", {}, "Session " + session.number),
        element("span", { class: "note" }, note + (answered && !finished ? " · " + answered + " answered" : ""))),
      element("button", { type: "button", class: ready ? "main" : "", disabled: !ready, "data-session": String(session.number), onclick: () => begin(session) }, label));
  });
  const complete = study.sessions.every((session) => done(session) === trialsOf(session).length);
  show(element("div", { class: "page" },
    element("h1", {}, study.title),
    message ? element("p", { class: "warning", role: "status" }, message) : null,
    study.originals ? element("p", { class: "private" }, element("strong", {}, "This folder holds original photographs of patients. "),
      "Sit where nobody else sees the screen. Do not copy, print or photograph anything.") : null,
    stored ? null : element("p", { class: "warning", role: "alert" },
      "This browser does not keep your answers. Export them before you close the page, and read them in when you go on."),
    element("p", {}, complete
      ? "You have answered everything. Export your answers and send the file to the study's owner. Thank you."
      : "You judge pictures, one after the other. There is no limit of time. Your answers are kept on this computer as you go: close the page whenever you like and go on later."),
    element("ul", { class: "sessions" }, ...rows),
    element("h2", {}, "Your answers as a file"),
    element("p", {}, "After each session export your answers and send the file to the study's owner. To go on at another computer, read the file in there."),
    element("div", { class: "actions" },
      element("button", { type: "button", id: "export", class: complete ? "main" : "", onclick: exportFile }, "Export my answers"),
      element("label", { class: "button" }, "Read a file in", element("input", { type: "file", id: "import", accept: ".json", hidden: true, onchange: importFile }))),
    study.contact ? element("p", { class: "keys" }, "Questions: " + study.contact) : null));
}

function begin(session) {
  state.sessions[session.number] = { started: new Date().toISOString(), ...state.sessions[session.number] };
  save();
  const list = trialsOf(session);
  current = { session, list, at: list.findIndex((trial) => !state.answers[trial.id]) };
  introduce(list[current.at].block);
}

function introduce(block) {
  header(current.session);
  const practice = block.trials.filter((trial) => trial.practice).length;
  show(element("div", { class: "page" },
    element("h1", {}, block.title),
    element("p", {}, block.text),
    practice ? element("p", {}, practice === 1 ? "The first picture is for practice and does not count." : "The first " + practice + " pictures are for practice and do not count.") : null,
    element("p", {}, "Touch or click a picture to see it at full size."),
    element("p", { class: "keys" }, "Keyboard: ", element("kbd", {}, "1"), " to ", element("kbd", {}, "9"), " choose an answer of the marked line, ",
      element("kbd", {}, "0"), " the tenth, ", element("kbd", {}, "Enter"), " goes on, ", element("kbd", {}, "Z"), " shows the picture at full size."),
    element("div", { class: "actions" }, element("button", { type: "button", class: "main", id: "go", onclick: present }, "Show the first picture"))));
  document.getElementById("go").focus();
}

function address(file) {
  return "pictures/" + file;
}

function zoom(file) {
  const dialog = document.getElementById("zoom");
  dialog.querySelector("img").src = address(file);
  dialog.showModal();
}

function present() {
  const trial = current.list[current.at];
  const known = state.answers[trial.id];
  current.values = known ? { ...known.values } : {};
  current.unsure = known ? known.unsure : false;
  current.seconds = known ? known.seconds : 0;
  current.since = null;
  header(current.session);
  const lineUp = trial.pictures.length > 1;
  const subject = element("img", { alt: "The picture to judge", src: address(trial.pictures[0]), id: "subject" });
  subject.addEventListener("load", () => { if (current && current.since === null) current.since = performance.now(); });
  subject.addEventListener("error", () => { document.getElementById("missing").hidden = false; });
  const questions = trial.block.questions.map((question) =>
    lineUp && question.name === "pick" ? choices(trial, question) : ask(question));
  const form = element("form", { class: trial.block.name, onsubmit: (event) => { event.preventDefault(); next(); } },
    trial.practice ? element("div", { class: "practice" }, "Practice: does not count") : null,
    element("p", { class: "warning", id: "missing", hidden: true, role: "alert" }, "The picture cannot be shown. Tell the study's owner, and do not go on."),
    ...questions,
    element("label", { class: "unsure" }, element("input", { type: "checkbox", id: "unsure", checked: current.unsure, onchange: (event) => { current.unsure = event.target.checked; } }),
      trial.block.questions.length > 2 ? "I am not sure of one or more of these answers" : "I am not sure"),
    element("div", { class: "actions" },
      element("button", { type: "submit", class: "main", id: "next", disabled: true }, "Next"),
      element("button", { type: "button", id: "back", disabled: current.at === 0, onclick: back }, "Back")));
  show(element("div", { class: "trial " + (lineUp ? "line-up" : "one") },
    element("figure", { class: "subject" }, element("button", { type: "button", "aria-label": "Show the picture at full size", onclick: () => zoom(trial.pictures[0]) }, subject),
      element("figcaption", {}, "Touch or click for full size")),
    form));
  mark();
  const following = current.list[current.at + 1];
  for (const file of following ? following.pictures : []) new Image().src = address(file);
}

function ask(question) {
  const options = question.answers.map((text, number) => option(question, text, number, ""));
  if (question.cannot) options.push(option(question, "cannot be judged", CANNOT, "cannot"));
  return element("fieldset", { "data-question": question.name }, element("legend", {}, question.text), element("div", { class: "options" }, ...options));
}

function option(question, text, value, kind) {
  const checked = current.values[question.name] === value;
  return element("label", { class: kind }, element("input", { type: "radio", name: question.name, value: String(value), checked, onchange: () => answer(question.name, value) }), element("span", {}, text));
}

function choices(trial, question) {
  const boxes = trial.pictures.slice(1).map((file, number) => element("div", { class: "choice" }, element("label", {},
    element("input", { type: "radio", name: question.name, value: String(number), checked: current.values[question.name] === number, onchange: () => answer(question.name, number) }),
    element("img", { alt: "Choice " + LETTERS[number], src: address(file) }),
    element("span", { class: "mark" }, LETTERS[number])),
    element("button", { type: "button", class: "larger", "aria-label": "Show picture " + LETTERS[number] + " at full size", onclick: () => zoom(file) }, "full size")));
  return element("fieldset", { "data-question": question.name }, element("legend", {}, question.text), element("div", { class: "choices", style: "clear: both" }, ...boxes));
}

function answer(name, value) {
  current.values[name] = value;
  mark();
  const open = main.querySelector("fieldset.active");
  if (open) open.scrollIntoView({ block: "nearest" }); // the next question is never below the edge of a small screen
}

// Mark the first line without an answer, and open the way on when there is none.
function mark() {
  const questions = current.list[current.at].block.questions;
  const open = questions.find((question) => current.values[question.name] === undefined);
  for (const field of main.querySelectorAll("fieldset")) field.classList.toggle("active", Boolean(open) && field.dataset.question === open.name);
  document.getElementById("next").disabled = Boolean(open);
}

function pause() {
  if (current && current.since !== null && current.since !== undefined) {
    current.seconds += (performance.now() - current.since) / 1000;
    current.since = null;
  }
}

function keep() {
  pause();
  const trial = current.list[current.at];
  const before = state.answers[trial.id];
  const now = new Date().toISOString();
  state.answers[trial.id] = {
    values: current.values,
    unsure: current.unsure,
    seconds: Math.round(current.seconds * 10) / 10,
    at: now,
    changes: before ? before.changes + (JSON.stringify(before.values) === JSON.stringify(current.values) ? 0 : 1) : 0,
  };
  save();
}

function complete() {
  return current.list[current.at].block.questions.every((question) => current.values[question.name] !== undefined);
}

function next() {
  if (!complete()) return;
  keep();
  const session = current.session;
  if (done(session) === current.list.length && current.at === current.list.length - 1) {
    state.sessions[session.number] = { ...state.sessions[session.number], finished: new Date().toISOString() };
    save();
    finish(session);
    return;
  }
  const from = current.list[current.at].block;
  current.at += 1;
  const to = current.list[current.at].block;
  if (to !== from && !state.answers[current.list[current.at].id]) introduce(to);
  else present();
}

function back() {
  pause();
  current.at -= 1;
  present();
}

function finish(session) {
  current = null;
  header(null);
  const following = study.sessions.find((one) => one.number === session.number + 1);
  const when = following ? opens(following) : null;
  show(element("div", { class: "page" },
    element("h1", {}, "Session " + session.number + " is finished. Thank you."),
    element("p", {}, "Export your answers now and send the file to the study's owner."),
    following ? element("p", {}, when > Date.now() ? "The next session opens on " + day(when) + "." : "The next session can begin at once.") : null,
    element("div", { class: "actions" },
      element("button", { type: "button", class: "main", id: "export", onclick: exportFile }, "Export my answers"),
      element("button", { type: "button", id: "to-start", onclick: () => start() }, "To the first page"))));
}

document.getElementById("leave").addEventListener("click", () => {
  if (current && current.values && document.getElementById("next") && complete()) keep();
  start("Your answers are saved. You can close the page.");
});
document.getElementById("unzoom").addEventListener("click", () => document.getElementById("zoom").close());
document.querySelector("#zoom div").addEventListener("click", () => document.getElementById("zoom").close());
document.addEventListener("visibilitychange", () => {
  if (!current || !current.list || !document.getElementById("subject")) return;
  if (document.hidden) pause();
  else if (current.since === null) current.since = performance.now();
});
document.addEventListener("keydown", (event) => {
  if (!current || !document.getElementById("next") || event.ctrlKey || event.metaKey || event.altKey || document.getElementById("zoom").open) return;
  if (/^[0-9]$/.test(event.key)) {
    const field = main.querySelector("fieldset.active") || main.querySelector("fieldset:last-of-type");
    const inputs = field ? field.querySelectorAll("input") : [];
    const input = inputs[(Number(event.key) + 9) % 10];
    if (input) { input.click(); event.preventDefault(); }
  } else if (event.key === "Enter" && !document.getElementById("next").disabled && event.target.tagName !== "BUTTON") {
    next();
    event.preventDefault();
  } else if (event.key.toLowerCase() === "z") zoom(current.list[current.at].pictures[0]);
});

load();
start();
