import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { LONGEST_NAME } from "./greeting.js";
import { makeServer } from "./server.js";

let server;
let url;

before(async () => {
  server = makeServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  url = `http://127.0.0.1:${server.address().port}`;
});

after(() => server.close());

test("greets whoever the path names", async () => {
  const response = await fetch(`${url}/hello/test`);
  assert.equal(response.status, 200);
  assert.equal(await response.text(), "Hello, test!");
});

test("reads an encoded name", async () => {
  const response = await fetch(`${url}/hello/${encodeURIComponent("Zoë & co")}`);
  assert.equal(await response.text(), "Hello, Zoë & co!");
});

test("answers in plain text, so that a name is never markup", async () => {
  const response = await fetch(`${url}/hello/${encodeURIComponent("<b>")}`);
  assert.match(response.headers.get("content-type"), /^text\/plain/);
  assert.equal(response.headers.get("x-content-type-options"), "nosniff");
});

test("refuses what is not a name", async () => {
  assert.equal((await fetch(`${url}/hello/%E0%A4%A`)).status, 400);
  assert.equal((await fetch(`${url}/hello/${"x".repeat(LONGEST_NAME + 1)}`)).status, 400);
});

test("knows no other page", async () => {
  for (const path of ["/", "/hello", "/hello/", "/hello/a/b"]) {
    assert.equal((await fetch(`${url}${path}`)).status, 404, path);
  }
});

test("serves GET and HEAD alone", async () => {
  assert.equal((await fetch(`${url}/hello/test`, { method: "POST" })).status, 405);
  const head = await fetch(`${url}/hello/test`, { method: "HEAD" });
  assert.deepEqual([head.status, await head.text()], [200, ""]);
});

test("tells that it is healthy", async () => {
  const response = await fetch(`${url}/healthz`);
  assert.deepEqual([response.status, await response.text()], [200, "ok\n"]);
});
