/** Why a server refuses a connection. The connection asks when the handshake of a WebSocket has failed. */

/** @import { PresenceError } from "./types.js" */

const STOPPING = 503;

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
  if (answer?.status === STOPPING) return undefined; // it answers on connections that are open, and accepts none
  const mayConnect = answer?.status === 426; // Upgrade Required
  const message = mayConnect ? "The server is full, or WebSockets are blocked on the way to it." : await errorIn(answer);
  return { mayConnect, error: { code: "REFUSED", message: message ?? "The server is full, or refuses this page." } };
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
 * @returns {Promise<string | undefined>} The text of the error in the server's JSON.
 */
async function errorIn(answer) {
  try {
    const { error } = await answer?.json();
    return error;
  } catch {
    return undefined;
  }
}
