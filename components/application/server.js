import { createServer } from "node:http";
import { pathToFileURL } from "node:url";
import { answer } from "./greeting.js";

/** A server that is not listening yet. Answers are plain text, so that no name is ever taken for markup. */
export function makeServer() {
  return createServer((request, response) => {
    const { status, body } = answer(request.method, request.url.split("?")[0]);
    response.writeHead(status, {
      "Content-Type": "text/plain; charset=utf-8",
      "X-Content-Type-Options": "nosniff",
    });
    response.end(request.method === "HEAD" ? undefined : body);
  });
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const port = Number(process.env.PORT ?? 3000);
  const server = makeServer().listen(port, () => console.log(`listening on port ${port}`));
  // A container is stopped by SIGTERM; requests that are under way are answered first.
  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.once(signal, () => server.close(() => process.exit(0)));
  }
}
