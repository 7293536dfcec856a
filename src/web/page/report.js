// Shift: a report of one printed page.
"use strict";
function reportTable(head, pairs) {
  const table = make("table");
  for (const [i, cells] of [head, ...pairs].entries()) {
    const row = make("tr");
    row.append(...cells.map((cell) => make(i === 0 ? "th" : "td", cell)));
    table.append(row);
  }
  return table;
}

// Causes whose name in counters is not their word in results.
const COUNTED_AS = { "missed test piece": "challenge", "frozen camera": "frozen", "network too slow": "overload", "light changed": "light" };

// "reject: late", as the results have it, in the page's words.
function outcomeText(outcome) {
  const [word, cause] = outcome.split(": ");
  if (!cause) return word === "reject" ? `${TEXTS.reject}: ${TEXTS.by_score}` : TEXTS[word] || word;
  return `${TEXTS[word] || word}: ${TEXTS.causes[`rejects_${COUNTED_AS[cause] || cause.replaceAll(" ", "_")}`] || cause}`;
}

function reportList(title, items) {
  const list = make("ul");
  list.append(...items.map((text) => make("li", text)));
  return [make("h3", title), items.length ? list : make("p", TEXTS.report_nothing)];
}

async function report() {
  const r = await seen(`api/shift?hours=${$("hours").value}`);
  if (!r) return;
  const all = Object.values(r.outcomes).reduce((sum, count) => sum + count, 0);
  const share = (count) => `${((100 * count) / Math.max(1, all)).toFixed(1)} %`;
  const counts = Object.entries(r.outcomes).sort(([, a], [, b]) => b - a).map(([name, count]) => [outcomeText(name), count, share(count)]);
  const types = Object.entries(r.types).map(([name, count]) => [name, count, share(count)]);
  const of = (kind) => r.events.filter((e) => e.event === kind);
  const passed = (e) => (e.missed === 0 && e.not_judged === 0 && e.detected === e.pieces ? TEXTS.passed : TEXTS.failed);
  const facts = make("dl");
  rows(facts, [
    [TEXTS.recipe, `${r.recipe} ${r.recipe_name}`],
    [TEXTS.threshold, r.threshold.toFixed(4)],
    [TEXTS.network, `${r.network ?? TEXTS.none} ${(r.digest ?? "").slice(0, 12)}`],
  ]);
  const head = [TEXTS.outcome, TEXTS.count, TEXTS.report_share];
  $("sheet").replaceChildren(
    make("h2", fill(TEXTS.report_title, r)),
    make("p", fill(TEXTS.report_span, { from: when(r.from), to: when(r.to) })),
    ...(r.whole ? [] : [make("p", fill(TEXTS.report_not_whole, { oldest: when(r.oldest) }), "bad")]),
    facts,
    make("h3", TEXTS.report_counts),
    reportTable(head, [[TEXTS.parts, all, ""], ...counts]),
    ...(types.length ? [make("h3", TEXTS.type), reportTable([TEXTS.type, TEXTS.count, TEXTS.report_share], types)] : []),
    ...reportList(TEXTS.report_alarms, of("alarm").map((e) => fill(TEXTS.report_alarm, { ...e, utc: when(e.utc) }))),
    ...reportList(TEXTS.report_challenges, of("challenge").map((e) => fill(TEXTS.report_challenge, { ...e, utc: when(e.utc), result: passed(e) }))),
    ...reportList(TEXTS.report_changes, r.changes),
    make("p", `${TEXTS.report_signed}:`, "signed"),
  );
}
$("hours").addEventListener("change", () => report().catch(() => say(TEXTS.lost, true)));
$("print").addEventListener("click", () => print());
PAGES.report = report;
