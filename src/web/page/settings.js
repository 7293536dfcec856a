// Settings, recipes, backup, changes.
"use strict";
let changed = {};

function pending() {
  const any = Object.keys(changed).length > 0;
  $("commit").disabled = !any;
  $("revert").disabled = !any;
}

function parameter(p) {
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
  const list = await seen("api/parameters");
  if (!list) return;
  if (state) $("recipe").value = state.recipe;
  $("parameters").replaceChildren(...list.map(parameter));
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
