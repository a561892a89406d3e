//! Sessions of clients up to revision 2025-11-25: one conversation with the hub each, and the streams on
//! which its messages go out. It speaks no HTTP.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::error::{ErrorKind, Fault};
use crate::mcp::http::stream::Stream;
use crate::mcp::session::{Conversation, ToClient, ToHub};
use crate::sys::fs::random_bytes;

/// Sessions at once.
pub const SESSIONS_MAX: usize = 128;
/// How long a session may lie idle, in seconds.
pub const IDLE_S: u64 = 30 * 60;
/// Requests of one session that are under way.
const REQUESTS_MAX: usize = 128;
/// Finished streams that a session keeps for clients that come back.
const FINISHED_MAX: usize = 16;
/// What those may hold together, in bytes.
const FINISHED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why there is no session, or no stream of one.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There are as many as there may be, and all are in use.
    #[error("{SESSIONS_MAX} sessions are open, and none of them is idle")]
    Full,
    /// A request of that id is under way.
    #[error("a request with the id {0} is under way in this session")]
    SameId(String),
    /// As many requests as there may be are under way.
    #[error("{REQUESTS_MAX} requests are under way in this session")]
    Busy,
    /// The kernel gives no randomness.
    #[error("cannot make the id of a session")]
    Random(#[source] std::io::Error),
}

impl Fault for SessionError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Full | Self::Busy => ErrorKind::Limit,
            Self::SameId(_) => ErrorKind::Usage,
            Self::Random(_) => ErrorKind::Failed,
        }
    }
}

struct State {
    /// Streams of requests under way, by the id as the client wrote it.
    open: HashMap<Vec<u8>, Arc<Stream>>,
    finished: VecDeque<Arc<Stream>>,
    next: u64,
    last_used: Instant,
}

/// One session.
pub struct Session {
    /// Its secret name.
    pub id: String,
    /// To the hub.
    pub send: ToHub,
    /// What belongs to no request.
    pub standing: Arc<Stream>,
    state: Mutex<State>,
    router: Mutex<Option<AbortHandle>>,
}

impl Session {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the client is there.
    pub fn touch(&self) {
        self.state().last_used = Instant::now();
    }

    /// A stream for a request of the client.
    ///
    /// # Errors
    /// `SameId` or `Busy`.
    pub fn begin(&self, id: &str) -> Result<Arc<Stream>, SessionError> {
        let mut state = self.state();
        if state.open.contains_key(id.as_bytes()) {
            return Err(SessionError::SameId(id.chars().take(100).collect()));
        }
        if state.open.len() >= REQUESTS_MAX {
            return Err(SessionError::Busy);
        }
        let stream = Stream::new(state.next);
        state.next += 1;
        state.open.insert(id.as_bytes().to_vec(), Arc::clone(&stream));
        Ok(stream)
    }

    /// Forgets a request that never reached the hub.
    pub fn withdraw(&self, id: &str) {
        self.state().open.remove(id.as_bytes());
    }

    /// A stream by its number, whether it has ended or not.
    pub fn stream(&self, number: u64) -> Option<Arc<Stream>> {
        if number == self.standing.number {
            return Some(Arc::clone(&self.standing));
        }
        let state = self.state();
        let all = state.open.values().chain(&state.finished);
        all.into_iter().find(|stream| stream.number == number).cloned()
    }

    /// Sends a message of the hub out on its stream.
    async fn route(&self, to: ToClient) {
        let ToClient { message, about, is_answer: is_last } = to;
        let stream = {
            let mut state = self.state();
            let found = about
                .and_then(|id| if is_last { state.open.remove(&id) } else { state.open.get(&id).cloned() });
            match found {
                Some(stream) if is_last => {
                    state.finished.push_back(Arc::clone(&stream));
                    stream
                }
                Some(stream) => stream,
                // An answer to what nobody asked, or nobody asks any more.
                None if is_last => return,
                None => Arc::clone(&self.standing),
            }
        };
        stream.push(Bytes::from(message)).await;
        if is_last {
            stream.end();
            self.forget();
        }
    }

    fn forget(&self) {
        let mut state = self.state();
        let held = |state: &State| state.finished.iter().map(|stream| stream.kept_bytes()).sum::<usize>();
        while state.finished.len() > FINISHED_MAX
            || state.finished.len() > 1 && held(&state) > FINISHED_BYTES_MAX
        {
            state.finished.pop_front();
        }
    }

    fn is_in_use(&self) -> bool {
        let state = self.state();
        !state.open.is_empty()
            || self.standing.is_read()
            || state.finished.iter().any(|stream| stream.is_read())
    }

    fn idle_for(&self) -> Duration {
        if self.is_in_use() { Duration::ZERO } else { self.state().last_used.elapsed() }
    }

