// The station's page: what all its parts share. Nothing here decides anything: it shows what the station says and sends
// lines of its command set.
"use strict";
const $ = (id) => document.getElementById(id);
const make = (tag, text, name) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  return node;
};
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? TEXTS.none);
const choices = (select, texts) => select.replaceChildren(...Object.entries(texts).map(([value, text]) => {
  const option = make("option", text);
  option.value = value;
  return option;
}));
const rows = (list, pairs) => list.replaceChildren(...pairs.flatMap(([name, value]) => [make("dt", name), make("dd", value)]));

let token = sessionStorage.getItem("token");
let level = sessionStorage.getItem("level");
const PAGES = {}; // what shows each page, by its name

// The page is shown once it has something to show: what grows under a finger is pressed by mistake.
const reveal = () => document.documentElement.classList.add("ready");
setTimeout(reveal, 1000);

document.documentElement.lang = LANGUAGE;
document.querySelectorAll("[data-text]").forEach((node) => { node.textContent = TEXTS[node.dataset.text]; });
document.querySelectorAll("[data-label]").forEach((node) => node.setAttribute("aria-label", TEXTS[node.dataset.label]));
document.querySelectorAll("[data-choices]").forEach((node) => choices(node, TEXTS[node.dataset.choices]));

function say(text, bad) {
  $("answer").textContent = text;
  $("answer").className = bad ? "bad" : "";
}

function loggedIn(newToken, newLevel) {
  // What was pending ended with the log-in before.
  if (newToken !== token) forget();
  token = newToken;
  level = newLevel;
  for (const [name, value] of [["token", token], ["level", level]]) {
    if (value) sessionStorage.setItem(name, value); else sessionStorage.removeItem(name);
  }
  $("account").textContent = token ? `${TEXTS.logout} (${TEXTS[level]})` : TEXTS.login;
}

function askLogin(text) {
  say(text, true);
  if (!$("login").open) $("login").showModal();
}

// A request with who is logged in; throws if the station is not there.
function request(path, method, body, type = "application/json", more = {}) {
  const headers = { ...more };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = type;
  return fetch(path, { method, headers, body });
}

// What a path shows, as JSON; nothing if it is hidden or refused, which is said.
async function seen(path, quiet) {
  const answer = await request(path, "GET");
  if (answer.ok) return answer.json();
  if (quiet) return undefined;
  if (answer.status === 401) { askLogin(TEXTS.hidden); return undefined; }
  say((await answer.json().catch(() => ({}))).text || String(answer.status), true);
  return undefined;
}

// Sends something; the answer if it was taken. A refusal is said.
async function send(path, body, type) {
  if (!token) { askLogin(TEXTS.needs_login); return undefined; }
  let answer;
  try { answer = await request(path, body === undefined ? "GET" : "POST", body, type); } catch { say(TEXTS.lost, true); return undefined; }
  if (answer.ok) return answer;
  const text = await answer.text();
  let refusal = {};
  try { refusal = JSON.parse(text); } catch { refusal.text = text; }
  const why = refusal.lines ? refusal.lines[0] : refusal.text || String(answer.status);
  // 400: nobody is logged in; 401: at too low a level.
  if (answer.status === 401 && refusal.code === 400) { loggedIn(null, null); askLogin(why); } else say(why, true);
  return undefined;
}

// Sends a line; returns the lines of its answer, or nothing if it was refused.
async function command(line) {
  const answer = await send("api/command", JSON.stringify({ line }));
  if (!answer) return undefined;
  const { lines } = await answer.json();
  say(lines[0] || "");
  return lines;
}

// Does something at a click, once at a time.
function onclick(id, work) {
  const button = typeof id === "string" ? $(id) : id;
  button.addEventListener("click", async () => {
    button.disabled = true;
    try { await work(button); } catch { say(TEXTS.lost, true); } finally { button.disabled = false; }
  });
}

function pressed(button, on) {
  button.setAttribute("aria-pressed", String(on));
}

document.querySelectorAll("[data-line]").forEach((button) => onclick(button, () => command(button.dataset.line)));

$("account").addEventListener("click", async () => {
  if (!token) { $("login").showModal(); return; }
  await request("api/logout", "POST", "{}").catch(() => {});
  loggedIn(null, null);
});
$("login-cancel").addEventListener("click", () => $("login").close());
$("login").querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("login-error").textContent = "";
  try {
    const answer = await request("api/login", "POST", JSON.stringify({ level: $("level").value, password: $("password").value }));
    const body = await answer.json();
    if (!answer.ok) { $("login-error").textContent = body.text; return; }
    loggedIn(body.token, body.level);
    $("login").close();
    say("");
    listen();
    turn();
  } catch { $("login-error").textContent = TEXTS.lost; } finally { $("password").value = ""; }
});

function turn() {
  const page = location.hash.slice(1) in PAGES ? location.hash.slice(1) : "live";
  if (location.hash.slice(1) !== page) { location.replace("#live"); return; }
  document.querySelectorAll("main > section").forEach((s) => { s.hidden = s.id !== `page-${page}`; });
  document.querySelectorAll("nav a").forEach((a) => {
    if (a.hash === `#${page}`) a.setAttribute("aria-current", "page"); else a.removeAttribute("aria-current");
  });
  PAGES[page]().catch(() => say(TEXTS.lost, true));
}
const shows = (page) => location.hash === `#${page}` && !document.hidden;
addEventListener("hashchange", () => { say(""); turn(); });
addEventListener("load", () => { loggedIn(token, level); listen(); turn(); });
