// The station's page. Nothing here decides anything: it shows what the station says and sends lines of its command set.
"use strict";
const $ = (id) => document.getElementById(id);
const make = (tag, text, name) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  return node;
};
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

const SCORES = 300; // parts in the chart
let token = sessionStorage.getItem("token");
let level = sessionStorage.getItem("level");
let threshold = 1;
let scores = [];
let changed = {};

document.querySelectorAll("[data-text]").forEach((node) => { node.textContent = TEXTS[node.dataset.text]; });
$("scores").setAttribute("aria-label", TEXTS.scores_alt);

function say(text, bad) {
  $("answer").textContent = text;
  $("answer").className = bad ? "bad" : "";
}

function loggedIn(newToken, newLevel) {
  token = newToken;
  level = newLevel;
  for (const [name, value] of [["token", token], ["level", level]]) {
    if (value) sessionStorage.setItem(name, value); else sessionStorage.removeItem(name);
  }
  $("account").textContent = token ? `${TEXTS.logout} (${TEXTS[level]})` : TEXTS.login;
}

async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  return fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
}

// Sends a line; returns the lines of its answer, or nothing if it was refused.
async function command(line) {
  if (!token) { say(TEXTS.needs_login, true); $("login").showModal(); return undefined; }
  let answer;
  try { answer = await post("api/command", { line }); } catch { say(TEXTS.lost, true); return undefined; }
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 401) { loggedIn(null, null); say(body.text || TEXTS.needs_login, true); $("login").showModal(); return undefined; }
  const lines = body.lines || [body.text || String(answer.status)];
  say(lines[0] || "", !answer.ok);
  return answer.ok ? lines : undefined;
}

document.querySelectorAll("[data-line]").forEach((button) => {
  button.addEventListener("click", async () => {
    button.disabled = true;
    try { await command(button.dataset.line); } finally { button.disabled = false; }
  });
});

$("account").addEventListener("click", async () => {
  if (!token) { $("login").showModal(); return; }
  await post("api/logout", {}).catch(() => {});
  loggedIn(null, null);
});
$("login-cancel").addEventListener("click", () => $("login").close());
$("login").querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("login-error").textContent = "";
  try {
    const answer = await post("api/login", { level: $("level").value, password: $("password").value });
    const body = await answer.json();
    if (!answer.ok) { $("login-error").textContent = body.text; return; }
    loggedIn(body.token, body.level);
    $("login").close();
    say("");
  } catch { $("login-error").textContent = TEXTS.lost; }
  $("password").value = "";
});

// Live -------------------------------------------------------------------------------------------------

function outcome(part) {
  const score = part.score === null ? "" : `  ${TEXTS.score} ${part.score.toFixed(3)}`;
  const cause = part.cause ? `: ${TEXTS.causes[`rejects_${part.cause}`] || part.cause}` : "";
  const type = part.type ? `: ${part.type}` : "";
  return `${part.part}  ${TEXTS[part.outcome]}${cause}${type}${score}`;
}

function rows(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
}

