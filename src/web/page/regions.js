// Regions: drawn on the newest picture. Saved as a file at the station; the parameter `regions` names it.
"use strict";
const SVG = "http://www.w3.org/2000/svg";
let regions = [];
let corners = []; // of a polygon that is not closed
let from = null; // where a rectangle was begun
let polygons = false;

const cornersOf = (r) => r.polygon || [[0, 1], [2, 1], [2, 3], [0, 3]].map(([x, y]) => [r.rectangle[x], r.rectangle[y]]);

function shape(tag, points, name) {
  const node = document.createElementNS(SVG, tag);
  node.setAttribute("points", points.map(([x, y]) => `${x * 1000},${y * 1000}`).join(" "));
  node.setAttribute("class", name);
  return node;
}

function drawShapes(extra) {
  const all = regions.map((r) => shape("polygon", cornersOf(r), r.exclude ? "leave" : "look"));
  if (corners.length) all.push(shape("polyline", corners, "new"));
  if (extra) all.push(shape("polygon", cornersOf({ rectangle: extra }), "new"));
  $("shapes").replaceChildren(...all);
  $("close-polygon").disabled = corners.length < 3;
}

function field(text, input) {
  const label = make("label");
  label.append(make("span", text), input);
  return label;
}

function listRegions() {
  $("region-list").replaceChildren(...regions.map((r, i) => {
    const row = make("div", undefined, "region");
    const name = make("input");
    name.value = r.name;
    name.maxLength = 32;
    name.addEventListener("change", () => { r.name = name.value; });
    const use = make("select");
    choices(use, TEXTS.region_uses);
    use.value = r.exclude ? "leave" : "look";
    const offset = make("input");
    offset.type = "number";
    offset.min = "-1";
    offset.max = "1";
    offset.step = "0.01";
    offset.value = r.offset;
    offset.disabled = r.exclude;
    offset.addEventListener("change", () => { r.offset = Number(offset.value); });
    use.addEventListener("change", () => {
      r.exclude = use.value === "leave";
      if (r.exclude) r.offset = 0;
      drawn();
    });
    const remove = make("button", TEXTS.remove);
    remove.type = "button";
    remove.addEventListener("click", () => { regions.splice(i, 1); drawn(); });
    row.append(field(TEXTS.region_name, name), field(TEXTS.region_use, use), field(TEXTS.region_offset, offset), remove);
    return row;
  }));
}

function drawn() {
  drawShapes();
  listRegions();
}

const short = (v) => Math.round(v * 1000) / 1000;
function place(event) {
  const box = $("shapes").getBoundingClientRect();
  const share = (v, start, length) => Math.min(1, Math.max(0, short((v - start) / length)));
  return [share(event.clientX, box.left, box.width), share(event.clientY, box.top, box.height)];
}
const rectangle = ([a, b], [c, d]) => [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];

function add(shapeOf) {
  const name = fill(TEXTS.region_new, { number: regions.length + 1 });
  regions.push({ name, exclude: false, ...shapeOf, offset: 0 });
  drawn();
}

$("shapes").addEventListener("pointerdown", (event) => {
  event.preventDefault();
  if (polygons) { corners.push(place(event)); drawShapes(); return; }
  $("shapes").setPointerCapture(event.pointerId);
  from = place(event);
});
$("shapes").addEventListener("pointermove", (event) => { if (from) drawShapes(rectangle(from, place(event))); });
$("shapes").addEventListener("pointerup", (event) => {
  if (!from) return;
  const box = rectangle(from, place(event));
  from = null;
  if (box[2] - box[0] >= 0.01 && box[3] - box[1] >= 0.01) add({ rectangle: box }); else drawShapes();
});
function mode(polygon) {
  polygons = polygon;
  corners = [];
  pressed($("draw-rectangle"), !polygon);
  pressed($("draw-polygon"), polygon);
  drawShapes();
}
$("draw-rectangle").addEventListener("click", () => mode(false));
$("draw-polygon").addEventListener("click", () => mode(true));
$("close-polygon").addEventListener("click", () => {
  const polygon = corners;
  corners = [];
  add({ polygon });
});

async function readRegions() {
  corners = [];
  const stored = await seen("api/regions");
  if (!stored) return;
  regions = stored.region || [];
  drawn();
  const answer = await request("frame.jpg", "GET");
  if (answer.status !== 200) return;
  const old = $("frame").src;
  $("frame").src = URL.createObjectURL(await answer.blob());
  if (old.startsWith("blob:")) URL.revokeObjectURL(old);
}
onclick("regions-reload", readRegions);
onclick("regions-save", async () => {
  if (!await nothingWaits()) return;
  const answer = await send("api/regions", JSON.stringify({ region: regions }));
  if (!answer) return;
  const { path } = await answer.json();
  await putIntoForce("regions", `"${path}"`);
});
PAGES.regions = readRegions;
