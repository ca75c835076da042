/** Why a server refuses a connection. The connection asks when the handshake of a WebSocket has failed. */

/** @import { PresenceError } from "./types.js" */

const BLOCKED = "The server takes this page, but WebSockets are blocked on the way to it: does a proxy not pass them on (in Vite `ws: true`)?";
const SHOWN_CHARACTERS = 300;

/**
 * A browser reports a refused handshake like a server that cannot be reached, and hides the answer. The server tells the
 * reason to a plain request for the same address, which names the page: browsers send no Origin to the page's own host.
 * @param {URL} address Of the WebSocket.
 * @param {AbortSignal} signal Ends the request.
 * @returns {Promise<{ error: PresenceError, mayConnect: boolean } | undefined>} `mayConnect`: the server has nothing
 *   against this page, so something on the way refuses WebSockets. The error is `UNREACHABLE` where a proxy answers for a
 *   server that it does not reach. Undefined if nothing answers, or the server stops.
 */
export async function refusalOf(address, signal) {
  const url = new URL(address.href.replace(/^ws/, "http"));
  url.searchParams.set("why", globalThis.location?.origin ?? "");
  const answer = await ask(url, signal);
  if (!answer) return undefined;
  const { status, body } = answer;
  if (body?.stopping) return undefined; // it takes no connections
  if (!body && status >= 500) return { mayConnect: false, error: { code: "UNREACHABLE", message: notPresenceServer(url, status) } };
  const mayConnect = status === 200 && Boolean(body) && !body?.error;
  return { mayConnect, error: { code: "REFUSED", message: mayConnect ? BLOCKED : reasonIn(body?.error, url, status) } };
}

/**
 * @param {unknown} error
 * @param {URL} url
 * @param {number} status
 */
function reasonIn(error, url, status) {
  if (typeof error !== "string") return notPresenceServer(url, status);
  const reason = error.slice(0, SHOWN_CHARACTERS);
  return status === 404 ? `${reason} (status 404 at ${placeOf(url)})` : reason; // that of a presence server, or of another interface
}

/**
 * @param {URL} address
 * @param {number} [status] Of its answer to a request; undefined for a WebSocket that has opened.
 * @returns {string} That something else answers there.
 */
export function notPresenceServer(address, status) {
  const hint = Number(status) >= 500 ? "does the presence server behind the proxy run?"
    : "is the path right, and does the proxy, if any, lead to the server?";
  return `What answers at ${placeOf(address)}${status ? ` (status ${status})` : ""} is no presence server: ${hint}`;
}

/** @param {URL} address */
function placeOf({ protocol, host, pathname }) {
  return `${protocol}//${host}${pathname}`;
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
