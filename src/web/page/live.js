// Live: the last part, the state, counters, alarms, orders.
"use strict";
const SCORES = 300; // parts in the chart
let state;
let scores = [];
let threshold = 1;

function outcome(part) {
  const score = part.score === null ? "" : `  ${part.score.toFixed(3)}`;
  const cause = part.cause ? `: ${TEXTS.causes[`rejects_${part.cause}`] || part.cause}` : "";
  const type = part.type ? `: ${part.type}` : "";
  return `${TEXTS[part.outcome]}${cause}${type}${score}  #${part.part}`;
}

function modeText(s) {
  // There is no alarm to look at then.
  if (s.mode === "stopped" && s.memory_fault && s.alarms.length === 0) return TEXTS.modes.stopped_by_memory;
  if (!s.pause) return TEXTS.modes[s.mode] || s.mode;
  const { reason } = s.pause;
  return fill(reason ? TEXTS.paused_why : TEXTS.paused, { reason, minutes: Math.ceil(s.pause.left_s / 60) });
}

// Whether something is to be drawn anew: most of what comes four times a second is as it was.
const drawnAs = {};
function isNew(what, value) {
  const text = JSON.stringify(value);
  const changed = drawnAs[what] !== text;
  drawnAs[what] = text;
  return changed;
}

function show(s) {
  state = s;
  $("station").textContent = s.station;
  $("mode").textContent = modeText(s);
  $("mode").className = s.mode === "running" ? "good" : s.pause || ["disarmed", "starting"].includes(s.mode) ? "wait" : "bad";
  document.title = `${s.station}: ${modeText(s)}`;
  threshold = s.threshold;
  const alarms = s.alarms.map((a) => make("p", `${a.number} ${a.name}: ${a.text}${a.stops ? ` (${TEXTS.stops_line})` : ""}`));
  if (s.memory_fault) alarms.push(make("p", TEXTS.memory_fault));
  if (s.network.warning) alarms.push(make("p", s.network.warning));
  // Only what changed: it is read aloud.
  if ($("alarms").textContent !== alarms.map((a) => a.textContent).join("")) $("alarms").replaceChildren(...alarms);
  $("alarms").hidden = alarms.length === 0;
  const { counters } = s;
  const figures = [
    [TEXTS.parts, counters.parts],
    [TEXTS.good, counters.good],
    [TEXTS.rejected, counters.parts - counters.good],
    [TEXTS.threshold, s.threshold.toFixed(4)],
    [TEXTS.recipe, `${s.recipe} ${s.recipe_name}`],
    [TEXTS.network, s.network.name || s.network.state],
    [TEXTS.latency, s.latency_p99_ms === null ? TEXTS.none : fill(TEXTS.milliseconds, { number: s.latency_p99_ms.toFixed(1) })],
  ];
  const { result_lines_lost: lines, pictures_lost: pictures } = counters;
  if (lines + pictures > 0) figures.push([TEXTS.not_kept, fill(TEXTS.not_kept_count, { lines, pictures })]);
  if (isNew("figures", figures)) rows($("figures"), figures);
  if (isNew("lamps", s.outputs)) $("lamps").replaceChildren(...Object.entries(s.outputs).map(([name, on]) => {
    const warn = ["reject", "fault", "line_stop"].includes(name);
    const lamp = make("li", TEXTS.lamps[name], `${on ? "on" : ""} ${warn ? "warn" : ""}`);
    lamp.append(make("span", `: ${on ? TEXTS.on : TEXTS.off}`, "aside"));
    return lamp;
  }));
  $("last").textContent = s.last ? outcome(s.last) : TEXTS.nothing_yet;
  $("last").className = !s.last ? "" : s.last.outcome === "good" ? "good" : "bad";
  const test = s.challenge;
  const word = test && (!test.over ? "challenge_running" : test.passed ? "challenge_passed" : "challenge_failed");
  $("challenge").textContent = test ? fill(TEXTS[word], test) : "";
  const head = make("tr");
  head.append(make("th", TEXTS.cause), make("th", TEXTS.count));
  const all = [[TEXTS.by_score, counters.rejects], ...Object.entries(TEXTS.causes).map(([name, text]) => [text, counters[name]])];
  const causes = all.filter(([, count]) => count > 0);
  if (isNew("causes", causes)) $("causes").replaceChildren(head, ...causes.map(([text, count]) => {
    const row = make("tr");
    row.append(make("td", text), make("td", count));
    return row;
  }));
}

// The stylesheet's colours as numbers, until the browser turns to light or dark.
let colours = {};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colours = {}; });

