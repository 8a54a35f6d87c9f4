// What the page can do beyond plain HTML: times in the reader's zone, what is copied, a word to screen
// readers of what changes by itself, one form for a double click, and no question to the service
// about what the browser has as it is. All of it works without this, too.
"use strict";

const tags = new Map(); // of the parts that are asked for again, by their path
const known = new Map(); // what the parts that are worth a word say, by their ids
const unshown = new Set(); // paths of parts that have come and are not shown

function left(seconds) {
    const minutes = Math.round(seconds / 60);
    if (minutes < 1) return "now";
    if (minutes < 60) return `in ${minutes} min`;
    return `in ${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function local(time) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) return;
    const text = at.toLocaleString([], {
        month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
    });
    const until = time.classList.contains("until");
    time.textContent = until ? `${left((at - Date.now()) / 1000)} (${text})` : text;
}

function dress(root) {
    root.querySelectorAll("time").forEach(local);
    root.querySelectorAll("button.copy").forEach((button) => { button.hidden = !navigator.clipboard; });
}

function say(text) {
    document.getElementById("news").textContent = text;
}

// What it says of something else than before; not of what is new, or gone.
function changed(root) {
    const found = [];
    root.querySelectorAll("[data-says]").forEach((part) => {
        const text = part.textContent.replace(/\s+/g, " ").trim();
        const before = known.get(part.id);
        if (before !== undefined && before !== text) found.push(`${part.dataset.says}: ${text}`);
        known.set(part.id, text);
    });
    return found;
}

document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
    say("Copied");
});

// A second click does nothing more while the answer to the first one is awaited.
document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
    setTimeout(() => delete form.dataset.sent, 3000);
});

document.addEventListener("htmx:beforeRequest", (event) => {
    // Nobody looks; or somebody is about to answer a question, and it would close.
    const asks = event.detail.elt.querySelector("details[open]");
    if (document.hidden || asks) event.preventDefault();
});

document.addEventListener("htmx:configRequest", (event) => {
    const tag = tags.get(event.detail.path);
    if (tag) event.detail.headers["If-None-Match"] = tag;
});

document.addEventListener("htmx:beforeSwap", (event) => {
    const { target, pathInfo } = event.detail;
    if (!target.querySelector("details[open]")) return;
    event.preventDefault(); // a question was opened while this was on its way
    unshown.add(pathInfo.requestPath);
});

document.addEventListener("htmx:afterRequest", (event) => {
    const { xhr, pathInfo } = event.detail;
    const tag = xhr.getResponseHeader("ETag");
    if (!unshown.delete(pathInfo.requestPath) && tag) tags.set(pathInfo.requestPath, tag);
    // Logged out, or what is shown is gone: the whole page says it.
    if (xhr.status === 401 || xhr.status === 404) location.reload();
});

document.addEventListener("htmx:afterSwap", (event) => {
    dress(event.detail.target);
    const news = changed(event.detail.target);
    if (news.length) say(news.join("; "));
});

dress(document);
changed(document);
setInterval(() => document.querySelectorAll("time.until").forEach(local), 30000);
