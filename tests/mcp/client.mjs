// One session of the TypeScript SDK with a server over stdio: every tool's name, and the reply to each call.
//
//     node client.mjs CALLS -- COMMAND [ARG]...      CALLS is [["tool", {arguments}], ...]
//
// Prints {"tools": [...], "replies": [...]}. Not here: any judgement.

import { createRequire } from "node:module";

const suite = createRequire(`${process.env.CUDDY_TEST_SUITE}/package.json`);
const { Client } = await import(suite.resolve("@modelcontextprotocol/sdk/client/index.js"));
const { StdioClientTransport } = await import(suite.resolve("@modelcontextprotocol/sdk/client/stdio.js"));

const [calls, , command, ...args] = process.argv.slice(2);
const client = new Client({ name: "client.mjs", version: "1" });
await client.connect(new StdioClientTransport({ command, args, env: process.env, stderr: "inherit" }));

const tools = [];
for (let cursor; ; ) {
  const page = await client.listTools(cursor ? { cursor } : {});
  tools.push(...page.tools.map((tool) => tool.name));
  cursor = page.nextCursor;
  if (!cursor) break;
}
const replies = [];
for (const [name, given] of JSON.parse(calls)) replies.push(await client.callTool({ name, arguments: given }));
await client.close();
console.log(JSON.stringify({ tools, replies }));
