/** Why a server refuses a connection. The connection asks when the handshake of a WebSocket has failed. */

/** @import { PresenceError } from "./types.js" */

const BLOCKED = "The server is full, or WebSockets are blocked on the way to it.";

/**
 * A browser reports a refused handshake like a server that cannot be reached, and hides the answer. A server that answers the
 * health check beside the address is there, and answers a plain request for the address with the reason.
 * @param {URL} address Of the WebSocket.
 * @returns {Promise<{ error: PresenceError, mayConnect: boolean } | undefined>} `mayConnect`: the server has
 *   nothing against this page, so something on the way refuses WebSockets, unless the server is full. Undefined if the server cannot be reached.
 */
export async function refusalOf(address) {
  const url = new URL(address.href.replace(/^ws/, "http"));
  const health = await ask(new URL("healthz", url));
  if (!health?.ok) return undefined;
  const answer = await ask(url);
  const mayConnect = answer?.status === 426; // Upgrade Required
  const { error, stopping } = mayConnect ? { error: BLOCKED } : await bodyOf(answer);
  if (stopping) return undefined; // it answers on connections that are open, and accepts none
  return { mayConnect, error: { code: "REFUSED", message: error ?? "The server is full, or refuses this page." } };
}

/**
 * @param {URL} url
 * @returns {Promise<Response | undefined>} Undefined without an answer that this page may read.
 */
async function ask(url) {
  try {
    return await fetch(url);
  } catch {
    return undefined;
  }
}

/**
 * @param {Response | undefined} answer
 * @returns {Promise<{ error?: string, stopping?: boolean }>} The server's JSON; empty for the answer of something else.
 */
async function bodyOf(answer) {
  try {
    return (await answer?.json()) ?? {};
  } catch {
    return {};
  }
}
