/** Asks a route of the application's back end for a token: `auth` of a presence as an address. */

const SHOWN_CHARACTERS = 200;

/**
 * @param {string} address Relative to the page, or absolute. The cookies of its origin go along.
 * @returns {Promise<unknown>} The field `token` of a JSON answer, else the text. Null after status 401: there is no user.
 * @throws {Error} After any other status that is no success, with what the answer says, and when nothing answers.
 */
export async function tokenFrom(address) {
  const answer = await fetch(new URL(address, globalThis.location?.href), { credentials: "include", cache: "no-store" });
  if (answer.status === 401) return null;
  const text = (await answer.text()).trim();
  const body = jsonIn(text);
  if (answer.ok) return typeof body === "object" && body ? body.token : body ?? text;
  const reason = typeof body?.error === "string" ? `: ${body.error.slice(0, SHOWN_CHARACTERS)}` : "";
  throw new Error(`${address} answers with status ${answer.status}${reason}`);
}

/**
 * @param {string} text
 * @returns {any} Undefined if it is no JSON.
 */
function jsonIn(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
