// Looking at pages as a strict visitor: whatever a browser complains of is a failure, and so is a page that
// jumps, scrolls sideways or cannot be used by everyone.
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const require = createRequire(resolve("target/tools/node/") + "/");
export const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const SHOTS = "target/screenshots";
mkdirSync(SHOTS, { recursive: true });

export const WIDTHS = { phone: { width: 390, height: 844 }, desktop: { width: 1280, height: 800 } };

export async function launch() {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args });
}

// One person's browser. `problems` collects what went wrong since the last check.
export class Visitor {
  static async open(browser, { width = "desktop", scheme = "light", scripts = true } = {}) {
    const context = await browser.newContext({
      viewport: WIDTHS[width], colorScheme: scheme, javaScriptEnabled: scripts, reducedMotion: "reduce",
      hasTouch: width === "phone", permissions: ["clipboard-write"],
    });
    context.setDefaultTimeout(15_000);
    const visitor = new Visitor();
    Object.assign(visitor, { context, scripts, look: `${width}-${scheme}`, problems: [] });
    await context.addInitScript(watch);
    visitor.page = await context.newPage();
    context.on("page", (page) => visitor.listen(page));
    visitor.listen(visitor.page);
    return visitor;
  }

  listen(page) {
    page.on("console", (message) => {
      // What is blocked there is our own watching: a mail's frame runs no script of anyone's.
      const ours = message.text().includes("'about:srcdoc'") && message.text().includes("allow-scripts");
      if (["error", "warning"].includes(message.type()) && !ours) this.problems.push(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => this.problems.push(`script: ${error.message}`));
    page.on("response", (answer) => { if (answer.status() >= 500) this.problems.push(`${answer.status()} from ${answer.url()}`); });
  }

  // Looks at the page as it stands: takes its picture, and returns what is wrong with it.
  async look_at(name, { page = this.page } = {}) {
    await page.waitForLoadState("load");
    await page.screenshot({ path: `${SHOTS}/${name}-${this.look}.png`, fullPage: true });
    const wrong = this.problems.splice(0);
    const sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth).catch(() => 0);
    if (sideways > 1) wrong.push(`scrolls sideways by ${sideways} px`);
    if (this.scripts) {
      const { shift, violations } = await page.evaluate(() => window.__seen ?? { shift: 0, violations: [] });
      if (shift > 0.02) wrong.push(`the layout shifts by ${shift.toFixed(3)}`);
      const tab = await page.evaluate(() => document.querySelector(".tabs [aria-current]")?.getBoundingClientRect().toJSON());
      if (tab && (tab.left < 0 || tab.right > page.viewportSize().width)) wrong.push("the tab that one is at is out of view");
      wrong.push(...violations.map((v) => `content security policy: ${v}`));
      wrong.push(...await barriers(page));
    }
    return wrong.map((text) => `${name} (${this.look}): ${text}`);
  }

  async close() { await this.context.close(); }
}

// What keeps someone from using the page, by the WCAG 2.2 AA rules that a machine can check.
async function barriers(page) {
  await page.evaluate(AXE);
  const result = await page.evaluate(() => window.axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], resultTypes: ["violations"],
  }));
  return result.violations.map((v) => `${v.id}: ${v.help} (${v.nodes.slice(0, 3).map((n) => n.target.join(" ")).join("; ")})`);
}

function watch() {
  window.__seen = { shift: 0, violations: [] };
  addEventListener("securitypolicyviolation", (event) => window.__seen.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.__seen.shift += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
}
