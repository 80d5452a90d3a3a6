// What pages do while they are open: they take newer figures from the server's own HTML, and show a turn as it happens.
// Texts of agents come in as text and never as HTML.
"use strict";
(() => {
  const main = document.getElementById("main");
  const status = document.getElementById("status");
  const POLL_MS = 5000;
  const SOON_MS = 700;
  const MAX_CHARS = 200000;
  // An event has 16 KiB of a reply at most, and no half of a character.
  const CUT_BYTES = 16 * 1024 - 3;

  const say = (text) => {
    if (status) status.textContent = text;
  };

  // ---- newer figures -------------------------------------------------------------------------------------------

  // Makes `now` what `next` is, and leaves alone what is the same: focus, selection and what is open stay.
  const morph = (now, next) => {
    if (now.isEqualNode(next)) return;
    if (now.nodeType !== 1 || now.nodeName !== next.nodeName || now.id !== next.id) {
      now.replaceWith(document.importNode(next, true));
      return;
    }
    for (const { name } of [...now.attributes]) {
      if (name !== "open" && !next.hasAttribute(name)) now.removeAttribute(name);
    }
    for (const { name, value } of next.attributes) {
      if (now.getAttribute(name) !== value) now.setAttribute(name, value);
    }
    children(now, next);
  };

  // Nodes with an id are inserted and removed where they are, and never moved: the focus would be lost.
  const children = (now, next) => {
    const ids = (nodes) => new Set(nodes.map((node) => node.id).filter(Boolean));
    const fresh = [...next.childNodes];
    const stays = ids(fresh);
    for (const node of [...now.childNodes]) {
      if (node.id && !stays.has(node.id)) node.remove();
    }
    const known = ids([...now.childNodes]);
    let at = now.firstChild;
    for (const node of fresh) {
      if (!at || (node.id && !known.has(node.id))) {
        now.insertBefore(document.importNode(node, true), at);
        continue;
      }
      const following = at.nextSibling;
      morph(at, node);
      at = following;
    }
    while (at) {
      const following = at.nextSibling;
      at.remove();
      at = following;
    }
  };

  let ended = false;
  let under = false;
  let lost = false;
  let timer = 0;

  const take = (html) => {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    for (const now of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(now.id);
      if (next) morph(now, next);
    }
  };

  const refresh = async () => {
    if (under || ended || document.hidden) return;
    under = true;
    try {
      const answer = await fetch(location.pathname + location.search, { redirect: "manual" });
      if (answer.type === "opaqueredirect") {
        ended = true;
        say("The session has ended. Reload this page to log in again.");
      } else if (answer.ok) {
        take(await answer.text());
        if (lost) say("");
        lost = false;
      }
    } catch {
      if (!lost) say("The host does not answer. This page tries again.");
      lost = true;
    } finally {
      under = false;
    }
  };

  const soon = (after) => {
    if (timer) return;
    timer = setTimeout(async () => {
      timer = 0;
      await refresh();
    }, after);
  };

  // ---- a turn as it happens ------------------------------------------------------------------------------------

  const part = (id) => document.getElementById(id);
  let message = null;
  let shown = 0;
  // Whether the turn that is shown has ended, whether its text came with the end, and whether that may be the beginning of it only.
  let over = false;
  let whole = false;
  let cut = false;

  const add = (id, text) => {
    const place = part(id);
    const atEnd = place.scrollTop + place.clientHeight >= place.scrollHeight - 8;
    place.append(text);
    shown += text.length;
    // The beginning goes first.
    while (shown > MAX_CHARS && place.firstChild && place.firstChild !== place.lastChild) {
      shown -= place.firstChild.textContent.length;
      place.firstChild.remove();
    }
    if (atEnd) place.scrollTop = place.scrollHeight;
  };

  const begin = (id) => {
    message = id;
    shown = 0;
    over = whole = cut = false;
    for (const place of ["turn-text", "turn-reasoning-text", "turn-tools"]) part(place).replaceChildren();
    part("turn-reasoning").hidden = true;
    part("turn").hidden = false;
    part("turn-state").textContent = id ? "Turn of message " + id + "." : "Between turns.";
  };

  const clear = () => {
    shown -= part("turn-text").textContent.length;
    part("turn-text").replaceChildren();
    whole = cut = false;
  };

  const delta = (frame) => {
    const id = frame.messageId ?? null;
    if (part("turn").hidden || id !== message) begin(id);
    // All of it comes now.
    if (cut && frame.deltas.some((one) => one.kind === "text")) clear();
    // The last words may come behind the end.
    if (whole) return;
    for (const one of frame.deltas) {
      if (one.kind === "text") {
        add("turn-text", one.text);
      } else if (one.kind === "reasoning") {
        part("turn-reasoning").hidden = false;
        add("turn-reasoning-text", one.text);
      } else if (one.kind === "tool_begin") {
        const item = document.createElement("li");
        item.dataset.tool = one.id;
        item.append("Tool ", Object.assign(document.createElement("code"), { textContent: one.name + " " + one.arguments }));
        part("turn-tools").append(item);
      } else if (one.kind === "tool_end") {
        const item = [...part("turn-tools").children].find((item) => item.dataset.tool === one.id);
        item?.append(" – done");
      }
    }
  };

  // A turn has ended, of a message from here or from elsewhere. What was not shown as it came is shown now.
  const finish = ({ messageId, outcome, reply, error }, isCut = false) => {
    if (part("turn").hidden || messageId !== message) begin(messageId);
    if (cut && !isCut) clear();
    if (!part("turn-text").hasChildNodes()) {
      add("turn-text", reply ?? error ?? "(an answer without a text)");
      whole = true;
      cut = isCut;
    }
    over = true;
    part("turn-state").textContent = "Turn of message " + messageId + ", over: " + (outcome ?? "failed") + ".";
  };

  const happened = ({ event, data }) => {
    if (event === "agent.turn") {
      finish(data, new TextEncoder().encode(data.reply ?? "").length >= CUT_BYTES);
    } else if (event === "agent.exit" && !part("turn").hidden && !over) {
      over = true;
      part("turn-state").textContent = (message ? "Turn of message " + message + ", over: " : "Over: ") +
        "the agent ended, " + data.reason + ".";
    } else if (event === "agent.start" && over) {
      // A message that ended the agent is delivered again.
      message = undefined;
    }
  };

  // ---- streams -------------------------------------------------------------------------------------------------

  let source = null;
  let after = main.dataset.after;

  const follow = () => {
    const path = main.dataset.refresh;
    if (!path || source || ended) return;
    const query = after === undefined ? "" : (path.includes("?") ? "&" : "?") + "after=" + after;
    source = new EventSource(path + query);
    source.onmessage = (event) => {
      after = event.lastEventId;
      soon(SOON_MS);
      if ("turns" in main.dataset) happened(JSON.parse(event.data));
    };
    if ("turns" in main.dataset) {
      source.addEventListener("delta", (event) => delta(JSON.parse(event.data)));
    }
    source.addEventListener("gap", () => soon(SOON_MS));
    source.onerror = () => {
      // A browser does not try again after a refusal. The figures go on without it.
      if (source?.readyState === EventSource.CLOSED) source = null;
    };
  };

  // A page that nobody sees takes none of the few connections that a browser has for one server.
  const look = () => {
    if (document.hidden) {
      source?.close();
      source = null;
    } else {
      follow();
      soon(0);
    }
  };

  if (main?.dataset.refresh) {
    follow();
    document.addEventListener("visibilitychange", look);
    setInterval(() => soon(0), POLL_MS);
  }

  // ---- a message, and its answer -------------------------------------------------------------------------------

  const frames = async (body, each) => {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const data = text.slice(0, end).split("\n").find((line) => line.startsWith("data: "));
        text = text.slice(end + 2);
        if (data) each(JSON.parse(data.slice(6)));
      }
    }
  };

  const ending = (frame) => {
    if (frame.type === "turn") {
      say("Answered: " + frame.outcome + ".");
      finish(frame);
    } else if (frame.type === "error") {
      say("The turn failed: " + frame.error);
    }
  };

  document.getElementById("message")?.addEventListener("submit", async (event) => {
    // A nudge has no answer.
    if (event.submitter?.hasAttribute("formaction")) return;
    event.preventDefault();
    const form = event.target;
    const text = part("text");
    say("Sending.");
    try {
      const answer = await fetch(form.action, {
        method: "POST",
        body: new URLSearchParams(new FormData(form)),
        headers: { accept: "text/event-stream" },
        redirect: "manual",
      });
      if (answer.ok) {
        text.value = "";
        say("Sent. The answer comes below.");
        await frames(answer.body, ending);
      } else if (answer.type === "opaqueredirect") {
        say("The session has ended. Reload this page to log in again.");
      } else {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        say(page.getElementById("problem")?.textContent ?? "Not sent: status " + answer.status + ".");
      }
    } catch {
      say("The host does not answer.");
    }
    soon(0);
  });

  // ---- copying -------------------------------------------------------------------------------------------------

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(text.value);
        say("Copied.");
      } catch {
        // Browsers keep the clipboard to encrypted pages and this machine.
        text.select();
        say(document.execCommand("copy") ? "Copied." : "Selected. Copy it with the keyboard.");
      }
    });
  }
})();
