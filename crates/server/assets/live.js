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
    for (const part of fresh.querySelectorAll("[data-live]")) {
      const old = document.querySelector(`[data-live="${CSS.escape(part.dataset.live)}"]`);
      if (old && old.outerHTML !== part.outerHTML && !old.contains(document.activeElement)) old.replaceWith(document.adoptNode(part));
    }
    if (!fresh.querySelector("[data-follow]")) stop();
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

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const label = button.textContent;
      try {
        await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
        button.textContent = "Copied";
      } catch { button.textContent = "Select and copy"; }
      setTimeout(() => { button.textContent = label; }, 1600);
    });
  }
  for (const button of document.querySelectorAll("[data-print]")) {
    button.hidden = false;
    button.addEventListener("click", () => window.print());
  }
  // A form is sent once, however often its button is pressed.
  for (const form of document.querySelectorAll("form[method=post]")) {
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) event.preventDefault();
      form.dataset.sent = "1";
      setTimeout(() => { delete form.dataset.sent; }, 4000);
    });
  }
})();
