// What pages do beside links and forms: parts of them refresh by themselves, while somebody can see them.
"use strict";

const STALE = "The server did not answer: what is shown may be old.";

function stale(text) {
  const line = document.getElementById("stale");
  if (line && line.textContent !== text) line.textContent = text;
}

document.addEventListener("htmx:configRequest", (event) => {
  const token = document.querySelector('meta[name="csrf-token"]');
  if (token) event.detail.headers["X-CSRF-Token"] = token.content;
});
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden) event.preventDefault();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) document.querySelectorAll("[data-live]").forEach((part) => htmx.trigger(part, "refresh"));
});
document.addEventListener("htmx:afterOnLoad", () => stale(""));
document.addEventListener("htmx:sendError", () => stale(STALE));
document.addEventListener("htmx:timeout", () => stale(STALE));
document.addEventListener("htmx:responseError", (event) => {
  // logged out meanwhile, or what was shown is gone: the whole page says so
  if ([401, 403, 404].includes(event.detail.xhr.status)) window.location.reload();
  else stale(STALE);
});