// What to draw with: the canvas' context, its height for a score, and a colour of the stylesheet.
function drawing(canvas) {
  const draw = canvas.getContext("2d");
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  draw.clearRect(0, 0, width, height);
  draw.setLineDash([]);
  draw.font = "20px system-ui, sans-serif";
  const colour = (name) => {
    if (!colours[name]) { canvas.style.color = `var(${name})`; colours[name] = getComputedStyle(canvas).color; }
    return colours[name];
  };
  return { draw, width, height, colour };
}

let charting = false;
// Many scores may come at a time: they are drawn once.
function chart() {
  if (charting || !shows("live")) return;
  charting = true;
  requestAnimationFrame(() => { charting = false; drawChart(); });
}

function drawChart() {
  const { draw, width, height, colour } = drawing($("scores"));
  const [good, bad, text] = ["--good", "--bad", "--text"].map(colour);
  const y = (score) => height - 6 - score * (height - 30);
  const last = scores.slice(-SCORES);
  const step = width / SCORES;
  last.forEach((part, i) => {
    draw.fillStyle = part.outcome === "good" ? good : bad;
    const top = part.score === null ? y(1) : y(part.score);
    draw.fillRect(i * step, top, Math.max(1, step - 1), height - top);
  });
  draw.strokeStyle = text;
  draw.setLineDash([8, 6]);
  draw.beginPath();
  draw.moveTo(0, y(threshold));
  draw.lineTo(width, y(threshold));
  draw.stroke();
  draw.fillStyle = text;
  draw.fillText(`${TEXTS.threshold} ${threshold.toFixed(4)}`, 8, Math.max(20, y(threshold) - 8));
}

// The place of a camera's picture; the page has the first one's.
function pictureOfCamera(camera) {
  const id = camera === 1 ? "picture" : `picture-${camera}`;
  if (!$(id)) {
    const image = document.createElement("img");
    image.id = id;
    image.hidden = true;
    $("no-picture").before(image);
  }
  return $(id);
}

let cameras = 1;
let picturing = false;
const tags = {}; // of the cameras' pictures: what is shown already does not come again
async function picture() {
  if (picturing || !shows("live")) return;
  picturing = true;
  try {
    for (let camera = 1; camera <= cameras; camera += 1) {
      const known = tags[camera] ? { "If-None-Match": tags[camera] } : {};
      const answer = await request(camera === 1 ? "live.jpg" : `live/${camera}`, "GET", undefined, undefined, known);
      if (answer.status === 200) {
        tags[camera] = answer.headers.get("ETag");
        const image = pictureOfCamera(camera);
        const old = image.src;
        image.src = URL.createObjectURL(await answer.blob());
        image.hidden = false;
        image.alt = $("last").textContent;
        $("no-picture").hidden = true;
        if (old.startsWith("blob:")) URL.revokeObjectURL(old);
      }
    }
  } catch { /* the line above says that the connection is lost */ } finally { picturing = false; }
}
setInterval(picture, 500);

// Nobody must take an old state for the station's.
function disconnected() {
  $("lost").textContent = TEXTS.lost;
  $("lost").hidden = false;
  $("mode").textContent = TEXTS.lost_mode;
  $("mode").className = "wait";
  document.title = TEXTS.lost_mode;
  reveal();
}

let events;
async function listen() {
  events?.close();
  // The stream has no status that a script sees: ask for the results first.
  const answer = await request("api/results", "GET").catch(() => undefined);
  if (!answer) { disconnected(); setTimeout(listen, 2000); return; }
  if (answer.status === 401) { $("mode").textContent = TEXTS.hidden; reveal(); askLogin(TEXTS.hidden); return; }
  if (answer.ok) scores = await answer.json();
  events = new EventSource("api/events");
  events.addEventListener("state", (event) => {
    const state = JSON.parse(event.data);
    cameras = state.cameras.length;
    show(state);
    reveal();
    chart();
  });
  events.addEventListener("results", (event) => {
    scores = scores.concat(JSON.parse(event.data)).slice(-500);
    chart();
  });
  events.addEventListener("open", () => { $("lost").hidden = true; });
  events.addEventListener("error", () => {
    disconnected();
    // The browser itself tries again but where it was answered that there is nothing.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  });
}

choices($("reasons"), Object.fromEntries(TEXTS.pause_reasons.map((r) => [r, r])));
$("pause").addEventListener("click", () => { if (token) $("pausing").showModal(); else askLogin(TEXTS.needs_login); });
$("pause-cancel").addEventListener("click", () => $("pausing").close());
$("pausing").querySelector("form").addEventListener("submit", async () => {
  const reason = $("pause-reason").value.replace(/"/g, "");
  await command(`PAUSE ${$("pause-minutes").value} "${reason}"`);
});

PAGES.live = async () => { chart(); await picture(); };