function show(state) {
  $("station").textContent = state.station;
  document.title = `${state.station}: ${state.mode}`;
  $("mode").textContent = TEXTS.modes[state.mode] || state.mode;
  $("mode").className = state.mode === "running" ? "good" : "bad";
  threshold = state.threshold;
  const alarms = state.alarms.map((a) => make("p", `${a.number} ${a.name}: ${a.text}${a.stops ? ` (${TEXTS.stops_line})` : ""}`));
  if (state.network.warning) alarms.push(make("p", state.network.warning));
  $("alarms").hidden = alarms.length === 0;
  $("alarms").replaceChildren(...alarms);
  const counters = state.counters;
  rows($("figures"), [
    [TEXTS.parts, counters.parts],
    [TEXTS.good, counters.good],
    [TEXTS.rejected, counters.parts - counters.good],
    [TEXTS.threshold, state.threshold.toFixed(4)],
    [TEXTS.recipe, `${state.recipe} ${state.recipe_name}`],
    [TEXTS.network, state.network.name || state.network.state],
    [TEXTS.latency, state.latency_p99_ms === null ? "-" : `${state.latency_p99_ms.toFixed(1)} ms`],
  ]);
  $("lamps").replaceChildren(...Object.entries(state.outputs).map(([name, on]) => {
    const warn = ["reject", "fault", "line_stop"].includes(name);
    const lamp = make("li", TEXTS.lamps[name], `${on ? "on" : ""} ${warn ? "warn" : ""}`);
    lamp.setAttribute("aria-label", `${TEXTS.lamps[name]}: ${on ? "on" : "off"}`);
    return lamp;
  }));
  $("last").textContent = state.last ? outcome(state.last) : TEXTS.nothing_yet;
  $("last").className = !state.last ? "" : state.last.outcome === "good" ? "good" : "bad";
  const test = state.challenge;
  const word = test && (!test.over ? "challenge_running" : test.passed ? "challenge_passed" : "challenge_failed");
  $("challenge").textContent = test ? fill(TEXTS[word], test) : "";
  const head = make("tr");
  head.append(make("th", TEXTS.cause), make("th", TEXTS.count));
  const causes = [[TEXTS.by_score, counters.rejects], ...Object.entries(TEXTS.causes).map(([name, text]) => [text, counters[name]])];
  $("causes").replaceChildren(head, ...causes.filter(([, count]) => count > 0).map(([text, count]) => {
    const row = make("tr");
    row.append(make("td", text), make("td", count));
    return row;
  }));
}

function chart() {
  const canvas = $("scores");
  const style = getComputedStyle(document.body);
  const colour = (name) => { canvas.style.color = `var(${name})`; return getComputedStyle(canvas).color; };
  const [good, bad, soft] = [colour("--good"), colour("--bad"), colour("--soft")];
  const draw = canvas.getContext("2d");
  const { width, height } = canvas;
  const y = (score) => height - 6 - score * (height - 24);
  draw.clearRect(0, 0, width, height);
  const step = width / SCORES;
  scores.forEach((part, i) => {
    draw.fillStyle = part.outcome === "good" ? good : bad;
    const top = part.score === null ? y(1) : y(part.score);
    draw.fillRect(i * step, top, Math.max(1, step - 1), height - top);
  });
  draw.strokeStyle = soft;
  draw.setLineDash([8, 6]);
  draw.beginPath();
  draw.moveTo(0, y(threshold));
  draw.lineTo(width, y(threshold));
  draw.stroke();
  draw.fillStyle = soft;
  draw.font = `16px ${style.fontFamily}`;
  draw.fillText(`${TEXTS.threshold} ${threshold.toFixed(4)}`, 8, Math.max(16, y(threshold) - 6));
}

// The place of a camera's picture; the page has the first one's.
function place(camera) {
  const id = camera === 1 ? "picture" : `picture-${camera}`;
  if (!$(id)) {
    const image = document.createElement("img");
    image.id = id;
    image.hidden = true;
    $("last").before(image);
  }
  return $(id);
}

let cameras = 1;
let picturing = false;
async function picture() {
  if (picturing || document.hidden || location.hash.slice(1) !== "live") return;
  picturing = true;
  try {
    for (let camera = 1; camera <= cameras; camera += 1) {
      const answer = await fetch(camera === 1 ? "live.jpg" : `live/${camera}`);
      if (answer.status === 200) {
        const image = place(camera);
        const old = image.src;
        image.src = URL.createObjectURL(await answer.blob());
        image.hidden = false;
        image.alt = $("last").textContent;
        if (old.startsWith("blob:")) URL.revokeObjectURL(old);
      }
    }
  } catch { /* the line above says that the connection is lost */ } finally { picturing = false; }
}
setInterval(picture, 500);

