//! What passes the gateway, message by message: nothing of a reply is lost or rewritten, tokens and ids come back as
//! the client wrote them, and what a server asks or tells reaches the client it is for.
//!
//! A server of each revision stands behind it; the client is of the one with a handshake.

use serde_json::{Value, json};

use crate::harness::{Place, fixture, installed, text};
use crate::wire::{Session, said};

/// What a server may be: of the older revision, of the newer one.
const ONLY: [&str; 2] = ["2025-11-25", "2026-07-28"];

/// A session with `server` behind the gateway; `more` are members of its entry in the configuration.
fn behind(place: &Place, command: &[&str], more: &Value) -> (Session, Value) {
    let mut server = json!({ "command": command[0], "args": command[1..] });
    for (name, value) in more.as_object().expect("members") {
        server[name] = value.clone();
    }
    let config = json!({ "version": 1, "servers": { "one": server } });
    let config = place.write("gateway.json", &config.to_string());
    let mut gateway = place.cuddy();
    gateway.args(["mcp", "gateway", "--config", text(&config)]);
    Session::start_with(gateway, place, &able())
}

/// The capabilities of a client that can do everything.
fn able() -> Value {
    json!({ "sampling": {}, "elicitation": {}, "roots": { "listChanged": true } })
}

/// Runs `judge` with the fixture behind the gateway, once of each revision.
fn with_each_revision(judge: impl Fn(&mut Session)) {
    for only in ONLY {
        let place = Place::new();
        let (mut session, _) = behind(&place, &[&fixture(), "--only", only, "--page", "7"], &json!({}));
        judge(&mut session);
        let (status, said) = session.end();
        assert!(status.success(), "{only}: {status}\n{said}");
    }
}

fn all(session: &mut Session, method: &str, key: &str) -> Vec<Value> {
    let (mut found, mut params) = (Vec::new(), json!({}));
    loop {
        let page = session.request(method, &params);
        found.extend(
            page["result"][key].as_array().unwrap_or_else(|| panic!("{method}: {page}")).iter().cloned(),
        );
        match page["result"].get("nextCursor") {
            Some(cursor) => params = json!({ "cursor": cursor }),
            None => return found,
        }
    }
}

#[test]
fn one_server_without_a_prefix_is_shown_as_itself() {
    let Some(mcp) = installed() else { return };
    let script = mcp.join("npm/node_modules/@modelcontextprotocol/server-everything/dist/index.js");
    let command = ["node", text(&script), "stdio"];
    let place = Place::new();
    let (mut gateway, shown) = behind(&place, &command, &json!({ "prefix": false }));
    let alone = Place::new();
    let mut direct = alone.command(command[0]);
    direct.args(&command[1..]);
    let (mut direct, own) = Session::start_with(direct, &alone, &able());
    for member in ["serverInfo", "instructions", "capabilities"] {
        assert_eq!(shown[member], own[member], "{member}");
    }
    for (method, key) in [
        ("tools/list", "tools"),
        ("prompts/list", "prompts"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
    ] {
        // Compared as JSON: members that no library knows must be there, and the order of entries too.
        assert_eq!(all(&mut gateway, method, key), all(&mut direct, method, key), "{method}");
    }
    let arguments = json!({ "location": "Chicago" });
    let call = "get-structured-content";
    assert_eq!(gateway.call(call, &arguments)["result"], direct.call(call, &arguments)["result"]);
}

#[test]
fn all_pages_of_every_list_are_there_under_the_prefix() {
    with_each_revision(|session| {
        let tools = all(session, "tools/list", "tools");
        let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().expect("a name")).collect();
        assert!(names.len() > 35 && names.iter().all(|name| name.starts_with("one__")), "{names:?}");
        assert!(names.contains(&"one__json_schema_2020_12_tool"), "{names:?}");
        assert_eq!(all(session, "prompts/list", "prompts").len(), 5);
        assert_eq!(all(session, "resources/list", "resources").len(), 3);
        assert_eq!(all(session, "resources/templates/list", "resourceTemplates").len(), 1);
        let schema =
            tools.iter().find(|tool| tool["name"] == "one__json_schema_2020_12_tool").expect("it is there");
        assert_eq!(schema["inputSchema"]["$defs"]["address"]["$anchor"], "addressDef");
    });
}

