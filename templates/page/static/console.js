// A VM's serial console, to type into: xterm.js on a WebSocket. Without this the page shows the end of
// what was written.
"use strict";

const terminal = document.getElementById("terminal");
const button = document.getElementById("open-console");
const line = document.getElementById("console-state");
const LONGEST = 1024; // bytes of a message: the service takes 4096
let shown = null; // the terminal, once it was opened

// The policy of the page has no inline styles, and xterm.js makes its rules as those. Rules and
// properties that a script sets by the object model are not inline (CSP 3, 4.2.3): so it does that.
function withoutInlineStyles() {
    const create = document.createElement.bind(document);
    document.createElement = (name, options) => {
        if (name !== "style") return create(name, options);
        const sheet = new CSSStyleSheet();
        document.adoptedStyleSheets.push(sheet);
        const holder = create("template");
        Object.defineProperty(holder, "textContent", { set: (rules) => sheet.replaceSync(rules) });
        return holder;
    };
    const set = Element.prototype.setAttribute;
    Element.prototype.setAttribute = function (name, value) {
        if (name === "style") this.style.cssText = value;
        else set.call(this, name, value);
    };
}

async function make() {
    withoutInlineStyles();
    const { Terminal } = await import(terminal.dataset.xterm);
    const made = new Terminal({ cols: 80, rows: 24, scrollback: 2000, screenReaderMode: true });
    // What a guest can ask of a terminal, and gets not: titles, links, the clipboard.
    for (const number of [0, 1, 2, 8, 52]) made.parser.registerOscHandler(number, () => true);
    // Shift and Tab leave the terminal, for those who have no mouse; all other keys are the guest's.
    made.attachCustomKeyEventHandler((event) => !(event.key === "Tab" && event.shiftKey));
    made.open(terminal);
    return made;
}

function say(text) {
    const plain = text.trim();
    line.textContent = plain && plain[0].toUpperCase() + plain.slice(1).replace(/\.?$/, ".");
}

function ended(said) {
    say(said);
    button.disabled = false;
}

async function permit() {
    const answer = await fetch(`${location.pathname}/permit`, {
        method: "POST",
        headers: { Accept: "text/plain" },
        body: new URLSearchParams({ token: terminal.dataset.token }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(text);
    return text;
}

async function open() {
    button.disabled = true;
    say("opening the console");
    let word;
    try {
        word = await permit();
        terminal.hidden = false;
        shown ??= await make();
    } catch (error) {
        ended(error.message);
        return;
    }
    const socket = new WebSocket(
        `wss://${location.host}${location.pathname}/typed`, ["wnodes-console", word]);
    socket.binaryType = "arraybuffer";
    const type = (bytes) => {
        for (let at = 0; at < bytes.length; at += LONGEST) socket.send(bytes.slice(at, at + LONGEST));
    };
    const listening = [
        shown.onData((text) => type(new TextEncoder().encode(text))),
        shown.onBinary((text) => type(Uint8Array.from(text, (c) => c.charCodeAt(0)))),
    ];
    socket.onopen = () => {
        say("the console is open: press Enter for a prompt. Shift and Tab leave the terminal");
        shown.focus();
    };
    socket.onmessage = (event) => shown.write(new Uint8Array(event.data));
    socket.onclose = (event) => {
        listening.forEach((each) => each.dispose());
        const again = "the service starts anew: open the console again";
        const lost = "the connection was lost: open the console again";
        ended(event.reason || (event.code === 1012 ? again : lost));
    };
}

button.hidden = false;
button.addEventListener("click", open);
