// The journey of a newcomer, the operator's rounds, and the same by keyboard alone and without JavaScript.
import { Visitor } from "./visit.mjs";

const PASSWORD = "correct horse battery staple 7";
const OWNER = { company: "Acme Law & Söhne", firstName: "Ann", lastName: "Meyer", email: "ann@acme.example", password: PASSWORD };

export async function a_newcomer_signs_up_stores_a_file_pays_and_is_moved(browser, app) {
  const visitor = await Visitor.open(browser);
  const { page } = visitor;
  const wrong = [];
  const look = async (name) => wrong.push(...await visitor.look_at(name));

  await page.goto(app.url);
  await look("home");
  await page.goto(`${app.url}/plans`);
  await look("plans");
  await page.goto(`${app.url}/signup`);
  await look("signup");
  await sign_up(page);
  await look("setting-up");
  // Live: nobody reloads.
  await page.getByRole("link", { name: "Open my site" }).first().waitFor({ timeout: 30_000 });
  await look("dashboard");
  const dashboard = page.url();

  await page.getByRole("link", { name: "Open my site" }).first().click();
  await page.waitForURL(/stackpro\.localhost/);
  if (!(await page.textContent("body")).includes(OWNER.company)) wrong.push("the site does not show the company's name");
  await look("site");
  await page.getByRole("link", { name: "write to you" }).click();
  await look("site-contact");
  await page.fill("[name=name]", "Vera Visitor");
  await page.fill("[name=email]", "vera@visitors.example");
  await page.fill("[name=message]", "Are you open today?");
  await page.getByRole("button", { name: "Send" }).click();
  // Nobody has confirmed an address yet. What was typed is still there.
  await page.getByText("not open yet").waitFor();
  if ((await page.inputValue("[name=message]")) !== "Are you open today?") wrong.push("a message that was not sent is lost");
  // The browser itself reports the 503.
  visitor.problems.length = 0;
  await look("site-contact-refused");

  await page.goto(dashboard);
  await page.getByRole("button", { name: "Open file portal" }).click();
  await page.waitForURL(/stackpro\.localhost.*portal/);
  await look("portal-empty");
  const file = { name: "contract.txt", mimeType: "text/plain", buffer: Buffer.from("We agree.") };
  await page.locator("input[type=file]").first().setInputFiles(file);
  await page.locator("form:has(input[type=file]) button").first().click();
  await page.getByText("contract.txt").first().waitFor();
  await look("portal");

  await page.goto(dashboard);
  await page.getByRole("link", { name: "Upgrade" }).first().click();
  await look("upgrade");
  await page.getByRole("button", { name: "Go to payment" }).click();
  await page.waitForURL((url) => url.origin === new URL(app.stripeUrl).origin);
  await look("checkout");
  await page.fill("[name=code]", "NO-SUCH-CODE");
  await page.getByRole("button", { name: "Apply" }).click();
  await page.getByText("This code is invalid.").waitFor();
  // The browser itself reports the till's 422.
  visitor.problems.length = 0;
  await look("checkout-code-refused");
  await pay(page, "4000 0000 0000 0002");
  await page.getByText(/declined/i).first().waitFor();
  // The browser itself reports the till's 402.
  visitor.problems.length = 0;
  await look("checkout-declined");
  await pay(page, "4242 4242 4242 4242");
  await page.waitForURL((url) => url.origin === new URL(app.url).origin);
  await look("returned");

  await page.goto(`${dashboard}/move`);
  await page.getByRole("heading", { name: "You have moved" }).waitFor({ timeout: 60_000 });
  await look("moved");
  await page.getByRole("link", { name: "See the certificate" }).click();
  await look("certificate");
  await page.goto(dashboard);
  await page.getByText("Yours alone").waitFor();
  await look("dashboard-dedicated");
  await page.getByRole("button", { name: "Open file portal" }).click();
  await page.waitForURL(/stackpro\.localhost.*portal/);
  await page.getByText("contract.txt").first().waitFor();
  for (const tab of ["members", "settings"]) {
    await page.goto(`${dashboard}/${tab}`);
    await look(tab);
  }
  await visitor.close();
  return wrong;
}

