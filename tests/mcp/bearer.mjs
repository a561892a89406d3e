// Loaded before the conformance suite (`node --import`): every request carries the token of the gateway.
// The suite has no option for it; both of its ways to send use undici's dispatcher.

import { createRequire } from "node:module";

const suite = createRequire(`${process.env.CUDDY_TEST_SUITE}/package.json`);
const { Agent, setGlobalDispatcher } = suite("undici");
const authorization = `Bearer ${process.env.CUDDY_TEST_TOKEN}`;

function withToken(headers) {
  if (Array.isArray(headers)) return [...headers, "authorization", authorization];
  return { ...headers, authorization };
}

setGlobalDispatcher(
  new Agent().compose((dispatch) => (options, handler) => dispatch({ ...options, headers: withToken(options.headers) }, handler)),
);