    /// Ends every stream; the conversation with the hub goes with the session itself.
    fn close(&self) {
        if let Some(router) = self.router.lock().unwrap_or_else(PoisonError::into_inner).take() {
            router.abort();
        }
        let state = std::mem::replace(
            &mut *self.state(),
            State { open: HashMap::new(), finished: VecDeque::new(), next: 0, last_used: Instant::now() },
        );
        state.open.values().chain(&state.finished).chain([&self.standing]).for_each(|stream| stream.end());
    }
}

/// All sessions of a front.
#[derive(Default)]
pub struct Sessions {
    table: Mutex<HashMap<String, Arc<Session>>>,
}

impl Sessions {
    fn table(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.table().len()
    }

    /// A new session around a conversation with the hub.
    ///
    /// # Errors
    /// `Full` or `Random`.
    pub fn open(self: &Arc<Self>, conversation: Conversation) -> Result<Arc<Session>, SessionError> {
        let mut random = [0; 16];
        random_bytes(&mut random).map_err(SessionError::Random)?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        self.make_room()?;
        let Conversation { send, mut receive } = conversation;
        let state =
            State { open: HashMap::new(), finished: VecDeque::new(), next: 1, last_used: Instant::now() };
        let session = Arc::new(Session {
            id: id.clone(),
            send,
            standing: Stream::new(0),
            state: Mutex::new(state),
            router: Mutex::new(None),
        });
        let (of, table): (Weak<Session>, Weak<Self>) = (Arc::downgrade(&session), Arc::downgrade(self));
        let name = id.clone();
        let router = tokio::spawn(async move {
            while let Some(to) = receive.recv().await {
                let Some(session) = of.upgrade() else { return };
                session.route(to).await;
            }
            // The hub has ended it.
            if let Some(table) = table.upgrade() {
                table.remove(&name);
            }
        });
        *session.router.lock().unwrap_or_else(PoisonError::into_inner) = Some(router.abort_handle());
        self.table().insert(id, Arc::clone(&session));
        Ok(session)
    }

    /// Ends the session that has been idle longest when there are too many.
    fn make_room(&self) -> Result<(), SessionError> {
        if self.count() < SESSIONS_MAX {
            return Ok(());
        }
        let idle = {
            let table = self.table();
            let idle = table.values().filter(|session| !session.is_in_use());
            idle.max_by_key(|session| session.idle_for()).map(|session| session.id.clone())
        };
        match idle {
            Some(id) => {
                self.remove(&id);
                Ok(())
            }
            None => Err(SessionError::Full),
        }
    }

