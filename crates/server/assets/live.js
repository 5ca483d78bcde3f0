// What pages do by themselves where scripts run. The server renders everything; a page that follows
// something is fetched again when its stream says so, and its parts marked data-live are replaced.
"use strict";

(() => {
  const root = document.querySelector("[data-follow]");
  const said = document.querySelector("[data-said]");
  let busy = false;
  let again = false;

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
      if (answer.redirected && new URL(answer.url).pathname !== location.pathname) { location.assign(answer.url); return; }
      if (answer.ok) swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch { /* The server is away for a moment: the next event or tick tries again. */ }
    busy = false;
    if (again) { again = false; refresh(); }
  }

  function swap(fresh) {
    document.title = fresh.title;
    // Asked before its parts move over to this page.
    const follows = fresh.querySelector("[data-follow]") !== null;
    for (const part of fresh.querySelectorAll("[data-live]")) {
      const old = document.querySelector(`[data-live="${CSS.escape(part.dataset.live)}"]`);
      if (!old || old.outerHTML === part.outerHTML) continue;
      const focus = old.contains(document.activeElement) ? keyOf(document.activeElement) : null;
      old.replaceWith(document.adoptNode(part));
      show(part);
      if (focus) [...part.querySelectorAll("a, button, summary")].find((one) => keyOf(one) === focus)?.focus();
    }
    if (!follows) stop();
  }

  // What stays the same of a link or a button when its part of the page is replaced.
  function keyOf(element) { return element.id || element.getAttribute("href") || element.textContent; }

  // What only works with scripts is hidden without them.
  function show(part) {
    for (const button of part.querySelectorAll("[data-copy], [data-print]")) button.hidden = false;
  }

  // Says what is new to those who listen instead of look: one short sentence, only when it changes.
  function say(deployment) {
    const at = deployment.steps.find((step) => step.status === "running" || step.status === "failed");
    const words = deployment.status === "ready" ? "Ready. Your site is running."
      : at ? `${at.name}: ${at.status === "failed" ? "failed" : "in progress"}` : "";
    if (said && words && said.textContent !== words) said.textContent = words;
  }

  let source = null;
  let timer = 0;
  function stop() { if (source) source.close(); clearInterval(timer); }

  if (root) {
    if (root.dataset.follow) {
      source = new EventSource(root.dataset.follow);
      source.addEventListener("deployment", (event) => {
        try { say(JSON.parse(event.data)); } catch { /* Not for us. */ }
        refresh();
      });
    }
    if (root.dataset.every) timer = setInterval(refresh, Number(root.dataset.every));
  }

  async function copy(button) {
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
      button.textContent = "Copied";
    } catch { button.textContent = "Select and copy"; }
    setTimeout(() => { button.textContent = label; }, 1600);
  }

  // Reminders go out by day where the person is.
  for (const field of document.querySelectorAll("[data-time-zone]")) {
    field.value = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "";
  }

  // Where one is is in view, also where there is no room for every tab.
  const tab = document.querySelector(".tabs [aria-current]");
  const tabs = tab?.closest("ul");
  if (tabs) tabs.scrollLeft = tab.offsetLeft + (tab.offsetWidth - tabs.clientWidth) / 2;

  show(document);
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-copy], [data-print]");
    if (button) { if ("copy" in button.dataset) copy(button); else window.print(); }
  });
  // A form is sent once, however often its button is pressed.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
    setTimeout(() => { delete form.dataset.sent; }, 4000);
  });
})();