export async function the_operator_sees_all_and_moves_time(browser, app) {
  const wrong = [];
  const owner = await Visitor.open(browser);
  await owner.page.goto(`${app.url}/signup`);
  await sign_up(owner.page);
  await owner.page.getByRole("link", { name: "Open my site" }).first().waitFor({ timeout: 30_000 });

  const operator = await Visitor.open(browser);
  const { page } = operator;
  const look = async (name) => wrong.push(...await operator.look_at(name));
  await page.goto(app.operatorLink);
  await look("first-operator");
  await page.fill("[name=firstName]", "Olga");
  await page.fill("[name=lastName]", "Ops");
  await page.fill("[name=email]", "olga@stackpro.example");
  await page.fill("[name=password]", PASSWORD);
  await page.getByRole("button", { name: "Open the console" }).click();
  await page.waitForURL(/\/console/);
  await look("console");
  for (const part of ["clients", "instances", "resources", "flows", "mailbox", "time"]) {
    await page.goto(`${app.url}/console/${part}`);
    await look(`console-${part}`);
  }
  await page.goto(`${app.url}/console/clients`);
  await page.getByRole("link", { name: /Acme Law/ }).first().click();
  await look("console-client");
  await page.getByRole("link", { name: /part of a shared server/ }).click();
  await page.getByRole("heading", { name: "Whose it is" }).waitFor();
  await look("console-instance");
  await page.goto(`${app.url}/console/flows`);
  await page.locator('main a[href*="/console/flows/"]').first().click();
  await look("console-flow");
  await page.goto(`${app.url}/console/mailbox`);
  await page.locator('main a[href*="/console/mailbox/"]').first().click();
  await look("console-mail");
  await page.goto(`${app.url}/console/time`);
  await page.getByRole("button", { name: "To the next event" }).click();
  await look("console-time-moved");
  await owner.page.reload();
  const days = await owner.page.locator(".days b").first().textContent();
  if (Number(days) >= 14) wrong.push(`the client still has ${days} days after the clock moved`);
  await operator.close();
  await owner.close();
  return wrong;
}

export async function every_page_on_a_phone_in_the_dark(browser, app) {
  const visitor = await Visitor.open(browser, { width: "phone", scheme: "dark" });
  const { page } = visitor;
  const wrong = [];
  const look = async (name) => wrong.push(...await visitor.look_at(name));
  for (const path of ["", "plans", "signup", "login", "contact", "api", "nowhere"]) {
    await page.goto(`${app.url}/${path}`);
    // The browser itself reports a page that is not found.
    if (path === "nowhere") visitor.problems.length = 0;
    await look(path || "home");
  }
  await page.goto(`${app.url}/signup`);
  await sign_up(page);
  await page.getByRole("link", { name: "Open my site" }).first().waitFor({ timeout: 30_000 });
  const dashboard = page.url();
  for (const part of ["", "upgrade", "members", "settings"]) {
    await page.goto(`${dashboard}/${part}`.replace(/\/$/, ""));
    await look(`dashboard-${part || "overview"}`);
  }
  await page.goto(dashboard);
  await page.getByRole("button", { name: "Open file portal" }).click();
  await page.waitForURL(/stackpro\.localhost.*portal/);
  await look("portal");
  const operator = await Visitor.open(browser, { width: "phone", scheme: "dark" });
  await operator.page.goto(app.operatorLink);
  await make_operator(operator.page);
  for (const part of ["", "clients", "instances", "resources", "flows", "mailbox", "time"]) {
    await operator.page.goto(`${app.url}/console/${part}`.replace(/\/$/, ""));
    wrong.push(...await operator.look_at(`console-${part || "overview"}`));
  }
  await operator.page.goto(`${app.url}/console/clients`);
  await operator.page.getByRole("link", { name: /Acme Law/ }).first().click();
  wrong.push(...await operator.look_at("console-client"));
  await operator.page.getByRole("link", { name: /part of a shared server/ }).click();
  await operator.page.getByRole("heading", { name: "Whose it is" }).waitFor();
  wrong.push(...await operator.look_at("console-instance"));
  await operator.close();
  await visitor.close();
  return wrong;
}