    /// The session of that id.
    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.table().get(id).cloned()
    }

    /// Ends a session; whether there was one.
    pub fn remove(&self, id: &str) -> bool {
        let removed = self.table().remove(id);
        if let Some(session) = &removed {
            session.close();
        }
        removed.is_some()
    }

    /// Ends what has been idle for longer than `idle`.
    pub fn sweep(&self, idle: Duration) {
        let gone: Vec<String> = {
            let table = self.table();
            let old = table.values().filter(|session| session.idle_for() > idle);
            old.map(|session| session.id.clone()).collect()
        };
        for id in gone {
            self.remove(&id);
        }
    }

    /// Ends all of them.
    pub fn close(&self) {
        let all = std::mem::take(&mut *self.table());
        all.values().for_each(|session| session.close());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::http::stream::Next;
    use crate::mcp::session::{Control, Door, Face, Inside, Outbox};

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// The hub's end of one conversation.
    struct Hub {
        outbox: Outbox,
        inside: Inside,
    }

    fn conversation() -> (Conversation, Hub) {
        let (door, mut inside) = Door::new();
        let conversation = door.open(Face::Session);
        let Ok(Control::Opened(_, _, outbox)) = inside.control.try_recv() else {
            panic!("it was just opened")
        };
        (conversation, Hub { outbox, inside })
    }

    fn to(message: &str, about: Option<&str>) -> ToClient {
        let is_answer = !message.contains("method");
        ToClient {
            message: message.as_bytes().to_vec(),
            about: about.map(|id| id.as_bytes().to_vec()),
            is_answer,
        }
    }

    fn text(next: Next) -> String {
        match next {
            Next::Message(_, message) => String::from_utf8_lossy(&message).into_owned(),
            Next::End => "end".to_owned(),
            Next::Replaced => "replaced".to_owned(),
        }
    }

    #[test]
    fn each_message_goes_to_the_stream_of_its_request_and_the_rest_to_the_standing_one() {
        run(async {
            let sessions = Arc::new(Sessions::default());
            let (conversation, hub) = conversation();
            let session = sessions.open(conversation).unwrap();
            let (one, two) = (session.begin("1").unwrap(), session.begin("\"b\"").unwrap());
            for (message, about) in [
                (r#"{"method":"progress"}"#, Some("\"b\"")),
                (r#"{"method":"changed"}"#, None),
                (r#"{"id":1,"result":{}}"#, Some("1")),
                (r#"{"id":9,"result":{}}"#, Some("9")),
                (r#"{"id":7,"method":"ask"}"#, Some("\"b\"")),
                (r#"{"id":"b","error":{}}"#, Some("\"b\"")),
            ] {
                hub.outbox.send(to(message, about));
            }
            let (mut one, mut two, mut standing) = (one.read_on(), two.read_on(), session.standing.read_on());
            assert_eq!(text(one.next().await), r#"{"id":1,"result":{}}"#);
            assert_eq!(text(one.next().await), "end");
            assert_eq!(text(two.next().await), r#"{"method":"progress"}"#);
            assert_eq!(text(two.next().await), r#"{"id":7,"method":"ask"}"#);
            assert_eq!(text(two.next().await), r#"{"id":"b","error":{}}"#);
            assert_eq!(text(standing.next().await), r#"{"method":"changed"}"#, "and no answer to nobody");
            assert!(
                session.stream(1).is_some() && session.stream(2).is_some() && session.stream(3).is_none()
            );
            assert!(session.begin("1").is_ok(), "an id is free again after its answer");
        });
    }

    #[test]
    fn an_id_that_is_under_way_is_refused_and_so_is_one_request_too_many() {
        run(async {
            let sessions = Arc::new(Sessions::default());
            let (conversation, _hub) = conversation();
            let session = sessions.open(conversation).unwrap();
            session.begin("1").unwrap();
            assert!(matches!(session.begin("1"), Err(SessionError::SameId(_))));
            session.withdraw("1");
            for id in 0..REQUESTS_MAX {
                session.begin(&id.to_string()).unwrap();
            }
            assert!(matches!(session.begin("x"), Err(SessionError::Busy)));
        });
    }

    #[test]
    fn a_session_that_is_removed_ends_its_streams_and_its_conversation() {
        run(async {
            let sessions = Arc::new(Sessions::default());
            let (conversation, mut hub) = conversation();
            let session = sessions.open(conversation).unwrap();
            let mut reading = session.begin("1").unwrap().read_on();
            assert!(sessions.remove(&session.id) && !sessions.remove(&session.id));
            assert_eq!(text(reading.next().await), "end");
            assert!(matches!(hub.inside.control.recv().await, Some(Control::Closed(_))), "the hub is told");
        });
    }

    #[test]
    fn the_end_of_a_conversation_ends_its_session() {
        run(async {
            let sessions = Arc::new(Sessions::default());
            let (conversation, hub) = conversation();
            let session = sessions.open(conversation).unwrap();
            let mut standing = session.standing.read_on();
            drop(hub);
            assert_eq!(text(standing.next().await), "end");
            assert!(sessions.get(&session.id).is_none());
        });
    }

    #[test]
    fn only_idle_sessions_make_room_and_only_idle_ones_are_swept() {
        run(async {
            let sessions = Arc::new(Sessions::default());
            let mut kept = Vec::new();
            for _ in 0..SESSIONS_MAX {
                let (conversation, hub) = conversation();
                let session = sessions.open(conversation).unwrap();
                session.begin("1").unwrap();
                kept.push((session, hub));
            }
            let (extra, _hub) = conversation();
            assert!(matches!(sessions.open(extra), Err(SessionError::Full)));
            sessions.sweep(Duration::ZERO);
            assert_eq!(sessions.count(), SESSIONS_MAX);
            kept[5].0.withdraw("1");
            let (extra, _hub) = conversation();
            assert!(sessions.open(extra).is_ok() && sessions.get(&kept[5].0.id).is_none());
            assert_eq!(sessions.count(), SESSIONS_MAX);
        });
    }

    #[test]
    fn what_is_kept_for_clients_that_come_back_is_bounded() {
        run(async {
            let sessions = Arc::new(Sessions::default());
            let (conversation, hub) = conversation();
            let session = sessions.open(conversation).unwrap();
            let large = "x".repeat(2 * 1024 * 1024);
            for id in 0..40 {
                session.begin(&id.to_string()).unwrap();
                let message = format!(r#"{{"id":{id},"result":"{large}"}}"#);
                hub.outbox.send(to(&message, Some(&id.to_string())));
            }
            let mut last = session.begin("\"end\"").unwrap().read_on();
            hub.outbox.send(to(r#"{"id":"end","result":1}"#, Some("\"end\"")));
            assert_eq!(text(last.next().await), r#"{"id":"end","result":1}"#);
            let kept = (1..=41).filter_map(|number| session.stream(number)).map(|stream| stream.kept_bytes());
            let kept: Vec<usize> = kept.collect();
            assert!(
                kept.len() <= FINISHED_MAX && kept.iter().sum::<usize>() <= FINISHED_BYTES_MAX,
                "{kept:?}"
            );
            assert!(kept.len() > 1);
        });
    }
}
