//! Servers that break the protocol or the machine, beside a good one behind the same gateway: the good one goes on
//! answering, the list is there, and the gateway stays small.
//!
//! What each kind does stands in `fixture/misbehave.rs`. The oracle for memory is the kernel's high-water mark.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Place, eventually, fixture, text};
use crate::leftovers::Traces;
use crate::wire::{Session, said};

/// Calls of the good server while the bad one does its harm.
const CALLS: usize = 30;
/// The largest message that the gateway of these tests takes.
const MESSAGE_MAX: &str = "1MiB";
/// The most that a gateway may ever have held in memory here, in KiB. A debug build with nothing to do has 20,000.
const MEMORY_KIB_MAX: u64 = 64_000;

/// A gateway in front of `good` and of `bad`, which does its harm when `bad__hurt` is called.
fn beside_a_good_one(kind: &str) -> (Place, Session, Traces) {
    let place = Place::new();
    let traces = Traces::new(&place);
    let timeouts = json!({ "start": "5s", "call": "5s", "ping": "2s", "stop": "500ms" });
    let bad = json!({
        "command": fixture(), "args": traces.mark(&["--misbehave", kind]), "timeouts": timeouts,
        "restarts": 2,
    });
    let good = json!({ "command": fixture(), "args": traces.mark(&[]) });
    let config = json!({
        "version": 1, "gateway": { "message_max": MESSAGE_MAX }, "servers": { "good": good, "bad": bad },
    });
    let config = place.write("gateway.json", &config.to_string());
    let mut gateway = place.cuddy();
    gateway.args(["mcp", "gateway", "--config", text(&config)]);
    let session = Session::start(gateway, &place);
    (place, session, traces)
}

/// How the call of `hurt` ends.
enum Harm {
    /// By an error, in whatever words.
    Error,
    /// By an error or a result: the server has answered after all.
    Any,
}

