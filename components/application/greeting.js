/** Maximum length of a name, in characters. */
export const MAX_NAME_LENGTH = 100;

/**
 * The response to a request.
 * @param {string} method HTTP method
 * @param {string} path path of the URL, percent-encoded
 * @returns {{status: number, body: string}}
 */
export function respond(method, path) {
  if (method !== "GET" && method !== "HEAD") {
    return { status: 405, body: "Only GET is supported.\n" };
  }
  if (path === "/healthz") {
    return { status: 200, body: "ok\n" };
  }
  const match = /^\/hello\/([^/]+)$/.exec(path);
  if (!match) {
    return { status: 404, body: "Try /hello/world.\n" };
  }
  const name = decode(match[1]);
  if (name === undefined || name.length > MAX_NAME_LENGTH) {
    return { status: 400, body: "That is not a valid name.\n" };
  }
  return { status: 200, body: `Hello, ${name}!` };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