#[test]
fn what_a_result_holds_comes_as_the_server_sent_it() {
    with_each_revision(|session| {
        let reply = session.call("one__test_structured_content", &json!({}));
        assert_eq!(reply["result"]["structuredContent"], json!({ "answer": 42 }));
        assert_eq!(reply["result"]["_meta"]["example.org/kept"], json!([1, 2.5, { "deep": null }]));
        let reply = session.call("one__fail", &json!({ "code": -32123 }));
        assert_eq!(reply["error"]["code"], -32123, "{reply}");
        assert_eq!(reply["error"]["data"]["asked"]["code"], -32123, "{reply}");
        let large = session.call("one__large", &json!({ "chars": 2_000_000 }));
        assert_eq!(said(&large).len(), 2_000_000);
        let read = session.request("resources/read", &json!({ "uri": "test://template/a%20b/data" }));
        assert_eq!(read["result"]["contents"][0]["uri"], "test://template/a%20b/data", "{read}");
        let argument = json!({ "name": "arg1", "value": "par" });
        let prompt = json!({ "type": "ref/prompt", "name": "one__test_prompt_with_arguments" });
        let found = session.request("completion/complete", &json!({ "ref": prompt, "argument": argument }));
        assert_eq!(found["result"]["completion"]["values"], json!(["paris", "park", "party"]), "{found}");
    });
}

#[test]
fn progress_comes_under_the_token_that_the_client_chose() {
    with_each_revision(|session| {
        for token in [json!("a token: é"), json!(0), json!(9_007_199_254_740_991_i64)] {
            let meta = json!({ "progressToken": token });
            let id =
                session.ask("tools/call", &json!({ "name": "one__test_tool_with_progress", "_meta": meta }));
            session.reply(id);
            let steps: Vec<_> = session
                .heard
                .drain(..)
                .filter(|message| message["method"] == "notifications/progress")
                .map(|message| {
                    (message["params"]["progressToken"].clone(), message["params"]["progress"].as_f64())
                })
                .collect();
            let expected = [0.0, 50.0, 100.0].map(|step| (token.clone(), Some(step)));
            assert_eq!(steps, expected, "before the reply, in order");
        }
    });
}

#[test]
fn what_a_server_asks_is_answered_by_the_client_that_called() {
    with_each_revision(|session| {
        let id = session
            .ask("tools/call", &json!({ "name": "one__test_sampling", "arguments": { "prompt": "Ahoy?" } }));
        let asked = session.told("sampling/createMessage");
        assert_eq!(asked["params"]["messages"][0]["content"]["text"], "Ahoy?", "{asked}");
        let content = json!({ "type": "text", "text": "Ahoy!" });
        let answer =
            json!({ "role": "assistant", "content": content, "model": "m", "stopReason": "endTurn" });
        session.send(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": answer }));
        assert_eq!(said(&session.reply(id)), "LLM response: Ahoy!");

        let id = session.ask("tools/call", &json!({ "name": "one__test_input_required_result_multi_round" }));
        for (step, field) in [("Step 1", "name"), ("Step 2", "color")] {
            let asked = session.told("elicitation/create");
            assert!(
                asked["params"]["message"].as_str().is_some_and(|text| text.starts_with(step)),
                "{asked}"
            );
            let answer = json!({ "action": "accept", "content": { field: format!("my {field}") } });
            session.send(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": answer }));
        }
        let reply = session.reply(id);
        assert!(said(&reply).contains("my name") && said(&reply).contains("my color"), "{reply}");

        let id = session.ask("tools/call", &json!({ "name": "one__test_input_required_result_list_roots" }));
        let asked = session.told("roots/list");
        let roots = json!({ "roots": [{ "uri": "file:///deck", "name": "deck" }] });
        session.send(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": roots }));
        let reply = session.reply(id);
        assert!(said(&reply).contains("file:///deck"), "{reply}");
    });
}

#[test]
fn a_question_that_the_client_refuses_fails_that_call_alone() {
    with_each_revision(|session| {
        let id = session
            .ask("tools/call", &json!({ "name": "one__test_elicitation", "arguments": { "message": "?" } }));
        let asked = session.told("elicitation/create");
        let error = json!({ "code": -1, "message": "nobody is here" });
        session.send(&json!({ "jsonrpc": "2.0", "id": asked["id"], "error": error }));
        let reply = session.reply(id);
        // A server of the newer revision can be told of it only as a question that was not answered.
        let failed = reply.get("error").is_some() || reply["result"]["isError"] == json!(true);
        assert!(failed || said(&reply).contains("action=cancel"), "{reply}");
        assert_eq!(said(&session.call("one__echo", &json!({ "message": "on" }))), "on");
    });
}

#[test]
fn a_cancelled_call_ends_and_the_next_one_works() {
    with_each_revision(|session| {
        let id = session.ask("tools/call", &json!({ "name": "one__wait", "arguments": { "ms": 100_000 } }));
        assert_eq!(said(&session.call("one__echo", &json!({ "message": "meanwhile" }))), "meanwhile");
        let params = json!({ "requestId": id, "reason": "no longer wanted" });
        session.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }));
        assert_eq!(said(&session.call("one__echo", &json!({ "message": "after" }))), "after");
        session.gather();
        // A server that has learnt of it in time says so; a client must expect either, but never a wait of 100 s.
        let late = session.heard.iter().find(|message| message["id"] == json!(id));
        assert!(late.is_none_or(|reply| reply.to_string().contains("ancel")), "{late:?}");
    });
}

