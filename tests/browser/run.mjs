// The whole journey in a real browser, as people click it. Each test has a product of its own. Closes with
// the line "N passed, N failed".
//
//   node tests/browser/run.mjs [part of a test's name]
import { start } from "./app.mjs";
import { launch } from "./visit.mjs";
import * as journey from "./journey.mjs";

const wanted = process.argv[2] ?? "";
const tests = Object.entries(journey).filter(([name]) => name.includes(wanted));
let passed = 0;
let failed = 0;
const browser = await launch();
for (const [name, test] of tests) {
  const app = await start();
  const began = Date.now();
  try {
    const wrong = await test(browser, app);
    if (wrong.length > 0) throw new Error(wrong.join("\n"));
    console.log(`ok: ${name.replaceAll("_", " ")} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    passed++;
  } catch (error) {
    console.log(`FAILED: ${name.replaceAll("_", " ")}\n${error.stack ?? error}\n--- the server's last words\n${app.tail()}`);
    failed++;
  } finally {
    app.stop();
  }
}
await browser.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);
