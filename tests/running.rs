//! Gateways that run: found, asked over their socket, counted, and swept away when they were killed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::disallowed_methods,
    reason = "a test that starts itself again is told so by its environment"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cuddy::audit::CallOutcome;
use cuddy::engine::host::Host;
use cuddy::engine::running::{self, Place, Question};
use cuddy::engine::status::{Snapshot, State, VERSION};
use cuddy::engine::{server_log, trail};
use cuddy::error::{Error, ErrorKind};
use cuddy::mcp::board::{Board, Ended, Known};
use cuddy::mcp::control::{self, Order};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_blocking;

/// Names the folders for the gateway that this program starts of itself.
const GATEWAY: &str = "CUDDY_TEST_GATEWAY";

fn host(folder: &Path) -> Host {
    let uid = rustix::process::geteuid().as_raw();
    Host {
        uid,
        gid: uid,
        login: "tester".to_owned(),
        home: None,
        cwd: folder.to_owned(),
        data: folder.join("data"),
        runtime: Some(folder.to_owned()),
        path: Vec::new(),
        umask: 0o22,
        docker_config: None,
        environment: BTreeMap::new(),
    }
}

fn board(host: &Host) -> Board {
    let known =
        |name: &str| Known { name: name.to_owned(), transport: "command", policy: "sha256:1".to_owned() };
    let servers = [known("calc"), known("time")];
    Board::open(host, "gateway", vec!["a.toml".to_owned()], &servers, Arc::new(|text| panic!("{text}")))
        .unwrap()
}

fn call(server: &str, outcome: CallOutcome) -> Ended<'_> {
    Ended {
        client: "tests",
        server,
        method: "tools/call",
        tool: "add",
        arguments: b"{}",
        duration: Duration::from_millis(3),
        outcome,
        bytes_in: 10,
        bytes_out: 20,
        traceparent: None,
    }
}

/// Asks the only gateway something, as another command does.
async fn ask(host: &Arc<Host>, question: Question) -> Result<Option<Snapshot>, Error> {
    let host = host.clone();
    spawn_blocking(move || running::living(&host).unwrap().remove(0).ask(&question)).await.unwrap()
}

#[tokio::test]
async fn a_gateway_says_how_its_servers_stand() {
    let folder = tempfile::tempdir().unwrap();
    let host = Arc::new(host(folder.path()));
    let board = board(&host);
    let _orders = control::listen(&board).unwrap();
    board.state("calc", State::Starting, None);
    board.started("calc", 1234);
    board.state("calc", State::Started, None);
    board.state("time", State::GivenUp, Some("it ended 5 times with exit code 1"));
    board.begin("calc");
    board.begin("calc");
    board.call(&call("calc", CallOutcome::Done));
    board.begin("calc");
    board.call(&call("calc", CallOutcome::Error(-32000)));
    board.state("nobody", State::Failed, None);
    let snapshot = ask(&host, Question::Snapshot).await.unwrap().unwrap();
    assert_eq!(
        (snapshot.version, snapshot.id.as_str(), snapshot.client.as_deref()),
        (VERSION, board.id(), Some("tests"))
    );
    let [calc, time] = &snapshot.servers[..] else { panic!("{snapshot:?}") };
    assert_eq!((calc.state, &calc.pids, calc.in_flight), (State::Started, &vec![1234], 1));
    assert_eq!((calc.calls_ended(), calc.errors(), calc.bytes_in, calc.bytes_out), (2, 1, 20, 40));
    assert_eq!(
        (time.state, time.last_error.as_deref()),
        (State::GivenUp, Some("it ended 5 times with exit code 1"))
    );
    assert_eq!(trail::verify(&host.data, None).unwrap().lines, 2);
    board.ended("calc", 1234);
    assert!(ask(&host, Question::Snapshot).await.unwrap().unwrap().servers[0].pids.is_empty());
}

