// Teach: the lesson that is going on, and what another threshold would have made of the last parts.
"use strict";
let lesson = null;
let shown = ""; // the lesson as it stands on the page: it is drawn anew only when it changed

// A part is taught when it is judged, and its picture is kept when it has left the belt: it is asked for again.
async function addPicture(figure, part, tries) {
  const found = await seen(`api/archive?part=${part}&limit=1`, true).catch(() => undefined);
  if (found?.parts.length) {
    const image = make("img");
    image.src = pictureOf(found.parts[0], true);
    image.alt = `${TEXTS.part} ${part}`;
    figure.prepend(image);
  } else if (found && tries > 0) {
    setTimeout(() => { if (figure.isConnected) addPicture(figure, part, tries - 1); }, 1000);
  }
}

function oddPart(part) {
  const figure = make("figure", undefined, part.odd ? "card bad" : "card");
  const caption = make("figcaption");
  caption.append(make("strong", part.odd ? TEXTS.odd : TEXTS.usual), make("span", fill(TEXTS.distance, { z: part.z.toFixed(1) })), make("span", `#${part.name}`));
  const drop = make("button", TEXTS.teach_drop);
  drop.type = "button";
  drop.disabled = lesson.state !== "done";
  onclick(drop, async () => { await command(`TEACH DROP ${part.number}`); await teach(); });
  figure.append(caption, drop);
  if (part.part !== null) addPicture(figure, part.part, 20);
  return figure;
}

function piece(p) {
  const item = make("li", fill(p.passes ? TEXTS.piece_passes : TEXTS.piece_rejected, { name: p.name, score: p.score.toFixed(4) }), p.passes ? "bad" : "");
  const forget = make("button", TEXTS.teach_forget);
  forget.type = "button";
  onclick(forget, async () => { await command(`TEACH FORGET ${p.name}`); await teach(); });
  item.append(" ", forget);
  return item;
}

async function teach(quiet) {
  const now = await seen("api/lesson", quiet);
  if (now === undefined) return;
  lesson = now;
  if (JSON.stringify(now) === shown) return;
  shown = JSON.stringify(now);
  const done = now?.state === "done";
  const texts = !now ? [TEXTS.no_lesson] : [fill(TEXTS.lesson[now.state], now), now.not_judged ? fill(TEXTS.not_judged, now) : "", now.problem || ""];
  $("lesson").textContent = texts.filter(Boolean).join(". ");
  $("lesson-progress").hidden = now?.state !== "running";
  $("lesson-progress").max = now?.wanted || 1;
  $("lesson-progress").value = now?.parts || 0;
  const result = now?.result;
  $("bound").textContent = result ? result.bound || TEXTS.no_bound : "";
  const listed = result ? result.parts.filter((p, i) => p.odd || i < 3) : [];
  $("odd").replaceChildren(...listed.map(oddPart));
  $("pieces").replaceChildren(...(result ? result.pieces.map(piece) : []));
  $("teach-accept").disabled = !done;
  $("what-if-accept").disabled = !done;
  $("teach-cancel").disabled = !now;
}
const then = (line) => async () => { await command(line()); await teach(); };
onclick("teach-go", then(() => `TEACH ${$("teach-parts").value}`));
onclick("teach-add", then(() => `TEACH ADD ${$("teach-parts").value}`));
onclick("teach-good", then(() => "TEACH GOOD"));
onclick("teach-bad", then(() => "TEACH BAD"));
// `onclick` enables the button again at the end: `teach` draws what is true only if something changed.
const redraw = (line) => async () => { await command(line()); shown = ""; };
for (const [id, line] of [["teach-accept", () => "TEACH ACCEPT"], ["teach-cancel", () => "TEACH CANCEL"],
  ["what-if-accept", () => `TEACH ACCEPT ${$("what-if").value}`]]) onclick(id, redraw(line));
setInterval(() => { if (shows("teach")) { teach(true).catch(() => {}); whatIf(); } }, 1000);

// A slider over the last parts: bars are how many have which score.
const BARS = 60;
let touched = false;
function whatIf() {
  if (!touched) $("what-if").value = threshold;
  const at = Number($("what-if").value);
  $("what-if-value").textContent = at.toFixed(3);
  const known = scores.filter((p) => p.score !== null).map((p) => p.score);
  const over = (limit) => known.filter((s) => s > limit).length;
  $("what-if-text").textContent = known.length === 0 ? TEXTS.what_if_none
    : fill(TEXTS.what_if_text, { judged: known.length, there: over(at), here: over(threshold) });
  const { draw, width, height, colour } = drawing($("what-if-chart"));
  const [good, bad, text] = ["--good", "--bad", "--text"].map(colour);
  const bars = new Array(BARS).fill(0);
  known.forEach((s) => { bars[Math.min(BARS - 1, Math.floor(s * BARS))] += 1; });
  const most = Math.max(1, ...bars);
  bars.forEach((count, i) => {
    draw.fillStyle = (i + 0.5) / BARS > at ? bad : good;
    const top = (count / most) * (height - 10);
    draw.fillRect((i * width) / BARS + 1, height - top, width / BARS - 2, top);
  });
  draw.strokeStyle = text;
  for (const [x, dash] of [[at, []], [threshold, [8, 6]]]) {
    draw.setLineDash(dash);
    draw.beginPath();
    draw.moveTo(x * width, 0);
    draw.lineTo(x * width, height);
    draw.stroke();
  }
}
$("what-if").addEventListener("input", () => { touched = true; whatIf(); });
onclick("what-if-set", async () => {
  if (!await nothingWaits()) return;
  await putIntoForce("threshold", $("what-if").value);
  touched = false;
});

PAGES.teach = async () => { shown = ""; whatIf(); await teach(); };
