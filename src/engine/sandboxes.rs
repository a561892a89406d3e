//! Run an agent's tool under the strict policy.