export async function signing_up_by_keyboard_alone(browser, app) {
  const visitor = await Visitor.open(browser);
  const { page } = visitor;
  await page.goto(`${app.url}/signup`);
  const left = new Map(Object.entries(OWNER));
  for (let presses = 0; left.size > 0; presses++) {
    if (presses > 40) throw new Error(`Tab never reaches ${[...left.keys()]}`);
    await page.keyboard.press("Tab");
    const { name, outlined } = await page.evaluate(() => {
      const at = document.activeElement;
      const style = getComputedStyle(at);
      const shown = style.outlineStyle !== "none" && style.outlineWidth !== "0px" || style.boxShadow !== "none";
      return { name: at.getAttribute("name"), outlined: shown };
    });
    if (!outlined) throw new Error(`the focus is not seen on ${name ?? "an element"}`);
    if (left.has(name)) {
      await page.keyboard.type(left.get(name));
      left.delete(name);
    }
  }
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/dashboard\//);
  await page.getByRole("link", { name: "Open my site" }).first().waitFor({ timeout: 30_000 });
  const wrong = await visitor.look_at("keyboard");
  await visitor.close();
  return wrong;
}

export async function the_journey_without_scripts(browser, app) {
  const visitor = await Visitor.open(browser, { scripts: false, width: "phone" });
  const { page } = visitor;
  const wrong = [];
  await page.goto(`${app.url}/signup`);
  // A refused form says what is wrong and keeps what was typed.
  await sign_up(page, { ...OWNER, password: "short" }, false);
  await page.getByText(/at least 10/i).first().waitFor();
  if (await page.inputValue("[name=company]") !== OWNER.company) wrong.push("what was typed is lost");
  visitor.problems.length = 0;
  await sign_up(page);
  // The page refreshes itself.
  await page.getByRole("link", { name: "Open my site" }).first().waitFor({ timeout: 30_000 });
  const dashboard = page.url();
  await page.goto(`${dashboard}/upgrade`);
  await page.getByRole("button", { name: "Go to payment" }).click();
  await pay(page, "4242 4242 4242 4242");
  await page.waitForURL((url) => url.origin === new URL(app.url).origin);
  await page.goto(`${dashboard}/move`);
  await page.getByRole("heading", { name: "You have moved" }).waitFor({ timeout: 60_000 });
  wrong.push(...await visitor.look_at("without-scripts"));
  await page.goto(dashboard);
  await page.getByRole("button", { name: "Log out" }).click();
  await page.goto(dashboard);
  if (!page.url().includes("/login")) wrong.push(`logged out, and still at ${page.url()}`);
  await visitor.close();
  return wrong;
}

async function sign_up(page, who = OWNER, succeeds = true) {
  for (const [name, value] of Object.entries(who)) await page.fill(`[name=${name}]`, value);
  await page.getByRole("button", { name: "Set up my stack" }).click();
  if (succeeds) await page.waitForURL(/\/dashboard\//);
}

async function make_operator(page) {
  await page.fill("[name=firstName]", "Olga");
  await page.fill("[name=lastName]", "Ops");
  await page.fill("[name=email]", "olga@stackpro.example");
  await page.fill("[name=password]", PASSWORD);
  await page.getByRole("button", { name: "Open the console" }).click();
  await page.waitForURL(/\/console/);
}

// Whatever the fields of the till's page are called: a card's number, its expiry, its code.
async function pay(page, card) {
  const field = (part) => page.locator(`input[name*="${part}" i]`).first();
  await field("number").fill(card).catch(() => field("card").fill(card));
  await field("exp").fill("12 / 34");
  await field("cvc").fill("123");
  const address = { line1: "1 Main Street", city: "Springfield", state: "IL", postal_code: "62701" };
  for (const [name, value] of Object.entries(address)) await page.fill(`[name=${name}]`, value);
  const name = page.locator('input[name*="name" i]').first();
  if (await name.count() > 0 && await name.inputValue() === "") await name.fill("Ann Meyer");
  await page.locator("form:has(input[name*=cvc i]) button").first().click();
}
