/** Why a server refuses a connection. The connection asks when the handshake of a WebSocket has failed. */

/** @import { PresenceError } from "./types.js" */

const BLOCKED = "The server takes this page, but WebSockets are blocked on the way to it.";
const SHOWN_CHARACTERS = 300;

/**
 * A browser reports a refused handshake like a server that cannot be reached, and hides the answer. The server tells the
 * reason to a plain request for the same address, which names the page: browsers send no Origin to the page's own host.
 * @param {URL} address Of the WebSocket.
 * @param {AbortSignal} signal Ends the request.
 * @returns {Promise<{ error: PresenceError, mayConnect: boolean } | undefined>} `mayConnect`: the server has nothing
 *   against this page, so something on the way refuses WebSockets. Undefined if the server cannot be reached, or stops.
 */
export async function refusalOf(address, signal) {
  const url = new URL(address.href.replace(/^ws/, "http"));
  url.searchParams.set("why", globalThis.location?.origin ?? "");
  const answer = await ask(url, signal);
  if (!answer) return undefined;
  const { status, body } = answer;
  if (body?.stopping || (status >= 500 && !body)) return undefined; // it takes no connections; a proxy does not reach it
  const mayConnect = status === 200 && Boolean(body) && !body?.error;
  const reason = typeof body?.error === "string" ? body.error.slice(0, SHOWN_CHARACTERS)
    : `What answers at ${url.origin}${url.pathname} (status ${status}) is no presence server.`;
  return { mayConnect, error: { code: "REFUSED", message: mayConnect ? BLOCKED : reason } };
}

/**
 * @param {URL} url
 * @param {AbortSignal} signal
 * @returns {Promise<{ status: number, body: { error?: unknown, stopping?: unknown } | undefined } | undefined>} Undefined
 *   without an answer that this page may read; `body` is undefined where the answer is not the server's.
 */
async function ask(url, signal) {
  try {
    const answer = await fetch(url, { signal, cache: "no-store" });
    const text = await answer.text();
    const isAtLimit = answer.headers.has("retry-after") && /^text\/plain/.test(answer.headers.get("content-type") ?? "");
    return { status: answer.status, body: objectIn(text) ?? (isAtLimit ? { error: text } : undefined) };
  } catch {
    return undefined;
  }
}

/** @param {string} text */
function objectIn(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined; // a page, or the text of a proxy
  }
}
