// Every mail, as who gets it sees it: the HTML in a browser, light and dark, wide and on a phone; and the plain
// text, which must say the same. Closes with the line "N passed, N failed".
//
//   PREVIEW_DIR=target/preview cargo nextest run -p stackpro-server --lib -E 'test(can_be_looked_at)'
//   node tests/browser/mails.mjs target/preview
import { readFileSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { Visitor, WIDTHS, launch } from "./visit.mjs";

const folder = resolve(process.argv[2] ?? "target/preview", "mail");
const names = readdirSync(folder).filter((name) => name.endsWith(".html")).map((name) => name.slice(0, -5));
let passed = 0;
let failed = 0;

const words = (text) => text.replace(/\s+/g, " ").trim();

// What a mail's plain text lacks. Each line that the browser shows must be in it, and each link.
function unreadable(text, lines, links) {
  const wrong = [];
  const flat = words(text);
  for (const line of lines) if (!flat.includes(line)) wrong.push(`the text does not say ${JSON.stringify(line)}`);
  for (const link of links) if (!text.split("\n").includes(link)) wrong.push(`the text has no line that is the link ${link}`);
  if (/<\/?[a-z]|&(#\d+|[a-z]+);|\{\{|\}\}|undefined/i.test(text)) wrong.push("the text has traces of HTML or of a template");
  if (/\n{4,}|[^\S\n]\n(?!Sent to you)/.test(text)) wrong.push("the text has holes");
  // RFC 5322, 2.1.1, without the line's end.
  if (text.split("\n").some((line) => Buffer.byteLength(line) > 998)) wrong.push("a line of the text is too long for a mail");
  return wrong;
}

const browser = await launch();
for (const name of names) {
  const wrong = [];
  for (const width of Object.keys(WIDTHS)) {
    for (const scheme of ["light", "dark"]) {
      const visitor = await Visitor.open(browser, { width, scheme });
      await visitor.page.goto(pathToFileURL(join(folder, `${name}.html`)).href);
      wrong.push(...await visitor.look_at(`mail-${name}`));
      const { lines, links } = await visitor.page.evaluate(() => ({
        lines: [...document.querySelectorAll("h1, p, td")].filter((one) => !one.querySelector("table, p")).map((one) => one.innerText),
        links: [...document.querySelectorAll("a")].map((one) => one.href),
      }));
      const said = lines.map(words).filter((line) => line && !line.includes("\u25ac"));
      if (said.length < 3) wrong.push(`the mail says only ${JSON.stringify(said)}`);
      wrong.push(...unreadable(readFileSync(join(folder, `${name}.txt`), "utf8"), said, links));
      await visitor.close();
    }
  }
  if (wrong.length > 0) console.log(`FAILED: the mail ${name}\n${[...new Set(wrong)].join("\n")}`);
  else console.log(`ok: the mail ${name}`);
  if (wrong.length > 0) failed++; else passed++;
}
await browser.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);
