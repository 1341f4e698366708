// Questions to the operator: the token, and whether they are sure.

import { byId, say } from "./elements.js";

/** Waits for a token; `refused`: the one before was wrong. */
export function askToken(refused) {
  const dialog = byId("ask-token");
  const form = dialog.querySelector("form");
  say(byId("token-fault"), refused ? "That token is not the one of this listener." : "");
  return new Promise((resolve) => {
    const end = (event) => {
      event.preventDefault();
      const token = form.elements.token.value.trim();
      if (token === "") return;
      form.removeEventListener("submit", end);
      dialog.removeEventListener("cancel", stay);
      form.reset();
      dialog.close();
      resolve(token);
    };
    // Without a token there is nothing to show.
    const stay = (event) => event.preventDefault();
    form.addEventListener("submit", end);
    dialog.addEventListener("cancel", stay);
    if (!dialog.open) dialog.showModal();
    form.elements.token.focus();
  });
}

/** Whether it is to be done; the safe answer has the focus, and Escape gives it. */
export function isSure(head, text, yes) {
  const dialog = byId("ask-sure");
  say(byId("sure-head"), head);
  say(byId("sure-text"), text);
  say(byId("sure-yes"), yes);
  dialog.returnValue = "no";
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
}