const events = new EventSource("api/events");
events.addEventListener("state", (event) => {
  const state = JSON.parse(event.data);
  cameras = state.cameras.length;
  show(state);
  chart();
});
events.addEventListener("results", (event) => {
  scores = scores.concat(JSON.parse(event.data)).slice(-SCORES);
  chart();
});
events.addEventListener("open", () => { $("lost").hidden = true; });
events.addEventListener("error", () => { $("lost").textContent = TEXTS.lost; $("lost").hidden = false; });

// Rejects, settings, changes ---------------------------------------------------------------------------

async function rejects() {
  const answer = await fetch("api/rejects");
  const { pictures } = await answer.json();
  $("pictures").replaceChildren(...pictures.map((name) => {
    const figure = make("figure");
    const image = make("img");
    image.loading = "lazy";
    image.src = `rejects/${encodeURIComponent(name)}`;
    image.alt = name;
    figure.append(image, make("figcaption", name.replace(/\.png$/, "")));
    return figure;
  }));
  if (pictures.length === 0) $("pictures").replaceChildren(make("p", TEXTS.nothing_yet));
}

function pending() {
  const any = Object.keys(changed).length > 0;
  $("commit").disabled = !any;
  $("revert").disabled = !any;
}

async function parameters() {
  const list = await (await fetch("api/parameters")).json();
  $("parameters").replaceChildren(...list.map((p) => {
    const row = make("div", undefined, "parameter");
    row.dataset.words = `${p.name} ${p.help}`.toLowerCase();
    const input = make(p.choices ? "select" : "input");
    input.id = `parameter-${p.name}`;
    if (p.choices) input.append(...p.choices.map((c) => make("option", c)));
    if (p.secret) { input.type = "password"; input.placeholder = TEXTS.unchanged; } else input.value = changed[p.name] ?? p.value;
    row.classList.toggle("changed", p.name in changed);
    const label = make("label");
    label.htmlFor = input.id;
    label.append(make("code", p.name));
    const range = p.secret ? "" : ` ${p.range.replaceAll("|", ", ")}${p.unit ? ` ${p.unit}` : ""}; ${TEXTS.default_value}: ${p.default || "-"}`;
    row.append(label, input, make("small", `${p.help}.${range} (${TEXTS[p.level] || p.level}; ${p.scope}; ${p.effect})`));
    input.addEventListener("change", async () => {
      const text = /^[^\s,="]+$/.test(input.value) ? input.value : `"${input.value}"`;
      const answer = await command(`SET ${p.name} ${text}`);
      if (answer) changed[p.name] = p.secret ? "" : input.value;
      else if (!p.secret) input.value = changed[p.name] ?? p.value;
      row.classList.toggle("changed", p.name in changed);
      pending();
    });
    return row;
  }));
  find();
  pending();
}

function find() {
  const words = $("find").value.toLowerCase();
  document.querySelectorAll(".parameter").forEach((row) => { row.hidden = !row.dataset.words.includes(words); });
}
$("find").addEventListener("input", find);
$("commit").addEventListener("click", async () => {
  $("commit").disabled = true;
  if (await command("COMMIT")) changed = {};
  await parameters();
});
$("revert").addEventListener("click", async () => {
  if (await command("REVERT")) changed = {};
  await parameters();
});

async function changes() {
  const lines = await command("LOG 256");
  $("changes").textContent = lines ? lines.slice(1).map((l) => l.replace(/^LOG,/, "")).reverse().join("\n") : "";
}

const PAGES = { live: picture, rejects, settings: parameters, log: changes };
function turn() {
  const page = location.hash.slice(1) in PAGES ? location.hash.slice(1) : "live";
  if (location.hash.slice(1) !== page) { location.replace("#live"); return; }
  document.querySelectorAll("main > section").forEach((s) => { s.hidden = s.id !== `page-${page}`; });
  document.querySelectorAll("nav a").forEach((a) => {
    if (a.hash === `#${page}`) a.setAttribute("aria-current", "page"); else a.removeAttribute("aria-current");
  });
  PAGES[page]().catch(() => say(TEXTS.lost, true));
}
addEventListener("hashchange", turn);
loggedIn(token, level);
turn();
