import { createServer } from "node:http";
import { pathToFileURL } from "node:url";
import { respond } from "./greeting.js";

/** Creates the server without starting it. Responses are plain text, so a name is never interpreted as markup. */
export function createGreetingServer() {
  return createServer((request, response) => {
    const { status, body } = respond(request.method, request.url.split("?")[0]);
    response.writeHead(status, {
      "Content-Type": "text/plain; charset=utf-8",
      "X-Content-Type-Options": "nosniff",
    });
    response.end(request.method === "HEAD" ? undefined : body);
  });
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const port = Number(process.env.PORT ?? 3000);
  const server = createGreetingServer().listen(port, () => console.log(`listening on port ${port}`));
  // Docker stops a container with SIGTERM; finish the requests in progress first.
  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.once(signal, () => server.close(() => process.exit(0)));
  }
}
