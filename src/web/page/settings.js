// Settings, recipes, backup, changes.
"use strict";
let changed = {};
let kept = false; // whether the station keeps changes that were made before this page was loaded

function pending() {
  const any = Object.keys(changed).length > 0;
  // What is not shown here is not put into force with what is.
  $("commit").disabled = !any || kept;
  $("revert").disabled = !any && !kept;
}

// The station has dropped what was not in force: every field shows what is.
function forget() {
  changed = {};
  kept = false;
  document.querySelectorAll(".parameter.changed").forEach((row) => {
    row.classList.remove("changed");
    row.querySelector("input, select").value = row.dataset.value;
  });
  pending();
}

async function revert() {
  if (await command("REVERT")) forget();
}

// Whether the station keeps changes of this log-in that are not in force; nothing if it does not answer, which is said.
async function waits() {
  const answer = await send("api/command", JSON.stringify({ line: "STATUS" }));
  if (!answer) return undefined;
  const { lines } = await answer.json();
  return /,pending=1(,|$)/.test(lines[0]);
}

// COMMIT and REVERT are about everything that waits: beside what is changed under Settings nothing else is put into force.
async function nothingWaits() {
  const others = await waits();
  if (others) say(TEXTS.save_first, true);
  return others === false;
}

// Puts one parameter into force, by itself: for who has asked `nothingWaits`.
async function putIntoForce(name, value) {
  if (!await command(`SET ${name} ${value}`) || await command("COMMIT")) return;
  // Said already why; nothing stays pending.
  const why = $("answer").textContent;
  await revert();
  say(why, true);
}

function parameter(p) {
  const row = make("div", undefined, "parameter");
  row.dataset.value = p.secret ? "" : p.value;
  row.dataset.words = `${p.name} ${p.help}`.toLowerCase();
  const input = make(p.choices ? "select" : "input");
  input.id = `parameter-${p.name}`;
  if (p.choices) input.append(...p.choices.map((c) => make("option", c)));
  if (p.secret) { input.type = "password"; input.placeholder = TEXTS.unchanged; } else input.value = changed[p.name] ?? p.value;
  row.classList.toggle("changed", p.name in changed);
  const label = make("label");
  label.htmlFor = input.id;
  label.append(make("code", p.name));
  const range = p.secret ? "" : ` ${p.range.replaceAll("|", ", ")}${p.unit ? ` ${p.unit}` : ""}; ${TEXTS.default_value}: ${p.default || TEXTS.none}`;
  row.append(label, input, make("small", `${p.help}.${range} (${TEXTS[p.level] || p.level}; ${p.scope}; ${p.effect})`));
  input.addEventListener("change", async () => {
    const sent = input.value;
    const text = /^[^\s,="]+$/.test(sent) ? sent : `"${sent}"`;
    const answer = await command(`SET ${p.name} ${text}`);
    if (answer) changed[p.name] = p.secret ? "" : sent;
    // Somebody who types on meanwhile keeps what they typed.
    else if (!p.secret && input.value === sent) input.value = changed[p.name] ?? p.value;
    row.classList.toggle("changed", p.name in changed);
    pending();
  });
  return row;
}

async function parameters() {
  // Before there is a field to change: what waits now was not changed here.
  const asks = token && Object.keys(changed).length === 0;
  const [list, others] = await Promise.all([seen("api/parameters"), asks ? waits() : false]);
  if (!list) return;
  kept = others === true;
  if (state) $("recipe").value = state.recipe;
  $("parameters").replaceChildren(...list.map(parameter));
  find();
  if (kept) say(TEXTS.kept, true);
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
  await revert();
  await parameters();
});
onclick("recipe-go", async () => { if (await command(`RECIPE ${$("recipe").value}`)) await parameters(); });
onclick("backup", async () => {
  const answer = await send("api/backup");
  if (!answer) return;
  const link = make("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = /filename="(.*)"/.exec(answer.headers.get("Content-Disposition"))[1];
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  const left = answer.headers.get("X-Left-Out");
  say(left ? fill(TEXTS.leftOut, { files: left }) : TEXTS.saved);
});
$("restore").addEventListener("change", async () => {
  const [file] = $("restore").files;
  if (!file) return;
  const answer = await send("api/restore", await file.text(), "text/plain");
  $("restore").value = "";
  if (!answer) return;
  say(fill(TEXTS.restored, await answer.json()));
  await parameters();
});
PAGES.settings = parameters;

PAGES.log = async () => {
  const lines = await command("LOG 256");
  $("changes").textContent = lines ? lines.slice(1).map((l) => l.replace(/^LOG,/, "")).reverse().join("\n") : "";
};