fn only_itself(kind: &str, harm: Harm) {
    let (place, mut session, traces) = beside_a_good_one(kind);
    assert_eq!(said(&session.call("good__echo", &json!({ "message": "before" }))), "before", "{kind}");
    // A server that never ran could harm nobody.
    assert_eq!(said(&session.call("bad__calm", &json!({}))), "calm", "{kind}");
    let hurt = session.ask("tools/call", &json!({ "name": "bad__hurt", "arguments": {} }));
    for n in 0..CALLS {
        let message = format!("while {n}");
        assert_eq!(said(&session.call("good__echo", &json!({ "message": message }))), message, "{kind}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let reply = session.reply(hurt);
    let failed = reply.get("error").is_some() || reply["result"]["isError"] == json!(true);
    match harm {
        Harm::Error => assert!(failed, "{kind}: {reply:.2000}"),
        Harm::Any => {}
    }
    assert_eq!(said(&session.call("good__echo", &json!({ "message": "after" }))), "after", "{kind}");
    let tools = session.tools();
    assert!(tools.iter().any(|tool| tool == "good__echo"), "{kind}: {tools:?}");
    stays_small(kind, &mut session);
    ends_without_a_trace(kind, session, &place, &traces);
}

fn stays_small(kind: &str, session: &mut Session) {
    session.gather();
    let no_json = session.heard.iter().find(|message| message.get("no JSON").is_some());
    assert!(no_json.is_none(), "{kind}: the client was told {no_json:.2000?}");
    let stray = session.heard.iter().find(|message| message.get("method").is_none());
    assert!(stray.is_none(), "{kind}: a reply that nobody waits for: {stray:.2000?}");
    let status = fs::read_to_string(format!("/proc/{}/status", session.running.child.id())).expect("it runs");
    let high = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
    let high: u64 = high.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(high <= MEMORY_KIB_MAX, "{kind}: the gateway had {high} KiB, {MEMORY_KIB_MAX} are allowed");
}

fn ends_without_a_trace(kind: &str, session: Session, place: &Place, traces: &Traces) {
    let (status, said) = session.end();
    assert!(status.success(), "{kind}: {status}\n{said}");
    traces.none_is_left(place);
}

#[test]
fn a_line_of_a_gigabyte_harms_only_its_server() {
    only_itself("gigabyte-line", Harm::Error);
}

#[test]
fn output_without_end_harms_only_its_server() {
    only_itself("endless-output", Harm::Error);
}

#[test]
fn errors_without_end_harm_only_their_server() {
    only_itself("endless-errors", Harm::Error);
}

#[test]
fn invalid_json_harms_only_its_server() {
    only_itself("invalid-json", Harm::Any);
}

#[test]
fn wrong_ids_confuse_nobody() {
    only_itself("wrong-ids", Harm::Any);
}

#[test]
fn replies_that_nobody_asked_for_reach_nobody() {
    only_itself("unasked-replies", Harm::Any);
}

#[test]
fn a_server_that_reads_nothing_delays_only_its_own_calls() {
    let (place, mut session, traces) = beside_a_good_one("never-reads");
    assert_eq!(said(&session.call("bad__calm", &json!({}))), "calm");
    let large = "x".repeat(200_000);
    let stuck: Vec<_> = (0..40)
        .map(|_| session.ask("tools/call", &json!({ "name": "bad__hurt", "arguments": { "large": large } })))
        .collect();
    for n in 0..CALLS {
        let message = format!("while {n}");
        assert_eq!(said(&session.call("good__echo", &json!({ "message": message }))), message);
    }
    for id in stuck {
        let reply = session.reply(id);
        assert!(reply.get("error").is_some() || reply["result"]["isError"] == json!(true), "{reply:.2000}");
    }
    stays_small("never-reads", &mut session);
    ends_without_a_trace("never-reads", session, &place, &traces);
}

#[test]
fn a_call_that_is_never_answered_ends_by_its_time_out() {
    only_itself("never-answers", Harm::Error);
}

#[test]
fn questions_without_end_harm_only_their_server() {
    only_itself("asks-without-end", Harm::Error);
}

#[test]
fn notifications_without_end_harm_only_their_server() {
    only_itself("notifies-without-end", Harm::Error);
}

#[test]
fn a_fork_bomb_stays_in_its_sandbox() {
    only_itself("fork-bomb", Harm::Error);
}

#[test]
fn a_full_disk_is_the_servers_own() {
    only_itself("fills-its-disk", Harm::Any);
}

#[test]
fn a_server_that_eats_memory_dies_alone() {
    only_itself("eats-memory", Harm::Error);
}

#[test]
fn a_server_that_ignores_the_end_is_ended() {
    only_itself("ignores-the-end", Harm::Any);
}

#[test]
fn a_server_that_dies_in_a_call_is_there_for_the_next() {
    let (place, mut session, traces) = beside_a_good_one("dies");
    let reply = session.call("bad__hurt", &json!({}));
    assert!(reply.get("error").is_some() || reply["result"]["isError"] == json!(true), "{reply}");
    // It is started anew after a pause that the error tells of.
    eventually("it does not come back", || session.call("bad__calm", &json!({})).get("result").is_some());
    ends_without_a_trace("dies", session, &place, &traces);
}

/// The list is there without the bad server, and the good one answers.
fn is_listed_around(kind: &str) {
    let (place, mut session, traces) = beside_a_good_one(kind);
    let tools = session.tools();
    assert!(tools.iter().any(|tool| tool == "good__echo"), "{kind}: {tools:?}");
    let legal = |tool: &String| {
        tool.len() <= 64 && tool.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    assert!(tools.iter().all(legal), "{kind}: {tools:?}");
    assert_eq!(said(&session.call("good__echo", &json!({ "message": "on" }))), "on", "{kind}");
    stays_small(kind, &mut session);
    ends_without_a_trace(kind, session, &place, &traces);
}

#[test]
fn a_server_that_never_says_a_word_hides_nobody() {
    is_listed_around("silent-from-the-start");
}

#[test]
fn a_server_that_dies_at_once_hides_nobody() {
    is_listed_around("dies-from-the-start");
}

#[test]
fn a_server_with_a_slow_handshake_hides_nobody() {
    is_listed_around("slow-handshake");
}

#[test]
fn a_list_without_end_hides_nobody() {
    is_listed_around("lists-without-end");
}

#[test]
fn a_list_of_nonsense_hides_nobody() {
    is_listed_around("lists-nonsense");
}

#[test]
fn every_kind_of_misbehaviour_is_tried() {
    let kinds = include_str!("fixture/misbehave.rs");
    let list = kinds.split("const KINDS: &[&str] = &[").nth(1).and_then(|rest| rest.split("];").next());
    let kinds = list.expect("the list is there").split('"').skip(1).step_by(2);
    let (mut count, here) = (0, include_str!("hostile.rs"));
    for kind in kinds {
        assert!(here.contains(&format!("(\"{kind}\"")), "`{kind}` is tried by no test");
        count += 1;
    }
    assert!(count > 10, "the list was not found");
}

#[test]
fn a_client_that_breaks_the_protocol_is_told_so_and_the_next_request_works() {
    let place = Place::new();
    let config = json!({ "version": 1, "servers": { "good": { "command": fixture() } } });
    let config = place.write("gateway.json", &config.to_string());
    let mut gateway = place.cuddy();
    gateway.args(["mcp", "gateway", "--config", text(&config)]);
    let mut session = Session::start(gateway, &place);
    for nonsense in [json!([]), json!(7), json!({}), json!({ "jsonrpc": "2.0", "id": {}, "method": "ping" })]
    {
        session.send(&nonsense);
    }
    for unknown in ["no/such/method", "tools/call", "resources/read", "prompts/get", "completion/complete"] {
        let reply = session.request(unknown, &json!({ "name": "nobody__nothing", "uri": "nobody:" }));
        assert!(
            reply["error"]["code"].is_i64() || reply["result"]["isError"] == json!(true),
            "{unknown}: {reply}"
        );
    }
    assert_eq!(said(&session.call("good__echo", &json!({ "message": "on" }))), "on");
    assert_eq!(session.request("ping", &json!({}))["result"], json!({}));
}
