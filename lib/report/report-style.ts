/**
 * The style sheet of the report. Two hues carry data (blue: what we do, orange: what the guest
 * does), green the third series, red only limits and failures; all from Okabe and Ito's palette,
 * which readers with any colour vision tell apart, adjusted for contrast on either background.
 */
export const REPORT_STYLE = `
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1c2127; --quiet: #5b6570; --grid: #e4e7ea; --base: #9aa3ab;
  --shade: #f5f6f8; --panel: #f5f6f8;
  --main: #0b67a6; --second: #b35408; --third: #0a7d5d; --alarm: #b3261e;
  --blue-1: #d0e3f1; --blue-2: #9ac3e0; --blue-3: #5c9dcb; --blue-4: #2274ad; --blue-5: #0d4a78;
  --orange-1: #f0b27a; --orange-2: #d9812f; --green-1: #7cc4ad; --green-2: #2f9476; --rest: #c4cad0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15191e; --ink: #e8ebee; --quiet: #a0aab4; --grid: #2b323a; --base: #6b7680;
    --shade: #1b2027; --panel: #1d232a;
    --main: #5cb3ee; --second: #f0a04b; --third: #45c49d; --alarm: #ff8a7d;
    --blue-1: #1d3f5a; --blue-2: #2a5f88; --blue-3: #3d85b8; --blue-4: #63ade0; --blue-5: #a6d6f7;
    --orange-1: #a8631f; --orange-2: #e29a4c; --green-1: #23755d; --green-2: #45b893; --rest: #59636e;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 32px 24px 64px; max-width: 1128px; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
h1 { font-size: 28px; line-height: 1.25; margin: 6px 0 8px; font-weight: 650; text-wrap: balance; }
h2 { font-size: 20px; margin: 44px 0 12px; font-weight: 650; }
h3 { font-size: 16px; margin: 0; font-weight: 650; }
p { margin: 0; max-width: 76ch; }
.badge { display: inline-block; font-weight: 650; font-size: 14px; padding: 2px 10px; border-radius: 12px;
  border: 1.5px solid currentColor; }
.good { color: var(--third); } .bad { color: var(--alarm); } .open { color: var(--second); }
.promise { font-size: 18px; }
.quiet, figcaption p, .facts dt { color: var(--quiet); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(158px, 1fr)); gap: 18px 24px; margin: 26px 0 0; }
.facts dt { font-size: 13px; } .facts dd { margin: 0; }
.facts .figure { font-size: 22px; font-weight: 600; line-height: 1.3; } .facts .note { font-size: 13px; color: var(--quiet); }
.story { list-style: none; margin: 0; padding: 0; max-width: 900px; }
.story li { display: grid; grid-template-columns: 84px 1fr; gap: 0 16px; padding: 6px 0; border-top: 1px solid var(--grid); }
.story time { color: var(--quiet); text-align: right; white-space: nowrap; }
.story b { font-weight: 600; }
.flag { display: inline-block; min-width: 18px; padding: 0 5px; border-radius: 9px; background: var(--quiet);
  color: var(--paper); font-size: 11px; line-height: 17px; text-align: center; font-weight: 600; vertical-align: 1px; }
.charts { display: grid; grid-template-columns: minmax(0, 1fr); gap: 40px; margin-top: 44px; }
figure { margin: 0; min-width: 0; }
figcaption p { font-size: 13.5px; max-width: none; }
svg { display: block; width: 100%; height: auto; margin-top: 8px; }
.w1080, .w520 { display: none; } .spell-suspended { fill: var(--second); opacity: 0.3; } .spell-lost { fill: var(--alarm); opacity: 0.22; }
.w520 svg { max-width: 640px; } .w340 svg { max-width: 440px; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 8px 0 0; padding: 0; list-style: none; font-size: 13px; }
.legend li { white-space: nowrap; }
.swatch { display: inline-block; width: 12px; height: 12px; margin-right: 6px; vertical-align: -1px; }
.swatch-line { width: 20px; height: 0; border-top: 2.5px solid; vertical-align: 4px; }
.swatch-line.solid-guide { border-top-width: 1.5px; }
.swatch-line.dashed-guide, .swatch-line.dotted-guide { width: 26px; height: 2px; border: 0; print-color-adjust: exact; }
.swatch-line.dashed-guide { background: repeating-linear-gradient(90deg, currentColor 0 7px, transparent 7px 12px); }
.swatch-line.dotted-guide { background: repeating-linear-gradient(90deg, currentColor 0 2px, transparent 2px 5px); }
.swatch { print-color-adjust: exact; }
.swatch-hollow { width: 8px; height: 8px; transform: rotate(45deg); border: 2px solid; vertical-align: 0; }
.swatch-band { width: 14px; border-block: 5px solid color-mix(in srgb, currentColor 25%, transparent); background: currentColor padding-box; }
.swatch-dot { width: 8px; height: 8px; border-radius: 50%; background: currentColor; vertical-align: 0; }
.hollow-dot { background: none; border: 2px solid; }
.swatch-spell { width: 14px; } .swatch-spell.spell-suspended { background: var(--second); } .swatch-spell.spell-lost { background: var(--alarm); }
.swatch-diamond { width: 9px; height: 9px; transform: rotate(45deg); background: currentColor; vertical-align: 0; }
@media (min-width: 600px) { .w340 { display: none; } .w520 { display: block; } }
@media (min-width: 1120px) {
  .charts { grid-template-columns: 1fr 1fr; column-gap: 40px; }
  .charts .wide { grid-column: 1 / -1; } .half figcaption p { min-height: 2lh; } .w1080 { display: block; } .w1080 ~ .w520, .legend .narrow { display: none; }
}
details { margin-top: 8px; font-size: 13.5px; }
summary { cursor: pointer; color: var(--quiet); width: fit-content; }
summary:hover { color: var(--ink); }
.scroll { overflow-x: auto; max-height: 420px; overflow-y: auto; margin-top: 6px; }
table { border-collapse: collapse; min-width: 320px; font-size: 13px; overflow-wrap: normal; }
th { text-align: left; font-weight: 600; color: var(--quiet); position: sticky; top: 0; background: var(--paper); }
th, td { padding: 4px 18px 4px 0; border-bottom: 1px solid var(--grid); vertical-align: top; }
.numbers td, .numbers th { text-align: right; white-space: nowrap; }
.ledger { width: 100%; } .ledger td { white-space: nowrap; } .ledger td:last-child { white-space: normal; min-width: 260px; }
.turning td { background: var(--panel); }
.hosts th[scope], .what-if th { color: var(--quiet); position: static; padding-right: 24px; }
.what-if th { min-width: 150px; max-width: 260px; } .what-if, .hosts { margin: 8px 0; } section > h2 + .quiet { margin-top: -6px; font-size: 13.5px; }
footer { margin-top: 48px; padding-top: 12px; border-top: 1px solid var(--grid); font-size: 13px; color: var(--quiet); }
svg text { font: 12px system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; fill: var(--ink); font-variant-numeric: tabular-nums; }
svg .tick { fill: var(--quiet); font-size: 11.5px; } svg .label { font-weight: 500; }
.halo { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.grid { stroke: var(--grid); } .base { stroke: var(--base); }
.shade { fill: var(--shade); } .marked { fill: var(--grid); }
.hollow { fill: var(--paper); stroke-width: 2; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.line.solid-guide { stroke-width: 1.5; } .line.dashed-guide { stroke-width: 1.5; stroke-dasharray: 7 5; stroke-linecap: butt; }
.line.dotted-guide { stroke-width: 1.75; stroke-dasharray: 0.1 4.5; }
.dot { stroke: var(--paper); stroke-width: 1.5; } .band { opacity: 0.2; }
.deadline { stroke: var(--alarm); stroke-width: 1.5; }
.event { stroke: var(--base); stroke-dasharray: 2 3; } .event-flag { fill: var(--quiet); }
svg .event-text { fill: var(--paper); font-size: 11px; font-weight: 600; }
.stroke-main { stroke: var(--main); } .stroke-second { stroke: var(--second); } .stroke-third { stroke: var(--third); }
.stroke-alarm { stroke: var(--alarm); } .stroke-quiet { stroke: var(--quiet); }
.fill-main { fill: var(--main); } .fill-second { fill: var(--second); } .fill-third { fill: var(--third); }
.fill-alarm { fill: var(--alarm); } .fill-quiet { fill: var(--quiet); }
.ink-main { color: var(--main); } .ink-second { color: var(--second); } .ink-third { color: var(--third); }
.ink-alarm { color: var(--alarm); } .ink-quiet { color: var(--quiet); }
svg .ink-main { fill: var(--main); } svg .ink-second { fill: var(--second); } svg .ink-third { fill: var(--third); }
svg .ink-alarm { fill: var(--alarm); } svg .ink-quiet { fill: var(--quiet); }
.encoding-zero { --c: var(--rest); } .encoding-same { --c: var(--green-1); } .encoding-copy { --c: var(--green-2); }
.encoding-delta { --c: var(--blue-2); } .encoding-raw { --c: var(--blue-4); }
.part-guest-1, .part-guest-2 { --c: var(--orange-2); } .part-pages-1 { --c: var(--blue-5); } .part-pages-2 { --c: var(--blue-3); }
.part-pages-3 { --c: var(--blue-2); } .part-agree-1 { --c: var(--green-1); } .part-agree-2 { --c: var(--green-2); }
.budget-before, .budget-after { --c: var(--rest); } .budget-first { --c: var(--blue-4); } .budget-later { --c: var(--blue-3); }
.budget-between { --c: var(--blue-2); } .budget-held { --c: var(--green-1); } .budget-lost { --c: var(--alarm); } .budget-suspended { --c: var(--orange-2); }
.part-rest, .level-off { --c: var(--rest); }
.level-1 { --c: var(--blue-1); } .level-2 { --c: var(--blue-2); } .level-3 { --c: var(--blue-3); }
.level-4 { --c: var(--blue-4); } .level-5 { --c: var(--blue-5); }
[class^="encoding-"], [class^="part-"], [class^="level-"], [class^="budget-"] { fill: var(--c); }
.swatch[class*="encoding-"], .swatch[class*="part-"], .swatch[class*="level-"] { background: var(--c); }
@media print {
  body { padding: 0; font-size: 12px; } .w1080, .w340 { display: none !important; } .legend .narrow { display: list-item !important; } .w520 { display: block !important; }
  .w520 svg { max-width: 520px; }
  .charts { grid-template-columns: 1fr 1fr; gap: 24px; } .charts .wide { grid-column: 1 / -1; }
  figure, .story li { break-inside: avoid; } figure details, .all { display: none; } .scroll { max-height: none; }
}
@media (max-width: 599px) {
  body { padding: 20px 16px 48px; } h1 { font-size: 23px; } .promise { font-size: 16px; }
  .story li { grid-template-columns: 1fr; } .story time { text-align: left; font-size: 13px; }
  .facts { grid-template-columns: 1fr 1fr; }
}
`;
