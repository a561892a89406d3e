// Loaded before the conformance suite (`node --import`): every request carries the token of the gateway.
// The suite has no option for it: `fetch` and undici share a dispatcher, and some scenarios use `http.request`.

import http from "node:http";
import { createRequire, syncBuiltinESMExports } from "node:module";

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

const request = http.request;
http.request = (options, ...rest) => request({ ...options, headers: withToken(options.headers) }, ...rest);
syncBuiltinESMExports();