#[tokio::test]
async fn orders_reach_the_hub_and_its_answer_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let host = Arc::new(host(folder.path()));
    let board = board(&host);
    let mut orders = control::listen(&board).unwrap();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let kept = taken.clone();
    tokio::spawn(async move {
        while let Some(ordered) = orders.recv().await {
            kept.lock().unwrap().push(ordered.order.clone());
            let outcome = match &ordered.order {
                Order::Start(_) => Err(Error::new(ErrorKind::Failed, "it does not start").hint("look")),
                _ => Ok(()),
            };
            ordered.done.send(outcome).unwrap();
        }
    });
    let stop = |server: &str| Question::Stop { server: server.to_owned() };
    assert!(ask(&host, stop("calc")).await.unwrap().is_none());
    let refused = ask(&host, Question::Start { server: "time".to_owned() }).await.unwrap_err();
    assert_eq!((refused.kind, refused.hints.len()), (ErrorKind::Failed, 1));
    assert_eq!(ask(&host, stop("nobody")).await.unwrap_err().kind, ErrorKind::NotFound);
    ask(&host, Question::End).await.unwrap();
    assert_eq!(
        *taken.lock().unwrap(),
        [Order::Stop("calc".to_owned()), Order::Start("time".to_owned()), Order::End]
    );
}

#[tokio::test]
async fn a_question_that_is_none_and_one_without_end_harm_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let host = Arc::new(host(folder.path()));
    let board = board(&host);
    let _orders = control::listen(&board).unwrap();
    for question in [&b"{\"ask\":\"dance\"}\n"[..], b"\n", b"\xff\n", &[b'x'; 1 << 20][..]] {
        let mut socket = tokio::net::UnixStream::connect(board.socket()).await.unwrap();
        // It may hang up in the middle of what is too long.
        let _sent = socket.write_all(question).await;
        let mut answer = Vec::new();
        if socket.read_to_end(&mut answer).await.is_ok() {
            let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(answer["answer"], "failed", "{answer}");
        }
    }
    // Others that say nothing keep nobody out.
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(tokio::net::UnixStream::connect(board.socket()).await.unwrap());
    }
    assert!(ask(&host, Question::Snapshot).await.is_ok());
}

#[tokio::test]
async fn a_gateway_that_is_silent_is_known_by_what_it_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let host = Arc::new(host(folder.path()));
    let board = board(&host);
    board.state("calc", State::Failed, Some("no such program"));
    let _deaf = std::os::unix::net::UnixListener::bind(board.socket()).unwrap();
    let (snapshot, error) = running::living(&host).unwrap()[0].snapshot();
    assert_eq!(error.unwrap().kind, ErrorKind::Unreachable);
    assert_eq!(snapshot.servers[0].reason.as_deref(), Some("no such program"));
}

/// Holds a place until it is killed, when this program starts it so; a test by itself it is not.
#[test]
fn a_gateway_that_the_other_tests_kill() {
    let Some(folder) = std::env::var_os(GATEWAY) else { return };
    let _board = board(&host(Path::new(&folder)));
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn what_a_killed_gateway_left_is_swept_away_and_the_living_stay() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let living = board(&host);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_gateway_that_the_other_tests_kill"])
        .env(GATEWAY, folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while running::living(&host).unwrap().len() < 2 {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let found = running::living(&host).unwrap();
    assert_eq!(found.iter().map(|gateway| gateway.id.as_str()).collect::<Vec<_>>(), [living.id()]);
    assert_eq!(fs::read_dir(folder.path().join("cuddy/gateways")).unwrap().count(), 1);
    drop(living);
    assert_eq!(fs::read_dir(folder.path().join("cuddy/gateways")).unwrap().count(), 0);
}

#[test]
fn a_runtime_folder_that_others_can_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let place = Place::take(&host).unwrap();
    assert!(!folder.path().join("cuddy").exists());
    assert_eq!(fs::read_dir(folder.path().join("data/run/gateways")).unwrap().count(), 1);
    drop(place);
}

#[test]
fn the_log_of_a_server_is_found_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let board = board(&host);
    board.log("calc").unwrap().write(b"ready\n");
    let logs = server_log::logs(&host.data, "calc").unwrap();
    let (_, lines) = server_log::LogReader::open(&logs[0], None).unwrap();
    assert_eq!(lines[0].text, b"ready");
}
