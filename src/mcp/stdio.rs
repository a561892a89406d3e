//! The front on standard input and output: one client, one line for each message.
//!
//! It knows nothing of the protocol.

use std::io;

use crate::mcp::lines::{Line, LineWriter, Lines, standard_input, standard_output};
use crate::mcp::message::{INVALID_REQUEST, error, error_response};
use crate::mcp::session::{Conversation, FromHub, ToHub};

/// Carries a conversation until the client has nothing more to say and has heard everything.
///
/// # Errors
/// Standard input or output cannot be used.
pub async fn serve(conversation: Conversation, message_bytes_max: usize) -> io::Result<()> {
    let Conversation { send, receive } = conversation;
    let lines = Lines::new(standard_input()?, message_bytes_max);
    let mut out = LineWriter::new(standard_output()?);
    let listening = tokio::spawn(listen(lines, send));
    let told = tell(receive, &mut out).await;
    if let Ok(Some(why)) = stopped(listening).await {
        let text = error(INVALID_REQUEST, &why, None);
        out.add(&error_response(None, &text));
        // A client that is gone does not read it.
        drop(out.flush().await);
    }
    // A client that does not read any more has gone: that is no failure of ours.
    match told {
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Why listening stopped, when it has.
async fn stopped(
    listening: tokio::task::JoinHandle<Option<String>>,
) -> Result<Option<String>, tokio::task::JoinError> {
    if !listening.is_finished() {
        listening.abort();
    }
    listening.await
}

/// Hands on what the client says; gives the reason when it was stopped for what it said.
async fn listen(mut lines: Lines<crate::mcp::lines::Input>, send: ToHub) -> Option<String> {
    let why = loop {
        match lines.next().await {
            Ok(Line::Message(message)) => {
                if send.send(message).await.is_err() {
                    return None;
                }
            }
            Ok(Line::End) | Err(_) => break None,
            Ok(Line::TooLong) => break Some("the message is too long".to_owned()),
        }
    };
    // A hub that is gone has ended the conversation itself.
    drop(send.finish().await);
    why
}

async fn tell(mut receive: FromHub, out: &mut LineWriter<crate::mcp::lines::Output>) -> io::Result<()> {
    while let Some(next) = receive.recv().await {
        out.add(&next.message);
        while !out.is_full()
            && let Some(next) = receive.try_recv()
        {
            out.add(&next.message);
        }
        out.flush().await?;
    }
    Ok(())
}
