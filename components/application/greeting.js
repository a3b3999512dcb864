/** Longest name that is greeted, in characters. */
export const LONGEST_NAME = 100;

/**
 * What to answer to a request.
 * @param {string} method HTTP method
 * @param {string} path path of the URL, still encoded
 * @returns {{status: number, body: string}}
 */
export function answer(method, path) {
  if (method !== "GET" && method !== "HEAD") {
    return { status: 405, body: "Only GET is served here.\n" };
  }
  if (path === "/healthz") {
    return { status: 200, body: "ok\n" };
  }
  const found = /^\/hello\/([^/]+)$/.exec(path);
  if (!found) {
    return { status: 404, body: "Try /hello/world.\n" };
  }
  const name = decoded(found[1]);
  if (name === undefined || name.length > LONGEST_NAME) {
    return { status: 400, body: "That is not a name.\n" };
  }
  return { status: 200, body: `Hello, ${name}!` };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