#[test]
fn changes_reach_a_client_that_subscribed() {
    with_each_revision(|session| {
        session.call("one__echo", &json!({ "message": "up" }));
        // Who has never asked for a list is not told that it changed.
        all(session, "tools/list", "tools");
        all(session, "prompts/list", "prompts");
        let uri = json!({ "uri": "test://watched-resource" });
        assert_eq!(session.request("resources/subscribe", &uri)["result"], json!({}));
        session.call("one__test_trigger_resource_change", &uri);
        assert_eq!(session.told("notifications/resources/updated")["params"]["uri"], uri["uri"]);
        session.call("one__test_trigger_tool_change", &json!({}));
        session.told("notifications/tools/list_changed");
        session.call("one__test_trigger_prompt_change", &json!({}));
        session.told("notifications/prompts/list_changed");
        assert_eq!(session.request("resources/unsubscribe", &uri)["result"], json!({}));
        session.gather();
        session.heard.clear();
        session.call("one__test_trigger_resource_change", &uri);
        session.call("one__test_trigger_tool_change", &json!({}));
        session.told("notifications/tools/list_changed");
        let update =
            session.heard.iter().find(|message| message["method"] == "notifications/resources/updated");
        assert!(update.is_none(), "an update after the end of the subscription: {update:?}");
    });
}

#[test]
fn log_messages_come_from_the_level_that_the_client_set() {
    with_each_revision(|session| {
        assert_eq!(session.request("logging/setLevel", &json!({ "level": "info" }))["result"], json!({}));
        session.call("one__test_tool_with_logging", &json!({}));
        for line in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
            assert_eq!(session.told("notifications/message")["params"]["data"], line);
        }
        session.request("logging/setLevel", &json!({ "level": "error" }));
        session.call("one__test_tool_with_logging", &json!({}));
        session.gather();
        let below = session.heard.iter().find(|message| message["method"] == "notifications/message");
        assert!(below.is_none(), "a message below the level: {below:?}");
    });
}

#[test]
fn ids_of_every_kind_come_back_as_they_were_written() {
    with_each_revision(|session| {
        for id in [json!("a"), json!("1"), json!(1.5), json!(-7), json!("é\n\""), json!(u64::MAX)] {
            let params = json!({ "name": "one__echo", "arguments": { "message": "x" } });
            session.send(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }));
            let reply = session.reply_to(&id);
            assert_eq!(said(&reply), "x", "{reply}");
        }
    });
}

#[test]
fn tools_are_shown_renamed_and_refused_as_the_configuration_says() {
    let place = Place::new();
    let rules =
        json!({ "allow": ["echo", "test_*"], "deny": ["test_image*"], "rename": { "echo": "parrot" } });
    let (mut session, _) = behind(&place, &[&fixture()], &json!({ "tools": rules, "prefix": "p" }));
    let tools = session.tools();
    assert!(
        tools.contains(&"p__parrot".to_owned()) && tools.contains(&"p__test_simple_text".to_owned()),
        "{tools:?}"
    );
    for hidden in ["p__echo", "p__wait", "p__test_image_content"] {
        assert!(!tools.contains(&hidden.to_owned()), "{tools:?}");
        let refused = session.call(hidden, &json!({ "message": "x", "ms": 1 }));
        assert!(
            refused.get("error").is_some() || refused["result"]["isError"] == json!(true),
            "{hidden}: {refused}"
        );
    }
    assert_eq!(said(&session.call("p__parrot", &json!({ "message": "x" }))), "x");
}
