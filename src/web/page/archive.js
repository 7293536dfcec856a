// Archive: parts whose pictures are kept; what somebody says of one; a copy of many.
"use strict";
let overlays = true;
let detail; // the part that is looked at

const pictureOf = (part, overlay) => `archive/${part.day}/${encodeURIComponent(part.stem)}${overlay ? ".overlay" : ""}.jpg`;
const when = (utc) => new Date(utc).toLocaleString(LANGUAGE);

function judged(part) {
  const cause = part.cause ? `: ${TEXTS.causes[`rejects_${part.cause}`] || part.cause}` : "";
  const type = part.type ? `: ${part.type}` : "";
  const score = part.score === undefined ? "" : `  ${part.score.toFixed(3)}`;
  return `${TEXTS[part.reject ? "reject" : "good"]}${cause}${type}${score}`;
}

// What the form asks for; times are shown in the browser's zone and asked for in UTC.
function asked() {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData($("filter"))) {
    if (value === "") continue;
    query.set(name, ["from", "to"].includes(name) ? new Date(value).toISOString() : value);
  }
  return query;
}

function choose(name, all, text) {
  const select = $("filter").elements[name];
  const { value } = select;
  choices(select, { ...TEXTS.any, ...Object.fromEntries(all.map((v) => [v, text(v)])) });
  select.value = value;
}

async function search() {
  const query = asked();
  $("download").href = `api/archive.tar?${query}`;
  const found = await seen(`api/archive?${query}`);
  if (!found) return;
  choose("recipe", found.choices.recipe.filter(Boolean), (name) => name);
  choose("type", found.choices.type, (name) => name);
  choose("cause", ["score", ...found.choices.cause], (name) => (name === "score" ? TEXTS.by_score : TEXTS.causes[`rejects_${name}`] || name));
  $("parts").replaceChildren(...found.parts.map(card));
  if (found.parts.length === 0) $("parts").replaceChildren(make("p", TEXTS.nothing_found));
}

function card(part) {
  const button = make("button", undefined, `card ${part.reject ? "bad" : "good"}`);
  button.type = "button";
  const image = make("img");
  image.loading = "lazy";
  image.src = pictureOf(part, overlays);
  image.alt = "";
  button.append(image, make("strong", judged(part)), make("span", `#${part.part}  ${when(part.utc)}`));
  if (part.good !== undefined) button.append(make("span", TEXTS.is_marked[part.good], "marked"));
  if (part.note) button.append(make("span", part.note));
  button.addEventListener("click", () => look(part));
  return button;
}

function drawDetail() {
  $("detail-picture").src = pictureOf(detail, overlays);
  pressed($("detail-overlay"), overlays);
  pressed($("overlay"), overlays);
}

function look(part) {
  detail = part;
  $("detail-title").textContent = `${TEXTS.part} ${part.part}: ${judged(part)}`;
  $("detail-picture").alt = $("detail-title").textContent;
  rows($("detail-facts"), [
    [TEXTS.time, when(part.utc)],
    [TEXTS.threshold, part.threshold.toFixed(4)],
    [TEXTS.recipe, part.recipe || TEXTS.none],
    [TEXTS.network, part.network || TEXTS.none],
    [TEXTS.mark, part.good === undefined ? TEXTS.none : TEXTS.is_marked[part.good]],
  ]);
  $("detail-note").value = part.note || "";
  drawDetail();
  $("detail").showModal();
}

// Keeps a mark and the note; whether it was taken.
async function keep(good) {
  const { day, stem } = detail;
  const answer = await send("api/archive/mark", JSON.stringify({ day, stem, good: good ?? null, note: $("detail-note").value }));
  if (answer) await search();
  return Boolean(answer);
}

async function mark(good) {
  const { part } = detail;
  if (!await keep(good)) { $("detail").close(); return; }
  $("detail").close();
  // The memory of good parts takes it only while the station remembers what the network saw of it.
  const taken = await command(`TEACH ${good ? "GOOD" : "BAD"} ${part}`);
  const what = good ? TEXTS.marked_good : TEXTS.marked_bad;
  say(`${what} ${taken ? TEXTS.in_lesson : fill(TEXTS.not_in_lesson, { why: $("answer").textContent })}`);
}

onclick("was-good", () => mark(true));
onclick("was-bad", () => mark(false));
onclick("save-note", async () => {
  const kept = await keep(detail.good);
  $("detail").close();
  if (kept) say(TEXTS.saved);
});
$("detail-close").addEventListener("click", () => $("detail").close());
$("detail-overlay").addEventListener("click", () => { overlays = !overlays; drawDetail(); });
$("overlay").addEventListener("click", () => {
  overlays = !overlays;
  pressed($("overlay"), overlays);
  search().catch(() => say(TEXTS.lost, true));
});
$("filter").addEventListener("submit", (event) => { event.preventDefault(); search().catch(() => say(TEXTS.lost, true)); });
$("filter").addEventListener("change", () => search().catch(() => say(TEXTS.lost, true)));
PAGES.archive = search;
