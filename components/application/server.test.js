import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { MAX_NAME_LENGTH } from "./greeting.js";
import { createGreetingServer } from "./server.js";

let server;
let url;

before(async () => {
  server = createGreetingServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  url = `http://127.0.0.1:${server.address().port}`;
});

after(() => server.close());

test("greets the name in the path", async () => {
  const response = await fetch(`${url}/hello/test`);
  assert.equal(response.status, 200);
  assert.equal(await response.text(), "Hello, test!");
});

test("decodes the name", async () => {
  const response = await fetch(`${url}/hello/${encodeURIComponent("Zoë & co")}`);
  assert.equal(await response.text(), "Hello, Zoë & co!");
});

test("responds in plain text, so that a name is never markup", async () => {
  const response = await fetch(`${url}/hello/${encodeURIComponent("<b>")}`);
  assert.match(response.headers.get("content-type"), /^text\/plain/);
  assert.equal(response.headers.get("x-content-type-options"), "nosniff");
});

test("rejects invalid names", async () => {
  assert.equal((await fetch(`${url}/hello/%E0%A4%A`)).status, 400);
  assert.equal((await fetch(`${url}/hello/${"x".repeat(MAX_NAME_LENGTH + 1)}`)).status, 400);
});

test("responds with 404 to any other path", async () => {
  for (const path of ["/", "/hello", "/hello/", "/hello/a/b"]) {
    assert.equal((await fetch(`${url}${path}`)).status, 404, path);
  }
});

test("supports only GET and HEAD", async () => {
  assert.equal((await fetch(`${url}/hello/test`, { method: "POST" })).status, 405);
  const head = await fetch(`${url}/hello/test`, { method: "HEAD" });
  assert.deepEqual([head.status, await head.text()], [200, ""]);
});

test("reports that it is healthy", async () => {
  const response = await fetch(`${url}/healthz`);
  assert.deepEqual([response.status, await response.text()], [200, "ok\n"]);
});
