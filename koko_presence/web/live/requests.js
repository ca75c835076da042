/** Requests to the operator port, from which the page comes. The operator's key is kept in this tab only. */

const ANSWER_WITHIN_MS = 2500;
const KEY_NAME = "koko-presence-key";

/** "" without a key. */
let key = sessionStorage.getItem(KEY_NAME) ?? "";

export const hasKey = () => key !== "";

/**
 * Uses a key from the next request on; it is kept with `keepKey`.
 * @param {string} value
 */
export function useKey(value) {
  key = value;
}

/** Keeps the key over reloads of this tab. */
export function keepKey() {
  sessionStorage.setItem(KEY_NAME, key);
}

export function forgetKey() {
  key = "";
  sessionStorage.removeItem(KEY_NAME);
}

/**
 * Errors: those of fetch, TimeoutError after 2.5 s.
 * @param {string} path
 * @param {{ withKey?: boolean }} [options]
 */
export async function request(path, { withKey = false } = {}) {
  const answer = await fetch(path, {
    headers: withKey ? { Authorization: `Bearer ${key}` } : {},
    signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    cache: "no-store",
  });
  return { status: answer.status, text: await answer.text() };
}
