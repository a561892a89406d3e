//! Datagrams between two processes of ours, each with at most one descriptor on board.
//!
//! What they say is the caller's: here are only bytes.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::sys::process::ProcessError;

/// One message: its bytes, and the descriptor it carried.
pub type Message = (Vec<u8>, Option<OwnedFd>);

/// Two ends of one conversation; every message arrives whole or not at all.
///
/// # Errors
/// What the kernel says, such as no more descriptors.
pub fn pair() -> Result<(OwnedFd, OwnedFd), ProcessError> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|e| ProcessError::call("make a socket", e))
}

/// Sends one message; a peer that is gone is an error and never a signal.
///
/// # Errors
/// What the kernel says; `EMSGSIZE` for a message that is too large.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), ProcessError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds {
        // The buffer has room for exactly one.
        let _fits = ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)
        .map(drop)
        .map_err(|e| ProcessError::call("send a message to our other process", e))
}

/// Receives one message of at most `bytes_max` bytes; `None` when the peer is gone.
///
/// # Errors
/// What the kernel says, or a message that was longer.
pub fn receive(socket: BorrowedFd<'_>, bytes_max: usize) -> Result<Option<Message>, ProcessError> {
    let call = |e: rustix::io::Errno| ProcessError::call("receive a message from our other process", e);
    let mut bytes = vec![0_u8; bytes_max];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            // A peer that died with unread messages resets the connection, once; what it said before is
            // still there.
            Err(rustix::io::Errno::CONNRESET) => {}
            other => break other.map_err(call)?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(call(rustix::io::Errno::MSGSIZE));
    }
    let mut fd = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            fd = fds.last();
        }
    }
    bytes.truncate(received.bytes);
    Ok(Some((bytes, fd)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_message_arrives_whole_with_its_descriptor() {
        let (left, right) = pair().unwrap();
        send(left.as_fd(), b"one", None).unwrap();
        send(left.as_fd(), b"two", Some(left.as_fd())).unwrap();
        assert!(matches!(receive(right.as_fd(), 10).unwrap(), Some((bytes, None)) if bytes == b"one"));
        assert!(matches!(receive(right.as_fd(), 10).unwrap(), Some((bytes, Some(_))) if bytes == b"two"));
        send(left.as_fd(), b"too long", None).unwrap();
        assert!(receive(right.as_fd(), 3).is_err());
        send(left.as_fd(), b"end", None).unwrap();
        send(right.as_fd(), b"never read", None).unwrap();
        drop(left);
        assert!(matches!(receive(right.as_fd(), 10).unwrap(), Some((bytes, None)) if bytes == b"end"));
        assert!(receive(right.as_fd(), 3).unwrap().is_none());
        assert!(send(right.as_fd(), b"x", None).is_err());
    }
}
